"""The compiled CPU kernels: each equals its twin in torch, row by row, and nothing depends on them."""

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from torch import Tensor
from torch.nn.functional import linear

from mistral_local.args import MoeArgs
from mistral_local.attention.batch import AttentionMetadata, SequenceSpan
from mistral_local.attention.native import NativeBackend
from mistral_local.attention.sdpa import SdpaBackend
from mistral_local.attention.select import reasons_against_native_attention, select_backend
from mistral_local.kernels import native
from mistral_local.kernels.native import build as native_build
from mistral_local.kernels.rms_norm import rms_norm, rms_norm_by_torch
from mistral_local.kernels.rotate import rotate, rotate_by_torch
from mistral_local.kernels.swiglu import swiglu, swiglu_by_torch
from mistral_local.kvcache.storage import LayerCache
from mistral_local.model.linear import Linear, grouped_linears, linears
from mistral_local.model.rope import rotations
from mistral_local.transformer import Transformer

CPU = torch.device("cpu")
needs_kernels = pytest.mark.skipif(
    bool(native.reasons_against_native(CPU, torch.bfloat16)),
    reason=f"no compiled kernels: {native.reasons_against_native(CPU, torch.bfloat16)}",
)
GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR).bfloat16()


def largest_error(ours: Tensor, exact: Tensor) -> float:
    return float((ours.float() - exact.float()).abs().max() / exact.float().abs().max())


def layer(n: int, k: int) -> Linear:
    made = Linear(k, n).bfloat16()
    made.weight.data = randn(n, k)
    return made


@needs_kernels
@pytest.mark.parametrize(("n", "k"), [(1, 8), (7, 33), (48, 64), (130, 257), (4, 4096)])
@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 7, 8, 9, 16])
@torch.inference_mode()
def test_a_product_is_rounded_once(num_rows: int, n: int, k: int) -> None:
    x, one, other = randn(num_rows, k), layer(n, k), layer(n + 3, k)
    for ours, weight in zip(linears(x, one, other), (one.weight, other.weight), strict=True):
        exact = x.double() @ weight.double().T
        # bfloat16 has 8 bits: half a unit in the last place, and what the sum in fp32 adds.
        assert (ours.double() - exact).abs().le(exact.abs() * 2**-8 + 1e-5 * k).all()


@needs_kernels
@torch.inference_mode()
def test_a_row_is_the_same_bits_in_every_batch_and_on_every_number_of_threads() -> None:
    x, one = randn(16, 300), layer(77, 300)
    together = linears(x, one)[0]
    num_threads = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for start, end in ((0, 1), (3, 4), (0, 7), (5, 16), (0, 16)):
                assert torch.equal(linears(x[start:end], one)[0], together[start:end])
    finally:
        torch.set_num_threads(num_threads)


@needs_kernels
@torch.inference_mode()
def test_a_product_spreads_what_is_not_a_number() -> None:
    x, one = randn(2, 64), layer(8, 64)
    x[1, 5] = torch.nan
    ours = linears(x, one)[0]
    assert ours[0].isfinite().all()
    assert ours[1].isnan().all()


@torch.inference_mode()
@pytest.mark.parametrize("sizes", [[1], [2, 1, 5], [1, 17], [16, 16]])
def test_each_group_goes_through_its_own_layer(sizes: list[int]) -> None:
    x = randn(sum(sizes), 64)
    stacks = [[layer(32, 64) for _ in sizes] for _ in range(2)]
    for output, stack in zip(grouped_linears(x, sizes, *stacks), stacks, strict=True):
        exact = [linear(rows, own.weight) for rows, own in zip(x.split(sizes), stack, strict=True)]
        assert largest_error(output, torch.cat(exact)) < 0.01


@needs_kernels
@pytest.mark.parametrize("num_rows", [1, 5, 64])
@torch.inference_mode()
def test_elementwise_kernels_equal_their_twins(num_rows: int) -> None:
    x, weight = randn(num_rows, 96) * 3, randn(96)
    assert largest_error(rms_norm(x, weight, 1e-5), rms_norm_by_torch(x, weight, 1e-5)) < 0.005
    gate, up = randn(num_rows, 96) * 30, randn(num_rows, 96)
    assert largest_error(swiglu(gate.clone(), up), swiglu_by_torch(gate.clone(), up)) < 0.005
    heads, by = randn(num_rows, 3, 32), rotations(torch.arange(num_rows) * 1000, 32, 1e6)
    assert torch.equal(rotate(heads.clone(), by), rotate_by_torch(heads, by))


@needs_kernels
@torch.inference_mode()
def test_the_gate_is_right_at_its_ends() -> None:
    gate = torch.tensor([[-1e30, -100.0, -20.0, -1.0, 0.0, 1.0, 20.0, 100.0, 1e30] + [0.0] * 7]).bfloat16()
    up = torch.ones_like(gate)
    torch.testing.assert_close(swiglu(gate.clone(), up), swiglu_by_torch(gate.clone(), up), rtol=0.01, atol=1e-8)


def step_of(lengths: list[tuple[int, int]], *, contiguous: bool) -> tuple[AttentionMetadata, int]:
    """A step of sequences (query_len, context_len), with slots side by side or shuffled; and how many slots."""
    spans, slot_mapping, query, slot = [], [], 0, 5
    for query_len, context_len in lengths:
        slots = torch.arange(slot, slot + context_len)
        if not contiguous:
            slots = slots[torch.randperm(context_len, generator=GENERATOR)]
        slot_mapping.append(slots[context_len - query_len :])
        spans.append(
            SequenceSpan(query, query_len, context_len, slice(slot, slot + context_len) if contiguous else slots)
        )
        query, slot = query + query_len, slot + context_len + 3
    return AttentionMetadata(tuple(spans), torch.cat(slot_mapping)), slot


@needs_kernels
@pytest.mark.parametrize("window", [None, 1, 100, 300])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(8, 2, 128), (3, 3, 32), (6, 1, 256), (10, 2, 64)])
@torch.inference_mode()
def test_attention_equals_sdpa(heads: int, kv_heads: int, dim: int, contiguous: bool, window: int | None) -> None:
    metadata, num_slots = step_of([(1, 1), (1, 700), (3, 257), (1, 256), (5, 5)], contiguous=contiguous)
    q, k, v = randn(11, heads, dim), randn(11, kv_heads, dim), randn(11, kv_heads, dim)
    cached = randn(2, num_slots, kv_heads, dim)
    ours, exact = (
        backend.attend(
            q.to(dtype),
            k.to(dtype),
            v.to(dtype),
            cache=LayerCache(*cached.to(dtype).clone().unbind()),
            metadata=metadata,
            window=window,
        )
        for backend, dtype in ((NativeBackend(), torch.bfloat16), (SdpaBackend(), torch.float32))
    )
    torch.testing.assert_close(ours.float(), exact, rtol=0.01, atol=2e-3)


@needs_kernels
@torch.inference_mode()
def test_a_query_is_the_same_bits_beside_others_and_wherever_its_keys_lie() -> None:
    metadata, num_slots = step_of([(1, 900), (1, 300)], contiguous=False)
    q, k, v = randn(2, 8, 64), randn(2, 2, 64), randn(2, 2, 64)
    cache = LayerCache(*randn(2, num_slots, 2, 64).unbind())
    both = NativeBackend().attend(q, k, v, cache=cache, metadata=metadata, window=None)
    slots = metadata.spans[0].key_slots
    alone = AttentionMetadata((SequenceSpan(0, 1, 900, slice(0, 900)),), torch.tensor([899]))
    moved = LayerCache(cache.k[slots].clone(), cache.v[slots].clone())
    one = NativeBackend().attend(q[:1], k[:1], v[:1], cache=moved, metadata=alone, window=None)
    assert torch.equal(one, both[:1])


@needs_kernels
def test_bf16_on_a_cpu_is_served_by_them_and_fp32_is_not() -> None:
    assert isinstance(select_backend(CPU, torch.bfloat16, 128), NativeBackend)
    assert isinstance(select_backend(CPU, torch.float32, 128), SdpaBackend)
    assert reasons_against_native_attention(CPU, torch.float32, 48) == [
        "compiled kernels serve bfloat16 on a CPU, not torch.float32 on cpu",
        "compiled attention takes head dimensions of 32, 64 .. 256, not 48",
    ]


@needs_kernels
@pytest.mark.parametrize("moe", [None, MoeArgs(num_experts=4, num_experts_per_tok=2)])
def test_a_model_gives_the_same_logits_without_them(tmp_path: Path, moe: MoeArgs | None) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, dtype=torch.bfloat16, moe=moe))
    ids = torch.arange(10, 24)
    with_kernels = model.forward(ids, [9, 5])
    plain = torch.cat([model.forward(torch.cat([part, part.new_full((40,), 7)]), [len(part) + 40])[: len(part)]
                       for part in ids.split([9, 5])])  # fmt: skip
    assert largest_error(with_kernels, plain) < 0.05


def test_without_a_compiler_torch_serves(tmp_path: Path) -> None:
    """In a process of its own, because the kernels are loaded once."""
    program = (
        "import torch\nfrom mistral_local.kernels import native\nfrom mistral_local.kernels.rms_norm import rms_norm\n"
        "print(native.reasons_against_native(torch.device('cpu'), torch.bfloat16))\n"
        "print(rms_norm(torch.ones(1, 16).bfloat16(), torch.ones(16).bfloat16(), 1e-5).sum().item())\n"
    )
    environment = {**os.environ, "PATH": str(tmp_path), "CC": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['no C compiler was found (apt install gcc)']", "16.0"]
    environment = {**os.environ, "MISTRAL_LOCAL_NATIVE": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['MISTRAL_LOCAL_NATIVE=0']", "16.0"]


@needs_kernels
@pytest.mark.parametrize("limit", [{"OMP_THREAD_LIMIT": "1"}, {"OMP_DYNAMIC": "true"}], ids=str)
def test_a_product_is_whole_when_openmp_gives_fewer_threads_than_asked_for(limit: dict[str, str]) -> None:
    program = (
        "import torch\nfrom mistral_local.kernels.native import native_kernels\ntorch.set_num_threads(64)\n"
        "print(native_kernels().linears(torch.ones(1, 8).bfloat16(), [torch.ones(256, 8).bfloat16()])[0].unique().tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | limit, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[8.0]\n"


class TestBuilding:
    @pytest.fixture(autouse=True)
    def _own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    @needs_kernels
    def test_a_library_is_compiled_once(self, tmp_path: Path) -> None:
        library = native_build.build()
        written = library.stat().st_mtime_ns
        assert native_build.build() == library
        assert library.stat().st_mtime_ns == written
        assert list((tmp_path / "mistral_local").iterdir()) == [library]
        assert hasattr(ctypes.CDLL(str(library)), "multiply")

    def test_a_compiler_that_fails_says_why_in_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        compiler = tmp_path / "failing-cc"
        compiler.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'no such flag' >&2\necho more >&2\nexit 1\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CC", str(compiler))
        with pytest.raises(native_build.CannotBuild, match=r"failing-cc failed: no such flag$"):
            native_build.build()
        assert not list((tmp_path / "mistral_local").iterdir())

    @needs_kernels
    def test_a_cache_that_others_can_write_is_not_used(self, tmp_path: Path) -> None:
        folder = tmp_path / "mistral_local"
        folder.mkdir()
        folder.chmod(0o777)
        assert native_build.build().parent != folder


@needs_kernels
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flag names an x86 level")
@torch.inference_mode()
def test_a_cpu_without_bfloat16_instructions_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The portable half of kernels.c, compiled for a CPU of 2013."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flags = tuple("-march=x86-64-v3" if flag == "-march=native" else flag for flag in native_build.FLAGS)
    monkeypatch.setattr(native_build, "FLAGS", (*flags, "-Wno-psabi"))
    portable, usual = native.NativeKernels(ctypes.CDLL(str(native_build.build()))), native.native_kernels()
    assert usual is not None
    x, weight, q = randn(5, 130), randn(33, 130), randn(3, 8, 64)
    assert largest_error(portable.linears(x, [weight])[0], usual.linears(x, [weight])[0]) < 0.01
    norm = randn(96)
    assert (
        largest_error(
            portable.rms_norm(x[:, :96].contiguous(), norm, 1e-5), rms_norm(x[:, :96].contiguous(), norm, 1e-5)
        )
        < 0.01
    )
    keys, values = randn(2, 600, 2, 64).unbind()
    queries = (ctypes.c_int64 * 15)(0, 0, 600, 0, 0, 1, 17, 300, 0, 0, 2, 0, 1, 0, 0)
    ours, theirs = (kernels.attend(q, keys, values, queries, 3) for kernels in (portable, usual))
    assert largest_error(ours, theirs) < 0.01
