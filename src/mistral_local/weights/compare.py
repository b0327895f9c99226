"""Compare the tensors of a checkpoint with those a model wants, before any is read."""

from collections.abc import Sequence

import torch

from mistral_local.errors import WeightsError
from mistral_local.weights.checkpoint import Checkpoint
from mistral_local.weights.slots import Slot
from mistral_local.weights.stored import LOADABLE_DTYPES

MAX_NAMED = 5
TIED = "output.weight"
EMBEDDINGS = "tok_embeddings.weight"


def check_tensors(checkpoint: Checkpoint, slots: dict[str, Slot]) -> None:
    """Check names, shapes and dtypes of all tensors.

    A tied model takes its embeddings as output; an `output.weight` stored beside them must be equal to them.

    Raises:
        WeightsError: every problem in one line; of each kind at most five are named.
    """
    tensors = checkpoint.tensors
    missing = [name for name in slots if name not in tensors]
    extra = [name for name in tensors if name not in slots]
    if extra == [TIED] and EMBEDDINGS in slots and not missing:
        _check_tied_copy(checkpoint)
        extra = []
    both = [(tensors[name], slot) for name, slot in slots.items() if name in tensors]
    shapes = [f"{t.name} (expected {slot.shape}, found {t.shape})" for t, slot in both if t.shape != slot.shape]
    dtypes = [
        f"{t.name} ({t.stored.dtype_name})"
        for t, slot in both
        if t.dtype not in (LOADABLE_DTYPES if slot.dtype is None else (slot.dtype,))
    ]
    problems = [
        f"{kind} {_named(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", extra),
            ("wrong shape", shapes),
            ("a type that cannot be loaded", dtypes),
        )
        if names
    ]
    if problems:
        hint = '; does params.json lack "tied_embeddings": true?' if missing == [TIED] else ""
        raise WeightsError(f"{checkpoint.folder}: the tensors do not fit the model: {'; '.join(problems)}{hint}")


def _check_tied_copy(checkpoint: Checkpoint) -> None:
    output, embeddings = checkpoint.tensors[TIED], checkpoint.tensors[EMBEDDINGS]
    same = output.shape == embeddings.shape and output.dtype == embeddings.dtype and output.dtype in LOADABLE_DTYPES
    if not same or not torch.equal(checkpoint.read(TIED), checkpoint.read(EMBEDDINGS)):
        raise WeightsError(
            f"{checkpoint.folder}: {TIED} is stored and differs from {EMBEDDINGS}, though tied_embeddings is true"
        )


def _named(names: Sequence[str]) -> str:
    """Name at most five: "a, b, c, d, e and 3 more"."""
    shown = ", ".join(f"{name:.160}" for name in names[:MAX_NAMED])
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"
