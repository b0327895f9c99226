"""Samples laid end to end into sequences of one length."""

from collections.abc import Callable
from random import Random

from scripts.demo_data.encoding import Encoder
from scripts.demo_data.mixture import Progress, draw_sample
from scripts.demo_data.samples import Sample

Accept = Callable[[Sample], bool]


def pack(
    rng: Random, encoder: Encoder, progress: Progress, *, length: int, accept: Accept
) -> tuple[list[int], list[bool]]:
    """Return `length` token ids and their supervision mask; the last sample is cut, one too long to fit is redrawn."""
    ids: list[int] = []
    mask: list[bool] = []
    while len(ids) < length:
        sample = draw_sample(rng, progress)
        if not accept(sample):
            continue
        new_ids, new_mask = encoder.encode(sample)
        if len(new_ids) > length:
            continue
        ids += new_ids
        mask += new_mask
    return ids[:length], mask[:length]
