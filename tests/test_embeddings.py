"""Pooled hidden states: those of the oracle, in any chunks, cached or not."""

from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from oracle import one_file_ref
from torch.nn.functional import normalize

import mistral_local
from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.errors import EmptyPromptError, RequestError
from mistral_local.sampling.params import Pooling, SamplingParams
from mistral_local.tasks.embeddings import embed
from mistral_local.transformer import Transformer

PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [1], [5, 6, 7, 8, 20]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def expected(folder: Path, prompt: list[int], pooling: Pooling) -> list[float]:
    """By the oracle, whose last norm is read on the way to the logits."""
    oracle = one_file_ref.Transformer.from_folder(folder)
    states: list[torch.Tensor] = []
    oracle.norm.register_forward_hook(lambda module, inputs, output: states.append(output[0]))
    with torch.inference_mode():
        oracle(torch.tensor([prompt]))
    state = states[0].mean(0) if pooling == "mean" else states[0][-1]
    return normalize(state, dim=0).tolist()


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_vectors_are_the_normalised_states_of_the_oracle(folder: Path, pooling: Pooling, chunk: int | None) -> None:
    config = EngineConfig(max_num_seqs=2, max_context=32, block_size=4, max_prefill_chunk=chunk)
    engine = Engine(Transformer.from_folder(folder), config)
    for _ in range(2):  # the second time the cache knows the prompts
        vectors = embed(engine, PROMPTS, pooling=pooling)
        for prompt, vector in zip(PROMPTS, vectors, strict=True):
            assert torch.allclose(torch.tensor(vector), torch.tensor(expected(folder, prompt, pooling)), atol=1e-5)
    assert engine.pool.num_free == engine.pool.num_blocks


def test_embedding_and_generating_share_an_engine(folder: Path) -> None:
    engine = Engine(Transformer.from_folder(folder), EngineConfig(max_num_seqs=2, max_context=32))
    sequence = engine.add([1, 2, 3], SamplingParams(max_tokens=5))
    assert len(embed(engine, PROMPTS, pooling="mean")) == 3
    engine.run([sequence])
    assert sequence.finish_reason == "length"


def test_an_empty_prompt_leaves_nothing_behind(folder: Path) -> None:
    engine = Engine(Transformer.from_folder(folder), EngineConfig(max_num_seqs=2, max_context=32))
    with pytest.raises(EmptyPromptError):
        embed(engine, [[1], []], pooling="mean")
    assert not engine.has_work


def test_the_front_door_embeds_texts() -> None:
    llm = mistral_local.load(num_threads=1)
    one, same, other = llm.embed(["a test", "a test", "something else"])
    assert sum(x * x for x in one) == pytest.approx(1, abs=1e-4)
    assert one == pytest.approx(same, abs=1e-3)
    assert one != pytest.approx(other, abs=1e-3)
    with pytest.raises(RequestError, match="pooling: expected mean or last, got 'max'"):
        llm.embed(["a"], pooling="max")  # type: ignore[arg-type]
