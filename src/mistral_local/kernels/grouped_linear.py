"""Many linear layers at once: each group of rows has a weight matrix of its own."""

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm, linear


def grouped_linear(x: Tensor, weight: Tensor, group_sizes: Tensor) -> Tensor:
    """Multiply the rows of each group by the transposed weight of that group.

    Args:
        x: [N, in], the rows of group 0 first, then those of group 1, and so on.
        weight: [G, out, in], same dtype and device.
        group_sizes: [G] int64, rows of each group, 0 allowed; they add up to N.

    Returns:
        [N, out], same dtype.

    On CUDA the sizes stay on the device: nothing waits for the host.
    """
    if not x.is_cuda:
        return grouped_linear_by_loop(x, weight, group_sizes)
    if _grouped_mm_serves(x, weight):
        offsets = group_sizes.cumsum(0).to(torch.int32)
        return grouped_mm(x, weight.transpose(-2, -1), offs=offsets)
    return grouped_linear_by_mask(x, weight, group_sizes)


def grouped_linear_by_loop(x: Tensor, weight: Tensor, group_sizes: Tensor) -> Tensor:
    """The plain twin: one product per group that has rows; reads the sizes on the host."""
    out = x.new_empty(x.shape[0], weight.shape[1])
    start = 0
    for group, size in enumerate(group_sizes.tolist()):
        if size:
            out[start : start + size] = linear(x[start : start + size], weight[group])
            start += size
    return out


def grouped_linear_by_mask(x: Tensor, weight: Tensor, group_sizes: Tensor) -> Tensor:
    """Every row through every group, all but its own masked: G times the work, but no wait and any dtype."""
    ends = group_sizes.cumsum(0)
    row = torch.arange(x.shape[0], device=x.device)
    group_of_row = torch.searchsorted(ends, row, right=True)  # [N]
    out = x.new_zeros(x.shape[0], weight.shape[1])
    for group in range(weight.shape[0]):
        out = torch.where((group_of_row == group)[:, None], linear(x, weight[group]), out)
    return out


def _grouped_mm_serves(x: Tensor, weight: Tensor) -> bool:
    """torch's grouped_mm is fast in bf16 from compute capability 9.0 on, and wants rows of a multiple of 16 bytes."""
    aligned = x.shape[1] % 8 == 0 and weight.shape[1] % 8 == 0
    return aligned and x.dtype == torch.bfloat16 and torch.cuda.get_device_capability(x.device) >= (9, 0)
