"""The engine's books under 10,000 random operations, on a model whose every cached key says what it stands for.

The runner is replaced by one that writes into each slot the tokens up to its position, and checks before each answer
that every slot a query would read holds just that.  So a block that is shared wrongly, given back early, written by two
sequences or forgotten shows at once.
"""

from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mistral_local.args import TransformerArgs
from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence, Status
from mistral_local.engine.step_plan import AWAITED, PlannedPart, SampledToken, StepPlan, StepResult
from mistral_local.kvcache.storage import kv_bytes_per_token
from mistral_local.sampling.params import SamplingParams
from mistral_local.sampling.row import SamplingRow
from mistral_local.transformer import Transformer

BLOCK, CONTEXT, VOCAB, STOP = 4, 48, 5, 0
ARGS: dict[str, Any] = {
    "dim": 4, "n_layers": 1, "head_dim": 4, "hidden_dim": 4, "n_heads": 1, "n_kv_heads": 1, "norm_eps": 1e-5,
    "vocab_size": VOCAB,
}  # fmt: skip


def next_token(tokens: tuple[int, ...]) -> int:
    """A model that often repeats itself, so that guesses come true, and sometimes stops."""
    if len(tokens) % 11 == 0:
        return hash(tokens) % VOCAB
    return 1 + tokens[-1] % (VOCAB - 1)


class Finished:
    """In place of a PendingStep."""

    def __init__(self, result: StepResult) -> None:
        self._result = result

    def result(self) -> StepResult:
        return self._result


class RememberingRunner:
    """Takes the place of ModelRunner: it knows plans only, and what each slot of each group of layers stands for."""

    def __init__(self, engine: Engine) -> None:
        self.windows = [window or CONTEXT for window in engine.kv.cache.groups.windows]
        self.tables: dict[int, list[list[int]]] = {}
        self.slots: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.tokens: dict[int, tuple[int, ...]] = {}
        self.chosen: list[int] = []

    def begin(self, plan: StepPlan, rows: list[SamplingRow]) -> Finished:
        assert sum(part.num_sampled for part in plan.parts) == len(rows)
        written: set[int] = set()
        for part in plan.parts:
            assert part.token_ids, "no row to sample from"
            self.note_blocks(part)
            self.write(part, written)
        for part in plan.parts:
            self.check(part)
        sampled = [self.sample(part) for part in plan.parts]
        self.chosen = [choice.token for choices in sampled for choice in choices]
        scored = [[0.0] * len(part.scored) for part in plan.parts]
        return Finished(StepResult(sampled, scored, [None] * len(sampled)))

    def note_blocks(self, part: PlannedPart) -> None:
        tables = self.tables.setdefault(part.row, [[] for _ in self.windows])
        for table, news in zip(tables, part.new_blocks, strict=True):
            assert news.start in (0, len(table))
            table[news.start :] = news.blocks

    def write(self, part: PlannedPart, written: set[int]) -> None:
        token_ids = [self.chosen[part.awaited_row or 0] if token == AWAITED else token for token in part.token_ids]
        before = self.read(part.row, part.start)
        tokens = self.tokens[part.row] = (*before, *token_ids)
        for group in range(len(self.windows)):
            for position in range(part.start, part.end):
                slot = self.slot(part.row, group, position)
                assert slot not in written, "two writers of one slot"
                written.add(slot)
                self.slots[slot] = (group, tokens[: position + 1])

    def read(self, row: int, num_tokens: int) -> tuple[int, ...]:
        """The tokens that the keys before a part stand for."""
        if not num_tokens:
            return ()
        group, tokens = self.slots[self.slot(row, 0, num_tokens - 1)]
        assert group == 0
        assert len(tokens) == num_tokens
        return tokens

    def slot(self, row: int, group: int, position: int) -> int:
        return self.tables[row][group][position // BLOCK] * BLOCK + position % BLOCK

    def check(self, part: PlannedPart) -> None:
        """Every key that the part's queries see belongs to their own beginning."""
        tokens = self.tokens[part.row]
        for group, window in enumerate(self.windows):
            for position in range(max(0, part.start - window + 1), part.end):
                slot = self.slot(part.row, group, position)
                assert self.slots[slot] == (group, tokens[: position + 1]), "read after it was given back"

    def sample(self, part: PlannedPart) -> list[SampledToken]:
        tokens = self.tokens[part.row]
        return [SampledToken(next_token(tokens[:end])) for end in range(part.end - part.num_sampled + 1, part.end + 1)]


def answer_alone(prompt: list[int], max_tokens: int) -> list[int]:
    tokens = tuple(prompt)
    for _ in range(max_tokens):
        token = next_token(tokens)
        if token == STOP:
            break
        tokens = (*tokens, token)
    return list(tokens[len(prompt) :])


class EngineMachine(RuleBasedStateMachine):
    """Adds, steps and aborts; every invariant is checked after every operation."""

    @initialize(
        window=st.sampled_from([None, 6, [None, 6], [9, 6], [None, 6, 9]]),
        num_blocks=st.integers(12, 40),
        max_num_seqs=st.integers(1, 5),
        budget=st.integers(1, 24),
        chunk=st.sampled_from([None, 3]),
        max_guesses=st.sampled_from([0, 0, 5]),
        overlap=st.booleans(),
    )
    def start(self, window: int | list[int | None] | None, num_blocks: int, **config: Any) -> None:
        num_groups = len(window) if isinstance(window, list) else 1
        args = TransformerArgs.from_dict(ARGS | {"sliding_window": window, "n_layers": num_groups})
        num_blocks *= num_groups
        model = Transformer(args)
        config["max_num_batched_tokens"], config["max_prefill_chunk"] = config.pop("budget"), config.pop("chunk")
        token_bytes = kv_bytes_per_token(n_layers=1, n_kv_heads=1, head_dim=4, dtype=torch.float32)
        config["kv_memory_bytes"] = num_blocks * BLOCK * token_bytes
        self.engine = Engine(model, EngineConfig(max_context=CONTEXT, block_size=BLOCK, **config))
        self.engine._runner = RememberingRunner(self.engine)  # type: ignore[assignment]
        self.sequences: list[Sequence] = []

    @rule(
        beginning=st.integers(0, 2),
        num_shared=st.integers(0, 20),
        own=st.lists(st.integers(1, VOCAB - 1), min_size=1, max_size=12),
        max_tokens=st.integers(1, 16),
        copies=st.sampled_from([1, 1, 1, 3]),
        prompt_logprobs=st.sampled_from([False, False, False, True]),
    )
    def add(
        self, beginning: int, num_shared: int, own: list[int], max_tokens: int, copies: int, prompt_logprobs: bool
    ) -> None:
        prompt = [1 + (beginning * 7 + i * i) % (VOCAB - 1) for i in range(num_shared)] + own
        params = SamplingParams(
            max_tokens=max_tokens, stop_token_ids=frozenset({STOP}), prompt_logprobs=prompt_logprobs
        )
        for _ in range(copies):
            self.sequences.append(self.engine.add(prompt, params))

    @rule(num_steps=st.integers(1, 6))
    def step(self, num_steps: int) -> None:
        for _ in range(num_steps):
            if self.engine.has_work:
                self.engine.step()
                self.books_balance()

    @rule(which=st.integers(0, 100))
    def abort(self, which: int) -> None:
        alive = [sequence for sequence in self.sequences if not sequence.is_finished]
        if alive:
            self.engine.abort(alive[which % len(alive)])

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "engine"):
            return
        pool, running = self.engine.pool, self.engine.scheduler.running
        users = [0] * pool.num_blocks
        for sequence in running:
            assert sequence.status is Status.RUNNING
            assert sequence.blocks is not None
            owned = [block for table in sequence.blocks.tables for block in table.blocks[table.num_given_back :]]
            assert len(set(owned)) == len(owned)
            for block in owned:
                users[block] += 1
        assert users == pool._num_users
        assert pool.num_free == users.count(0)
        assert pool.num_free == pool.num_remembered + pool._is_blank.count(1)
        assert sorted(pool._block_of.values()) == sorted(pool._hash_of)
        assert set(pool._remembered) <= set(pool._hash_of)
        for sequence in self.engine.scheduler.waiting:
            assert sequence.blocks is None
            assert sequence.num_computed_tokens == 0

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        num_steps = 0
        while self.engine.has_work:
            self.engine.step()
            self.books_balance()
            num_steps += 1
            assert num_steps < 20_000, "the engine hangs"
        assert self.engine.pool.num_free == self.engine.pool.num_blocks
        assert not self.engine.pool._claims
        for sequence in self.sequences:
            expected = answer_alone(sequence.tokens[: sequence.num_prompt_tokens], sequence.params.max_tokens)
            if sequence.params.prompt_logprobs:
                assert sequence.num_cached_tokens == 0
                if sequence.finish_reason != "aborted":
                    assert len(sequence.prompt_logprobs) == sequence.num_prompt_tokens - 1
            if sequence.finish_reason == "aborted":
                assert sequence.new_tokens == expected[: sequence.num_new_tokens]
            else:
                assert sequence.new_tokens == expected


TestEngineBooks = EngineMachine.TestCase
TestEngineBooks.settings = settings(
    max_examples=100,
    stateful_step_count=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
