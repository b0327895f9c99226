"""Keys and values in fp8: what is rounded, what it costs in answers, and that nothing else of the engine notices."""

import contextlib
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from demo_kl import demo_answers
from torch import Tensor

from mistral_local.attention.batch import AttentionMetadata, Batch, SequenceSpan
from mistral_local.attention.select import reasons_against, select_backend
from mistral_local.cli.entry import run_local
from mistral_local.config import KV_DTYPES, EngineConfig, KVDtype
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Status
from mistral_local.errors import UsageError
from mistral_local.generate import generate
from mistral_local.kvcache.groups import group_layers
from mistral_local.kvcache.storage import FP8, KVCache, LayerCache, kv_bytes_per_token, storage_dtype
from mistral_local.sampling.params import SamplingParams
from mistral_local.tasks.llm import load
from mistral_local.transformer import Transformer

CPU = torch.device("cpu")
MOST_KL, MOST_KL_OF_ANSWERS = 0.006, 0.0008
"""Nats per token between the demo's next-token distributions over keys and values as computed and over rounded ones: of
prompts and answers, and of the answers alone."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def empty_fp8(*shape: int) -> LayerCache:
    return LayerCache(torch.empty(shape, dtype=FP8), torch.empty(shape, dtype=FP8))


def test_each_head_of_each_token_has_a_scale_of_its_own() -> None:
    k, v = normal(5, 3, 32), normal(5, 3, 32, seed=1)
    k *= torch.logspace(-6, 6, 15).view(5, 3, 1)
    v[2, 1] = 0
    slots = torch.tensor([7, 0, 3, 9, 4])
    cache = empty_fp8(10, 3, 32)
    cache.write(k, v, slots)
    assert cache.k_scales is not None
    assert cache.v_scales is not None
    torch.testing.assert_close(cache.k_scales[slots], k.abs().amax(-1) / 448)
    for found, expected in zip(cache.read(slots, torch.float32), (k, v), strict=True):
        error = (found - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-30)
        assert float(error.max()) < 0.04
    assert not cache.read(slots, torch.float32)[1][2, 1].any()
    whole = cache.read(slice(3, 5), torch.bfloat16)[0]
    assert torch.equal(whole, cache.read(torch.tensor([3, 4]), torch.bfloat16)[0])
    assert whole.dtype == torch.bfloat16


def test_what_is_not_finite_shows() -> None:
    k, v = normal(2, 1, 16), normal(2, 1, 16, seed=1)
    k[0, 0, 3], v[1, 0, 2] = torch.nan, torch.inf
    cache = empty_fp8(2, 1, 16)
    cache.write(k, v, torch.arange(2))
    found = [tensor.isfinite().all(-1)[:, 0].tolist() for tensor in cache.read(slice(0, 2), torch.float32)]
    assert found == [[False, True], [True, False]]


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("windows", [[None], [None, 6]])
def test_memory_is_counted_to_the_byte(kv_dtype: KVDtype, windows: list[int | None], tmp_path: Path) -> None:
    dtype = storage_dtype(kv_dtype, torch.bfloat16)
    cache = KVCache(
        groups=group_layers(windows * 2, 64),
        num_blocks=5,
        block_size=4,
        n_kv_heads=3,
        head_dim=16,
        dtype=dtype,
        device=CPU,
    )
    per_token = kv_bytes_per_token(n_layers=cache.groups.layers_per_group, n_kv_heads=3, head_dim=16, dtype=dtype)
    tensors = [t for c in cache.layers for t in (c.k, c.v, c.k_scales, c.v_scales) if t is not None]
    held = sum(nbytes for _, nbytes in {(t.data_ptr(), t.nbytes) for t in tensors})
    assert cache.num_bytes == held == 5 * 4 * per_token


def test_the_same_memory_holds_nearly_twice_the_tokens(tmp_path: Path) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, dtype=torch.bfloat16, head_dim=64))
    limits = {"max_num_seqs": 64, "max_context": 256, "kv_memory_bytes": 1_000_000}
    plain, rounded = (Engine(model, EngineConfig(**limits, kv_dtype=kv_dtype)).kv_tokens for kv_dtype in KV_DTYPES)
    assert rounded / plain == pytest.approx(128 / 68, rel=0.02)


def test_others_say_why_they_do_not_read_it() -> None:
    reasons = reasons_against(CPU, torch.bfloat16, 64, FP8)
    assert any("not in torch.float8_e4m3fn" in reason for reason in reasons["native"])
    assert select_backend(CPU, torch.bfloat16, 64, FP8).name == "sdpa"
    assert "fp8" not in str(reasons_against(CPU, torch.bfloat16, 64, torch.bfloat16))


def test_what_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="kv_dtype: expected auto or fp8, got 'int8'"):
        EngineConfig(max_num_seqs=1, max_context=8, kv_dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="kv_dtype: expected auto or fp8, got 'fp4'"):
        load(tmp_path / "not there", kv_dtype="fp4")  # type: ignore[arg-type]
    model = Transformer.from_folder(write_checkpoint(tmp_path, dtype=torch.bfloat16, head_dim=32))
    with pytest.raises(UsageError, match="deterministic mode cannot be had"):
        Engine(model, EngineConfig(max_num_seqs=1, max_context=64, kv_dtype="fp8", deterministic=True))


@pytest.mark.parametrize(
    ("window", "num_blocks", "layers_per_block"), [(None, 16, 2), (9, 10, 2), ([None, 9], 22, 1)], ids=str
)
def test_chunks_shared_beginnings_and_preemption_change_nothing(
    window: object, num_blocks: int, layers_per_block: int, tmp_path: Path
) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, head_dim=16, sliding_window=window))
    shared = list(range(2, 22))
    prompts = [[*shared, 30], [*shared, 31, 32], [*shared[:9], 40], [5]]
    params = [SamplingParams(max_tokens=20, logprobs=True)] * len(prompts)
    alone = EngineConfig(max_num_seqs=1, max_context=64, kv_dtype="fp8")
    expected = [Engine(model, alone).generate([prompt], params[:1])[0] for prompt in prompts]
    block_bytes = 4 * kv_bytes_per_token(n_layers=layers_per_block, n_kv_heads=2, head_dim=16, dtype=FP8)
    small = EngineConfig(
        max_num_seqs=4,
        max_context=64,
        block_size=4,
        max_prefill_chunk=7,
        max_num_batched_tokens=16,
        kv_dtype="fp8",
        kv_memory_bytes=num_blocks * block_bytes,
    )
    engine = Engine(model, small)
    found = [engine.add(prompt, param) for prompt, param in zip(prompts, params, strict=True)]
    num_preempted = 0
    while not all(sequence.is_finished for sequence in found):
        running = list(engine.scheduler.running)
        engine.step()
        num_preempted += sum(sequence.status is Status.WAITING for sequence in running)
    assert num_preempted > 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.new_tokens == theirs.new_tokens
        # The last bit of a sum may round a number to its neighbour.
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=5e-3)


def test_generate_keeps_a_cache_of_each_kind_apart(tmp_path: Path) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path))
    kinds: list[KVDtype] = ["auto", "fp8", "fp8", "auto"]
    answers = [generate([[5, 6, 7]], model, max_tokens=8, temperature=0.0, kv_dtype=kind)[1] for kind in kinds]
    assert answers[0] == answers[3]
    assert answers[1] == answers[2]
    assert answers[0] != answers[1]
    assert answers[0][0] == pytest.approx(answers[1][0], abs=0.3)


def logits(model: Transformer, tokens: list[int], dtype: torch.dtype) -> Tensor:
    """[T, vocab] of one sequence whose keys and values are stored in dtype and read from there."""
    cache = KVCache(
        groups=group_layers([None] * model.args.n_layers, len(tokens)),
        num_blocks=1,
        block_size=len(tokens),
        n_kv_heads=model.num_kv_heads,
        head_dim=model.args.head_dim,
        dtype=dtype,
        device=CPU,
    )
    place = torch.arange(len(tokens))
    span = SequenceSpan(0, len(tokens), len(tokens), slice(0, len(tokens)))
    with torch.inference_mode():
        hidden = model.hidden(Batch(torch.tensor(tokens), place, (AttentionMetadata((span,), place),)), cache)
        return model.logits(hidden)


def test_the_demo_answers_nearly_as_before() -> None:
    model = Transformer.from_folder(demo_checkpoint())
    whole, new = [], []
    for prompt, answer in demo_answers(model):
        exact, rounded = (logits(model, prompt + answer, dtype).log_softmax(-1) for dtype in (model.dtype, FP8))
        kl = (exact.exp() * (exact - rounded)).sum(-1)
        whole.append(kl)
        new.append(kl[len(prompt) :])
    assert 0 < float(torch.cat(whole).mean()) < MOST_KL
    assert 0 < float(torch.cat(new).mean()) < MOST_KL_OF_ANSWERS


def test_commands_take_it(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {}
    for kv_dtype in KV_DTYPES:
        assert run_local(["plan", "--gpus", "1", "--context", "1000", "--kv_dtype", kv_dtype]) == 0
        lines[kv_dtype] = capsys.readouterr().out
    assert "KV cache in fp8" in lines["fp8"]
    assert "KV cache in" not in lines["auto"]
    assert run_local(["plan", "--kv_dtype", "int8"]) == 2


def test_a_model_chats_with_it() -> None:
    with contextlib.closing(load(kv_dtype="fp8")) as llm:
        assert llm.chat([{"role": "user", "content": "Hello!"}]).text
