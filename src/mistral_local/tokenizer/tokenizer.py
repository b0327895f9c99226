"""The tokenizer of a checkpoint: mistral_common encodes, and what it encodes is never changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.fim.request import FIMRequest
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from mistral_local.errors import RequestError, TokenizerError
from mistral_local.tokenizer.detokenizer import Detokenizer
from mistral_local.tokenizer.spans import Span, chat_spans

T = TypeVar("T")

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")

NO_TEXT = "the text holds half a surrogate pair, which is no character"
"""The only strings that SentencePiece cannot take; it says so by a RuntimeError."""


class Tokenizer:
    """Encodes requests by mistral_common and turns new tokens into text.

    Attributes:
        file: where it was read from.
        vocab_size: number of token ids.
        bos_id, eos_id: the tokens that start a prompt and end an answer.
        version: "v1" .. "v15", which decides the format of requests and answers.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._mistral = _read(file)
        self._base = self._mistral.instruct_tokenizer.tokenizer
        self.vocab_size = self._base.n_words
        self.bos_id, self.eos_id = self._base.bos_id, self._base.eos_id
        self.version = self._base.version.value
        self._bytes: dict[int, bytes] = {}
        self._is_control: dict[int, bool] = {}

    def encode_chat(self, request: ChatCompletionRequest[Any]) -> list[int]:
        """Validate, normalise and encode a conversation.

        Raises:
            RequestError: if mistral_common refuses it.
        """
        return self._checked(lambda: list(self._mistral.encode_chat_completion(request).tokens))

    def chat_spans(self, request: ChatCompletionRequest[Any]) -> list[Span]:
        """Encode a conversation as encode_chat() does, and tell which tokens come from which message.

        Raises:
            RequestError: if mistral_common refuses it.
        """
        return self._checked(lambda: chat_spans(self._mistral, request))

    def _checked(self, encode: Callable[[], T]) -> T:
        try:
            return encode()
        except (MistralCommonException, ValueError, AssertionError) as error:
            raise RequestError(_one_line(error)) from error
        except RuntimeError as error:
            raise RequestError(NO_TEXT) from error

    def encode_fim(self, prompt: str, suffix: str) -> list[int]:
        """Encode the text before and after a gap.

        Raises:
            RequestError: if the tokenizer has no tokens for it.
        """
        try:
            return list(self._mistral.encode_fim(FIMRequest(prompt=prompt, suffix=suffix)).tokens)
        except (MistralCommonException, ValueError, AssertionError, KeyError) as error:
            raise RequestError(
                f"fill-in-the-middle is not supported by {self.file.name}: {_one_line(error)}"
            ) from error
        except RuntimeError as error:
            raise RequestError(NO_TEXT) from error

    def encode_text(self, text: str) -> list[int]:
        """Encode plain text after a BOS; control strings in it stay text.

        Raises:
            RequestError: if the text holds half a surrogate pair and the tokenizer has no stand-in for it.
        """
        try:
            return self._base.encode(text, bos=True, eos=False)
        except RuntimeError as error:
            raise RequestError(NO_TEXT) from error

    def encode_inside(self, text: str) -> list[int]:
        """Encode text that goes on in the middle of another: no BOS, and no mark of the start.

        Raises:
            RequestError: as encode_text().
        """
        if not self.marks_start:
            return self.encode_text(text)[1:]
        # A line break is always two tokens at the start of a text: the mark and the byte.
        return self.encode_text(f"\n{text}")[3:]

    def control_id(self, token: str) -> int | None:
        """The id of a control token such as "[TOOL_CALLS]"; None if this tokenizer has none of that name."""
        try:
            token_id = self._base.get_special_token(token)
        except (ValueError, KeyError):
            return None
        return token_id if self._base.is_special(token_id) and self.piece(token_id) == token else None

    @property
    def can_reason(self) -> bool:
        """Whether messages may hold reasoning."""
        return int(self.version.removeprefix("v")) >= 13 and self.control_id("[THINK]") is not None

    def piece(self, token_id: int) -> str:
        """A token spelled out, control tokens by their name."""
        return self._base.id_to_piece(token_id)

    def is_control(self, token_id: int) -> bool:
        """Whether a token is a control token, which is no text."""
        if (known := self._is_control.get(token_id)) is None:
            known = self._is_control[token_id] = self._base.is_special(token_id)
        return known

    def is_byte(self, token_id: int) -> bool:
        """Whether a token of SentencePiece stands for one byte that its pieces do not spell."""
        return self.marks_start and _BYTE_PIECE.fullmatch(self.piece(token_id)) is not None

    @property
    def marks_start(self) -> bool:
        """Whether the first token of a text begins with a space that is not part of it, as SentencePiece has it."""
        return not isinstance(self._base, Tekkenizer)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to the text; none for control tokens."""
        if (known := self._bytes.get(token_id)) is None:
            known = self._bytes[token_id] = self._find_bytes(token_id)
        return known

    def _find_bytes(self, token_id: int) -> bytes:
        if self.is_control(token_id):
            return b""
        if isinstance(self._base, Tekkenizer):
            return self._base.id_to_byte_piece(token_id, SpecialTokenPolicy.IGNORE)
        piece = self._base.id_to_piece(token_id)
        if match := _BYTE_PIECE.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return " \u2047 ".encode() if token_id == self._base.unk_id else piece.replace("\u2581", " ").encode()

    def detokenizer(self, *, continues_text: bool = False) -> Detokenizer:
        """Start turning new tokens into text.

        Args:
            continues_text: whether they go on in the middle of a text, so that no space is a mark of its start.
        """
        return Detokenizer(self.token_bytes, marks_start=_never if continues_text else self._marks_start)

    def _marks_start(self, token_id: int) -> bool:
        """Whether a leading space is SentencePiece's own; those of unknown and byte tokens are text."""
        return self.marks_start and self.piece(token_id).startswith("\u2581")

    def decode(self, tokens: list[int]) -> str:
        """The text of tokens, without control tokens."""
        detokenizer = self.detokenizer()
        return detokenizer.push_all(tokens) + detokenizer.finish()

    def spell_out(self, tokens: list[int]) -> str:
        """The text of tokens, control tokens by their names."""
        parts: list[str] = []
        run: list[int] = []
        for token in tokens:
            if self.is_control(token):
                parts += [self.decode(run), self.piece(token)]
                run = []
            else:
                run.append(token)
        return "".join([*parts, self.decode(run)])


def _read(file: Path) -> MistralTokenizer[Any, Any, Any, Any, Any]:
    try:
        return MistralTokenizer.from_file(str(file))
    except (MistralCommonException, ValueError, AssertionError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise TokenizerError(f"{file}: not a usable tokenizer: {_one_line(error)}") from error


def _never(token_id: int) -> bool:
    return False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
