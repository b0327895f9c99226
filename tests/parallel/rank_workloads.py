"""What is asked of a model by one process, and of the same model by several ranks; each returns plain lists."""

from collections.abc import Callable
from typing import Any

from grammars import EOS, VOCAB, toy_compiler

from mistral_local.config import EngineConfig
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.generate import generate
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.params import SamplingParams
from mistral_local.tasks.llm import LLM
from mistral_local.tokenizer.find import find_tokenizer
from mistral_local.tokenizer.tokenizer import Tokenizer

PROMPTS = [[1, *range(5, 5 + 3 * length, 3)] for length in (1, 9, 2, 17, 5)]
SHARED = [1, *range(7, 47, 2)]
BLOCK_SIZE = 4

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

Workload = Callable[[Transformer], Any]


def make_engine(model: Transformer, *, num_blocks: int = 200, **config: Any) -> Engine:
    """An engine with memory for so many blocks of all layers on every rank."""
    block_bytes = BLOCK_SIZE * 2 * len(model.layers) * model.num_kv_heads * model.args.head_dim * 4
    limits = {"max_num_seqs": 4, "max_context": 128, "max_num_batched_tokens": 24, "block_size": BLOCK_SIZE}
    return Engine(model, EngineConfig(**{**limits, "kv_memory_bytes": num_blocks * block_bytes, **config}))


def told(sequences: list[Sequence]) -> list[Any]:
    return [[s.new_tokens, s.finish_reason, s.prompt_logprobs, s.logprobs, s.top_logprobs] for s in sequences]


def ragged(model: Transformer) -> Any:
    return generate(PROMPTS, model, max_tokens=9, temperature=0, eos_id=2)


def scored(model: Transformer) -> Any:
    return generate(PROMPTS, model, max_tokens=0, temperature=0)[1]


def chunked(model: Transformer) -> Any:
    return generate(PROMPTS, model, max_tokens=6, temperature=0.7, seed=5, chunk_size=3)


def rounded_cache(model: Transformer) -> Any:
    return generate(PROMPTS, model, max_tokens=6, temperature=0, chunk_size=5, kv_dtype="fp8")[0]


def prefix(model: Transformer) -> Any:
    engine = make_engine(model)
    first = engine.generate([SHARED], [SamplingParams(max_tokens=5)])
    later = engine.generate([[*SHARED, 8], [*SHARED, 9, 11]], [SamplingParams(max_tokens=6, logprobs=True)] * 2)
    assert all(sequence.num_cached_tokens >= 16 for sequence in later)
    return told(first) + told(later)


def sampled(model: Transformer) -> Any:
    params = [
        SamplingParams(max_tokens=8, temperature=0.9, top_p=0.7, seed=1, logprobs=True, top_logprobs=3),
        SamplingParams(max_tokens=8, temperature=1.2, top_k=5, min_p=0.01, seed=2),
        SamplingParams(max_tokens=8, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2),
        SamplingParams(max_tokens=8, logit_bias={7: 3.0, 300: 2.0}, bad_token_ids=frozenset([9]), logprobs=True),
        SamplingParams(max_tokens=8, min_tokens=4, stop_token_ids=frozenset(range(2, 60)), logprobs=True),
    ]
    return told(make_engine(model).generate(PROMPTS, params))


def preempted(model: Transformer) -> Any:
    engine = make_engine(model, num_blocks=24 * len(engine_windows(model)))
    params = [SamplingParams(max_tokens=12, temperature=0.8, seed=row) for row in range(6)]
    return told(engine.generate([prompt * 2 for prompt in [*PROMPTS, SHARED]], params))


def engine_windows(model: Transformer) -> list[int | None]:
    """Of the groups of its layers, roughly: one per different window."""
    return list(dict.fromkeys(model.args.window(layer) for layer in range(model.args.n_layers)))


def speculated(model: Transformer) -> Any:
    engine = make_engine(model, max_guesses=4)
    return told(engine.generate([[1, 5, 6, 7, 5, 6, 7, 5, 6], [1, 9, 9, 9, 9]], [SamplingParams(max_tokens=12)] * 2))


def pooled(model: Transformer) -> Any:
    params = [SamplingParams(max_tokens=1, pooling="mean"), SamplingParams(max_tokens=1, pooling="last")]
    sequences = make_engine(model, max_prefill_chunk=5).generate([SHARED, SHARED], params)
    return [sequence.pooled.tolist() for sequence in sequences if sequence.pooled is not None]


def held_to_a_grammar(model: Transformer) -> Any:
    if model.args.vocab_size != VOCAB:
        return []
    compiler = toy_compiler()
    params = [
        SamplingParams(
            max_tokens=12,
            temperature=temperature,
            seed=4,
            grammar=compiler.compile(f"start: {expression}"),
            stop_token_ids=frozenset([EOS]),
        )
        for expression, temperature in (("/[ab]{3,9}/", 1.0), ("/[0-9]{5}/", 0.0))
    ]
    return told(make_engine(model).generate([[1, 30, 40], [1, 50]], [*params]))


CALLS: dict[str, Workload] = {each.__name__: each for each in (ragged, scored, chunked, rounded_cache)}
"""Made by every rank, as generate() is."""

ENGINE_WORK: dict[str, Workload] = {
    each.__name__: each for each in (prefix, sampled, preempted, speculated, pooled, held_to_a_grammar)
}
"""Done by rank 0, which has the engine."""


def tool_calls(model: Transformer) -> Any:
    """Of the demo checkpoint, as text: a call that is demanded, and an answer held to a schema."""
    tokenizer = Tokenizer(find_tokenizer(demo_checkpoint()).file)
    llm = LLM(model, tokenizer, Engine(model, EngineConfig(max_num_seqs=2, max_context=1024)))
    messages = [{"role": "user", "content": "What is the weather like in Paris?"}]
    called = llm.chat(messages, tools=[WEATHER], tool_choice="any", temperature=0, max_tokens=40)
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    held = llm.chat(messages, json_schema=schema, temperature=0.8, seed=1, max_tokens=24)
    return [[[call.name, call.arguments] for call in called.tool_calls], called.finish_reason, held.text]


ASKED: dict[str, tuple[str, ...]] = {
    "dense": tuple(CALLS | ENGINE_WORK),
    "moe": ("ragged", "sampled", "rounded_cache"),
    "window": ("chunked", "prefix", "preempted"),
    "all_sliding": ("ragged", "prefix"),
    "tied": ("ragged", "scored"),
}
"""What each model does; all else is the same code for it."""

OF_MANY = ("ragged", "sampled", "prefix")
"""Of these, what more than two ranks do: two CPU cores are slow at it."""


def assert_same(got: Any, expected: Any, where: str = "") -> None:
    """Equal, but numbers with a fraction only nearly."""
    if isinstance(expected, float):
        assert abs(got - expected) < 1e-4, f"{where}: {got} is not {expected}"
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected), f"{where}: {got} is not {expected}"
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert got == expected, f"{where}: {got!r} is not {expected!r}"


def run_alone(model: Transformer, model_name: str) -> dict[str, Any]:
    """What one process says."""
    return {name: (CALLS | ENGINE_WORK)[name](model) for name in ASKED[model_name]}
