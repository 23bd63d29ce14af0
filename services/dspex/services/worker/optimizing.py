"""Improving a program: an optimizer of DSPy's in a thread, bounded and told of."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import dspy

from dspex.bus.tasks import Tasks
from dspex.contracts import encoding
from dspex.contracts.envelope import Status
from dspex.contracts.failures import BadRequest, Failure, Unsupported
from dspex.contracts.learning_requests import Budget, Evaluate, Optimize
from dspex.contracts.program_specs import PythonSpec, Specification
from dspex.native.programs.planning import plan
from dspex.services.worker.calls import within
from dspex.services.worker.evaluating import TOLD_EVERY, Evaluation, input_names, plain
from dspex.services.worker.learned import with_learned
from dspex.services.worker.nearest import examples
from dspex.services.worker.optimizers import (
    AROUND,
    NEED_NO_METRIC,
    Given,
    around,
    compiler,
)
from dspex.services.worker.scoring import check_metric, metric_function
from dspex.services.worker.stoppable import Stopped, Watch, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspex.bus.events import Events
    from dspex.contracts.learning_requests import Evaluated
    from dspex.native.programs.nodes import Node
    from dspex.services.worker.lms import LanguageModels

    Build = Callable[[Node], dspy.Module]


class Meter(Watch):
    """Counts the calls of language models, and stops what makes too many.

    Attributes:
        calls: Made so far.
        spent: Whether there were to be more than allowed.
        doing: What is going on, for people.
        news: Set when there is something to tell.
    """

    def __init__(self, most: int | None) -> None:
        super().__init__()
        self.calls = 0
        self.spent = False
        self.doing = "optimizing"
        self.news = asyncio.Event()
        self._most = most
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """Count a call, or go no further."""
        super().on_lm_start(call_id, instance, inputs)
        with self._lock:
            self.spent = self._most is not None and self.calls >= self._most
            if not self.spent:
                self.calls += 1
        if self.spent:
            self.stop()
            raise Stopped
        self._tell()

    def on_evaluate_end(
        self, call_id: str, outputs: Any, exception: BaseException | None = None
    ) -> None:
        """Remember how good a candidate is."""
        del call_id, exception
        score = getattr(outputs, "score", outputs)
        if isinstance(score, int | float):
            self.doing = f"a candidate scores {score:g}"
            self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the process ends, and its loop has
            self._loop.call_soon_threadsafe(self.news.set)


class Optimization:
    """One program, improved.

    Args:
        asked: What was asked.
        node: The program.
        build: Makes the instance of a program.
        events: Where progress is told.
        lms: The worker's language models.

    Raises:
        Failure: It cannot be done.
    """

    def __init__(
        self,
        asked: Optimize,
        node: Node,
        build: Build,
        events: Events,
        lms: LanguageModels,
    ) -> None:
        if any(isinstance(one.spec, PythonSpec) for one in node.walk()):
            raise Unsupported(
                "A program written in Python has no place for what it learns.",
                field="program",
                hint="Write it as a specification.",
            )
        self._asked = asked
        self._node = node
        self._build = build
        self._events = events
        self._lms = lms
        self._names = input_names(node, asked.inputs, asked.to_learn, "trainset")
        input_names(node, asked.inputs, asked.to_compare, "valset")
        if asked.metric is not None:
            check_metric(asked.metric, node, asked.to_learn, "metric")
        elif not isinstance(asked.optimizer, NEED_NO_METRIC):
            raise BadRequest(
                "This optimizer needs a metric.",
                field="metric",
                hint='Send {"name": "exact_match"} or {"subject": …}.',
            )

    async def run(
        self, teacher: Node | None, others: Sequence[Node] = ()
    ) -> tuple[Specification, int]:
        """Run the optimizer.

        Args:
            teacher: The program that shows how, if another does.
            others: The other programs of an ensemble.

        Returns:
            The program with what it learned, and how many calls that took.

        Raises:
            BadRequest: The budget was spent, or the optimizer refuses its arguments.
        """
        asked = self._asked
        if isinstance(asked.optimizer, AROUND):
            found = around(asked, self._node, teacher, others)
            plan(found)
            return found, 0
        student = _own(self._build(self._node))
        meter = Meter(asked.budget.max_calls)
        with within(self._node.spec):
            work = compiler(asked.optimizer, self._given(teacher))
            compiled = await self._watched(lambda: work(student), meter)
        made = with_learned(self._node, compiled)
        plan(made)  # what comes out is held to what may come in
        return made, meter.calls

    async def score(self, made: Specification) -> Evaluated | None:
        """Score what came out, as ``program.evaluate`` would, if there is a metric."""
        asked = self._asked
        if asked.metric is None:
            return None
        examples = asked.to_compare or asked.to_learn
        body = Evaluate(
            program=made,
            dataset=examples,
            metric=asked.metric,
            inputs=asked.inputs,
            threads=asked.threads,
            max_errors=len(examples) + 1,
            results=False,
        )
        node = plan(made)
        return await Evaluation(
            body, node, self._build(node), self._events, self._lms
        ).run()

    def _given(self, teacher: Node | None) -> Given:
        asked = self._asked
        metric = asked.metric
        lm = dspy.settings.lm
        shows = None if teacher is None else _own(self._build(teacher))
        named = getattr(teacher.spec, "lm", None) if teacher is not None else None
        return Given(
            metric=metric_function(metric, self._node) if metric is not None else None,
            prompt_lm=self._lms.build(asked.prompt_lm) if asked.prompt_lm else lm,
            reflection_lm=(
                self._lms.build(asked.reflection_lm) if asked.reflection_lm else lm
            ),
            teacher=shows,
            teacher_lm=self._lms.build(named) if named else None,
            trainset=self._examples(asked.to_learn),
            valset=self._examples(asked.to_compare) or None,
            threads=asked.threads,
        )

    def _examples(self, rows: Sequence[Mapping[str, Any]]) -> list[dspy.Example]:
        return examples(self._node, rows, self._names)

    async def _watched(self, work: Callable[[], Any], meter: Meter) -> Any:
        budget, tasks = self._asked.budget, Tasks()
        limit = asyncio.timeout(budget.max_seconds)
        telling = tasks.start(self._tell(meter), "progress")
        try:
            async with limit:
                return await in_thread(work, meter)
        except (TimeoutError, RuntimeError) as error:
            if limit.expired() or meter.spent:
                raise _spent(budget, meter.spent) from error
            raise
        finally:
            telling.cancel()

    async def _tell(self, meter: Meter) -> None:
        total = self._asked.budget.max_calls or 0
        while True:
            await meter.news.wait()
            meter.news.clear()
            message = f"{meter.doing}, {meter.calls} calls of language models"
            with contextlib.suppress(Failure):
                await self._events.emit(
                    Status, message=message, done=meter.calls, total=total
                )
            await asyncio.sleep(TOLD_EVERY)


def _own(module: dspy.Module) -> Any:
    """A copy of a kept instance that an optimizer may change as it likes.

    A copy has the signatures of its original, which are classes, and some optimizers
    write into them: every request would then be told what this one learned.
    """
    copied = module.deepcopy()
    for _, predictor in copied.named_predictors():
        signature: Any = predictor.signature
        predictor.signature = signature.with_instructions(signature.instructions)
    return copied


def learned_outputs(
    asked: Optimize, made: Specification, calls: int, score: Evaluated | None
) -> dict[str, Any]:
    """The outputs of an optimisation, before anything is stored."""
    return {
        "specification": as_json(made),
        "optimizer": str(asked.optimizer.__struct_config__.tag),
        "calls": calls,
        "score": None if score is None else score.score,
        "scored": 0 if score is None else score.count,
        "name": "",
        "version": 0,
    }


def as_json(made: Specification) -> dict[str, Any]:
    """A specification as JSON says it, read back as a stored one would be."""
    found = plain(made)
    encoding.read(found, Specification)
    return found


def _spent(budget: Budget, calls: bool) -> BadRequest:
    name = "max_calls" if calls else "max_seconds"
    return BadRequest(
        f"The budget was spent before the optimizer had an end: {name} "
        f"{getattr(budget, name):g}.",
        field=f"budget.{name}",
        hint="Allow more, or let the optimizer try less.",
    )
