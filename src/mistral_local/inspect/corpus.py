"""A corpus whose encoding is known for the published tokenizers, and the known encodings.

golden.json holds, for each tokenizer that mistral_common 1.13.1 packages and for the demo's, a digest of the ids of each
sample.  `python -m mistral_local.inspect.corpus TOKENIZER...` writes it anew.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from mistral_local.errors import RequestError
from mistral_local.tasks.chat import chat_request, encode_chat
from mistral_local.tokenizer.tokenizer import Tokenizer

TEXTS = {
    "words": "The quick brown fox jumps over the lazy dog.",
    "spaces": "  two  spaces\n\n\ttabs \r\n end ",
    "languages": "Où est l'été ? Straße, 你好世界, こんにちは, привет, مرحبا, שלום, नमस्ते",
    "signs": "🙂👩‍👩‍👧 é e\u0301 \u200b\ufeff ½ € ∑ \U0001f600",
    "numbers": "3.14159 1,000,000 0x7f 1e-9 2024-11-18",
    "code": "def f(x: int) -> str:\n    return f'{x!r}'  # [1, 2]\n",
    "control words": "<s> </s> [INST] [/INST] [TOOL_CALLS] [ARGS] [THINK] [IMG] <unk>",
    "empty": "",
}
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_CALL = {"id": "abcDEF123", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Köln"}'}}
_TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief. [INST]"},
    {"role": "user", "content": "Hello </s>"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "And you? 🙂"},
]
_TOOL_TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "tool_calls": [_CALL]},
    {"role": "tool", "name": "get_weather", "tool_call_id": "abcDEF123", "content": '{"sky": "blue"}'},
]


def encode_corpus(tokenizer: Tokenizer) -> dict[str, list[int] | None]:
    """Encode every sample; None where the tokenizer has no form for it."""
    samples: dict[str, Callable[[], list[int]]] = {
        f"text: {name}": lambda text=text: tokenizer.encode_text(text)  # type: ignore[misc]
        for name, text in TEXTS.items()
    }
    samples |= {
        "conversation": lambda: _chat(tokenizer, _TALK, None),
        "function call": lambda: _chat(tokenizer, _TOOL_TALK, [_TOOL]),
        "fill in the middle": lambda: tokenizer.encode_fim("def add(", "    return a + b\n"),
    }
    return {name: _encoded(encode) for name, encode in samples.items()}


def fingerprint(tokenizer: Tokenizer) -> str:
    """What tells a tokenizer from others: its version and vocabulary, hashed."""
    digest = hashlib.sha256(tokenizer.version.encode())
    for token in range(tokenizer.vocab_size):
        digest.update(b"\0" + tokenizer.piece(token).encode(errors="replace") + tokenizer.token_bytes(token))
    return digest.hexdigest()[:16]


def golden_digests(tokenizer: Tokenizer) -> dict[str, str] | None:
    """The known digests of a tokenizer's samples; None if it is not one of the known ones."""
    known: dict[str, dict[str, str]] = json.loads(_file().read_text(encoding="utf-8"))
    return known.get(fingerprint(tokenizer))


def digest_of(ids: list[int] | None) -> str:
    """A short digest of token ids."""
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def _chat(tokenizer: Tokenizer, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> list[int]:
    return encode_chat(tokenizer, chat_request(messages, tools, version=tokenizer.version))


def _encoded(encode: Callable[[], list[int]]) -> list[int] | None:
    try:
        return encode()
    except RequestError:
        return None


def _file() -> Any:
    return files("mistral_local.inspect") / "golden.json"


def _write(names: list[str]) -> None:
    known = {}
    for name in names:
        tokenizer = Tokenizer(Path(name))
        known[fingerprint(tokenizer)] = {sample: digest_of(ids) for sample, ids in encode_corpus(tokenizer).items()}
    Path(str(_file())).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write(sys.argv[1:])
