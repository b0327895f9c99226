"""The gate of a feed-forward layer (arXiv:2002.05202)."""

from torch import Tensor
from torch.nn.functional import silu

from mistral_local.kernels import native, triton


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, both [T, hidden], contiguous unless on CUDA; `gate` may be overwritten."""
    if triton.serves(gate):
        from mistral_local.kernels.triton.elementwise import swiglu_ as swiglu_by_triton_

        return swiglu_by_triton_(gate, up)
    kernels = native.serving(gate, up, max_rows=native.MAX_ROWS_ELEMENTWISE)
    if kernels is not None and gate.shape[1] % 16 == 0:
        return kernels.swiglu_(gate, up)
    return swiglu_by_torch(gate, up)


def swiglu_by_torch(gate: Tensor, up: Tensor) -> Tensor:
    """The plain twin."""
    return silu(gate).mul_(up)
