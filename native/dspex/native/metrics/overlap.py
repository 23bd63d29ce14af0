"""The metrics of DSPy: normalised texts that are equal or have words in common."""

from __future__ import annotations

from collections import Counter
from itertools import repeat
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dspex.native.metrics.normalising import (
    Remembered,
    normalize_text,
    passage_words,
    split_words,
)
from dspex.native.metrics.scoring import Budget, misfit, text_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.metrics.scoring import Explain, NoParameters, Score

Overlap = tuple[float, float, float]
"""F1, precision and recall."""


class AnswerMatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``answer_exact_match``.

    Attributes:
        frac: From which F1 on it counts as a match; 1 and above: only if equal.
    """

    frac: float = 1.0


def exact_match(prediction: Any, answers: Any) -> float:
    """Score 1 if the normalised texts are equal, for any of the answers."""
    normal = normalize_text(text_of(prediction))
    if type(answers) is str:
        return 1.0 if _NORMAL[answers] == normal else 0.0
    # A list of what is equal to it is as fast as a loop in Python gets.
    return 1.0 if normal in [_NORMAL[answer] for answer in texts_of(answers)] else 0.0


def hotpot_f1(prediction: Any, answers: Any) -> float:
    """Score F1, but 0 where one is a yes, a no or a ``noanswer`` and the other not."""
    words = _words(text_of(prediction))
    if type(answers) is str:
        return _hotpot(words, _GOLD[answers])
    return max([_hotpot(words, _GOLD[answer]) for answer in texts_of(answers)])


def overlap(score: int) -> Score:
    """Make what scores F1, precision or recall of words, of the best answer.

    Args:
        score: Which of an `Overlap` is the score.
    """

    def scored(prediction: Any, answers: Any) -> float:
        words = _words(text_of(prediction))
        if type(answers) is str:
            return _overlap(words, _GOLD[answers])[score]
        found = [_overlap(words, _GOLD[answer])[score] for answer in texts_of(answers)]
        return max(found)

    return scored


f1, precision, recall = map(overlap, range(3))


def explained(score: int) -> Callable[[NoParameters], Explain]:
    """Make what also says precision and recall of the answer that counts.

    Args:
        score: Which of an `Overlap` is the score.
    """

    def explain(prediction: Any, answers: Any) -> tuple[float, dict[str, Any]]:
        words = _words(text_of(prediction))
        found = [_overlap(words, _GOLD[answer]) for answer in texts_of(answers)]
        best = max(found, key=lambda one: one[score])
        said = {"f1": best[0], "precision": best[1], "recall": best[2]}
        return best[score], said

    return lambda _: explain


def answer_exact_match(parameters: AnswerMatch) -> Score:
    """Make what scores 1 for an exact match, or for an F1 that is high enough."""
    frac = parameters.frac
    if frac >= 1.0:
        return exact_match
    return lambda prediction, answers: float(f1(prediction, answers) >= frac)


def answer_passage_match(_: NoParameters) -> Score:
    """Make what scores 1 if any passage has any answer in it, token by token."""
    budget = Budget()

    def score(prediction: Any, answers: Any) -> float:
        wanted = [_PASSAGE[answer] for answer in texts_of(answers)]
        for passage in _passages(prediction):
            tokens = f" {passage_words(passage)} "
            budget.search(tokens, len(wanted))
            # An answer without tokens is in every passage.
            if any(not answer or f" {answer} " in tokens for answer in wanted):
                return 1.0
        return 0.0

    return score


def _passages(prediction: Any) -> list[str]:
    found = [prediction] if type(prediction) is str else prediction
    if type(found) is list and all(type(passage) is str for passage in found):
        return found
    raise misfit("prediction", prediction, "a passage or a list of passages")


_VERDICTS = frozenset(("yes", "no", "noanswer"))
# From here on counting all words at once is faster than looking for a few.
_MANY = 16


_Words = tuple[list[str] | Counter[str], int]
# Words with articles, counted where they are many, and how many there are without.


def _words(prediction: str) -> _Words:
    words = split_words(prediction)
    if len(words) <= _MANY:
        times = words.count
        return words, len(words) - times("a") - times("an") - times("the")
    counts = Counter(words)
    return counts, len(words) - counts["a"] - counts["an"] - counts["the"]


class _Gold:
    """The words of an answer.

    Attributes:
        single: The words that are there once, without articles.
        repeated: The others.
        times: How often each of those is there.
        count: How many words there are.
        is_verdict: Whether it is a yes, a no or a ``noanswer``.
    """

    __slots__ = ("count", "is_verdict", "repeated", "single", "times")

    def __init__(self, answer: str) -> None:
        found = normalize_text(answer).split()
        counts = Counter(found)
        self.single = frozenset(word for word, times in counts.items() if times == 1)
        self.repeated = tuple(word for word, times in counts.items() if times > 1)
        self.times = tuple(map(counts.__getitem__, self.repeated))
        self.count = len(found)
        self.is_verdict = self.count == 1 and found[0] in _VERDICTS


# How many characters of answers are kept ready: about 50 MB of them at the worst.
_CHARACTERS = 500_000
_NORMAL = Remembered(normalize_text, _CHARACTERS)
_GOLD = Remembered(_Gold, _CHARACTERS)
_PASSAGE = Remembered(passage_words, _CHARACTERS)

_NOTHING = (0.0, 0.0, 0.0)


def _overlap(words: _Words, gold: _Gold) -> Overlap:
    found, count = words
    if isinstance(found, list):
        same = len(gold.single.intersection(found))
        if gold.repeated:
            same += sum(map(min, map(found.count, gold.repeated), gold.times))
    else:
        # In this order it takes as long as the answer is, not the prediction.
        same = len(found.keys() & gold.single)
        if gold.repeated:
            times = map(found.get, gold.repeated, repeat(0))
            same += sum(map(min, times, gold.times))
    if not same:
        return _NOTHING
    precision = same / count
    recall = same / gold.count
    return (2 * precision * recall) / (precision + recall), precision, recall


def _hotpot(words: _Words, gold: _Gold) -> float:
    score = _overlap(words, gold)[0]
    found, count = words
    if gold.is_verdict or (count == 1 and not _VERDICTS.isdisjoint(found)):
        # Only equal texts have an F1 of 1 where one of them is a single word.
        return score if score == 1.0 else 0.0
    return score
