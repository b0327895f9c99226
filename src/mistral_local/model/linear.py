"""Linear layers without bias."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mistral_local.kernels import native, triton
from mistral_local.kernels.packed_linear import LinearProduct
from mistral_local.kernels.quantized import QuantizedWeight, quantized_linears, quantized_products
from mistral_local.kernels.rms_norm import Normed, computed, rows_of
from mistral_local.kernels.swiglu import swiglu
from mistral_local.model.joined import joined_view


class Linear(nn.Linear):
    """x times the transpose of `weight` [out, in]."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.product = LinearProduct()
        self.scales: nn.Parameter | None
        self.register_parameter("scales", None)

    @property
    def quantized(self) -> QuantizedWeight | None:
        """The matrix, if it is quantized: `weight` holds its bits then."""
        return None if self.scales is None else QuantizedWeight(self.weight, self.scales)

    def take(self, weight: QuantizedWeight) -> None:
        """Multiply by a quantized matrix from now on."""
        self.product = LinearProduct()
        self.weight = nn.Parameter(weight.data, requires_grad=False)
        self.scales = nn.Parameter(weight.scales, requires_grad=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to`, `half` and the like do: bits and scales move to another device, and keep their dtypes."""
        if self.scales is None:
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(torch.empty(0, device=self.weight.device)).device
        self.take(QuantizedWeight(self.weight.to(device), self.scales.to(device)))
        return self

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[T, in] -> [T, out], added to `residual` if it is given."""
        return linears(x, self, residual=residual)[0]


class Embedding(nn.Embedding):
    """A table of vectors, which may also be the output projection (`linears`)."""

    def __init__(self, num_embeddings: int, dim: int) -> None:
        super().__init__(num_embeddings, dim)
        self.product = LinearProduct()

    @property
    def quantized(self) -> None:
        """Never: rows are looked up."""
        return None


def linears(x: Tensor | Normed, *layers: Linear | Embedding, residual: Tensor | None = None) -> list[Tensor]:
    """Put x [T, in] through several layers at once, whose products may be one kernel.

    Args:
        residual: [T, out], which the product of a single layer is added to.

    Returns:
        [T, out] of each layer.
    """
    matrices = _for_triton(x, *layers)
    if matrices is not None:
        from mistral_local.kernels.triton.linear import linears as linears_by_triton

        return linears_by_triton(x, matrices, residual)
    products = _products(computed(x), layers)
    return products if residual is None else [residual + product for product in products]


def _products(x: Tensor, layers: Sequence[Linear | Embedding]) -> list[Tensor]:
    quantized = [layer.quantized for layer in layers if layer.quantized is not None]
    if quantized:
        return quantized_linears(x, quantized)
    weights = [layer.weight for layer in layers]
    kernels = native.serving(x, *weights)
    if kernels is not None:
        return kernels.linears(x.contiguous(), weights)
    joined = joined_view(weights) if len(weights) > 1 and is_joined_on(x.device) else None
    if joined is not None:
        return list(torch.split(linear(x, joined), [len(weight) for weight in weights], dim=1))
    return [layer.product(x, weight) for layer, weight in zip(layers, weights, strict=True)]


def gated_linears(x: Tensor | Normed, gate: Linear, up: Linear) -> Tensor:
    """silu(gate x) * up x (arXiv:2002.05202): [T, in] -> [T, hidden]."""
    matrices = _for_triton(x, gate, up)
    if matrices is not None:
        from mistral_local.kernels.triton.linear import gate_up

        return gate_up(x, *matrices)
    return swiglu(*linears(x, gate, up))


def is_joined_on(device: torch.device) -> bool:
    """Whether matrices that lie under each other are one product there; on a CPU each is read, or packed, for itself."""
    return device.type == "cuda"


def _for_triton(x: Tensor | Normed, *layers: Linear | Embedding) -> list[Tensor | QuantizedWeight] | None:
    """The matrices of the layers, if Triton's kernels put x through them."""
    rows = rows_of(x)
    are_quantized = all(layer.quantized is not None for layer in layers)
    if not triton.serves(rows, max_rows=triton.MAX_ROWS_QUANTIZED if are_quantized else triton.MAX_ROWS):
        return None
    from mistral_local.kernels.triton.product import can_read

    matrices = [layer.weight if layer.quantized is None else layer.quantized for layer in layers]
    return matrices if all(can_read(matrix, rows) for matrix in matrices) else None


def grouped_linears(x: Tensor, group_sizes: list[int], *stacks: Sequence[Linear]) -> list[Tensor]:
    """Put each group of the rows of x [N, in] through a layer of its own.

    Args:
        group_sizes: rows of each group, at least 1; the rows of group 0 come first.
        stacks: each with one layer per group, of equal shape.

    Returns:
        [N, out] of each stack.
    """
    groups = torch.split(x, group_sizes)
    outputs = [x.new_empty(x.shape[0], stack[0].out_features) for stack in stacks]
    products = [
        (layer, rows, out)
        for stack, output in zip(stacks, outputs, strict=True)
        for layer, rows, out in zip(stack, groups, torch.split(output, group_sizes), strict=True)
    ]
    quantized = [(layer.quantized, rows, out) for layer, rows, out in products if layer.quantized is not None]
    if quantized:
        quantized_products(quantized)
        return outputs
    weights = [layer.weight for layer, _, _ in products]
    few_each = max(group_sizes) <= native.MAX_ROWS
    kernels = native.serving(x, *weights, max_rows=len(x) if few_each else 0)
    if kernels is not None:
        kernels.multiply([(weight, rows, out) for weight, (_, rows, out) in zip(weights, products, strict=True)])
    else:
        for weight, (layer, rows, out) in zip(weights, products, strict=True):
            layer.product(rows, weight, out)
    return outputs
