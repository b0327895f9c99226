"""Compile every Triton kernel for a GPU that need not be there, at the shapes of real models; print what was compiled.

`python tests/triton_compile.py CAPABILITY` (80, 90).  Triton's interpreter runs what its compiler would refuse, and this
compiles what the interpreter runs.  The kernels get tensors without storage, and each launch is compiled instead.
"""

import os
import sys
from types import ModuleType
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from mistral_local.kernels.quantized import QuantizedWeight, num_groups
from mistral_local.kernels.rms_norm import Normed
from mistral_local.kernels.triton import elementwise, linear, moe, paged_attention, product, route

POINTERS = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
PROCESSORS = 132
SHARED_BYTES = 99 << 10
"""What a program may have on the smallest GPUs with bfloat16, of compute capability 8.6 and 8.9."""

META = torch.device("meta")


def compile_instead(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **constants: Any) -> None:
    """Takes the place of a launch."""
    values = dict(zip(kernel.arg_names, args, strict=False)) | constants
    signature, constexprs, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        if isinstance(value, Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[parameter.name] = "constexpr"
            constexprs[parameter.name] = value
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
    source = ASTSource(kernel, signature, constexprs, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", CAPABILITY, 32))
    assert compiled.metadata.shared <= SHARED_BYTES, (kernel.__name__, constexprs, compiled.metadata.shared)
    products = sum(compiled.asm["ptx"].count(name) for name in ("mma.sync.aligned", "wgmma.mma_async"))
    print(
        kernel.__name__, f"{products} products,", f"{compiled.metadata.shared} bytes,", *constexprs.values(), flush=True
    )


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device=META)


def matrix(quant_format: str | None, *shape: int, group: int | None = None) -> Tensor | QuantizedWeight:
    """[..., out, in] of shape, without content."""
    if quant_format is None:
        return empty(*shape)
    *before, columns = shape
    dtype = {"int8": torch.int8, "int4": torch.uint8, "fp8": torch.float8_e4m3fn}[quant_format]
    groups = columns // group if group else num_groups(columns, quant_format)
    width = columns // 2 if quant_format == "int4" else columns
    return QuantizedWeight(empty(*before, width, dtype=dtype), empty(*before, groups, dtype=torch.float32))


def normed(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Normed:
    return Normed(empty(*shape, dtype=dtype), empty(shape[-1], dtype=dtype), 1e-5)


def compile_linears() -> None:
    """Products of Mistral 7B, with the norm before, the residual after and the gate between them."""
    for quant_format, group in ((None, None), ("int8", None), ("int4", None), ("fp8", None), ("fp8", 128)):
        weights = [matrix(quant_format, out, 4096, group=group) for out in (4096, 1024, 1024)]
        for num_rows in (1, 5, 16) if quant_format is None else (1, 5, 16, 64):
            linear.linears(normed(num_rows, 4096), weights)
            linear.gate_up(normed(num_rows, 4096), *[matrix(quant_format, 14336, 4096, group=group)] * 2)
    for num_rows in (1, 16):
        for quant_format in (None, "int8"):
            linear.linears(empty(num_rows, 14336), [matrix(quant_format, 4096, 14336)], empty(num_rows, 4096))
        linear.linears(empty(num_rows, 4096), [empty(32768, 4096)])
        for dtype in (torch.float16, torch.float32):
            linear.linears(normed(num_rows, 4096, dtype=dtype), [empty(28672, 4096, dtype=dtype)])
            linear.gate_up(normed(num_rows, 4096, dtype=dtype), *[empty(14336, 4096, dtype=dtype)] * 2)
        linear.linears(empty(num_rows, 4096, dtype=torch.float32), [matrix("fp8", 28672, 4096)])


def compile_experts() -> None:
    """Those of Mixtral 8x7B."""
    for quant_format in (None, "int4", "fp8"):
        for num_tokens in (1, 16, 64):
            experts = empty(num_tokens, 2, dtype=torch.int64)
            x, h = empty(num_tokens, 4096), empty(num_tokens * 2, 14336)
            weights = empty(num_tokens, 2, dtype=torch.float32)
            moe.expert_gate_up(x, experts, *[matrix(quant_format, 8, 14336, 4096)] * 2)
            moe.expert_down(h, experts, weights, matrix(quant_format, 8, 4096, 14336), x)
    for dtype in (torch.bfloat16, torch.float32):
        route.route(normed(16, 4096, dtype=dtype), empty(8, 4096, dtype=dtype), 2, range(8))
    route.route(normed(1, 5120), empty(64, 5120), 6, range(32), empty(1, dtype=torch.bool))


def compile_attention() -> None:
    """Prompts and single tokens of Mistral 7B, and of Small 24B with a window."""
    for heads, num_seqs, query_len, window, cached in (
        (32, 1, 1, None, torch.bfloat16),
        (32, 64, 1, None, torch.bfloat16),
        (32, 1, 2048, None, torch.bfloat16),
        (32, 8, 1, 4096, torch.bfloat16),
        (32, 1, 1, None, torch.float8_e4m3fn),
        (32, 64, 1, 4096, torch.float8_e4m3fn),
        (32, 1, 2048, None, torch.float8_e4m3fn),
    ):
        lengths = empty(num_seqs + 1, dtype=torch.int64)
        scales = empty(8192, 8, dtype=torch.float32) if cached.itemsize == 1 else None
        paged_attention.paged_attention(
            empty(num_seqs * query_len, heads, 128),
            empty(8192, 8, 128, dtype=cached),
            empty(8192, 8, 128, dtype=cached),
            block_tables=empty(num_seqs, 512, dtype=torch.int32),
            block_size=16,
            rows=lengths[:-1],
            context_lens=lengths[:-1],
            query_starts=lengths,
            max_query_len=query_len,
            window=window,
            k_scales=scales,
            v_scales=scales,
        )


def compile_elementwise() -> None:
    x, slots = empty(16, 4096), empty(16, dtype=torch.int64)
    elementwise.rms_norm(x, empty(4096), 1e-5)
    elementwise.add_rms_norm(x, x, empty(4096), 1e-5)
    elementwise.swiglu_(x, x)
    elementwise.swiglu_(*empty(16, 28672).chunk(2, dim=1))
    (q, k, v), cache = empty(16, 48, 128).split([32, 8, 8], dim=1), empty(8192, 8, 128)
    rotation = empty(16, 1, 64, dtype=torch.complex64)
    elementwise.rotate_and_store(q, k, v, rotation, cache, cache, slots)
    cache, scales = empty(8192, 8, 128, dtype=torch.float8_e4m3fn), empty(8192, 8, dtype=torch.float32)
    elementwise.rotate_and_store(q, k, v, rotation, cache, cache, slots, k_scales=scales, v_scales=scales)


if __name__ == "__main__":
    CAPABILITY = int(sys.argv[1])
    JITFunction.run = compile_instead
    module: ModuleType
    for module in (product, paged_attention):
        module.num_processors = lambda device: PROCESSORS
    compile_elementwise()
    compile_attention()
    compile_linears()
    compile_experts()
