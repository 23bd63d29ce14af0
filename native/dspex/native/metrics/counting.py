"""The words that two texts have in common, in Python; `_text.c` does the same."""

from __future__ import annotations

from collections import Counter
from itertools import repeat

from dspex.native.metrics.normalising import split_words

Overlap = tuple[float, float, float]
"""F1, precision and recall."""

Counted = tuple[list[str] | Counter[str], int]
"""Words with articles, counted where they are many, and how many are no articles."""

VERDICTS = frozenset(("yes", "no", "noanswer"))
"""The answers to which none comes close."""


def words_of(prediction: str) -> Counted:
    """Return the words of a prediction, which was not normalised."""
    words = split_words(prediction)
    if len(words) <= _MANY:
        times = words.count
        return words, len(words) - times("a") - times("an") - times("the")
    counts = Counter(words)
    return counts, len(words) - counts["a"] - counts["an"] - counts["the"]


def is_verdict(words: Counted) -> bool:
    """Say whether the only word of a text is a verdict."""
    found, count = words
    return count == 1 and not VERDICTS.isdisjoint(found)


class Words:
    """The words of an answer.

    Args:
        normal: The answer, normalised.
    """

    __slots__ = ("_count", "_repeated", "_single", "_times")

    def __init__(self, normal: str) -> None:
        found = normal.split(" ") if normal else []
        counts = Counter(found)
        self._single = frozenset(word for word, times in counts.items() if times == 1)
        self._repeated = tuple(word for word, times in counts.items() if times > 1)
        self._times = tuple(map(counts.__getitem__, self._repeated))
        self._count = len(found)

    def overlap(self, words: Counted) -> Overlap:
        """Return F1, precision and recall of the words of a prediction."""
        found, count = words
        if isinstance(found, list):
            same = len(self._single.intersection(found))
            if self._repeated:
                same += sum(map(min, map(found.count, self._repeated), self._times))
        else:
            # In this order it takes as long as the answer is, not the prediction.
            same = len(found.keys() & self._single)
            if self._repeated:
                times = map(found.get, self._repeated, repeat(0))
                same += sum(map(min, times, self._times))
        if not same:
            return _NOTHING
        precision = same / count
        recall = same / self._count
        return (2 * precision * recall) / (precision + recall), precision, recall


# From here on counting all words at once is faster than looking for a few.
_MANY = 16

_NOTHING = (0.0, 0.0, 0.0)
