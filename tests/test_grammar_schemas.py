"""Random weights at temperature 1 write nothing but instances of a schema, with the tokenizer of every version."""

import contextlib
import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from all_tokenizers import ALL, load_tokenizer
from checkpoints import write_checkpoint
from grammars import constraints_of
from jsonschema import Draft202012Validator
from mistral_common.guidance.tokenizer import MistralLLGTokenizer
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from schemas import SCHEMAS, Shape

from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.errors import GrammarError
from mistral_local.sampling.grammar import Grammar, GrammarLimits
from mistral_local.sampling.params import SamplingParams
from mistral_local.tasks.constraints import Constraints, vocabulary_of
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.transformer import Transformer

LARGE = ["tekken_240718.json", "tekken_240911.json"]
MAX_TOKENS = 700  # no instance of SCHEMAS has more characters


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Engine]:
    """Engines by their size of vocabulary; made when they are asked for."""

    class Made(dict[int, Engine]):
        def __missing__(self, vocab_size: int) -> Engine:
            folder: Path = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), vocab_size=vocab_size)
            config = EngineConfig(max_context=1024, max_num_seqs=25)
            self[vocab_size] = Engine(Transformer.from_folder(folder), config)
            return self[vocab_size]

    return Made()


def written(
    engine: Engine, tokenizer: Tokenizer, grammars: list[Grammar], *, max_tokens: int = MAX_TOKENS, first_seed: int = 0
) -> list[Sequence]:
    """One answer of random weights in each grammar."""
    params = [
        SamplingParams(
            max_tokens=max_tokens,
            temperature=1.0,
            seed=seed,
            grammar=grammar,
            stop_token_ids=frozenset([tokenizer.eos_id]),
        )
        for seed, grammar in enumerate(grammars, first_seed)
    ]
    prompt = tokenizer.encode_text("Answer as JSON.")
    return engine.generate([prompt] * len(params), params)


def held(constraints: Constraints, *, starts_text: bool = True, **form: Any) -> Grammar:
    grammar = constraints.text(form, starts_text=starts_text).grammar
    assert grammar is not None
    return grammar


def check_answers(engine: Engine, name: str, schemas: dict[str, Any], *, first_seed: int = 0) -> Counter[str]:
    """Let random weights write each schema and validate what ended; how they ended is counted."""
    tokenizer = load_tokenizer(name)
    constraints = constraints_of(tokenizer)
    sequences = written(
        engine, tokenizer, [held(constraints, json_schema=schema) for schema in schemas.values()], first_seed=first_seed
    )
    for (title, schema), sequence in zip(schemas.items(), sequences, strict=True):
        text = tokenizer.decode(sequence.new_tokens)
        assert sequence.finish_reason in ("stop", "length"), f"{title}: {sequence.error}"
        if sequence.finish_reason == "stop":
            Draft202012Validator(schema).validate(json.loads(text))
            assert "\n" not in text, title
    return Counter(str(sequence.finish_reason) for sequence in sequences)


def test_there_are_fifty_schemas_and_each_is_one() -> None:
    assert len(SCHEMAS) == 50
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_every_tokenizer_writes_valid_instances_of_every_schema(engines: dict[int, Engine]) -> None:
    ends: Counter[str] = Counter()
    for name in ALL:
        ends += check_answers(engines[load_tokenizer(name).vocab_size], name, SCHEMAS)
    assert sum(ends.values()) == len(ALL) * len(SCHEMAS)
    assert ends["stop"] >= 0.98 * sum(ends.values())


@pytest.mark.long
@pytest.mark.parametrize("name", ALL)
def test_many_answers_of_every_schema_are_valid(name: str, engines: dict[int, Engine]) -> None:
    ends: Counter[str] = Counter()
    for turn in range(1, 3 if name in LARGE else 11):
        ends += check_answers(engines[load_tokenizer(name).vocab_size], name, SCHEMAS, first_seed=1000 * turn)
    assert ends["stop"] >= 0.98 * sum(ends.values())


UNBOUNDED: dict[str, Any] = {
    "string": {"type": "string", "minLength": 200},
    "array": {"type": "array", "items": {"type": "boolean"}, "minItems": 100},
    "object": {"type": "object", "additionalProperties": {"type": "string", "minLength": 200}, "minProperties": 1},
    "integer": {"type": "integer", "minimum": 10**15},
}


@pytest.mark.parametrize("name", ALL)
def test_an_answer_that_does_not_end_says_that_it_was_cut(name: str, engines: dict[int, Engine]) -> None:
    tokenizer = load_tokenizer(name)
    constraints = constraints_of(tokenizer)
    grammars = [held(constraints, json_schema=schema) for schema in UNBOUNDED.values()]
    for sequence in written(engines[tokenizer.vocab_size], tokenizer, grammars, max_tokens=12):
        assert (sequence.finish_reason, sequence.num_new_tokens) == ("length", 12)
        with pytest.raises(json.JSONDecodeError):
            json.loads(tokenizer.decode(sequence.new_tokens) + "\x00")


@pytest.mark.parametrize("name", ALL)
def test_the_text_is_the_instance_and_nothing_beside_it(name: str, engines: dict[int, Engine]) -> None:
    """SentencePiece's mark of the start is no part of a text, but a space that the text begins with is."""
    tokenizer = load_tokenizer(name)
    constraints = constraints_of(tokenizer)
    patterns = ["ab?c", " x{1,3}", "  y", "[0-9]{3}/[a-z]", "é🙂[日本]{2}", r"\\n?z", r"a\/b", "\n-", ".{3}"]
    sequences = written(engines[tokenizer.vocab_size], tokenizer, [held(constraints, regex=p) for p in patterns])
    for pattern, sequence in zip(patterns, sequences, strict=True):
        assert re.fullmatch(pattern, tokenizer.decode(sequence.new_tokens)), pattern
        assert sequence.finish_reason == "stop"


@pytest.mark.parametrize("name", ALL)
def test_text_that_goes_on_has_no_mark_of_its_start(name: str, engines: dict[int, Engine]) -> None:
    tokenizer = load_tokenizer(name)
    grammar = held(constraints_of(tokenizer), regex="[ab]{4}", starts_text=False)
    [sequence] = written(engines[tokenizer.vocab_size], tokenizer, [grammar])
    assert re.fullmatch("[ab]{4}", b"".join(map(tokenizer.token_bytes, sequence.new_tokens)).decode())


@pytest.mark.parametrize("name", ALL)
def test_a_lark_grammar_holds_for_every_tokenizer(name: str, engines: dict[int, Engine]) -> None:
    tokenizer = load_tokenizer(name)
    grammar = held(constraints_of(tokenizer), lark='start: sum\nsum: N ("+" N){1,3}\nN: /[1-9][0-9]?/\n')
    [sequence] = written(engines[tokenizer.vocab_size], tokenizer, [grammar])
    assert re.fullmatch(r"[1-9]\d?(\+[1-9]\d?){1,3}", tokenizer.decode(sequence.new_tokens))


def test_a_pydantic_model_reads_its_own_answer(engines: dict[int, Engine]) -> None:
    tokenizer = load_tokenizer("tekken v13")
    grammar = held(constraints_of(tokenizer), json_schema=Shape)
    for sequence in written(engines[tokenizer.vocab_size], tokenizer, [grammar] * 10):
        Shape.model_validate_json(tokenizer.decode(sequence.new_tokens))


def test_the_instances_vary(engines: dict[int, Engine]) -> None:
    """Else the proofs above would prove little."""
    tokenizer = load_tokenizer("tekken v13")
    grammar = held(constraints_of(tokenizer), json_schema=SCHEMAS["list of records"])
    texts = [tokenizer.decode(s.new_tokens) for s in written(engines[tokenizer.vocab_size], tokenizer, [grammar] * 20)]
    assert len(set(texts)) >= 10
    assert {len(json.loads(text)["rows"]) for text in texts} == {1, 2, 3}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "banana"}, "Invalid type: banana"),
        ({"not": {"type": "string"}}, r"Unimplemented keys: \[\"not\"\]"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"oneOf": [{"type": "string"}, {"minLength": 2}]}, "oneOf"),
        ({"$ref": "http://example.com/schema"}, "does not fetch"),
        ({"$ref": "file:///etc/passwd"}, "file:///etc/passwd"),
        ({"$ref": "#"}, "no answer satisfies it"),
        ({"$ref": "#/$defs/nowhere"}, "nowhere"),
        ({"type": "string", "format": "zip"}, "Unknown format: zip"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "pattern": "("}, "unclosed group"),
        ({"enum": []}, "anyOf is empty"),
        (False, "expected a JSON schema, which is an object"),
        ({"minimum": float("nan"), "type": "number"}, "not JSON"),
        ({"const": {1, 2}}, "not JSON"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "Unsatisfiable|minimum"),
        ({"type": "array", "maxItems": 10**9}, "maxItems of all arrays together is above 50000"),
        ({"anyOf": [{"type": "array", "maxItems": 20_000}] * 3}, "maxItems of all arrays"),
        ({"const": "x" * 70_000}, "at most 65536"),
        ("a string", "expected a JSON schema, .* or a Pydantic model"),
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused_by_name(schema: Any, message: str) -> None:
    with pytest.raises(GrammarError, match=message) as refused:
        held(constraints_of(load_tokenizer("tekken v13")), json_schema=schema)
    assert "\n" not in str(refused.value)


def test_a_schema_of_any_depth_is_refused_in_time() -> None:
    schema: Any = {"type": "integer"}
    for _ in range(100_000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(GrammarError, match="nested deeper than 64 levels"):
        held(constraints_of(load_tokenizer("tekken v13")), json_schema=schema)
    while isinstance(schema, dict):  # let go of it level by level
        schema = schema.pop("items", None)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(a+)+$"},
        {"type": "string", "pattern": "((a{1,100}){1,100}){1,100}"},
        {"enum": [f"v{i}" for i in range(8000)]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 49_000, "maxItems": 50_000},
        {"type": "string", "maxLength": 10**9},
    ],
)
def test_a_heavy_schema_compiles_within_its_limit_or_is_refused(schema: dict[str, Any]) -> None:
    started = time.perf_counter()
    with contextlib.suppress(GrammarError):
        held(constraints_of(load_tokenizer("tekken v13")), json_schema=schema)
    assert time.perf_counter() - started < GrammarLimits().timeout_s + 1


def test_what_a_schema_says_to_llguidance_is_not_heard() -> None:
    constraints = constraints_of(load_tokenizer("tekken v13"))
    with pytest.raises(GrammarError, match="uniqueItems"):
        held(constraints, json_schema={"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}})


@pytest.mark.parametrize("name", ALL)
def test_tokens_are_the_bytes_that_mistral_common_decodes(name: str) -> None:
    """A vocabulary spells every text as the tokenizer itself would."""
    tokenizer = load_tokenizer(name)
    vocabulary = vocabulary_of(tokenizer)
    for text in ("Hello, world", "héé 🙂👩‍👩‍👧 你好", "  two\n\n\ttabs", '{"a": [1, 2.5]}', "\x01\x7f"):
        tokens = tokenizer.encode_inside(text)
        assert vocabulary.llg.decode_bytes(tokens) == text.encode()


@pytest.mark.parametrize("name", ["tekken_240911.json", "tekken v11", "tekken v15"])
def test_the_vocabulary_is_that_of_mistral_common(name: str) -> None:
    tokenizer = load_tokenizer(name)
    base = MistralTokenizer.from_file(str(tokenizer.file)).instruct_tokenizer.tokenizer
    theirs, ours = MistralLLGTokenizer(base), vocabulary_of(tokenizer)
    assert (ours.eos_token_id, ours.special_token_ids) == (theirs.eos_token_id, theirs.special_token_ids)
    text_ids = range(len(ours.special_token_ids), ours.size)
    assert [ours.tokens[i] for i in text_ids] == [theirs.tokens[i] for i in text_ids]
