"""Logits whose vocabulary is divided among ranks.

Every function is called by all ranks of a group, each with its part [S, its tokens] of the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from mistral_local.parallel.group import Group
from mistral_local.parallel.place import share


@dataclass(frozen=True, slots=True)
class VocabularyShard:
    """The tokens of one rank."""

    group: Group
    vocab_size: int

    @property
    def tokens(self) -> range:
        """Their ids."""
        return share(self.vocab_size, self.group.size, self.group.rank)

    def all_gather(self, logits: Tensor) -> Tensor:
        """[S, its tokens] -> [S, vocab] on every rank."""
        return self._whole(self.group.all_gather(self._padded(logits)))

    def gather(self, logits: Tensor) -> Tensor | None:
        """[S, its tokens] -> [S, vocab] on the first rank, None on the others."""
        parts = self.group.gather(self._padded(logits))
        return None if parts is None else self._whole(parts)

    def argmax(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The largest logit [S] fp32 and its token [S] int64, the first of equal ones; the same on every rank."""
        best, index = logits.max(dim=-1)
        # A token id is exact in fp32 up to 2^24, four times the largest vocabulary that is accepted.
        both = torch.stack((best, (index + self.tokens.start).to(best.dtype)))
        gathered = torch.stack(self.group.all_gather(both))  # [ranks, 2, S]
        # max() lets NaN win, as it does in a whole row.
        winner = gathered[:, 0].max(dim=0).indices
        best, token = gathered[winner, :, torch.arange(len(winner), device=winner.device)].unbind(1)
        return best, token.to(torch.int64)

    def logprobs(self, logits: Tensor, token_ids: Tensor) -> Tensor:
        """[S] fp32 log-probabilities of the ids [S]; the same on every rank."""
        local = token_ids - self.tokens.start
        is_here = (local >= 0) & (local < len(self.tokens))
        chosen = logits.gather(1, local.clamp(0, len(self.tokens) - 1)[:, None])[:, 0]
        both = torch.stack((logits.logsumexp(dim=-1), chosen.masked_fill(~is_here, -torch.inf)))
        normaliser, own = torch.stack(self.group.all_gather(both)).unbind(1)
        return own.amax(0) - normaliser.logsumexp(0)

    def _padded(self, logits: Tensor) -> Tensor:
        """All parts must be of one shape; the last ones may have one token less."""
        return pad(logits, (0, -(-self.vocab_size // self.group.size) - logits.shape[1]))

    def _whole(self, parts: list[Tensor]) -> Tensor:
        sizes = [len(share(self.vocab_size, self.group.size, rank)) for rank in range(self.group.size)]
        return torch.cat([part[:, :size] for part, size in zip(parts, sizes, strict=True)], dim=1)
