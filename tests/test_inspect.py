"""explain and verify: what a request and a checkpoint are, and what is wrong with them."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from all_tokenizers import ALL, WITH_CALLS, load_tokenizer, tokenizer_file
from checkpoints import write_checkpoint
from hypothesis import given, settings
from safetensors.torch import load_file, save_file
from test_request_parity import Turn, as_dicts, conversations, nine

from mistral_local.cli import entry
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.errors import RequestError
from mistral_local.inspect.corpus import encode_corpus, golden_digests
from mistral_local.inspect.explain import ExplainedRequest, explain_answer, explain_request, tokens_of_answer
from mistral_local.inspect.verify import Finding, verify
from mistral_local.tasks.chat import chat_request, encode_chat
from mistral_local.tasks.outputs import BrokenToolCall, ReasoningDelta, TextDelta, ToolCallDone

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "sys"},
    {"role": "user", "content": "one"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "name": "f", "content": "res"},
    {"role": "user", "content": "three [INST] é🙂"},
]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    on_terminate = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = entry.run_local(arguments)
        return code, *capfd.readouterr()

    yield run
    signal.signal(signal.SIGTERM, on_terminate)


def sources(explained: ExplainedRequest) -> dict[str, str]:
    """What stands under each source, control tokens left out."""
    result: dict[str, str] = {}
    for token in explained.tokens:
        result.setdefault(token.source, "")
        if not token.is_control and not token.piece.startswith("<0x"):
            result[token.source] += token.piece
    return result


@settings(max_examples=15, deadline=None, derandomize=True)
@given(conversation=conversations())
@pytest.mark.parametrize("name", ALL)
def test_spans_are_the_tokens_that_the_model_gets(name: str, conversation: tuple[str | None, list[Turn]]) -> None:
    tokenizer = load_tokenizer(name)
    system, turns = conversation
    ids = nine(sum(len(turn.calls) for turn in turns))
    request = chat_request(as_dicts(system, turns, ids, reasons=False), version=tokenizer.version)
    try:
        expected = encode_chat(tokenizer, request)
    except RequestError:
        with pytest.raises(RequestError):
            tokenizer.chat_spans(request.request)
        return
    spans = tokenizer.chat_spans(request.request)
    assert [token for span in spans for token in span.tokens] == expected
    roles = [message.role for message in request.request.messages]
    for span in spans:
        assert {roles[place] for place in span.messages} <= {span.role}
    named = [place for span in spans for place in span.messages]
    assert sorted(named) == sorted(set(named))
    lost = {role for place, role in enumerate(roles) if place not in named}
    assert lost <= {"system"}


@pytest.mark.parametrize("name", WITH_CALLS)
def test_each_token_has_the_source_that_it_came_from(name: str) -> None:
    tokenizer = load_tokenizer(name)
    explained = explain_request(tokenizer, {"messages": TALK, "tools": [TOOL]})
    assert [token.id for token in explained.tokens] == encode_chat(
        tokenizer, chat_request(TALK, [TOOL], version=tokenizer.version)
    )
    found = {source: text.strip() for source, text in sources(explained).items()}
    assert '"name": "f"' in found["tools"]
    assert found["messages.1 + messages.2 user"].endswith("one\n\ntwo")
    assert found["messages.5 user"].endswith("three [INST] é") or "three [INST] é" in found["messages.5 user"]
    if tokenizer.version == "v2":
        assert not {"messages.3 assistant", "messages.4 tool"} & set(found)  # v2 forgets calls before the last user
    else:
        assert "f" in found["messages.3 assistant"]
        assert "res" in found["messages.4 tool"]
    if tokenizer.version in ("v2", "v3"):
        assert "sys" in found["messages.5 user"]
    else:
        assert found["messages.0 system"] == "sys"
    assert explained.ids.keys() == {"call_1"}


def test_gaps_texts_and_what_is_not_seen_are_explained() -> None:
    tokenizer = load_tokenizer("tekken v13")
    gap = explain_request(tokenizer, {"prompt": "def f(", "suffix": "return", "temperature": 0.5, "model": "m"})
    assert sources(gap) == {"start": "", "suffix": "return", "prompt": "def f("}
    assert [token.id for token in gap.tokens] == tokenizer.encode_fim("def f(", "return")
    assert gap.notes == ("the model sees nothing of temperature, model",)
    text = explain_request(tokenizer, {"prompt": "[PREFIX] x"})
    assert [token.id for token in text.tokens] == tokenizer.encode_text("[PREFIX] x")
    safe = explain_request(tokenizer, {"messages": [{"role": "user", "content": "hi"}], "safe_prompt": True})
    assert sources(safe)["safe_prompt system"].startswith("Always assist with care")
    assert sources(safe)["messages.0 user"] == "hi"


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        ({}, "neither messages nor prompt"),
        ({"prompt": 5}, "prompt: expected a text, got int"),
        ({"prompt": "x", "sufix": "y"}, "sufix: there is no such field; there are prompt, suffix"),
        ({"messages": "hi"}, "messages: expected a list, got str"),
        ({"messages": [], "tools": {}}, "tools: expected a list, got dict"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.user.content"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": -1}, "temperature: expected"),
        ({"messages": [{"role": "user", "content": "x"}], "top_kk": 1}, "top_kk: there is no such field"),
        ({"messages": [{"role": "user", "content": "x"}], "reasoning_effort": "high"}, "reasoning_effort"),
        ({"messages": [*TALK[:4], {**TALK[4], "tool_call_id": "call_2"}]}, "Unexpected tool call id call_2"),
    ],
)
def test_a_field_that_is_refused_is_named(request_fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        explain_request(load_tokenizer("tekken v13"), request_fields)


def test_an_answer_is_read_as_it_would_be() -> None:
    tokenizer = load_tokenizer("tekken v13")
    events = explain_answer(
        tokenizer, '[THINK]Hm[/THINK]ok [TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{"b', is_cut=True
    )
    reasoning, text, done, broken = events
    assert reasoning == ReasoningDelta("Hm")
    assert text == TextDelta("ok ")
    assert isinstance(done, ToolCallDone)
    assert (done.call.name, done.call.arguments) == ("f", '{"a": 1}')
    assert isinstance(broken, BrokenToolCall)
    assert (broken.text, broken.reason) == ('[TOOL_CALLS]g[ARGS]{"b', "cut")


@pytest.mark.parametrize("name", ALL)
def test_the_raw_text_of_an_answer_leads_back_to_it(name: str) -> None:
    tokenizer = load_tokenizer(name)
    raw = "Let me see: [TOOL_CALLS][{}] é"
    assert tokenizer.spell_out(tokens_of_answer(tokenizer, raw)) == raw


def test_explain_prints_a_line_per_token_and_the_rest_on_stderr(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}))
    code, out, err = run("explain", str(file))
    assert code == 0
    assert out.splitlines() == [
        "start",
        "      0       1  <s>",
        "messages.0 user",
        "      1       3  [INST]",
        '      2    1072    "H"',
        '      3    1105    "i"',
        "      4       4  [/INST]",
    ]
    assert err.splitlines() == [
        "tokenizer v13, tekken.json",
        "5 tokens",
        "the model sees nothing of max_tokens",
    ]
    code, out, _ = run("explain", str(file), "--json", "--answer", "Hello")
    fields = json.loads(out)
    assert code == 0
    assert [token["id"] for token in fields["tokens"]] == [1, 3, 1072, 1105, 4]
    assert fields["answer"] == [{"event": "TextDelta", "text": "Hello"}]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["explain"], 2, "explain needs a REQUEST.json"),
        (["explain", "none.json"], 2, "cannot read none.json"),
        (["explain", "--answer", "x", "--model", "no folder"], 3, "no folder"),
        (["explian", "x"], 2, "unknown command explian; did you mean explain?"),
        (["verify", "nowhere"], 3, "no folder nowhere"),
        (["verify", "--debugg"], 2, "unknown flag --debugg"),
    ],
)
def test_wrong_commands_are_one_line(
    run: Callable[..., tuple[int, str, str]], arguments: list[str], code: int, message: str
) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_commands_are_listed(run: Callable[..., tuple[int, str, str]]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        code, out, _ = run(*arguments)
        assert code == 0
        listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
        assert listed == ["explain", "plan", "quantize", "verify", "run", "env"]
    assert run("--version")[1].startswith("mistral_local ")


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], ["verify", "--help"], ["explain"]])
def test_help_and_usage_need_no_torch(arguments: list[str]) -> None:
    code = (
        f"import sys; from mistral_local.cli import entry; entry.run_local({arguments!r});"
        "assert 'torch' not in sys.modules and 'mistral_common' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole checkpoint with the demo's tokenizer."""
    write_checkpoint(tmp_path / "model", vocab_size=8000)
    shutil.copy(demo_checkpoint() / "tekken.json", tmp_path / "model")
    return tmp_path / "model"


def damage(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "consolidated.safetensors")
    change(weights)
    save_file(weights, folder / "consolidated.safetensors")


def bad(folder: Path) -> list[tuple[str, str]]:
    return [(finding.check, finding.detail) for finding in verify(folder) if not finding.is_good]


def test_a_whole_checkpoint_passes(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    findings = list(verify(folder, progress=lambda done, total: seen.append((done, total))))
    assert all(isinstance(finding, Finding) and finding.is_good for finding in findings)
    checks = ["params", "tensors", "values", "tokenizer", "vocabulary", "round trip", "golden corpus"]
    assert [finding.check for finding in findings] == checks
    assert seen[-1][0] == seen[-1][1] == len(seen)


@pytest.mark.parametrize(
    ("change", "check", "detail"),
    [
        (
            lambda w: w["norm.weight"].__setitem__(0, float("nan")),
            "values",
            "norm.weight holds numbers that are not finite",
        ),
        (lambda w: w["output.weight"].zero_(), "values", "output.weight is all zeros"),
        (lambda w: w.pop("norm.weight"), "tensors", "missing norm.weight"),
        (lambda w: w.update(more=torch.ones(2)), "tensors", "unexpected more"),
        (lambda w: w.update({"norm.weight": torch.ones(5)}), "tensors", "wrong shape norm.weight"),
    ],
)
def test_damaged_weights_are_found(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], None], check: str, detail: str
) -> None:
    damage(folder, change)
    ((found, said),) = bad(folder)
    assert found == check
    assert detail in said


def test_a_tokenizer_of_another_model_is_found(folder: Path) -> None:
    (folder / "tekken.json").unlink()
    shutil.copy(tokenizer_file("mistral_instruct_tokenizer_240323.model.v3"), folder / "tokenizer.model.v3")
    assert bad(folder) == [("vocabulary", "32768 tokens, params says 8000")]
    (folder / "tokenizer.model.v3").write_bytes(b"x")
    assert [check for check, _ in bad(folder)] == ["tokenizer"]
    (folder / "params.json").write_text("{")
    assert [check for check, _ in bad(folder)] == ["params", "tokenizer"]


def test_another_encoding_of_a_known_tokenizer_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mistral_local.tokenizer.tokenizer import Tokenizer

    encode_fim = Tokenizer.encode_fim
    monkeypatch.setattr(Tokenizer, "encode_fim", lambda self, prompt, suffix: encode_fim(self, suffix, prompt))
    assert bad(folder) == [("golden corpus", "other ids than mistral_common 1.13.1 gave: fill in the middle")]


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("tekken v")])
def test_every_packaged_tokenizer_has_its_golden_corpus(name: str) -> None:
    tokenizer = load_tokenizer(name)
    golden = golden_digests(tokenizer)
    assert golden is not None
    assert golden.keys() == encode_corpus(tokenizer).keys()
    assert load_tokenizer("tekken v11").version == "v11"
    assert golden_digests(load_tokenizer("tekken v11")) is None


def test_verify_reports_and_exits_with_3_on_a_difference(
    run: Callable[..., tuple[int, str, str]], folder: Path
) -> None:
    code, out, err = run("verify", str(folder))
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["ok"] * 7
    damage(folder, lambda weights: weights["output.weight"].zero_())
    code, out, err = run("verify", str(folder))
    assert code == 3
    assert "FAIL values         output.weight is all zeros\n" in out
    assert err == "Error: 1 of 7 checks failed\n"
