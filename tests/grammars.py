"""A toy vocabulary of bytes, and grammars over it."""

import functools

from mistral_local.sampling.grammar import GrammarCompiler, GrammarVocabulary
from mistral_local.tasks.constraints import Constraints
from mistral_local.tokenizer.tokenizer import Tokenizer

VOCAB = 320
EOS = 2
FIRST_BYTE = 3
WORDS = [b"true", b"false", b'{"', b'":', b"aa", b"ab", b" a", b"\xc3\xa9"]


def toy_tokens() -> list[bytes]:
    """Three control tokens, 256 bytes, some words, and ids without text."""
    tokens = [b"", b"", b"", *(bytes([byte]) for byte in range(256)), *WORDS]
    return tokens + [b""] * (VOCAB - len(tokens))


def encode(text: str) -> list[int]:
    return [FIRST_BYTE + byte for byte in text.encode()]


def decode(tokens: list[int]) -> str:
    return b"".join(map(toy_tokens().__getitem__, tokens)).decode()


def toy_vocabulary() -> GrammarVocabulary:
    return GrammarVocabulary(toy_tokens(), control_ids={0, 1, EOS}, bos_id=1, eos_id=EOS, encode=encode)


def toy_compiler() -> GrammarCompiler:
    return GrammarCompiler(toy_vocabulary())


@functools.cache
def constraints_of(tokenizer: Tokenizer) -> Constraints:
    """Those of a tokenizer, whose vocabulary is arranged once."""
    return Constraints(tokenizer)
