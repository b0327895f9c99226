"""The functions of kernels.c on tensors.

All tensors are contiguous bfloat16 on a CPU unless said otherwise; nothing is checked here but what costs nothing.
"""

import ctypes
import logging
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mistral_local.kernels.native.build import CannotBuild, build

_log = logging.getLogger(__name__)

MAX_ROWS = 16
"""Steps of more tokens go to torch, whose products are blocked for many rows.

On two cores of an AMD EPYC (torch 2.13.0) one product of 16 rows took 0.4 to 0.7 of torch's time, one of 32 rows 0.7 to 1.0.
"""

MAX_ROWS_ELEMENTWISE = 64
"""The same for what is not a product: it runs on one thread, and for few rows nothing is faster."""

MAX_ROWS_ATTENTION = 1024
"""The same for attention, with AVX-512: 512 queries of 512 keys took 0.5 of the time of torch's, 2048 of 2048 1.06."""

MAX_ROWS_ATTENTION_NARROW = 256
"""The same without AVX-512: on an AMD EPYC with AVX2 one query of 512 keys took 0.85 of the time of torch's, 512 queries of 512
keys the same time, 1024 of 1024 1.8."""

WIDE_LANES = 16

OFF_SWITCH = "MISTRAL_LOCAL_NATIVE"
"""Set to 0 in the environment, nothing is compiled."""

_QUANT_FORMATS = {torch.int8: 0, torch.uint8: 1, torch.float8_e4m3fn: 2}  # of kernels.c, by what holds the bits

_Pointer = ctypes.c_void_p
_Int = ctypes.c_int64


class NativeKernels:
    """The compiled library, on the threads that torch uses."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.max_rows_attention = MAX_ROWS_ATTENTION if library.lanes() == WIDE_LANES else MAX_ROWS_ATTENTION_NARROW
        self._multiply = _declare(library.multiply, _Pointer, _Int, _Int)
        self._rms_norm = _declare(library.rms_norm, _Pointer, _Pointer, _Pointer, _Int, _Int, ctypes.c_double)
        self._swiglu = _declare(library.swiglu, _Pointer, _Pointer, _Int)
        self._rotate = _declare(library.rotate, _Pointer, _Pointer, _Int, _Int, _Int)
        self._attend = _declare(library.attend, *[_Pointer] * 5, *[_Int] * 5)
        self._attend.restype = ctypes.c_int

    def multiply(self, products: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
        """y = x w^T for each (w [n, k], x [m, k], y [m, n]): all in one go, so that threads meet once."""
        fields: list[int] = []
        for w, x, y in products:
            fields += (w.data_ptr(), x.data_ptr(), y.data_ptr(), w.shape[0], x.shape[0], w.shape[1])
        self._multiply((_Int * len(fields))(*fields), len(products), torch.get_num_threads())

    def linears(self, x: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """x [m, k] times the transpose of each weight [n, k]."""
        outputs = [x.new_empty(x.shape[0], weight.shape[0]) for weight in weights]
        self.multiply([(weight, x, y) for weight, y in zip(weights, outputs, strict=True)])
        return outputs

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """[m, k], [k] -> [m, k]; k a multiple of 16."""
        y = torch.empty_like(x)
        self._rms_norm(x.data_ptr(), weight.data_ptr(), y.data_ptr(), x.shape[0], x.shape[1], eps)
        return y

    def swiglu_(self, gate: Tensor, up: Tensor) -> Tensor:
        """gate becomes silu(gate) * up; a multiple of 16 numbers each."""
        self._swiglu(gate.data_ptr(), up.data_ptr(), gate.numel())
        return gate

    def rotate_(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Rotate the pairs of x [m, heads, dim] in place by rotation [m, 1, dim / 2] complex64."""
        self._rotate(x.data_ptr(), rotation.data_ptr(), *x.shape)
        return x

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, queries: ctypes.Array[ctypes.c_int64], num_queries: int
    ) -> Tensor:
        """Attention of q [T, heads, dim] over cached k, v [slots, kv_heads, dim].

        Args:
            queries: num_queries times five numbers: the row of q, the first position seen, the position after the
                last, the slot of position 0, and the address of the slots of all positions, or 0 when they follow
                one another.
        """
        out = torch.empty_like(q)
        _, heads, dim = q.shape
        tensors = (q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr())
        if self._attend(*tensors, queries, num_queries, heads, k.shape[1], dim, torch.get_num_threads()):
            raise MemoryError("no memory for attention")
        return out


class QuantizedKernels:
    """The library of products with quantized weights, on the threads that torch uses."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._multiply_quantized = _declare(library.multiply_quantized, _Pointer, _Int, _Int)
        self._multiply_quantized.restype = ctypes.c_int
        self._widen_quantized = _declare(library.widen_quantized, _Pointer, _Int)

    def multiply_quantized(self, products: Sequence[tuple[Tensor, Tensor, Tensor, Tensor, int]]) -> None:
        """y = x w^T for each (w, scales, x [m, k], y [m, n], columns per scale), w and scales as in QuantizedWeight."""
        fields: list[int] = []
        for w, scales, x, y, group in products:
            pointers = (w.data_ptr(), scales.data_ptr(), x.data_ptr(), y.data_ptr())
            fields += (*pointers, w.shape[0], *x.shape, group, _QUANT_FORMATS[w.dtype])
        if self._multiply_quantized((_Int * len(fields))(*fields), len(products), torch.get_num_threads()):
            raise MemoryError("no memory for a product with quantized weights")

    def widen_quantized(self, w: Tensor, scales: Tensor, columns: int) -> Tensor:
        """The matrix [n, columns] that w and its scales stand for."""
        y = torch.empty(w.shape[0], columns, dtype=torch.bfloat16)
        group, quant_format = columns // scales.shape[1], _QUANT_FORMATS[w.dtype]
        fields = (w.data_ptr(), scales.data_ptr(), 0, y.data_ptr(), w.shape[0], 0, columns, group, quant_format)
        self._widen_quantized((_Int * len(fields))(*fields), torch.get_num_threads())
        return y


def serving(x: Tensor, *others: Tensor, max_rows: int = MAX_ROWS) -> NativeKernels | None:
    """The kernels for a step with x [T, ...], or None when torch serves it.

    Args:
        others: what x is combined with, which must be contiguous bfloat16 as well.
        max_rows: from how many tokens on torch is as fast.
    """
    if not (x.is_cpu and x.dtype is torch.bfloat16 and 0 < x.shape[0] <= max_rows):
        return None
    if not all(other.dtype is torch.bfloat16 and other.is_contiguous() for other in others):
        return None
    return native_kernels()


def reasons_against_native(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Why a model cannot be run by the compiled kernels; empty when it can."""
    if device.type != "cpu" or dtype != torch.bfloat16:
        return [f"compiled kernels serve bfloat16 on a CPU, not {dtype} on {device.type}"]
    loaded = _load()
    return [] if isinstance(loaded, NativeKernels) else [loaded]


@cache
def native_kernels() -> NativeKernels | None:
    """The compiled kernels; None, with the reason in the log, where there are none."""
    loaded = _load()
    if isinstance(loaded, NativeKernels):
        return loaded
    _log.info("compiled CPU kernels are not used: %s", loaded)
    return None


@cache
def quantized_kernels() -> QuantizedKernels | None:
    """The compiled kernels for quantized weights; None, with the reason in the log, where there are none."""
    loaded = _load_library("-DQUANTIZED")
    if isinstance(loaded, ctypes.CDLL):
        return QuantizedKernels(loaded)
    _log.info("compiled CPU kernels for quantized weights are not used: %s", loaded)
    return None


@cache
def _load() -> NativeKernels | str:
    """The kernels, or the reason that there are none."""
    loaded = _load_library()
    return NativeKernels(loaded) if isinstance(loaded, ctypes.CDLL) else loaded


def _load_library(*options: str) -> ctypes.CDLL | str:
    """What the source is compiled to, or the reason that there is none."""
    if os.environ.get(OFF_SWITCH) == "0":
        return f"{OFF_SWITCH}=0"
    runtime = _openmp()
    if runtime is None:
        return "torch's OpenMP runtime was not found"
    try:
        library = ctypes.CDLL(str(build(*options)))
    except (CannotBuild, OSError) as error:
        return str(error)
    library.use_threads_of(*(ctypes.cast(function, _Pointer) for function in runtime))
    return library


def _openmp() -> tuple[Any, Any, Any] | None:
    """GOMP_parallel, omp_get_thread_num and omp_get_num_threads of the runtime that torch has loaded; LLVM's and Intel's
    have them too."""
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for path in dict.fromkeys(line.split(maxsplit=5)[-1] for line in mapped if "/lib" in line):
        if Path(path).name.startswith(("libgomp", "libiomp5", "libomp")):
            runtime = ctypes.CDLL(path)
            return runtime.GOMP_parallel, runtime.omp_get_thread_num, runtime.omp_get_num_threads
    return None


def _declare(function: Any, *argtypes: type) -> Any:
    function.argtypes, function.restype = argtypes, None
    return function
