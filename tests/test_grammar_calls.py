"""Calls that were asked for: random weights write nothing else, every call parses, and its arguments fit."""

import json
from pathlib import Path
from typing import Any

import pytest
from all_tokenizers import ALL, NAMED_FORM, WITH_CALLS, control, load_tokenizer, spelled
from answers import Read, events_of, summary
from checkpoints import write_checkpoint
from grammars import constraints_of
from jsonschema import Draft202012Validator
from llguidance import LLMatcher
from mistral_common.guidance.grammar_factory import GrammarFactory
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import ToolChoiceEnum
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from schemas import DIGIT, STRING, TREE, array, record

from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.errors import GrammarError, RequestError
from mistral_local.sampling.params import SamplingParams
from mistral_local.tasks.call_grammar import MAX_CALLS
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.transformer import Transformer

PARAMETERS: dict[str, Any] = {
    "get_weather": record(city={"type": "string", "pattern": '^[a-z}{"]{1,6}$'}, unit={"enum": ["C", "F", "é🙂"]}),
    "add-points": {**record(points=array({"$ref": "#/$defs/p"}, 2)), "$defs": {"p": record(x=DIGIT, y=DIGIT)}},
    "walk_tree": TREE,
    "f": {},
    "note": record(["text"], text=STRING, pinned={"type": "boolean"}),
}
MAX_TOKENS = 2500  # sixteen calls of the longest kind have fewer characters


def request(
    choice: Any = "required", *, strict: bool = False, tools: Any = PARAMETERS, **fields: Any
) -> ChatCompletionRequest[Any]:
    definitions = [
        {"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict}}
        for name, parameters in tools.items()
    ]
    content = {"messages": [{"role": "user", "content": "x"}], "tools": definitions, "tool_choice": choice, **fields}
    return ChatCompletionRequest.model_validate(content)


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


class Writers(dict[int, Engine]):
    """Engines with random weights by their size of vocabulary; made when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, vocab_size: int) -> Engine:
        model = Transformer.from_folder(write_checkpoint(self._folder / str(vocab_size), vocab_size=vocab_size))
        self[vocab_size] = Engine(model, EngineConfig(max_context=4096, max_num_seqs=16))
        return self[vocab_size]

    def write(
        self, tokenizer: Tokenizer, asked: ChatCompletionRequest[Any], *, count: int, max_tokens: int = MAX_TOKENS
    ) -> list[Sequence]:
        constraint = constraints_of(tokenizer).chat(asked)
        stop = frozenset([tokenizer.eos_id])
        params = [
            SamplingParams(
                max_tokens=max_tokens,
                temperature=1.0,
                seed=seed,
                grammar=constraint.grammar,
                bad_token_ids=constraint.bad_token_ids,
                stop_token_ids=stop,
            )
            for seed in range(count)
        ]
        return self[tokenizer.vocab_size].generate([tokenizer.encode_text("x")] * count, params)


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Writers:
    return Writers(tmp_path_factory.mktemp("checkpoints"))


def read_whole(tokenizer: Tokenizer, sequence: Sequence) -> Read:
    return summary(events_of(tokenizer, sequence.new_tokens, is_cut=sequence.finish_reason == "length"))


def check_calls(read: Read, *, names: set[str], most: int) -> None:
    assert (read.text, read.reasoning, read.broken) == ("", "", ())
    assert 1 <= len(read.calls) <= most
    for name, arguments in read.calls:
        assert name in names
        schema = PARAMETERS[name] or {"type": "object", "maxProperties": 0}
        Draft202012Validator(schema).validate(json.loads(arguments))


CHOICES = [
    ("required", True, set(PARAMETERS), MAX_CALLS),
    ("any", False, set(PARAMETERS), 1),
    (named("walk_tree"), False, {"walk_tree"}, 1),
    (named("f"), True, {"f"}, MAX_CALLS),
]


def test_forced_calls_always_parse_and_validate(writers: Writers) -> None:
    num_ended = num_written = 0
    seen: set[str] = set()
    for name in WITH_CALLS:
        tokenizer = load_tokenizer(name)
        for choice, is_parallel, names, most in CHOICES:
            asked = request(choice, parallel_tool_calls=is_parallel)
            for sequence in writers.write(tokenizer, asked, count=4):
                num_written += 1
                assert sequence.finish_reason in ("stop", "length"), sequence.error
                if sequence.finish_reason == "stop":
                    num_ended += 1
                    read = read_whole(tokenizer, sequence)
                    check_calls(read, names=names, most=most)
                    seen |= {called for called, _ in read.calls}
    assert num_written == len(WITH_CALLS) * len(CHOICES) * 4
    assert num_ended >= 0.98 * num_written
    assert seen == set(PARAMETERS)


@pytest.mark.long
@pytest.mark.parametrize("name", WITH_CALLS)
def test_many_forced_calls_parse_and_validate(name: str, writers: Writers) -> None:
    tokenizer = load_tokenizer(name)
    ended = 0
    for sequence in writers.write(tokenizer, request("required"), count=100):
        if sequence.finish_reason == "stop":
            check_calls(read_whole(tokenizer, sequence), names=set(PARAMETERS), most=MAX_CALLS)
            ended += 1
    assert ended >= 98


@pytest.mark.parametrize("name", WITH_CALLS)
def test_a_call_that_is_cut_is_no_call(name: str, writers: Writers) -> None:
    tokenizer = load_tokenizer(name)
    [sequence] = writers.write(tokenizer, request(named("walk_tree")), count=1, max_tokens=6)
    assert sequence.finish_reason == "length"
    read = read_whole(tokenizer, sequence)
    assert (read.calls, [reason for _, reason in read.broken]) == ((), ["cut"])


def accepts(tokenizer: Tokenizer, asked: ChatCompletionRequest[Any], parts: str, **how: Any) -> bool:
    """Whether an answer, spelled as for the parser's tests, may be the whole of it."""
    grammar = constraints_of(tokenizer).chat(asked, **how).grammar
    assert grammar is not None
    state = grammar.start()
    return (
        all(state.matcher.consume_token(token) for token in spelled(tokenizer, parts)) and state.matcher.is_accepting()
    )


def call(tokenizer: Tokenizer, *calls: tuple[str, str]) -> str:
    """Calls in the form of the tokenizer's version."""
    if tokenizer.version not in ("v2", "v3", "v7"):
        return "".join(f"<TOOL_CALLS>{name}<ARGS>{arguments}" for name, arguments in calls)
    objects = (f'{{"name": "{name}", "arguments": {arguments}}}' for name, arguments in calls)
    return f"<TOOL_CALLS>[{', '.join(objects)}]"


NOTE, NO_NOTE = ("note", '{"text": "a"}'), ("note", '{"text": 1}')


@pytest.mark.parametrize("name", WITH_CALLS)
def test_each_choice_allows_what_it_says(name: str) -> None:
    tokenizer = load_tokenizer(name)
    good, twice, wrong, other = (
        call(tokenizer, NOTE), call(tokenizer, NOTE, NOTE), call(tokenizer, NO_NOTE), call(tokenizer, ("g", "{}")),
    )  # fmt: skip

    def allowed(asked: ChatCompletionRequest[Any]) -> list[bool]:
        return [accepts(tokenizer, asked, parts) for parts in (good, twice, wrong, other, "text", f"text{good}")]

    assert allowed(request("required")) == [True, True, False, False, False, False]
    assert allowed(request("required", parallel_tool_calls=False)) == [True, False, False, False, False, False]
    assert allowed(request(named("note"))) == [True, True, False, False, False, False]
    assert allowed(request(named("f"))) == [False] * 6
    assert allowed(request("auto", strict=True)) == [True, True, False, False, True, True]
    assert allowed(request("auto", parallel_tool_calls=False)) == [True, False, True, False, True, True]
    json_or_call = request("auto", response_format={"type": "json_object"})
    assert allowed(json_or_call) == [True, True, True, False, False, False]
    assert accepts(tokenizer, json_or_call, '{"a": 1}')
    assert not accepts(tokenizer, request("none", response_format={"type": "json_object"}), good)


@pytest.mark.parametrize("name", WITH_CALLS)
def test_choices_that_need_no_grammar_have_none(name: str) -> None:
    tokenizer = load_tokenizer(name)
    free, none = constraints_of(tokenizer).chat(request("auto")), constraints_of(tokenizer).chat(request("none"))
    assert (free.grammar, free.bad_token_ids) == (None, frozenset())
    names = [token for token in ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]") if tokenizer.control_id(token) is not None]
    assert (none.grammar, none.bad_token_ids) == (None, frozenset(control(tokenizer, token)[0] for token in names))


@pytest.mark.parametrize("name", ALL)
def test_what_mistral_common_encodes_as_calls_is_in_the_language(name: str) -> None:
    """The tokens of an assistant message, as a model was trained to write them."""
    tokenizer = load_tokenizer(name)
    if name not in WITH_CALLS:
        with pytest.raises(RequestError, match="v1 has no function calls"):
            constraints_of(tokenizer).chat(request("required"))
        return
    message = {
        "role": "assistant",
        "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "note", "arguments": NOTE[1]}}],
    }
    answer = {"role": "tool", "tool_call_id": "abcdefghi", "name": "note", "content": "1"}
    asked = request("required")
    user = {"role": "user", "content": "x"}
    whole = request("required", messages=[user, message, answer])
    prompt, tokens = tokenizer.encode_chat(asked), tokenizer.encode_chat(whole)
    marker = control(tokenizer, "[TOOL_CALLS]")[0]
    written = tokens[tokens.index(marker) : tokens.index(tokenizer.eos_id)]
    assert len(prompt) > 1
    grammar = constraints_of(tokenizer).chat(asked).grammar
    assert grammar is not None
    state = grammar.start()
    assert all(state.matcher.consume_token(token) for token in written)
    assert state.matcher.is_accepting()


@pytest.mark.parametrize("name", NAMED_FORM)
def test_mistral_commons_own_grammar_accepts_our_calls(name: str, writers: Writers) -> None:
    """Its grammar for v11 and later is wider than ours: it takes any space, and no [CALL_ID]."""
    tokenizer = load_tokenizer(name)
    factory = GrammarFactory(MistralTokenizer.from_file(str(tokenizer.file)))
    asked = request("required", strict=True)
    theirs = factory.get_lark_from_jinja(
        factory.select_jinja_template(),
        mode=ToolChoiceEnum.required,
        tools=asked.tools,
        json_schema=None,
        parallel_tool_calls=True,
        json_only=False,
        force_tool_names=True,
    )
    matcher = LLMatcher(factory.llg_tokenizer, theirs, log_level=0)
    call_id = tokenizer.control_id("[CALL_ID]")
    num_checked = 0
    for sequence in writers.write(tokenizer, asked, count=12):
        if call_id not in sequence.new_tokens:
            its_matcher = matcher.deep_copy()
            assert its_matcher.consume_tokens(sequence.new_tokens), its_matcher.get_error()
            assert its_matcher.is_accepting()
            num_checked += 1
    assert num_checked > 0


@pytest.mark.parametrize("name", ["tekken v11", "tekken v13", "tekken v15"])
def test_reasoning_comes_first_where_it_is_invited(name: str) -> None:
    tokenizer = load_tokenizer(name)
    good = call(tokenizer, NOTE)
    thought = "<THINK>well { } [ARGS]</THINK>"
    plain = request("required")
    invited = request(
        "required",
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"}]},
            {"role": "user", "content": "x"},
        ],
    )
    assert [accepts(tokenizer, plain, parts) for parts in (good, thought + good)] == [True, False]
    assert [accepts(tokenizer, invited, parts) for parts in (good, thought + good)] == [True, True]
    open_end = thought.removeprefix("<THINK>") + good
    assert [accepts(tokenizer, plain, parts, is_thinking=True) for parts in (good, open_end)] == [False, True]
    if name.endswith("v15"):
        efforts = {effort: request("required", reasoning_effort=effort) for effort in ("high", "none")}
        assert accepts(tokenizer, efforts["high"], thought + good)
        assert not accepts(tokenizer, efforts["none"], thought + good)


def test_a_tool_that_is_not_strict_is_held_to_its_schema_as_far_as_can_be() -> None:
    tokenizer = load_tokenizer("tekken v13")
    tools = {"pick": record(a={"type": "array", "items": DIGIT, "uniqueItems": True, "maxItems": 3})}
    assert accepts(tokenizer, request("required", tools=tools), '<TOOL_CALLS>pick<ARGS>{"a": [1, 1]}')
    assert not accepts(tokenizer, request("required", tools=tools), '<TOOL_CALLS>pick<ARGS>{"a": ["x"]}')
    with pytest.raises(GrammarError, match=r"tool pick: .*uniqueItems"):
        constraints_of(tokenizer).chat(request("required", strict=True, tools=tools))


def test_a_response_format_that_is_not_strict_is_held_to_as_far_as_can_be() -> None:
    tokenizer = load_tokenizer("tekken v13")
    schema = record(a={"type": "array", "items": DIGIT, "uniqueItems": True, "maxItems": 3})

    def asked(*, strict: bool) -> ChatCompletionRequest[Any]:
        wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": strict}}
        return request("auto", tools={}, response_format=wanted)

    assert accepts(tokenizer, asked(strict=False), '{"a": [1, 1]}')
    assert not accepts(tokenizer, asked(strict=False), '{"b": [1, 1]}')
    with pytest.raises(GrammarError, match="uniqueItems"):
        constraints_of(tokenizer).chat(asked(strict=True))


@pytest.mark.parametrize(
    ("asked", "form", "message"),
    [
        (request("required", tools={}), None, "a call can only be asked for with tools"),
        (request(named("nope")), None, "there is no tool 'nope' among get_weather, add-points"),
        (request("required", response_format={"type": "json_object"}), None, "cannot have another form"),
        (request("required"), {"regex": "a"}, "cannot have another form"),
        (request("auto", response_format={"type": "json_object"}), {"regex": "a"}, "one form only"),
        (request("required", tools={"f": {"type": "string"}}), None, "tool f: parameters must be of type object"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(asked: Any, form: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        constraints_of(load_tokenizer("tekken v13")).chat(asked, form)


@pytest.mark.parametrize("name", ["tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3", "tekken v13"])
def test_an_answer_goes_on_behind_its_prefix(name: str) -> None:
    tokenizer = load_tokenizer(name)
    constraints = constraints_of(tokenizer)
    asked = request("auto", tools={}, response_format={"type": "json_object"})
    grammar = constraints.chat(asked, prefix='{"a": [1').grammar
    assert grammar is not None
    for rest, fits in ((", 2]}", True), ("}", False)):
        matcher = grammar.start().matcher
        tokens = tokenizer.encode_inside(rest)
        assert (matcher.consume_tokens(tokens) and matcher.is_accepting()) == fits
    with pytest.raises(GrammarError, match="begin with a text that its grammar does not allow"):
        constraints.chat(asked, prefix="Sure: ")
