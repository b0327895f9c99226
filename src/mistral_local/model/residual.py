"""The residual stream between the halves of the blocks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mistral_local.kernels import triton
from mistral_local.kernels.rms_norm import Normed, add_rms_norm
from mistral_local.model.norm import RMSNorm


class Residual:
    """x [T, dim]; what was added last may still be apart, so that the next norm can add it up on its way.

    Of few rows Triton's products norm what they read and add to what they write.
    """

    def __init__(self, x: Tensor, added: Tensor | None = None) -> None:
        self._x, self._added = x, added

    @property
    def total(self) -> Tensor:
        """[T, dim]."""
        if self._added is not None:
            self._x, self._added = self._x + self._added, None
        return self._x

    def normed(self, norm: RMSNorm) -> Tensor | Normed:
        """[T, dim]: its norm, or what a product will make it of."""
        if self._is_few:
            return Normed(self.total, norm.weight, norm.eps)
        if self._added is None:
            normed: Tensor = norm(self._x)
        else:
            self._x, normed = add_rms_norm(self._x, self._added, norm.weight, norm.eps)
            self._added = None
        return normed

    def plus(self, half: nn.Module, x: Tensor | Normed, *args: Any, **kwargs: Any) -> Residual:
        """The sum of this and half(x, ...), which may be taken into a last product.

        Not where a hook waits for what the half gives: that of ranks which share a layer adds up theirs first.
        """
        if self._is_few and not half._forward_hooks:
            return Residual(half(x, *args, **kwargs, residual=self.total))
        added = half(x, *args, **kwargs)
        return Residual(self.total, added)

    @property
    def _is_few(self) -> bool:
        return triton.serves(self._x, max_rows=triton.MAX_ROWS)
