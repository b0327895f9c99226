"""Grammars in the engine: every answer is in its language, whatever runs beside it and whatever else is asked."""

import copy
import random
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from grammars import EOS, FIRST_BYTE, VOCAB, decode, encode, toy_compiler, toy_tokens
from llguidance import LLMatcher

from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.errors import GrammarError, RequestError, TokenIdError
from mistral_local.kvcache.storage import kv_bytes_per_token
from mistral_local.sampling.grammar import (
    Grammar,
    GrammarCompiler,
    GrammarLimits,
    GrammarState,
    GrammarVocabulary,
)
from mistral_local.sampling.grammar.masks import MaskComputer, TokenMasks, unpack, unpack_on_device
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

COMPILER = toy_compiler()
WORD = "/[ab]{3,9}/"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    folder: Path = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), vocab_size=VOCAB)
    return Transformer.from_folder(folder)


def make_engine(model: Transformer, *, num_blocks: int = 64) -> Engine:
    args = model.args
    token_bytes = kv_bytes_per_token(
        n_layers=args.n_layers, n_kv_heads=args.n_kv_heads, head_dim=args.head_dim, dtype=model.dtype
    )
    memory = num_blocks * 4 * token_bytes
    return Engine(model, EngineConfig(max_context=64, max_num_seqs=8, block_size=4, kv_memory_bytes=memory))


def grammar(expression: str) -> Grammar:
    return COMPILER.compile(f"start: {expression}")


def params(expression: str | None, **options: Any) -> SamplingParams:
    its_grammar = None if expression is None else grammar(expression)
    defaults = {"max_tokens": 40, "temperature": 1.0, "stop_token_ids": frozenset([EOS])}
    return SamplingParams(grammar=its_grammar, **{**defaults, **options})


def answers(model: Transformer, all_params: list[SamplingParams], **engine: int) -> list[Sequence]:
    prompts = [[1, *encode("the same prompt")]] * len(all_params)
    return make_engine(model, **engine).generate(prompts, all_params)


def answer(model: Transformer, expression: str, **options: Any) -> Sequence:
    return answers(model, [params(expression, **options)])[0]


def test_every_answer_is_in_the_language(model: Transformer) -> None:
    batch = [params(WORD, seed=seed) for seed in range(60)]
    texts = {decode(sequence.new_tokens) for sequence in answers(model, batch)}
    assert all(re.fullmatch("[ab]{3,9}", text) for text in texts)
    assert len(texts) > 15


def test_rows_without_a_grammar_get_what_they_get_alone(model: Transformer) -> None:
    free = [params(None, seed=seed) for seed in range(3)]
    mixed = [free[0], params(WORD, seed=7), free[1], params("/[0-9]{5}/", seed=8), free[2]]
    together = [sequence.new_tokens for sequence in answers(model, mixed)]
    assert together[0::2] == [sequence.new_tokens for sequence in answers(model, free)]
    assert together[1] == answer(model, WORD, seed=7).new_tokens
    assert re.fullmatch("[0-9]{5}", decode(together[3]))


def test_answers_that_share_a_grammar_each_have_their_own_state(model: Transformer) -> None:
    shared = grammar('"a" /[0-9]{4}/ "b"')
    batch = [
        SamplingParams(max_tokens=9, grammar=shared, temperature=1.0, seed=s, stop_token_ids=frozenset([EOS]))
        for s in range(6)
    ]
    alone = [answers(model, [one])[0].new_tokens for one in batch]
    assert [sequence.new_tokens for sequence in answers(model, batch)] == alone
    assert len({tuple(tokens) for tokens in alone}) > 1


def test_a_preempted_sequence_keeps_its_grammar_state(model: Transformer) -> None:
    batch = [params("/[ab]{20,30}/", seed=seed) for seed in range(6)]
    expected = [sequence.new_tokens for sequence in answers(model, batch)]
    engine = make_engine(model, num_blocks=16)
    sequences = [engine.add([1, 10 + row], one) for row, one in enumerate(batch)]
    preempted = set()
    while engine.has_work:
        engine.step()
        preempted |= {row for row, s in enumerate(sequences) if s.num_new_tokens and s in engine.scheduler.waiting}
    assert preempted
    assert all(re.fullmatch("[ab]{20,30}", decode(sequence.new_tokens)) for sequence in sequences)
    assert all(re.fullmatch("[ab]{20,30}", decode(tokens)) for tokens in expected)


def test_an_answer_that_is_complete_stops_without_another_step(model: Transformer) -> None:
    sequence = answer(model, '"ab:" /[0-9]{2}/')
    assert (sequence.finish_reason, len(decode(sequence.new_tokens))) == ("stop", 5)
    at_limit = answer(model, '"xyz"', max_tokens=3)
    assert (at_limit.finish_reason, decode(at_limit.new_tokens)) == ("stop", "xyz")


def test_an_answer_cut_by_the_limit_says_so(model: Transformer) -> None:
    sequence = answer(model, "/[ab]{30}/", max_tokens=5)
    assert (sequence.finish_reason, sequence.num_new_tokens) == ("length", 5)


def test_a_grammar_of_nothing_gives_an_empty_answer(model: Transformer) -> None:
    sequence = answer(model, '""')
    assert (sequence.finish_reason, sequence.new_tokens) == ("stop", [])


def test_min_tokens_lengthens_an_answer_but_never_beyond_its_grammar(model: Transformer) -> None:
    longest = [answer(model, "/[a]{1,9}/", min_tokens=9, seed=seed) for seed in range(5)]
    assert all(decode(s.new_tokens) == "a" * 9 or s.num_new_tokens >= 9 for s in longest if s.finish_reason == "stop")
    assert all(len(decode(answer(model, "/[0-9]{1,6}/", min_tokens=6, seed=s).new_tokens)) == 6 for s in range(5))
    beyond = answer(model, '"xy"', min_tokens=9)
    assert (beyond.finish_reason, decode(beyond.new_tokens)) == ("stop", "xy")


def test_no_bias_or_penalty_overrules_a_grammar(model: Transformer) -> None:
    digits = {FIRST_BYTE + ord("z"): 100.0, EOS: 50.0}
    for seed in range(10):
        options: dict[str, Any] = {"repetition_penalty": 1.8, "presence_penalty": 2.0, "frequency_penalty": -2.0}
        sequence = answer(model, "/[0-9]{8}/", logit_bias=digits, seed=seed, **options)
        assert re.fullmatch("[0-9]{8}", decode(sequence.new_tokens))


def test_a_bias_chooses_among_what_the_grammar_allows(model: Transformer) -> None:
    seven = FIRST_BYTE + ord("7")
    assert decode(answer(model, "/[0-9]{8}/", logit_bias={seven: 100.0}).new_tokens) == "7" * 8
    assert decode(answer(model, "/[0-9]{8}/", allowed_token_ids=frozenset([seven, EOS])).new_tokens) == "7" * 8


def test_the_greedy_choice_is_the_argmax_of_what_is_allowed(model: Transformer) -> None:
    prompt = [1, *encode("the same prompt")]
    logits = model.forward(torch.tensor(prompt), [len(prompt)])[-1]
    vowels = [FIRST_BYTE + ord(letter) for letter in "aeiou"]
    expected = max(vowels, key=lambda token: float(logits[token]))
    assert answer(model, "/[aeiou]/", temperature=0.0).new_tokens == [expected]


def test_logprobs_are_those_of_the_model_without_the_mask(model: Transformer) -> None:
    prompt = [1, *encode("the same prompt")]
    expected = model.forward(torch.tensor(prompt), [len(prompt)])[-1].log_softmax(-1)
    sequence = answer(model, "/[aeiou]/", logprobs=True, top_logprobs=2)
    assert sequence.logprobs[0] == pytest.approx(float(expected[sequence.new_tokens[0]]), abs=1e-4)
    assert [token for token, _ in sequence.top_logprobs[0]] == expected.topk(2).indices.tolist()


def test_options_that_leave_no_token_fail_that_request_by_name(model: Transformer) -> None:
    engine = make_engine(model)
    impossible = engine.add([1, 5], params("/[0-9]{3}/", allowed_token_ids=frozenset([FIRST_BYTE + ord("x")])))
    fine = engine.add([1, 5], params(WORD, seed=1))
    while engine.has_work:
        engine.step()
    assert impossible.finish_reason == "error"
    assert impossible.error is not None
    assert "allow no token" in impossible.error
    assert re.fullmatch("[ab]{3,9}", decode(fine.new_tokens))


def test_a_matcher_in_error_fails_its_request_and_no_other(model: Transformer) -> None:
    engine = make_engine(model)
    broken, fine = engine.add([1, 5], params(WORD, seed=1)), engine.add([1, 5], params(WORD, seed=2))
    engine.step()
    assert broken.grammar is not None
    broken.grammar.advance(FIRST_BYTE + ord("!"))
    while engine.has_work:
        engine.step()
    assert broken.finish_reason == "error"
    assert broken.error is not None
    assert broken.error.startswith("grammar: ")
    assert (fine.finish_reason, bool(re.fullmatch("[ab]{3,9}", decode(fine.new_tokens)))) == ("stop", True)
    assert engine.pool.num_free == engine.pool.num_blocks


def test_a_grammar_needs_its_eos_and_the_vocabulary_of_the_model(model: Transformer) -> None:
    with pytest.raises(RequestError, match="ignore_eos"):
        params(WORD, stop_token_ids=frozenset([7]))
    small = GrammarVocabulary(toy_tokens()[:300], control_ids={0, 1, EOS}, bos_id=1, eos_id=EOS, encode=encode)
    other = SamplingParams(
        max_tokens=3, grammar=GrammarCompiler(small).compile(f"start: {WORD}"), stop_token_ids=frozenset([EOS])
    )
    with pytest.raises(TokenIdError, match="made for 300 token ids, the model has 320"):
        make_engine(model).add([1], other)


def test_a_mask_allows_exactly_the_tokens_that_the_matcher_takes() -> None:
    state = grammar('/[ab]{2,5}/ (" " /[a-c]{1,3}/)*').start()
    rng = random.Random(0)
    for _ in range(12):
        masks = masks_of([state])
        allowed = set((~unpack(masks.bits, VOCAB, CPU)[0]).nonzero()[:, 0].tolist())
        takes = {token for token in range(VOCAB) if token != EOS and state.matcher.validate_tokens([token])}
        assert allowed - {EOS} == takes
        assert (EOS in allowed) == state.matcher.is_accepting()
        state.advance(rng.choice(sorted(takes)))


def masks_of(states: list[GrammarState | None], vocab_size: int = VOCAB) -> TokenMasks:
    masks = MaskComputer(vocab_size, CPU).compute(states)
    assert masks is not None
    return masks


def test_only_rows_with_a_grammar_are_masked_and_the_logits_stay_as_they_are() -> None:
    logits = torch.randn(4, VOCAB, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    masks = masks_of([None, grammar("/[ab]/").start(), None, grammar("/[cd]/").start()])
    masked = masks.apply(logits)
    assert torch.equal(logits, before)
    assert torch.equal(masked[[0, 2]], logits[[0, 2]])
    for row, letters in ((1, "ab"), (3, "cd")):
        ids = [FIRST_BYTE + ord(letter) for letter in letters]
        assert masked[row].isfinite().nonzero()[:, 0].tolist() == ids
        assert torch.equal(masked[row, ids], logits[row, ids])


def test_a_step_without_grammars_has_no_masks() -> None:
    assert MaskComputer(VOCAB, CPU).compute([None, None]) is None


@pytest.mark.parametrize("vocab_size", [32, 33, 320, 1000, 131072])
def test_both_ways_to_unpack_bits_agree(vocab_size: int) -> None:
    words = -(-vocab_size // 32)
    bits = torch.randint(-(2**31), 2**31, (3, words), generator=torch.Generator().manual_seed(0)).int()
    expected = [[not int(row[i // 32]) >> (i % 32) & 1 for i in range(min(vocab_size, 500))] for row in bits]
    assert unpack(bits, vocab_size, CPU)[:, :500].tolist() == expected
    assert torch.equal(unpack(bits, vocab_size, CPU), unpack_on_device(bits, vocab_size))


def test_a_grammar_is_compiled_once_and_the_least_recently_used_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = GrammarCompiler(COMPILER.vocabulary, GrammarLimits(cache_entries=2))
    compiled: list[str] = []
    original = LLMatcher.__new__
    monkeypatch.setattr(
        "mistral_local.sampling.grammar.compiler.LLMatcher",
        lambda llg, lark, **options: compiled.append(lark) or original(LLMatcher, llg, lark, **options),
    )
    one, two, three = 'start: "1"', 'start: "2"', 'start: "3"'
    first = compiler.compile(one)
    for lark in (two, one, three, one, two):
        compiler.compile(lark)
    assert compiled == [one, two, three, two]
    assert compiler.compile(one) is first


@pytest.mark.parametrize(
    ("lark", "message"),
    [
        ("start: /(/", "unclosed group|invalid regex"),
        ("start: nowhere", 'unknown name: "nowhere"'),
        ('start: %json {"type": "banana"}', "Invalid type: banana"),
        ("", "Empty grammar"),
        ('start: "\ud800"', "half a surrogate pair"),
    ],
)
def test_a_bad_grammar_is_refused_with_the_reason_in_one_line(lark: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message) as refused:
        COMPILER.compile(lark)
    assert "\n" not in str(refused.value)


def test_a_grammar_that_is_too_long_is_refused() -> None:
    compiler = GrammarCompiler(COMPILER.vocabulary, GrammarLimits(max_grammar_bytes=100))
    with pytest.raises(GrammarError, match="has 1009 bytes, at most 100"):
        compiler.compile(f'start: "{"a" * 1000}"')


def test_a_compilation_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("mistral_local.sampling.grammar.compiler._matcher", lambda *_: release.wait(20))
    compiler = GrammarCompiler(COMPILER.vocabulary, GrammarLimits(timeout_s=0.05))
    try:
        with pytest.raises(GrammarError, match=r"takes longer than 0\.05 s"):
            compiler.compile('start: "a"')
    finally:
        release.set()


def test_many_threads_may_compile_and_start_at_once() -> None:
    results: list[bool] = []

    def work(row: int) -> None:
        for turn in range(20):
            state = grammar(f'"{"ab"[row % 2]}{turn % 5}"').start()
            state.advance(FIRST_BYTE + ord("ab"[row % 2]))
            state.advance(FIRST_BYTE + ord(str(turn % 5)))
            results.append(state.is_complete)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 160


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("default")
def test_answers_on_a_gpu_are_in_the_language(model: Transformer) -> None:
    cuda = torch.device("cuda", 0)
    states = [grammar("/[ab]/").start(), None, grammar("/[cd]/").start()]
    logits = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(0))
    expected, masks = masks_of(states).apply(logits), MaskComputer(VOCAB, cuda).compute(states)
    assert masks is not None
    assert torch.equal(masks.apply(logits.to(cuda)).cpu(), expected)
    batch = [params(WORD, seed=seed) for seed in range(8)]
    on_gpu = make_engine(copy.deepcopy(model).to(cuda)).generate([[1, *encode("the same prompt")]] * 8, batch)
    assert all(re.fullmatch("[ab]{3,9}", decode(sequence.new_tokens)) for sequence in on_gpu)
