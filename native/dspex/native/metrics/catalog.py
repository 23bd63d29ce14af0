"""Metrics by name; the table is at the foot, docs/metrics.md is written from it."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts.encoding import read
from dspex.contracts.failures import BadRequest, nearest
from dspex.contracts.native_requests import ScoredBatch, ScoredMetric
from dspex.native.metrics import classifying, comparing, ngrams, overlap
from dspex.native.metrics.scoring import Metric

if TYPE_CHECKING:
    from dspex.contracts.native_requests import ScoreBatch, ScoreMetric


def score_metric(body: ScoreMetric) -> ScoredMetric:
    """Score one prediction.

    Raises:
        BadRequest: The metric or a parameter is unknown, or the metric does not take
            such a prediction or such answers.
    """
    metric, parameters = _made(body.metric, body.parameters)
    if metric.explain is not None:
        score, details = metric.explain(parameters)(body.prediction, body.answers)
        return ScoredMetric(score=score, details=details)
    return ScoredMetric(score=metric.make(parameters)(body.prediction, body.answers))


def check_known(name: str, parameters: dict[str, Any]) -> None:
    """Refuse a metric that there is not.

    Raises:
        BadRequest: It, or one of its parameters, is unknown.
    """
    _made(name, parameters)


def score_batch(body: ScoreBatch) -> ScoredBatch:
    """Score many predictions, each against its own answers.

    Raises:
        BadRequest: As for one; the failure's ``field`` says which example it is.
            Or there are not as many answers as predictions.
    """
    predictions, answers = body.predictions, body.answers
    if len(predictions) != len(answers):
        raise BadRequest(
            f"There are {len(predictions)} predictions and {len(answers)} answers; "
            "there must be as many.",
            field="answers",
            hint="Send a value or a list of alternatives for each prediction.",
        )
    metric, parameters = _made(body.metric, body.parameters)
    score = metric.make(parameters)
    scores: list[float] = []
    try:
        for prediction, some in zip(predictions, answers, strict=True):
            scores.append(score(prediction, some))
    except BadRequest as failure:
        raise _at(failure, len(scores)) from None
    details: dict[str, Any] = {}
    if metric.summarise is not None:
        details = metric.summarise(parameters)(predictions, answers)
    mean = math.fsum(scores) / len(scores) if scores else 0.0
    return ScoredBatch(scores=scores, mean=mean, details=details)


def _unknown(name: str) -> BadRequest:
    return BadRequest(
        f"There is no metric {name[:80]!r}. {nearest(name, METRICS)}",
        field="metric",
        hint="Use one of the allowed names.",
    )


def _made(name: str, given: dict[str, Any]) -> tuple[Metric, msgspec.Struct]:
    """Find a metric, and make its parameters of what was given."""
    if not given and name in _DEFAULTS:
        return _DEFAULTS[name]
    metric = METRICS.get(name)
    if metric is None:
        raise _unknown(name)
    found: msgspec.Struct = read({"parameters": given}, _wrapped(metric)).parameters
    return metric, found


@cache
def _wrapped(metric: Metric) -> Any:
    # So that a failure's path begins as in the request.
    return msgspec.defstruct("Parameters", [("parameters", metric.parameters)])


_SIDES = {"prediction": "predictions", "answers": "answers"}


def _at(failure: BadRequest, index: int) -> BadRequest:
    side = _SIDES.get(failure.field or "", "predictions")
    return BadRequest(failure.message, hint=failure.hint, field=f"{side}[{index}]")


_DSPY = "DSPy 3.4.1, `dspy.evaluate.metrics`"
_TEXT = "a text"
_TEXTS = "a text or a list of texts"
_OVERLAP = "`f1`, `precision` and `recall`, of the answer that counts."

_ALL = (
    Metric(
        name="exact_match",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="1 if the normalised texts are equal, for any of the answers; else 0.",
        source=f"`EM`, {_DSPY}",
        make=lambda _: overlap.exact_match,
    ),
    Metric(
        name="f1",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="The harmonic mean of precision and recall of normalised words, for the "
        "best answer; 0 if there are none.",
        source=f"`F1`, {_DSPY}",
        make=lambda _: overlap.f1,
        explain=overlap.explained(0),
        details=_OVERLAP,
    ),
    Metric(
        name="hotpot_f1",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="As `f1`, but 0 where prediction or answer is `yes`, `no` or "
        "`noanswer` and the other is not the same.",
        source=f"`HotPotF1`, {_DSPY}",
        make=lambda _: overlap.hotpot_f1,
    ),
    Metric(
        name="precision",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="The share of the prediction's normalised words that the answer has.",
        source=f"`precision_score`, {_DSPY}",
        make=lambda _: overlap.precision,
        explain=overlap.explained(1),
        details=_OVERLAP,
    ),
    Metric(
        name="recall",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="The share of the answer's normalised words that the prediction has.",
        source=f"The recall inside `f1_score`, {_DSPY}",
        make=lambda _: overlap.recall,
        explain=overlap.explained(2),
        details=_OVERLAP,
    ),
    Metric(
        name="answer_exact_match",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="1 for an exact match or, with `frac` below 1, an F1 of at least that.",
        source=f"`answer_exact_match`, {_DSPY}",
        make=overlap.answer_exact_match,
        parameters=overlap.AnswerMatch,
    ),
    Metric(
        name="answer_passage_match",
        takes=f"a passage or a list of passages; {_TEXTS}",
        gives="1 if any passage has the tokens of any answer, one after another; "
        "characters that Python's Unicode does not know yet are no tokens.",
        source=f"`answer_passage_match` and the tokeniser of DPR, {_DSPY}",
        make=overlap.answer_passage_match,
    ),
    Metric(
        name="rouge_l",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="F1 of the longest common subsequence of words, for the best answer. "
        "Only Latin letters and digits make words, and none is stemmed.",
        source="Lin 2004; `rougeL` of rouge-score 0.1.2, without its stemmer",
        make=ngrams.rouge_l,
        explain=ngrams.explain_rouge_l,
        details="`precision` and `recall`, of the answer that counts.",
    ),
    Metric(
        name="bleu",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="BLEU of one text, 0 to 1: n-grams up to 4, tokeniser 13a, exponential "
        "smoothing, orders the text is too short for left out.",
        source="Papineni et al. 2002; `sentence_bleu` and `corpus_bleu` of "
        "sacrebleu 2.6.0, divided by 100",
        make=ngrams.bleu,
        parameters=ngrams.Bleu,
        summarise=ngrams.corpus_bleu,
        summary="`corpus_bleu`, of all texts as one.",
    ),
    Metric(
        name="edit_similarity",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="1 minus the fewest characters to insert, delete or replace, over the "
        "length of the longer text; for the best answer.",
        source="Levenshtein 1966; `Levenshtein.normalized_similarity` of rapidfuzz",
        make=comparing.edit_similarity,
        parameters=comparing.EditSimilarity,
    ),
    Metric(
        name="contains",
        takes=f"{_TEXT}; {_TEXTS}",
        gives="1 if any answer is in the prediction.",
        source="DSPex",
        make=comparing.contains,
        parameters=comparing.Contains,
    ),
    Metric(
        name="numeric",
        takes="a number or a text with one; a number, a text that is one, or a list "
        "of them",
        gives="1 if the number is within `absolute` or `relative` of any answer, "
        "whichever is more; 0 if not, or if the text has no number.",
        source="DSPex; as Python's `math.isclose`, but relative to the answer",
        make=comparing.numeric,
        parameters=comparing.Numeric,
    ),
    Metric(
        name="json_match",
        takes="any value, or a text of JSON; the same, or a list of them",
        gives="The share of the answer's fields that the prediction has with an equal "
        "value, for the best answer: 3 equals 3.0, true does not equal 1. Values that "
        "are no objects are equal or not.",
        source="DSPex",
        make=comparing.json_match,
        parameters=comparing.JsonMatch,
        explain=comparing.explain_json_match,
        details="`fields`: for each field whether it is right; the field of a value "
        "that is no object is the empty text.",
    ),
    Metric(
        name="accuracy",
        takes=f"{classifying.LABEL}; a label or a list of them",
        gives="1 if the label is one of the answers; in a batch, the mean is the "
        "accuracy.",
        source="DSPex",
        make=classifying.accuracy,
        parameters=classifying.Labels,
    ),
    Metric(
        name="classification_report",
        takes=f"{classifying.LABEL}; one label",
        gives="1 if the label is right.",
        source="`classification_report` of scikit-learn, `zero_division=0`",
        make=classifying.classification,
        parameters=classifying.Labels,
        summarise=classifying.report,
        summary="`accuracy`; `classes`, each with `label`, `precision`, `recall`, "
        "`f1` and `support`; their averages `macro`, `micro` and `weighted`.",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric, by its name."""

# So that a request without parameters need not make them.
_DEFAULTS: dict[str, tuple[Metric, msgspec.Struct]] = {
    metric.name: (metric, metric.parameters()) for metric in _ALL
}
