"""How good an answer is: native metrics, and functions on subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import dspy

from dspex.contracts.failures import BadRequest, ToolFailed
from dspex.contracts.native_requests import ScoreMetric
from dspex.native.metrics.catalog import check_known, score_metric
from dspex.services.worker.calls import current, wire
from dspex.services.worker.composing import is_leaf
from dspex.services.worker.modules import leave
from dspex.services.worker.stoppable import in_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspex.contracts.program_metrics import Metric
    from dspex.native.programs.nodes import Node


class Scored(NamedTuple):
    """What a metric said of one answer.

    Attributes:
        score: How good it is.
        feedback: Why, if the metric says so.
    """

    score: float
    feedback: str | None = None


def check_metric(
    metric: Metric, node: Node, rows: Sequence[Mapping[str, Any]], path: str
) -> None:
    """Refuse a metric that could score nothing.

    Raises:
        BadRequest: It is neither native nor remote, or not known, or names an output
            that there is not, or no example says what is right.
    """
    if (metric.name is None) == (metric.subject is None):
        raise BadRequest(
            f"{path} needs either the name of a native metric or a subject.",
            field=path,
            hint='Send {"name": "exact_match"} or {"subject": …}.',
        )
    if metric.name is None:
        return
    try:
        check_known(metric.name, metric.parameters)
    except BadRequest as failure:
        inner = (failure.field or "").replace("metric", "name", 1)
        failure.field = f"{path}.{inner}"
        raise
    field = _field(metric, node, path)
    if not node.open and field not in node.gives:
        raise BadRequest(
            f"{path}.field: the program gives no {field[:80]!r}. "
            f"It gives: {', '.join(node.gives)}.",
            field=f"{path}.field",
            hint="Name an output of the program.",
        )
    answers = metric.answers or field
    if not any(answers in row for row in rows):
        raise BadRequest(
            f"{path}.answers: no example has a field {answers[:80]!r}.",
            field=f"{path}.answers",
            hint="Name the field of the examples that says what is right.",
        )


def _field(metric: Metric, node: Node, path: str = "metric") -> str:
    if metric.field is not None:
        return metric.field
    if not node.gives:
        raise BadRequest(
            f"{path}.field: it is not known here what the program gives.",
            field=f"{path}.field",
            hint="Name the output that is scored.",
        )
    return list(node.gives)[-1]


async def scored(
    metric: Metric,
    node: Node,
    example: Mapping[str, Any],
    outputs: Mapping[str, Any],
    predictor: str | None = None,
) -> Scored:
    """Score an answer.

    Args:
        metric: What scores it.
        node: The program that gave it.
        example: All that the example says, as on the wire.
        outputs: The answer, as on the wire.
        predictor: Of which predictor the feedback shall speak.

    Raises:
        ToolFailed: The function gave no score.
        BadRequest: The native metric does not take such values.
    """
    if metric.subject is not None:
        said = {"example": example, "outputs": outputs, "predictor": predictor}
        found = await current().function(
            "metric", metric.subject, said, metric.timeout_s
        )
        return _read(found, metric.subject)
    field = _field(metric, node)
    body = ScoreMetric(
        metric=metric.name or "",
        prediction=outputs.get(field),
        answers=example.get(metric.answers or field),
        parameters=metric.parameters,
    )
    return Scored(float(score_metric(body).score))


def metric_function(metric: Metric, node: Node) -> Callable[..., Any]:
    """What DSPy's optimizers call, from threads: its arguments suit all of them."""

    def score(
        example: Any,
        prediction: Any,
        trace: Any = None,
        pred_name: str | None = None,
        pred_trace: Any = None,
    ) -> Any:
        del trace, pred_trace
        outputs = leave(node, prediction) if is_leaf(node) else wire(prediction)
        found = in_loop(scored(metric, node, wire(example), outputs, pred_name))
        if found.feedback is None:
            return found.score
        return dspy.Prediction(score=found.score, feedback=found.feedback)

    return score


def _read(found: Any, subject: str) -> Scored:
    said = found if isinstance(found, dict) else {"score": found}
    score, feedback = said.get("score"), said.get("feedback")
    if isinstance(score, bool | int | float) and isinstance(feedback, str | None):
        return Scored(float(score), feedback)
    raise ToolFailed(f"{subject} answered {found!r:.80}, which is no score.")
