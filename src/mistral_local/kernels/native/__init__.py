"""Kernels in C for decoding in bfloat16 on a CPU: compiled where they run, and done without where they cannot be."""

from mistral_local.kernels.native.kernels import (
    MAX_ROWS,
    MAX_ROWS_ATTENTION,
    MAX_ROWS_ELEMENTWISE,
    NativeKernels,
    QuantizedKernels,
    native_kernels,
    quantized_kernels,
    reasons_against_native,
    serving,
)

__all__ = [
    "MAX_ROWS",
    "MAX_ROWS_ATTENTION",
    "MAX_ROWS_ELEMENTWISE",
    "NativeKernels",
    "QuantizedKernels",
    "native_kernels",
    "quantized_kernels",
    "reasons_against_native",
    "serving",
]
