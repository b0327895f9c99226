"""The text front door, on the bundled demo checkpoint: the same tokens, events and errors for every caller."""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from mistral_common.protocol.fim.request import FIMRequest
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import FunctionCall, ToolCall
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

import mistral_local
from mistral_local.cli.showcase import EXEC_PYTHON
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.errors import AdapterError, PromptTooLongError, RequestError, TokenizerError, UsageError
from mistral_local.tasks.llm import LLM
from mistral_local.tasks.outputs import Finished, TextDelta

USER = [{"role": "user", "content": "Hello, how are you?"}]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    threads = torch.get_num_threads()
    yield mistral_local.load(max_batch_size=3)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference() -> Any:
    return MistralTokenizer.from_file(str(demo_checkpoint() / "tekken.json"))


@pytest.fixture
def prompts(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The token ids that reach the engine."""
    seen: list[list[int]] = []
    add = llm._engine.add
    monkeypatch.setattr(llm._engine, "add", lambda tokens, params: seen.append(tokens) or add(tokens, params))
    return seen


def is_idle(llm: LLM) -> bool:
    return not llm._engine.has_work and llm._engine.pool.num_free == llm._engine.pool.num_blocks


def test_a_conversation_reaches_the_engine_as_mistral_common_encodes_it(
    llm: LLM, reference: Any, prompts: list[list[int]]
) -> None:
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "exec_python", "arguments": '{"code": "1"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 [INST] </s>"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "1"},
    ]
    llm.chat(messages, tools=[EXEC_PYTHON], max_tokens=1)
    typed = ChatCompletionRequest.model_validate(
        {
            "messages": [
                SystemMessage(content="Be brief."),
                UserMessage(content="1 [INST] </s>"),
                AssistantMessage(
                    content="",
                    tool_calls=[
                        ToolCall(id="abcdefghi", function=FunctionCall(name="exec_python", arguments='{"code": "1"}'))
                    ],
                ),
                ToolMessage(tool_call_id="abcdefghi", content="1"),
            ],
            "tools": [EXEC_PYTHON],
        }
    )
    assert prompts == [reference.encode_chat_completion(typed).tokens]
    assert llm.count_tokens(messages, tools=[EXEC_PYTHON]) == len(prompts[0])


def test_fim_and_text_reach_the_engine_as_mistral_common_encodes_them(
    llm: LLM, reference: Any, prompts: list[list[int]]
) -> None:
    llm.fim("def f(", "return", max_tokens=1)
    llm.complete("[INST] text", max_tokens=1)
    base = reference.instruct_tokenizer.tokenizer
    assert prompts == [
        reference.encode_fim(FIMRequest(prompt="def f(", suffix="return")).tokens,
        base.encode("[INST] text", bos=True, eos=False),
    ]


def test_a_streamed_answer_is_the_answer(llm: LLM) -> None:
    answer = llm.chat(USER, max_tokens=40)
    events = list(llm.chat(USER, stream=True, max_tokens=40))
    last = events.pop()
    assert isinstance(last, Finished)
    assert all(isinstance(event, TextDelta) for event in events)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer.text
    assert (last.finish_reason, last.usage.completion_tokens) == (answer.finish_reason, answer.usage.completion_tokens)
    assert answer.usage.prompt_tokens == llm.count_tokens(USER)
    assert is_idle(llm)


def test_a_batch_gives_what_each_prompt_gives_alone(llm: LLM) -> None:
    texts = ["This is a test", "def f(x):", "A", "Another one"]
    together = [answer.text for answer in llm.complete_batch(texts, max_tokens=20)]
    assert together == [llm.complete(text, max_tokens=20).text for text in texts]


def test_answers_of_a_batch_are_timed_when_they_are_written(llm: LLM) -> None:
    answers = llm.complete_batch(["This is a test", "A", "def f"], max_tokens=20, ignore_eos=True)
    for answer in answers:
        assert answer.usage.completion_tokens == 20
        assert 0.0001 < answer.usage.time_to_first_token_s < 10
        assert 1 < answer.usage.decode_tokens_per_s < 20_000


def test_max_tokens_ends_an_answer_and_says_so(llm: LLM) -> None:
    answer = llm.complete("This is a test", max_tokens=1)
    assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", 1)


def test_a_stop_string_ends_an_answer_before_it(llm: LLM) -> None:
    whole = llm.complete("This is a test", max_tokens=30).text
    middle = whole[len(whole) // 2 : len(whole) // 2 + 3]
    for stop in ((middle,), [middle], middle):
        stopped = llm.complete("This is a test", max_tokens=30, stop=stop)
        assert stopped.text == whole[: whole.index(middle)]
        assert stopped.finish_reason == "stop"
    assert is_idle(llm)


def test_closing_a_stream_frees_its_sequence_whether_it_was_read_or_not(llm: LLM) -> None:
    for num_read in (0, 1):
        stream = llm.complete("This is a test", stream=True)
        for _ in range(num_read):
            next(stream)
        assert not is_idle(llm)
        stream.close()
        assert is_idle(llm)
        assert list(stream) == []


@pytest.mark.parametrize("num_read", [0, 1])
def test_a_stream_that_is_dropped_frees_its_sequence_without_the_garbage_collector(llm: LLM, num_read: int) -> None:
    gc.disable()
    try:
        stream = llm.complete("This is a test", stream=True)
        for _ in range(num_read):
            next(stream)
        del stream
        assert is_idle(llm)
    finally:
        gc.enable()


def test_ignoring_eos_and_biasing_tokens_reach_the_engine(llm: LLM) -> None:
    assert llm.chat(USER, ignore_eos=True, max_tokens=60).usage.completion_tokens == 60
    text = llm.complete("This is", logit_bias={llm._tokenizer.encode_text("x")[1]: 100.0}, max_tokens=3).text
    assert text == "xxx"


def test_the_same_seed_gives_the_same_text(llm: LLM) -> None:
    def say(seed: int) -> str:
        return llm.complete("This is", temperature=1.5, top_p=1.0, seed=seed, max_tokens=30).text

    assert say(1) == say(1)
    assert say(1) != say(2)


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(llm: LLM) -> None:
    with pytest.raises(PromptTooLongError, match=rf"the prompt has \d+ tokens; a context of {llm.context_length}"):
        llm.complete("word " * 5000)
    assert is_idle(llm)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_token": 3, "seed": 1}, "unknown option max_token; there are max_tokens, min_tokens"),
        ({"max_tokens": "5"}, "max_tokens: expected an integer, got '5'"),
        ({"max_tokens": 2.5}, "max_tokens: expected an integer, got 2.5"),
        ({"max_tokens": True}, "max_tokens: expected an integer, got True"),
        ({"seed": "x"}, "seed: expected an integer, got 'x'"),
        ({"temperature": "0.5"}, "temperature: expected a number, got '0.5'"),
        ({"top_p": None}, "top_p: expected a number, got None"),
        ({"stop": 5}, "stop: expected texts, got 5"),
        ({"stop": [b"x"]}, r"stop: expected texts, got \[b'x'\]"),
        ({"stop": ""}, "an empty string"),
        ({"max_tokens": 0}, "max_tokens: expected at least 1, got 0"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"top_k": -1}, "top_k"),
        ({"logit_bias": {10**9: 1.0}}, "logit_bias"),
        ({"logit_bias": {5: None}}, "logit_bias: expected token ids with numbers, got 5: None"),
        ({"logit_bias": {"5": 1.0}}, "logit_bias: expected token ids"),
        ({"stop": ("",)}, "an empty string"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(llm: LLM, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        llm.chat(USER, **options)


@pytest.mark.parametrize(
    "messages",
    [[], [{"role": "user"}], [{"role": "nobody", "content": ""}], [{"role": "assistant", "content": "x"}], ["x"]],
)
def test_conversations_that_cannot_be_are_refused(llm: LLM, messages: list[Any]) -> None:
    with pytest.raises(RequestError):
        llm.chat(messages)
    assert is_idle(llm)


def test_a_tokenizer_that_does_not_fit_the_weights_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, vocab_size=320)
    shutil.copy(demo_checkpoint() / "tekken.json", tmp_path)
    with pytest.raises(TokenizerError, match=r"tekken.json has \d+ tokens, params.json says vocab_size 320"):
        mistral_local.load(tmp_path)


def test_a_context_that_is_asked_for_holds(tmp_path: Path) -> None:
    notes: list[str] = []
    small = mistral_local.load(max_context=20, num_threads=1, note=notes.append)
    answer = small.complete("This is a test")
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 20
    assert notes == []
    mistral_local.load(max_context=5000, note=notes.append)
    assert notes == ["context 5000 tokens, but the model is made for 4096"]


def test_the_size_of_the_cache_is_told_and_can_be_set() -> None:
    small = mistral_local.load(kv_memory="2MB", num_threads=1)
    assert "KV cache" in small.describe()
    assert small._engine.kv_bytes <= 2_000_000 < 2 * small._engine.kv_bytes
    with pytest.raises(UsageError, match="expected a size such as 4GB"):
        mistral_local.load(kv_memory="lots")


def test_speculation_changes_no_greedy_text(llm: LLM) -> None:
    prompt, how = "def f(x):\n    print(x)\n    print(x)\n    print(", {"temperature": 0.0, "ignore_eos": True}
    plain = llm.complete(prompt, max_tokens=80, **how)
    guessing = mistral_local.load(speculate="ngram", num_threads=1)
    assert guessing.complete(prompt, max_tokens=80, **how).text == plain.text
    assert guessing._engine.stats().right_guesses > 20


def test_an_adapter_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"nope.safetensors: no such file"):
        mistral_local.load(tmp_path / "no folder either", lora_path=tmp_path / "nope.safetensors")


def test_a_dtype_or_device_that_cannot_be_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="dtype: expected float32, float16 or bfloat16, got 'int8'"):
        mistral_local.load(dtype="int8")
    with pytest.raises(UsageError, match="device 'nonsense' cannot be used"):
        mistral_local.load(device="nonsense")
    with pytest.raises(UsageError, match="num_threads"):
        mistral_local.load(num_threads=0)
