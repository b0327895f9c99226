"""Check a checkpoint folder as a whole: weights, tokenizer, and that they belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mistral_local.args import TransformerArgs
from mistral_local.errors import CheckpointError
from mistral_local.inspect.corpus import TEXTS, digest_of, encode_corpus, golden_digests
from mistral_local.model.transformer import Transformer
from mistral_local.tokenizer.find import find_tokenizer
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.weights.checkpoint import Checkpoint, open_checkpoint
from mistral_local.weights.compare import check_tensors
from mistral_local.weights.rounding import as_stored

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes:
        check: what was looked at.
        is_good: whether it is as it should be.
        detail: what there is, or what is wrong.
    """

    check: str
    is_good: bool
    detail: str


def verify(folder: Path, *, progress: Progress | None = None) -> Iterator[Finding]:
    """Check a folder; every tensor is read once, none is kept.

    Args:
        progress: called with (tensors read, tensors in all).

    Yields:
        A finding per check, as soon as it is known; a check that cannot be made is left out.
    """
    args = None
    try:
        args = TransformerArgs.from_folder(folder)
        yield Finding("params", True, f"{args.n_layers} layers, dim {args.dim}, vocab_size {args.vocab_size}")
    except CheckpointError as error:
        yield Finding("params", False, str(error))
    if args is not None:
        yield from _check_weights(folder, args, progress)
    yield from _check_tokenizer(folder, args)


def _check_weights(folder: Path, args: TransformerArgs, progress: Progress | None) -> Iterator[Finding]:
    try:
        with torch.device("meta"):
            model = Transformer(args)
        with open_checkpoint(folder, args) as checkpoint:
            check_tensors(checkpoint, as_stored(model.weight_slots(), checkpoint.tensors))
            dtype = str(checkpoint.stored_dtype).removeprefix("torch.")
            size = (
                f"{checkpoint.nbytes / 1e9:.2f} GB" if checkpoint.nbytes >= 1e8 else f"{checkpoint.nbytes / 1e6:.1f} MB"
            )
            yield Finding("tensors", True, f"{len(checkpoint.tensors)} of {dtype}, {size}; names and shapes fit params")
            yield _check_values(checkpoint, progress)
    except CheckpointError as error:
        yield Finding("tensors", False, str(error))


def _check_values(checkpoint: Checkpoint, progress: Progress | None) -> Finding:
    """Look for numbers that are not finite, and for matrices of zeros."""
    bad: list[str] = []
    for done, name in enumerate(checkpoint.tensors, start=1):
        tensor = checkpoint.read(name)
        if tensor.dtype == torch.float8_e4m3fn:
            tensor = tensor.float()  # torch cannot say more of these
        if not bool(torch.isfinite(tensor).all()):
            bad.append(f"{name} holds numbers that are not finite")
        elif tensor.ndim > 1 and not bool(tensor.any()):
            bad.append(f"{name} is all zeros")
        if progress is not None:
            progress(done, len(checkpoint.tensors))
    shown = "; ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    return Finding("values", not bad, shown or "all finite, no matrix of zeros")


def _check_tokenizer(folder: Path, args: TransformerArgs | None) -> Iterator[Finding]:
    try:
        choice = find_tokenizer(folder)
        tokenizer = Tokenizer(choice.file)
    except CheckpointError as error:
        yield Finding("tokenizer", False, str(error))
        return
    others = f", chosen over {', '.join(file.name for file in choice.others)}" if choice.others else ""
    yield Finding("tokenizer", True, f"{choice.file.name}, {tokenizer.version}{others}")
    if args is not None:
        agrees = tokenizer.vocab_size == args.vocab_size
        detail = f"{tokenizer.vocab_size} tokens, params says {args.vocab_size}"
        yield Finding("vocabulary", agrees, detail)
    yield _check_round_trip(tokenizer)
    yield _check_corpus(tokenizer)


def _check_round_trip(tokenizer: Tokenizer) -> Finding:
    """Texts must come back as they were, without control tokens."""
    bad = []
    for name, text in TEXTS.items():
        tokens = tokenizer.encode_text(text)[1:]
        if any(tokenizer.is_control(token) for token in tokens):
            bad.append(f"{name}: control tokens in a text")
        elif tokenizer.decode(tokens) != text:
            bad.append(f"{name}: {tokenizer.decode(tokens)!r}")
    return Finding("round trip", not bad, "; ".join(bad) or f"{len(TEXTS)} texts come back as they were")


def _check_corpus(tokenizer: Tokenizer) -> Finding:
    """Compare the encoding of the corpus with what is known of this tokenizer."""
    encoded = encode_corpus(tokenizer)
    golden = golden_digests(tokenizer)
    if golden is None:
        return Finding("golden corpus", True, "not one of the known tokenizers; nothing to compare with")
    different = [name for name, ids in encoded.items() if golden.get(name) != digest_of(ids)]
    if different:
        return Finding("golden corpus", False, f"other ids than mistral_common 1.13.1 gave: {', '.join(different)}")
    return Finding("golden corpus", True, f"{len(encoded)} samples encode as mistral_common 1.13.1 did")
