"""How much faster the native metrics are than those of DSPy."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from tests.bench.results import Bar, Findings, Result, number

from dspex.contracts.native_requests import ScoreBatch, ScoreMetric
from dspex.native.metrics.catalog import score_batch, score_metric
from dspex.native.metrics.texts import COMPILED, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.rig import Rig

ROUNDS = 15
WORDS = 4000
"""Words of the predictions of one round, together."""
LENGTHS = {"short": (1, 8), "medium": (20, 60), "long": (200, 400)}
"""Words of a text, from and to."""


class Case(Struct, frozen=True):
    """What is scored in one round.

    Attributes:
        predictions: The texts.
        answers: For each of them a list of answers.
    """

    predictions: list[Any]
    answers: list[list[str]]


_BUILD = (
    "with the compiled text functions"
    if TEXTS is COMPILED
    else "in pure Python, without the compiled text functions"
)
_HEADINGS = (
    f"metric ({TEXTS.name})",
    "texts",
    "batch",
    "two answers",
    "one by one",
    "non-ASCII",
)


async def native_metrics(_: Rig | None) -> Findings:
    """Each metric of DSPy, against DSPy's own."""
    results: list[Result] = []
    details: list[tuple[str, ...]] = [_HEADINGS]
    for name, theirs in _theirs().items():
        for length in LENGTHS:
            plain, two = _case(name, length), _case(name, length, answers=2)
            other = _case(name, length, letters="\u2019é")
            many = _ratios(name, theirs, plain, _by_batch)
            more = (
                _ratios(name, theirs, two, _by_batch),
                _ratios(name, theirs, plain, _one_by_one),
                _ratios(name, theirs, other, _by_batch),
            )
            results.append(_result(f"metric_{name}_{length}", length, many))
            figures = [f"{number(statistics.median(one))} x" for one in (many, *more)]
            details.append((name, length, *figures))
    return Findings(
        results=results,
        note=f"How many times faster than DSPy each of its metrics is, {_BUILD}.",
        details=details,
    )


def _result(name: str, length: str, ratios: Sequence[float]) -> Result:
    low, high = LENGTHS[length]
    return Result(
        name=name,
        value=statistics.median(ratios),
        unit="x",
        bar=Bar(10.0, at_least=True),
        spread=(min(ratios), max(ratios)),
        how=f"CPU time of DSPy's function over that of `metric.batch`, in turns, "
        f"{ROUNDS} rounds; texts of {low} to {high} words, each with one answer, "
        f"which the native side has seen before; {_BUILD}.",
    )


def _ratios(
    name: str,
    theirs: Callable[[Any, list[str]], object],
    case: Case,
    ours: Callable[[str, Case], Callable[[], object]],
) -> list[float]:
    run = ours(name, case)
    pairs = list(zip(case.predictions, case.answers, strict=True))

    def reference() -> object:
        return [theirs(prediction, answers) for prediction, answers in pairs]

    rounds = [(_seconds(reference), _seconds(run)) for _ in range(ROUNDS + 1)][1:]
    return [one / other for one, other in rounds]


def _seconds(run: Callable[[], object]) -> float:
    # Of the processor: what else the machine does is no concern of either.
    begun = time.process_time_ns()
    run()
    return (time.process_time_ns() - begun) / 1e9


def _by_batch(name: str, case: Case) -> Callable[[], object]:
    body = ScoreBatch(metric=name, predictions=case.predictions, answers=case.answers)
    return lambda: score_batch(body)


def _one_by_one(name: str, case: Case) -> Callable[[], object]:
    bodies = [
        ScoreMetric(metric=name, prediction=prediction, answers=answers)
        for prediction, answers in zip(case.predictions, case.answers, strict=True)
    ]
    return lambda: [score_metric(body) for body in bodies]


def _case(name: str, length: str, answers: int = 1, letters: str = "") -> Case:
    """Make texts whose words are as frequent as those of a language."""
    source = random.Random(1)
    words = ["the", "of", "and", "a", "in", "to", "is"] + [
        "".join(source.choices("abcdefghijklmnop" + letters, k=source.randint(3, 10)))
        for _ in range(3000)
    ]
    weights = [1 / rank for rank in range(1, len(words) + 1)]

    def text() -> str:
        found = source.choices(words, weights, k=source.randint(*LENGTHS[length]))
        # Of two texts without a word DSPy prints that it is a rare case.
        return " ".join([*found, words[-1]]).capitalize() + "."

    low, high = LENGTHS[length]
    count = max(1, 2 * WORDS // (low + high))
    predictions: list[Any] = [text() for _ in range(count)]
    # Every other prediction is right.
    wanted = [
        [*(text() for _ in range(answers - 1)), one if n % 2 else text()]
        for n, one in enumerate(predictions)
    ]
    if name == "answer_passage_match":
        predictions = [[one, text()] for one in predictions]
    return Case(predictions, wanted)


def _theirs() -> dict[str, Callable[[Any, list[str]], object]]:
    import dspy
    from dspy.evaluate import answer_exact_match, answer_passage_match, metrics

    return {
        "exact_match": metrics.EM,
        "f1": metrics.F1,
        "hotpot_f1": metrics.HotPotF1,
        "precision": lambda text, answers: max(
            metrics.precision_score(text, answer) for answer in answers
        ),
        "answer_exact_match": lambda text, answers: answer_exact_match(
            dspy.Example(answer=answers), dspy.Prediction(answer=text)
        ),
        "answer_passage_match": lambda passages, answers: answer_passage_match(
            dspy.Example(answer=answers), dspy.Prediction(context=passages)
        ),
    }
