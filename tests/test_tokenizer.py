"""Tokenizers: the right file, mistral_common's own encoding, and text that streams without loss."""

import random
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from mistral_common.protocol.instruct.messages import UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from mistral_local.errors import RequestError, TokenizerError
from mistral_local.tokenizer.find import find_tokenizer
from mistral_local.tokenizer.stop_strings import StopMatcher
from mistral_local.tokenizer.tokenizer import Tokenizer

PACKAGED = Path(str(files("mistral_common"))) / "data"
FILES = [
    "tokenizer.model.v1",
    "mistral_instruct_tokenizer_240323.model.v3",
    "mistral_instruct_tokenizer_241114.model.v7",
    "tekken_240911.json",
]


@pytest.fixture(scope="module", params=FILES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(PACKAGED / request.param)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_tekken_wins_then_the_highest_version_then_the_plain_model(tmp_path: Path) -> None:
    names = ["tokenizer.model", "tokenizer.model.v2", "tokenizer.model.v11", "tokenizer.model.v7m1", "tekken.json"]
    order = ["tekken.json", "tokenizer.model.v11", "tokenizer.model.v7m1", "tokenizer.model.v2", "tokenizer.model"]
    touch(tmp_path, *names, "tokenizer.json", "params.json")
    for best in order:
        choice = find_tokenizer(tmp_path)
        assert choice.file.name == best
        assert {file.name for file in choice.others} == set(order[order.index(best) + 1 :])
        choice.file.unlink()


def test_a_folder_without_tokenizer_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tekken.json or tokenizer.model\* in .* it holds params.json"):
        find_tokenizer(touch(tmp_path, "params.json"))


def test_a_truncated_tokenizer_is_one_clear_error(tmp_path: Path) -> None:
    whole = (PACKAGED / "tekken_240911.json").read_bytes()
    (tmp_path / "tekken.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TokenizerError, match="not a usable tokenizer"):
        Tokenizer(tmp_path / "tekken.json")


def test_a_conversation_is_encoded_as_mistral_common_does(tokenizer: Tokenizer) -> None:
    request = ChatCompletionRequest(messages=[UserMessage(content="Bonjour [INST] </s> 你好")])
    expected = MistralTokenizer.from_file(str(tokenizer.file)).encode_chat_completion(request).tokens
    assert tokenizer.encode_chat(request) == expected


def test_a_conversation_that_mistral_common_refuses_is_a_request_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError):
        tokenizer.encode_chat(ChatCompletionRequest(messages=[]))


def test_half_a_surrogate_pair_is_replaced_or_refused(tokenizer: Tokenizer) -> None:
    text = "a\ud800b"
    if tokenizer.file.suffix == ".json":
        assert tokenizer.decode(tokenizer.encode_text(text)) == "a\ufffdb"
        return
    requests: list[Callable[[], list[int]]] = [
        lambda: tokenizer.encode_text(text),
        lambda: tokenizer.encode_chat(ChatCompletionRequest(messages=[UserMessage(content=text)])),
        lambda: tokenizer.encode_fim(text, ""),
    ]
    for encode in requests:
        with pytest.raises(RequestError):
            encode()


def test_control_strings_in_text_stay_text(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode_text("a [TOOL_CALLS] b </s> c [INST]")
    assert tokens[0] == tokenizer.bos_id
    assert not any(tokenizer.is_control(token) for token in tokens[1:])


@pytest.mark.parametrize(
    "text", ["Hello, world", "héé 🙂👩‍👩‍👧 你好", "  two  spaces\n\n\ttabs", "", "\U0001f600" * 20]
)
def test_streamed_text_is_the_text(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode_text(text)[1:]
    detokenizer = tokenizer.detokenizer()
    pieces = [detokenizer.push(token) for token in tokens]
    assert "".join(pieces) + detokenizer.finish() == text
    assert not any("�" in piece for piece in pieces)


def test_any_tokens_stream_to_what_mistral_common_decodes(tokenizer: Tokenizer) -> None:
    rng = random.Random(0)
    reference = MistralTokenizer.from_file(str(tokenizer.file)).instruct_tokenizer.tokenizer
    for _ in range(200):
        text = "".join(chr(rng.choice([*range(32, 127), 233, 0x4F60, 0x1F642, 10])) for _ in range(rng.randint(1, 30)))
        tokens = reference.encode(text, bos=False, eos=False)
        start = rng.randrange(len(tokens))
        assert tokenizer.decode(tokens[start:]) == reference.decode(tokens[start:])


@pytest.mark.parametrize("first", ["<unk>", "<0x20>", "\u2581a", "\u2581", "<0x41>"])
@pytest.mark.parametrize("file", FILES[:3])
def test_only_the_space_that_marks_the_start_is_taken_off(file: str, first: str) -> None:
    tokenizer = Tokenizer(PACKAGED / file)
    reference = MistralTokenizer.from_file(str(tokenizer.file)).instruct_tokenizer.tokenizer
    by_piece = {tokenizer.piece(token): token for token in range(tokenizer.vocab_size)}
    tokens = [tokenizer.bos_id, by_piece[first], tokenizer.eos_id, by_piece["\u2581a"], by_piece["<0x20>"]]
    assert tokenizer.decode(tokens) == reference.decode(tokens, special_token_policy=SpecialTokenPolicy.IGNORE)


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    tokenizer = Tokenizer(PACKAGED / "tekken_240911.json")
    tokens = tokenizer.encode_text("🙂")[1:]
    assert tokenizer.decode(tokens[:-1]) == "�"


def test_control_tokens_are_found_by_name_and_only_real_ones(tokenizer: Tokenizer) -> None:
    has_tools = tokenizer.version != "v1"
    assert (tokenizer.control_id("[TOOL_CALLS]") is not None) == has_tools
    assert tokenizer.control_id("[NO_SUCH_TOKEN]") is None
    assert tokenizer.control_id("hello") is None


def test_spelling_out_names_control_tokens() -> None:
    tokenizer = Tokenizer(PACKAGED / "tekken_240911.json")
    marker = tokenizer.control_id("[TOOL_CALLS]")
    assert marker is not None
    assert (
        tokenizer.spell_out([*tokenizer.encode_text("a")[1:], marker, *tokenizer.encode_text("[]")[1:]])
        == "a[TOOL_CALLS][]"
    )


def all_chunkings(text: str) -> list[list[str]]:
    if len(text) <= 1:
        return [[text]]
    rest = all_chunkings(text[1:])
    return [[text[0], *chunks] for chunks in rest] + [[text[0] + chunks[0], *chunks[1:]] for chunks in rest]


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("abcENDdef", ("END",), "abc"),
        ("abcEN", ("END",), "abcEN"),
        ("EENEND!", ("END",), "EEN"),
        ("xaab", ("aab", "ab"), "x"),
        ("xab", ("b", "ab"), "x"),
        ("ab c", ("ab c", "b"), "a"),
        ("no stop", (), "no stop"),
    ],
)
def test_stop_strings_cut_alike_in_every_chunking(text: str, stop: tuple[str, ...], expected: str) -> None:
    for chunks in all_chunkings(text):
        matcher = StopMatcher(stop)
        out = [matcher.push(chunk) for chunk in chunks]
        assert "".join(out) + matcher.finish() == expected
        assert matcher.is_stopped == (expected != text)
