"""What needs a CUDA device: the model against the oracle there, and every backend against its twin."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from oracle import one_file_ref
from torch.nn.functional import linear, silu

from mistral_local.args import MoeArgs
from mistral_local.attention.batch import AttentionMetadata, PagedTables, SequenceSpan
from mistral_local.attention.sdpa import SdpaBackend
from mistral_local.attention.select import reasons_against_xformers, select_backend
from mistral_local.attention.triton import TritonBackend
from mistral_local.attention.xformers import XformersBackend
from mistral_local.cli.bench_gpu import gpu
from mistral_local.config import QUANT_FORMATS, EngineConfig, QuantFormat
from mistral_local.engine.engine import Engine
from mistral_local.engine.step_graphs import sizes_of_graphs
from mistral_local.generate import generate
from mistral_local.kernels import scaled_product
from mistral_local.kernels.grouped_linear import grouped_linear, grouped_linear_by_loop, grouped_linear_by_mask
from mistral_local.kernels.quantized import QuantizedWeight, dequantize, quantize, quantized_linears
from mistral_local.kernels.rms_norm import Normed, rms_norm_by_torch
from mistral_local.kernels.triton import SWITCH
from mistral_local.kvcache.storage import FP8, LayerCache
from mistral_local.model.joined import joined_view
from mistral_local.model.rope import rotations
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    # Warnings of torch, triton and xformers builds are not ours to mend.
    pytest.mark.filterwarnings("default"),
]

triton_serves = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")

CUDA = torch.device("cuda", 0)
PROMPTS = [[5, 9, 300, 4, 17, 8, 1, 2, 3, 4, 5], [7], list(range(40, 75))]
KINDS = {
    "dense": {},
    "window": {"sliding_window": 9},
    "windows per layer": {"sliding_window": [None, 9]},
    "mixture": {"moe": MoeArgs(num_experts=4, num_experts_per_tok=2)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_fp32_generation_equals_the_oracle(kind: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, **KINDS[kind])  # type: ignore[arg-type]
    oracle = one_file_ref.Transformer.from_folder(folder)
    model = Transformer.from_folder(folder, max_batch_size=3, device=CUDA)
    for chunk_size in (None, 4):
        tokens, logprobs = generate(PROMPTS, model, max_tokens=24, temperature=0.0, chunk_size=chunk_size)
        for row, prompt in enumerate(PROMPTS):
            expected, expected_logprobs = one_file_ref.generate(oracle, prompt, max_tokens=24)
            assert tokens[row] == expected
            assert torch.allclose(torch.tensor(logprobs[row]), torch.tensor(expected_logprobs), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_stay_near_those_of_fp32(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, dim=64, head_dim=16, hidden_dim=128, **KINDS[kind])  # type: ignore[arg-type]
    flat = torch.tensor([token for prompt in PROMPTS for token in prompt])
    lengths = [len(prompt) for prompt in PROMPTS]
    exact = Transformer.from_folder(folder, device="cpu").forward(flat, lengths)
    near = Transformer.from_folder(folder, device=CUDA, dtype=dtype).forward(flat, lengths).cpu()
    assert torch.isfinite(near).all()
    # A gate may choose another expert where two are nearly equal, so the median is compared, not the maximum.
    assert (near - exact).abs().median() < 0.02 * exact.std()


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_self_consistency_of_decoding_and_prefill(kind: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, dim=64, head_dim=16, hidden_dim=128, **KINDS[kind])  # type: ignore[arg-type]
    model = Transformer.from_folder(folder, max_batch_size=3, device=CUDA, dtype=torch.bfloat16)
    tokens, decoded = generate(PROMPTS, model, max_tokens=16, temperature=0.7, seed=1)
    whole = [prompt + answer for prompt, answer in zip(PROMPTS, tokens, strict=True)]
    _, prefilled = generate(whole, model, max_tokens=0, temperature=0.0)
    for row in range(len(PROMPTS)):
        difference = (torch.tensor(decoded[row]) - torch.tensor(prefilled[row])).abs()
        assert difference.median() < 0.05


@pytest.mark.skipif(
    torch.cuda.is_available() and bool(reasons_against_xformers(CUDA, torch.bfloat16, 64)),
    reason="xformers does not serve here",
)
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("lengths", [[(33, 33)], [(40, 7)], [(33, 33), (20, 1), (17, 4)]])
def test_xformers_equals_sdpa(lengths: list[tuple[int, int]], window: int | None) -> None:
    generator = torch.Generator(CUDA).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=CUDA, dtype=torch.bfloat16)

    spans, slots, start, block = [], [], 0, 0
    for context, queries in lengths:
        first = block * 16
        spans.append(SequenceSpan(start, queries, context, slice(first, first + context)))
        slots += range(first + context - queries, first + context)
        start += queries
        block += -(-context // 16)
    metadata = AttentionMetadata(tuple(spans), torch.tensor(slots, device=CUDA))
    cache = LayerCache(draw(block * 16, 2, 64), draw(block * 16, 2, 64))
    q, k, v = draw(start, 8, 64), draw(start, 2, 64), draw(start, 2, 64)
    outs = [
        backend.attend(q, k, v, cache=cache, metadata=metadata, window=window)
        for backend in (SdpaBackend(), XformersBackend())
    ]
    assert torch.allclose(outs[0].float(), outs[1].float(), atol=2e-2)


@pytest.mark.skipif(
    torch.cuda.is_available() and bool(reasons_against_xformers(CUDA, torch.bfloat16, 64)),
    reason="xformers does not serve here",
)
@triton_serves
def test_xformers_decodes_over_pages_as_sdpa_does() -> None:
    """One query of each sequence; blocks of 64 tokens, not in order."""
    lengths = [300, 1, 64, 65]
    pages = [-(-length // 64) for length in lengths]
    order = torch.randperm(sum(pages), generator=torch.Generator().manual_seed(1)).split(pages)
    tables = torch.zeros(len(lengths), max(pages), dtype=torch.int32)
    spans = []
    for row, (blocks, length) in enumerate(zip(order, lengths, strict=True)):
        tables[row, : len(blocks)] = blocks.int()
        slots = (blocks[:, None] * 64 + torch.arange(64)).flatten()[:length].to(CUDA)
        spans.append(SequenceSpan(row, 1, length, slots))
    places = torch.arange(len(lengths) + 1, device=CUDA)
    paged = PagedTables(tables.to(CUDA), 64, places[:-1], torch.tensor(lengths, device=CUDA), places)
    last = torch.stack([span.key_slots[-1] for span in spans])  # type: ignore[index]
    metadata = AttentionMetadata(tuple(spans), last, paged)
    k_cache, v_cache, q, k, v = drawn(*[(sum(pages) * 64, 2, 64)] * 2, (4, 8, 64), *[(4, 2, 64)] * 2)
    outs = [
        backend.attend(q, k, v, cache=LayerCache(k_cache, v_cache), metadata=metadata, window=None)
        for backend in (SdpaBackend(), XformersBackend())
    ]
    assert torch.allclose(outs[0].float(), outs[1].float(), atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [[3, 0, 2, 4], [0, 0, 9, 0], [1, 1, 1, 6]])
def test_grouped_linear_equals_its_twin(sizes: list[int], dtype: torch.dtype) -> None:
    generator = torch.Generator(CUDA).manual_seed(0)
    x = torch.randn(9, 64, generator=generator, device=CUDA).to(dtype)
    weight = torch.randn(4, 32, 64, generator=generator, device=CUDA).to(dtype)
    group_sizes = torch.tensor(sizes, device=CUDA)
    expected = grouped_linear_by_loop(x, weight, group_sizes).float()
    for twin in (grouped_linear, grouped_linear_by_mask):
        assert torch.allclose(twin(x, weight, group_sizes).float(), expected, rtol=2e-2, atol=0.1)


@triton_serves
@pytest.mark.parametrize("quant_format", [None, *QUANT_FORMATS])
@pytest.mark.parametrize("num_rows", [1, 2, 5, 16, 17, 64])
@pytest.mark.parametrize(("columns", "outs"), [(4096, (4096, 1024, 1024)), (14336, (4096,)), (4096, (32768,))], ids=str)
def test_triton_multiplies_few_rows_as_torch_does(
    columns: int, outs: tuple[int, ...], num_rows: int, quant_format: QuantFormat | None
) -> None:
    from mistral_local.kernels.triton.linear import linears

    x, *weights = drawn((num_rows, columns), *((out, columns) for out in outs))
    stored = [weight if quant_format is None else quantize(weight, quant_format) for weight in weights]
    for y, weight in zip(linears(x, stored), stored, strict=True):
        assert_near(y, x.float() @ in_floats(weight).T)


@triton_serves
@pytest.mark.parametrize("quant_format", [None, *QUANT_FORMATS])
@pytest.mark.parametrize("num_rows", [1, 2, 5, 16, 17, 64])
def test_triton_norms_adds_and_gates_around_a_product_as_torch_does(
    num_rows: int, quant_format: QuantFormat | None
) -> None:
    from mistral_local.kernels.triton.linear import gate_up, linears

    x, scale, residual, *weights = drawn((num_rows, 4096), (4096,), (num_rows, 14336), *[(14336, 4096)] * 2)
    stored = [weight if quant_format is None else quantize(weight, quant_format) for weight in weights]
    rows, normed = Normed(x, scale, 1e-5), rms_norm_by_torch(x, scale, 1e-5).float()
    gate, up = (normed @ in_floats(weight).T for weight in stored)
    for y, expected in zip(linears(rows, stored), (gate, up), strict=True):
        assert_near(y, expected, 2**-7)
    assert_near(gate_up(rows, *stored), silu(gate) * up, 2**-6)
    product = linears(x, stored[:1])[0]
    assert torch.equal(linears(x, stored[:1], residual)[0], residual + product)


@triton_serves
@pytest.mark.parametrize("quant_format", [None, *QUANT_FORMATS])
@pytest.mark.parametrize("num_tokens", [1, 2, 16, 33, 64])
def test_triton_multiplies_by_the_chosen_experts_as_torch_does(
    num_tokens: int, quant_format: QuantFormat | None
) -> None:
    """Matrices of Mixtral 8x7B, and tokens without an expert."""
    from mistral_local.kernels.triton.moe import expert_down, expert_gate_up

    x, *matrices = drawn((num_tokens, 4096), *[(8, 14336, 4096)] * 2, (8, 4096, 14336))
    experts = torch.stack([torch.randperm(9, device=CUDA)[:2] - 1 for _ in range(num_tokens)])
    experts[-1] = -1 if num_tokens > 1 else experts[-1]
    weights = torch.rand(num_tokens, 2, device=CUDA)
    w1, w3, w2 = (stacked(stack, quant_format) for stack in matrices)
    expected = torch.zeros(num_tokens, 4096, device=CUDA)
    for token, choice in (experts >= 0).nonzero().tolist():
        expert, row = experts[token, choice], x[token].float()
        gate, up, down = (in_floats(matrix_of(stack, int(expert))) for stack in (w1, w3, w2))
        expected[token] += weights[token, choice] * (down @ (silu(gate @ row) * (up @ row)))
    h = expert_gate_up(x, experts, w1, w3)
    found = expert_down(h, experts, weights, w2)
    assert_near(found, expected, 2**-5)
    assert not found[(experts < 0).all(1)].any()
    assert torch.equal(expert_down(h, experts, weights, w2, x), x + found)


@triton_serves
@pytest.mark.parametrize(("num_experts", "k"), [(8, 2), (64, 6)])
@pytest.mark.parametrize("num_tokens", [1, 16, 64])
def test_triton_sends_tokens_where_torch_sends_them(num_tokens: int, num_experts: int, k: int) -> None:
    from mistral_local.kernels.triton.route import route as route_by_triton

    x, scale, gate = drawn((num_tokens, 4096), (4096,), (num_experts, 4096))
    gate /= 64
    normed, weights, experts = route_by_triton(Normed(x, scale, 1e-5), gate, k, range(num_experts))
    expected = rms_norm_by_torch(x, scale, 1e-5)
    assert_near(normed, expected.float(), 2**-8)
    logits = normed.float() @ gate.float().T
    # Logits are rounded to bfloat16, so that equals may stand for each other.
    assert torch.allclose(logits.gather(1, experts), logits.topk(k).values, atol=0.02)
    shares = torch.softmax(linear(normed, gate).gather(1, experts).float(), dim=-1)
    assert torch.allclose(weights, shares, atol=0.02)
    assert torch.allclose(weights.sum(1), torch.ones(num_tokens, device=CUDA), atol=1e-5)


@triton_serves
@pytest.mark.parametrize("num_rows", [1, 17, 300])
def test_triton_norms_and_gates_as_torch_does(num_rows: int) -> None:
    from mistral_local.kernels.triton.elementwise import add_rms_norm, swiglu_

    x, added, scale, halves = drawn((num_rows, 4096), (num_rows, 4096), (4096,), (num_rows, 28672))
    total, normed = add_rms_norm(x, added, scale, 1e-5)
    assert torch.equal(total, x + added)
    assert_near(normed, rms_norm_by_torch(total, scale, 1e-5).float(), 2**-8)
    gate, up = halves.chunk(2, dim=1)
    expected = silu(gate.float()) * up.float()
    assert_near(swiglu_(gate, up), expected, 2**-7)


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_are_joined_when_they_are_read(kind: str, tmp_path: Path) -> None:
    """No memory is lost to it, and the first step finds them joined."""
    folder = write_checkpoint(tmp_path, dim=512, hidden_dim=2048, head_dim=64, **KINDS[kind])  # type: ignore[arg-type]
    before = torch.cuda.memory_allocated()
    model = Transformer.from_folder(folder, max_batch_size=3, device=CUDA)
    nbytes = sum(parameter.nbytes for parameter in model.parameters())
    assert torch.cuda.memory_allocated() - before < nbytes * 1.05
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    block = model.layers[0]
    experts = block.feed_forward.experts if kind == "mixture" else [block.feed_forward]
    pairs = [matrix.weight for expert in experts for matrix in (expert.w1, expert.w3)]
    assert joined_view(pairs) is not None
    generate(PROMPTS, model, max_tokens=3, temperature=0.0)
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses


@triton_serves
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quant_format", [None, *QUANT_FORMATS])
def test_triton_gives_the_answers_of_torch(
    quant_format: QuantFormat | None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path, dim=64, head_dim=16, hidden_dim=128, **KINDS[kind])  # type: ignore[arg-type]
    model = Transformer.from_folder(folder, max_batch_size=3, device=CUDA, quantize=quant_format)
    answers = []
    for switch in ("0", "1"):
        monkeypatch.setenv(SWITCH, switch)
        select_backend.cache_clear()
        answers.append(generate(PROMPTS, model, max_tokens=24, temperature=0.0))
    select_backend.cache_clear()
    (expected, expected_logprobs), (found, logprobs) = answers
    assert found == expected
    for ours, theirs in zip(logprobs, expected_logprobs, strict=True):
        assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), atol=1e-3)


@triton_serves
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_model_may_be_on_another_gpu_than_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")
    select_backend.cache_clear()
    folder = write_checkpoint(tmp_path, dim=64, head_dim=16, hidden_dim=128)
    models = [Transformer.from_folder(folder, device=torch.device("cuda", index)) for index in (0, 1)]
    first, second = (generate(PROMPTS[:1], model, max_tokens=12, temperature=0.0)[0] for model in models)
    select_backend.cache_clear()
    assert first == second


@triton_serves
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_kernel_passes_its_check(dtype: torch.dtype) -> None:
    """What decides whether the kernels serve."""
    from mistral_local.kernels.triton.check import cases

    with torch.inference_mode():
        wrong = [(case.name, case.error) for case in cases(CUDA, dtype) if not case.error <= case.tolerance]
    assert not wrong


@triton_serves
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quant_format", [None, *QUANT_FORMATS])
def test_recorded_steps_answer_as_others_do(
    kind: str, quant_format: QuantFormat | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that shrink from 6 to 1, so that most are padded; the second call replays what the first has recorded."""
    monkeypatch.setenv(SWITCH, "1")
    select_backend.cache_clear()
    folder = write_checkpoint(tmp_path, dim=64, head_dim=16, hidden_dim=128, **KINDS[kind])  # type: ignore[arg-type]
    model = Transformer.from_folder(folder, max_batch_size=6, device=CUDA, dtype=torch.bfloat16)
    if quant_format is not None:
        model.quantize(quant_format)
    prompts = [list(range(5, 8 + row)) for row in range(6)]
    params = [
        SamplingParams(max_tokens=6 + 3 * row, temperature=0.8 * (row % 2), seed=row, logprobs=True) for row in range(6)
    ]
    answers = []
    for graphs in (False, True, True):
        engine = Engine(model, EngineConfig(max_num_seqs=6, max_context=64, graphs=graphs))
        assert bool(sizes_of_graphs(model, engine.config)) == graphs
        answers.append(engine.generate(prompts, params))
        if graphs:
            answers.append(engine.generate(prompts, params))
    select_backend.cache_clear()
    expected, *others = answers
    for found in others:
        for ours, theirs in zip(found, expected, strict=True):
            difference = (torch.tensor(ours.logprobs[:6]) - torch.tensor(theirs.logprobs[:6])).abs()
            assert difference.median() < 0.05  # a padded batch may be multiplied by another kernel
    assert [sequence.new_tokens for sequence in others[1]] == [sequence.new_tokens for sequence in others[3]]


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability(CUDA) < (8, 9), reason="the GPU multiplies no fp8"
)
@pytest.mark.parametrize("num_rows", [65, 128, 1000])
@pytest.mark.parametrize(("columns", "outs"), [(4096, (4096, 1024, 1024)), (14336, (4096,)), (32768, (5120,))], ids=str)
def test_rows_and_matrices_in_fp8_are_multiplied_as_their_numbers_are(
    columns: int, outs: tuple[int, ...], num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(scaled_product.SWITCH, "1")
    x, *weights = drawn((num_rows, columns), *((out, columns) for out in outs))
    x *= torch.logspace(-2, 2, num_rows, device=CUDA)[:, None].bfloat16()
    stored = [quantize(weight, "fp8") for weight in weights]
    reasons = scaled_product.reasons_against_scaled_product(x, stored[0].data, stored[0].scales)
    assert not reasons
    rounded = in_floats(quantize(x, "fp8"))
    for y, weight in zip(quantized_linears(x, stored), stored, strict=True):
        expected = rounded @ in_floats(weight).T
        # Fast accumulation keeps fewer bits of a sum than fp32.
        assert float((y.float() - expected).norm(dim=1).div(expected.norm(dim=1)).max()) < 2e-2


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
def test_many_rows_hold_one_unpacked_matrix_and_wait_for_nothing(quant_format: QuantFormat) -> None:
    out, columns = 4096, 8192
    (x,) = drawn((64, columns))
    weights = [quantize(weight, quant_format) for weight in drawn(*[(out, columns)] * 8)]
    quantized_linears(x, weights)  # what torch allocates once
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = quantized_linears(x, weights)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.max_memory_allocated() - before < 2.5 * out * columns * x.itemsize
    for y, weight in zip(results, weights, strict=True):
        assert_near(y, x.float() @ in_floats(weight).bfloat16().float().T)


@triton_serves
@pytest.mark.parametrize("kind", KINDS)
def test_triton_over_keys_and_values_in_fp8_gives_the_answers_of_torch(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path, dim=64, head_dim=16, hidden_dim=128, **KINDS[kind])  # type: ignore[arg-type]
    model = Transformer.from_folder(folder, max_batch_size=3, device=CUDA)
    answers = []
    for switch in ("0", "1"):
        monkeypatch.setenv(SWITCH, switch)
        select_backend.cache_clear()
        answers.append(generate(PROMPTS, model, max_tokens=24, temperature=0.0, kv_dtype="fp8", chunk_size=20))
    select_backend.cache_clear()
    (expected, expected_logprobs), (found, logprobs) = answers
    assert found == expected
    for ours, theirs in zip(logprobs, expected_logprobs, strict=True):
        # A last bit of a key may round it to the neighbour.
        assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), atol=2e-2)


@triton_serves
@pytest.mark.parametrize("heads", [(32, 8), (8, 8), (12, 1)])
def test_triton_stores_in_fp8_and_attends_as_torch_does(heads: tuple[int, int]) -> None:
    """In bfloat16, which the interpreter cannot multiply; scales differ by orders of magnitude."""
    num_tokens, head_dim, block_size = 300, 128, 16
    q, k, v = drawn(*((num_tokens, number, head_dim) for number in (heads[0], heads[1], heads[1])))
    k, v = (numbers * torch.logspace(-2, 0, num_tokens, device=CUDA)[:, None, None].bfloat16() for numbers in (k, v))
    rotation = rotations(torch.arange(num_tokens, device=CUDA), head_dim, 1e6)
    num_blocks = -(-num_tokens // block_size)
    table = torch.randperm(num_blocks, device=CUDA)
    slots = (table[:, None] * block_size + torch.arange(block_size, device=CUDA)).flatten()[:num_tokens]
    one = torch.tensor([num_tokens], device=CUDA)
    tables = PagedTables(
        table[None].int(), block_size, torch.zeros_like(one), one, torch.tensor([0, num_tokens], device=CUDA)
    )
    metadata = AttentionMetadata((SequenceSpan(0, num_tokens, num_tokens, slots),), slots, tables)
    caches = [
        LayerCache(*torch.zeros(2, num_blocks * block_size, heads[1], head_dim, device=CUDA).to(FP8)) for _ in range(2)
    ]
    expected, found = (
        backend.rotate_and_attend(q.clone(), k, v, rotation, cache=cache, metadata=metadata, window=None)
        for backend, cache in zip((SdpaBackend(), TritonBackend()), caches, strict=True)
    )
    for ours, theirs in zip(*(cache.read(slots, torch.float32) for cache in reversed(caches)), strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-2
    assert float((found.float() - expected.float()).norm() / expected.float().norm()) < 2e-2


@pytest.mark.parametrize("shape", ["tiny", "tiny-moe"])
def test_the_benchmark_has_a_figure_and_a_profile_for_every_cell(shape: str, tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    gpu(shapes=shape, cells="start,decode:2x64,prefill:256", repeats=2, profile=True, output=str(output))
    report = json.loads(output.read_text())
    cells = report["shapes"][shape]["cells"]
    assert not [name for name, figures in cells.items() if "missing" in figures]
    decode = cells["decode:2x64"]
    assert 0 < sum(kernel["ms"] for kernel in decode["profile"]) < 2 * decode["ms"]
    assert not [kernel["name"] for kernel in decode["profile"] if kernel["name"].startswith("aten::")]
    assert 0 < cells["prefill:256"]["share_of_floor"] < 1.05
    assert 0 < decode["share_of_floor"] < 1.05
    assert report["ceilings"]["before"]["read_bytes_per_s"] > 1e11


def drawn(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator(CUDA).manual_seed(0)
    return [torch.randn(*shape, generator=generator, device=CUDA, dtype=torch.bfloat16) for shape in shapes]


def in_floats(weight: torch.Tensor | QuantizedWeight) -> torch.Tensor:
    return weight.float() if isinstance(weight, torch.Tensor) else dequantize(weight, torch.float32)


def stacked(stack: torch.Tensor, quant_format: QuantFormat | None) -> torch.Tensor | QuantizedWeight:
    if quant_format is None:
        return stack
    parts = [quantize(matrix, quant_format) for matrix in stack]
    return QuantizedWeight(*(torch.stack([getattr(part, name) for part in parts]) for name in ("data", "scales")))


def matrix_of(stack: torch.Tensor | QuantizedWeight, expert: int) -> torch.Tensor | QuantizedWeight:
    if isinstance(stack, torch.Tensor):
        return stack[expert]
    return QuantizedWeight(stack.data[expert], stack.scales[expert])


def assert_near(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 2**-8) -> None:
    """Rounding a result to bfloat16 is an error of 2^-9 at most, and so is each number on the way; sums in fp32 add little."""
    assert float((found.float() - expected).norm() / expected.norm()) < tolerance


def test_loading_leaves_no_copy_of_the_weights_in_host_memory(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, dim=512, hidden_dim=2048, n_layers=8, head_dim=64, dtype=torch.bfloat16)
    torch.zeros(1, device=CUDA)  # the context comes first
    before = _rss_anon()
    model = Transformer.from_folder(folder, device=CUDA)
    nbytes = sum(parameter.nbytes for parameter in model.parameters())
    assert _rss_anon() - before < nbytes / 2


def _rss_anon() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
