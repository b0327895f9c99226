"""A model that judges as a test wants it."""

from typing import Any

from torch import Tensor

from mistral_local.attention.batch import Batch
from mistral_local.tasks.moderation import CATEGORIES, Labels
from mistral_local.tokenizer.tokenizer import Tokenizer


class Planted:
    """Sets the logits of a model that is asked to judge, question by question.

    Attributes:
        steps: the categories that were asked for in each step; None for anything else.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, logits_by_key: dict[str, dict[int, float]]) -> None:
        self.steps: list[list[str | None]] = []
        self._tokenizer = tokenizer
        self._hidden, self._logits = model.hidden, model.logits
        model.hidden, model.logits = self.hidden, self.logits
        self._version, model.weights_version = model.weights_version(), lambda: self._version
        self.plant(logits_by_key)

    def plant(self, logits_by_key: dict[str, dict[int, float]]) -> None:
        """Judge in another way.

        Args:
            logits_by_key: for each category the logits of the tokens that are not to be left at 7.
        """
        self._planted = logits_by_key
        self._version += 1  # so that no question is in the cache, and its end is seen

    def hidden(self, batch: Batch, cache: Any) -> Tensor:
        ids = batch.input_ids.tolist()
        spans = [ids[span.query_start : span.query_start + span.query_len] for span in batch.attention[0].spans]
        self.steps.append([self._key(self._tokenizer.decode(span)) for span in spans])
        return self._hidden(batch, cache)

    def logits(self, hidden: Tensor) -> Tensor:
        logits = self._logits(hidden)
        for row, key in zip(logits, self.steps[-1], strict=True):
            if key is not None:
                row[:] = 7.0  # what is likelier than any label is not chosen
                for token, value in self._planted[key].items():
                    row[token] = value
        return logits

    def _key(self, text: str) -> str | None:
        keys = [key for key, question in CATEGORIES.items() if question[-20:] in text]
        return keys[0] if keys else None


def all_no(labels: Labels) -> dict[str, dict[int, float]]:
    """Nothing is found in any text."""
    low = dict.fromkeys(labels.yes, -9.0) | dict.fromkeys(labels.no, 0.0)
    return dict.fromkeys(CATEGORIES, low)


def one_yes(labels: Labels, key: str, margin: float = 9.0) -> dict[str, dict[int, float]]:
    """One category is found in every text.

    Args:
        margin: by how much each token of yes is above each of no.
    """
    high = dict.fromkeys(labels.yes, margin) | dict.fromkeys(labels.no, 0.0)
    return all_no(labels) | {key: high}
