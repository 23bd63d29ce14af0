"""Texts held against references by the order of their words: ROUGE-L and BLEU."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from rapidfuzz.distance import LCSseq

from dspex.native.metrics.scoring import Budget, text_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.native.metrics.scoring import Explain, NoParameters, Score, Summarise


class Bleu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``bleu``.

    Attributes:
        lowercase: Whether capitals do not count.
    """

    lowercase: bool = False


def rouge_l(_: NoParameters) -> Score:
    """Make what scores the longest common subsequence of words."""
    explain = explain_rouge_l(_)
    return lambda prediction, answers: explain(prediction, answers)[0]


def explain_rouge_l(_: NoParameters) -> Explain:
    """Make what also says precision and recall of the answer that counts."""
    budget = Budget()

    def explain(prediction: Any, answers: Any) -> tuple[float, dict[str, Any]]:
        words = _LATIN.findall(text_of(prediction).lower())
        best = max(
            _rouge(words, _LATIN.findall(answer.lower()), budget)
            for answer in texts_of(answers)
        )
        return best[0], {"precision": best[1], "recall": best[2]}

    return explain


def bleu(parameters: Bleu) -> Score:
    """Make what scores one text, orders without n-grams left out."""

    def score(prediction: Any, answers: Any) -> float:
        counted = _counted(text_of(prediction), texts_of(answers), parameters)
        return _bleu(counted, effective=True)

    return score


def corpus_bleu(parameters: Bleu) -> Summarise:
    """Make what says the BLEU of all texts as one."""

    def summarise(predictions: Sequence[Any], answers: Sequence[Any]) -> dict[str, Any]:
        total = [0] * (2 + 2 * _ORDER)
        for prediction, some in zip(predictions, answers, strict=True):
            counted = _counted(prediction, texts_of(some), parameters)
            total = [one + other for one, other in zip(total, counted, strict=True)]
        return {"corpus_bleu": _bleu(total, effective=False)}

    return summarise


_LATIN = re.compile("[a-z0-9]+")


def _rouge(
    words: list[str], wanted: list[str], budget: Budget
) -> tuple[float, float, float]:
    if not words or not wanted:
        return 0.0, 0.0, 0.0
    budget.spend(len(words), len(wanted))
    common = LCSseq.similarity(words, wanted)
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(words), common / len(wanted)
    return 2 * precision * recall / (precision + recall), precision, recall


_ORDER = 4
_NAMED = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
# The tokeniser 13a of the Workshop on Machine Translation, as sacrebleu has it.
_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def _tokens(text: str, parameters: Bleu) -> list[str]:
    if parameters.lowercase:
        text = text.lower()
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for name, character in _NAMED.items():
        text = text.replace(name, character)
    text = f" {text} "
    for pattern, spaced in _SPLITS:
        text = pattern.sub(spaced, text)
    return text.split()


def _ngrams(tokens: list[str]) -> Counter[tuple[str, ...]]:
    # Tokens beside themselves, shifted by one, two and three.
    shifted = [tokens[start:] for start in range(_ORDER)]
    return Counter(chain.from_iterable(zip(*shifted[:n]) for n in _ORDERS))  # noqa: B905 - the shortest ends them all


_ORDERS = range(1, _ORDER + 1)


def _counted(text: str, answers: list[str], parameters: Bleu) -> list[int]:
    """Return the two lengths, n-grams that are right and all, of orders 1 to 4."""
    tokens = _tokens(text, parameters)
    allowed: dict[tuple[str, ...], int] = {}
    lengths = []
    for answer in answers:
        wanted = _tokens(answer, parameters)
        lengths.append(len(wanted))
        for ngram, times in _ngrams(wanted).items():
            allowed[ngram] = max(times, allowed.get(ngram, 0))
    length = len(tokens)
    closest = min(lengths, key=lambda one: (abs(one - length), one))
    right = [0] * _ORDER
    for ngram, times in _ngrams(tokens).items():
        right[len(ngram) - 1] += min(times, allowed.get(ngram, 0))
    total = [max(0, length - n + 1) for n in _ORDERS]
    return [length, closest, *right, *total]


def _bleu(counted: list[int], *, effective: bool) -> float:
    """Return BLEU, 0 to 1, with the exponential smoothing of mteval-v13a.

    Args:
        counted: Sums of what `_counted` returns.
        effective: Whether to leave out orders that the text is too short for.
    """
    length, closest, *ngrams = counted
    right, total = ngrams[:_ORDER], ngrams[_ORDER:]
    if not any(right):
        return 0.0
    orders = sum(map(bool, total))
    if orders < _ORDER and not effective:
        return 0.0
    logs, smoothing = 0.0, 1.0
    for good, of in zip(right[:orders], total[:orders], strict=True):
        if not good:
            smoothing *= 2
        logs += math.log((good or 1 / smoothing) / of)
    brevity = min(0.0, 1 - closest / length)
    return min(1.0, math.exp(brevity + logs / orders))
