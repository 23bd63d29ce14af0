"""Running a program on examples: so many at a time, and what fails counts as 0."""

from __future__ import annotations

import functools
import math
import time
from typing import TYPE_CHECKING, Any

import dspy
import msgspec

from dspex.contracts.envelope import Status
from dspex.contracts.failures import BadRequest, InvalidInputs
from dspex.contracts.learning_requests import (
    Evaluated,
    ExampleFailure,
    ExampleResult,
)
from dspex.native.programs.planning import check_inputs
from dspex.services.worker.composing import run_node, together
from dspex.services.worker.failures import to_failure
from dspex.services.worker.scoring import check_metric, scored
from dspex.services.worker.stoppable import apart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspex.bus.events import Events
    from dspex.contracts.failures import Failure
    from dspex.contracts.learning_requests import Evaluate
    from dspex.contracts.program_metrics import Metric
    from dspex.native.programs.nodes import Node
    from dspex.services.worker.lms import LanguageModels

    Rows = Sequence[Mapping[str, Any]]

MAX_ERRORS = 10
"""Examples that may fail, where DSPy has no setting of that name."""

TOLD_EVERY = 0.5
"""Seconds from one word of progress to the next, at least."""


def input_names(
    node: Node, given: Sequence[str] | None, rows: Rows, path: str
) -> list[str]:
    """The fields of the examples that are inputs.

    Raises:
        BadRequest: They are not known.
        InvalidInputs: An example does not have what the program takes.
    """
    names = list(node.needs if given is None else given)
    if not names:
        raise BadRequest(
            "It is not known here what the program takes.",
            field="inputs",
            hint="Name the fields of the examples that are inputs.",
        )
    for index, row in enumerate(rows):
        try:
            check_inputs(node, inputs_of(row, names))
        except InvalidInputs as failure:
            where = (failure.field or "inputs").replace("inputs", f"{path}[{index}]", 1)
            raise InvalidInputs(
                f"{path}[{index}]: {failure.message}", field=where, hint=failure.hint
            ) from None
    return names


def inputs_of(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What the program gets of an example."""
    return {name: row[name] for name in names if name in row}


class Evaluation:
    """One run of a program on all examples.

    Args:
        asked: What was asked.
        node: The program.
        module: Its instance.
        events: Where progress is told.
        lms: Whose keys no message may hold.

    Raises:
        Failure: The examples or a metric cannot be used.
    """

    def __init__(
        self,
        asked: Evaluate,
        node: Node,
        module: dspy.Module,
        events: Events,
        lms: LanguageModels,
    ) -> None:
        self._asked = asked
        self._node = node
        self._module = module
        self._events = events
        self._secrets = lms.secrets
        self._errors = self._done = 0
        self._told = -math.inf
        self._names = input_names(node, asked.inputs, asked.examples, "dataset")
        known = dspy.settings.get("max_errors", MAX_ERRORS)
        self._max_errors = asked.max_errors or known
        check_metric(asked.metric, node, asked.examples, "metric")
        for name, metric in asked.also.items():
            check_metric(metric, node, asked.examples, f"also.{name}")

    async def run(self) -> Evaluated:
        """Run it all.

        Raises:
            Failure: Of the example that was one failure too many.
        """
        asked = self._asked
        works = [functools.partial(self._one, row) for row in asked.examples]
        found: list[Any] = await together(works, asked.threads)
        scores = [one.score for one in found]
        means = {
            name: _mean([one.scores[name] for one in found]) for name in asked.also
        }
        return Evaluated(
            # As DSPy writes it, to the last digit: sum, not fsum.
            score=round(100 * sum(scores) / len(scores), 2),
            count=len(found),
            errors=self._errors,
            mean=_mean(scores),
            means=means,
            scores=scores,
            results=found if asked.results else None,
        )

    async def _one(self, row: Mapping[str, Any]) -> Any:
        inputs = inputs_of(row, self._names)
        outputs: dict[str, Any] = {}
        failure = None
        scores = dict.fromkeys(["", *self._asked.also], 0.0)
        try:
            outputs = await apart(run_node(self._node, self._module, inputs))
            scores = await self._scores(row, outputs)
        except Exception as error:  # noqa: BLE001 - it is told in the results
            failure = self._failed(error)
        self._done += 1
        await self._tell()
        return ExampleResult(
            inputs=inputs,
            outputs=outputs,
            score=scores.pop(""),
            scores=scores,
            failure=failure,
        )

    async def _scores(
        self, row: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> dict[str, float]:
        metrics: dict[str, Metric] = {"": self._asked.metric, **self._asked.also}
        return {
            name: (await scored(metric, self._node, row, outputs)).score
            for name, metric in metrics.items()
        }

    def _failed(self, error: Exception) -> ExampleFailure:
        """Count a failure.

        Raises:
            Failure: There were too many.
        """
        failure: Failure = to_failure(error, secrets=self._secrets)
        self._errors += 1
        if self._errors >= self._max_errors:
            failure.message = (
                f"{self._errors} of {self._done + 1} examples failed; the last one: "
                f"{failure.message}"
            )
            raise failure from error
        return ExampleFailure(code=failure.code, message=failure.message)

    async def _tell(self) -> None:
        total, now = len(self._asked.examples), time.monotonic()
        if self._done < total and now - self._told < TOLD_EVERY:
            return
        self._told = now
        message = f"{self._done} of {total} examples"
        await self._events.emit(Status, message=message, done=self._done, total=total)


def plain(outputs: msgspec.Struct) -> dict[str, Any]:
    """Outputs as they go into a reply."""
    found: dict[str, Any] = msgspec.to_builtins(outputs)
    return found


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)
