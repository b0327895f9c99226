"""The model against transformers, on tiny random models of each kind, in fp32."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hf_models import KINDS, VOCAB, WINDOW, hf_greedy, hf_logits, largest_attention_weight, make_hf_model, save_hf_model

from mistral_local.attention import backend, sdpa
from mistral_local.generate import generate
from mistral_local.model import moe
from mistral_local.transformer import Transformer

TOLERANCE = 1e-4
TOKENS = torch.randint(0, VOCAB, (40,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Transformer]:
    return make_pair(request.param, tmp_path_factory.mktemp("model"))


def make_pair(kind: str, folder: Path) -> tuple[Any, Transformer]:
    reference = make_hf_model(kind)
    return reference, Transformer.from_folder(save_hf_model(reference, folder), max_batch_size=4)


def max_error(pair: tuple[Any, Transformer]) -> float:
    reference, model = pair
    return float((model.forward(torch.tensor(TOKENS), [len(TOKENS)]) - hf_logits(reference, TOKENS)).abs().max())


def test_the_reference_is_sharp_enough_to_show_faults(pair: tuple[Any, Transformer]) -> None:
    assert hf_logits(pair[0], TOKENS).std() >= 1
    assert largest_attention_weight(pair[0], TOKENS) > 2.5 / WINDOW


def test_logits_equal_those_of_transformers(pair: tuple[Any, Transformer]) -> None:
    assert max_error(pair) < TOLERANCE


def test_packed_sequences_are_blind_to_each_other(pair: tuple[Any, Transformer]) -> None:
    reference, model = pair
    seqlens = [13, 1, 26]
    expected = torch.cat([hf_logits(reference, part.tolist()) for part in torch.tensor(TOKENS).split(seqlens)])
    assert (model.forward(torch.tensor(TOKENS), seqlens) - expected).abs().max() < TOLERANCE


def test_logits_are_causal(pair: tuple[Any, Transformer]) -> None:
    model = pair[1]
    changed = [*TOKENS[:-1], (TOKENS[-1] + 1) % VOCAB]
    before, after = (model.forward(torch.tensor(tokens), [40]) for tokens in (TOKENS, changed))
    assert (before[:-1] - after[:-1]).abs().max() < 1e-5
    assert (before[-1] - after[-1]).abs().max() > 0.1


def test_greedy_tokens_equal_those_of_transformers_past_the_window_in_any_chunks(pair: tuple[Any, Transformer]) -> None:
    reference, model = pair
    prompts = [TOKENS[:21], TOKENS[:3], TOKENS[20:33]]
    expected = [hf_greedy(reference, prompt, 16) for prompt in prompts]
    for chunk_size in (None, 1, 4, 7):
        tokens, _ = generate(prompts, model, max_tokens=16, temperature=0.0, chunk_size=chunk_size)
        assert tokens == expected


def rotate_halves(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    turned = torch.complex(first, second) * by
    return torch.cat([turned.real, turned.imag], dim=-1)


def window_off_by_one(num_queries: int, num_keys: int, window: int | None, device: torch.device) -> torch.Tensor:
    return sdpa_visible_keys(num_queries, num_keys, None if window is None else window + 1, device)


def route_without_renormalising(logits: torch.Tensor, num_chosen: int) -> tuple[torch.Tensor, torch.Tensor]:
    weights, experts = torch.topk(torch.softmax(logits.float(), dim=-1), num_chosen)
    return weights, experts


sdpa_visible_keys = sdpa.visible_keys


def test_planted_rotation_of_halves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "rotate", rotate_halves)
    assert max_error(make_pair("dense", tmp_path)) > 100 * TOLERANCE


def test_planted_window_off_by_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdpa, "visible_keys", window_off_by_one)
    assert max_error(make_pair("windowed", tmp_path)) > 100 * TOLERANCE


def test_planted_experts_without_renormalisation_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moe, "route", route_without_renormalising)
    assert max_error(make_pair("mixture", tmp_path)) > 100 * TOLERANCE
