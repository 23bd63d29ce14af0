"""Compositions as modules of DSPy's: their parts meet in values of the wire.

Between two parts a value is checked against what the next one takes, which DSPy
leaves out. All of them run under asyncio; where DSPy calls one without (a ``Refine``
around a chain), it comes back to the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import dspy
import msgspec

from dspex.contracts.failures import (
    Failure,
    InvalidInputs,
    ProgramError,
    nearest,
)
from dspex.contracts.program_specs import PythonSpec
from dspex.native.programs.planning import check_inputs
from dspex.native.tables.tensors import to_objects
from dspex.services.worker.calls import monitored, wire, within
from dspex.services.worker.modules import enter, is_async, leave
from dspex.services.worker.stoppable import (
    Watch,
    apart,
    in_thread,
    run_module,
)
from dspex.services.worker.tools import described, reward_function

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from dspex.native.programs.nodes import Node, Part

    Build = Callable[[Node], dspy.Module]


async def run_node(
    node: Node, module: dspy.Module, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """Run a checked program on values of the wire.

    Args:
        node: What it is.
        module: Its instance.
        inputs: By name.

    Returns:
        Its outputs, by name, as on the wire.

    Raises:
        Failure: What is wrong with the inputs or the outputs.
    """
    check_inputs(node, inputs)
    with within(node.spec):
        call = enter(node, inputs) if is_leaf(node) else _handed_on(node, inputs)
        prediction = await ask(module, call)
    return leave(node, prediction) if is_leaf(node) else wire(prediction)


def _handed_on(node: Node, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as they are handed on; a program in Python has arrays and tables."""
    if not isinstance(node.spec, PythonSpec):
        return dict(inputs)
    return {name: to_objects(value, f"inputs.{name}") for name, value in inputs.items()}


async def ask(module: dspy.Module, call: Mapping[str, Any]) -> Any:
    """Call a module, in a thread if it knows no asyncio."""
    if is_async(module):
        return await module.acall(**call)
    return await in_thread(lambda: module(**call))


def is_leaf(node: Node) -> bool:
    """Whether its instance is one of DSPy's modules with a signature."""
    return node.compiled is not None and not node.parts


class Composite(dspy.Module):  # type: ignore[misc]  # DSPy ships no types
    """What is composed of other programs.

    Args:
        node: What it is.
        build: Makes the instance of a part.
    """

    def __init__(self, node: Node, build: Build) -> None:
        super().__init__()
        self.node = node
        self.parts = [build(part.node) for part in node.parts]

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Run it from a thread."""
        return run_module(self.aforward(**inputs))

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Run it."""
        return dspy.Prediction(**await self.outputs(inputs))

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Its outputs, by name."""
        raise NotImplementedError

    async def part(self, index: int, scope: Mapping[str, Any]) -> dict[str, Any]:
        """Run one part on the values it names; its outputs as it is to call them."""
        part = self.node.parts[index]
        given = _given(part, scope)
        try:
            async with monitored(part.node):
                outputs = await run_node(part.node, self.parts[index], given)
        except InvalidInputs as failure:
            raise _in_part(failure, part.node) from failure
        return {part.outputs.get(name, name): one for name, one in outputs.items()}


class Chain(Composite):
    """Programs one after another."""

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of the last, or those that are asked for."""
        scope, last = inputs, inputs
        for index in range(len(self.parts)):
            last = await self.part(index, scope)
            scope = scope | last
        wanted = self.node.spec.outputs  # type: ignore[union-attr]  # a chain's
        if wanted is None:
            return last
        for name in wanted:
            if name not in scope:
                raise ProgramError(
                    f"{self.node.path}.outputs: no step gave {name!r}. "
                    + nearest(name, scope)
                )
        return {name: scope[name] for name in wanted}


class Parallel(Composite):
    """Programs side by side."""

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of all."""
        works = [
            lambda i=i: apart(self.part(i, inputs)) for i in range(len(self.parts))
        ]
        found: dict[str, Any] = {}
        for outputs in await together(works, len(works)):
            found |= outputs
        return found


class Map(Composite):
    """One program for each element of a list."""

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """For each output a list, in the order of the elements."""
        spec: Any = self.node.spec
        elements = inputs[spec.over]
        if not isinstance(elements, list):
            raise InvalidInputs(
                f"inputs.{spec.over} must be a list.", field=f"inputs.{spec.over}"
            )
        takes = self.node.parts[0].node.needs
        # What is mapped over is a list to the whole, and no input of the part by that.
        others = {k: v for k, v in inputs.items() if k != spec.over and k in takes}
        works = [
            lambda one=one: apart(self.part(0, others | {spec.into: one}))
            for one in elements
        ]
        found = await together(works, spec.concurrency)
        names = list(found[0] if found else self.node.gives)
        return {name: [one.get(name) for one in found] for name in names}


class Branch(Composite):
    """One of several programs."""

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of the one that is chosen, those that all give."""
        spec: Any = self.node.spec
        said = inputs[spec.on]
        key = said if isinstance(said, str) else msgspec.json.encode(said).decode()
        cases = list(spec.cases)
        if key not in spec.cases and spec.otherwise is None:
            raise InvalidInputs(
                f"{self.node.path}: there is no case for {spec.on} = {key[:80]!r}. "
                f"Cases: {', '.join(cases)}.",
                field=f"inputs.{spec.on}",
                hint="Add a case, or `otherwise`.",
            )
        index = cases.index(key) if key in spec.cases else len(cases)
        found = await self.part(index, inputs)
        names = self.node.gives
        return {name: found[name] for name in names} if names else found


class Chosen(Composite):
    """``BestOfN`` and ``Refine``: DSPy's own, new for every call.

    They count failures in themselves, so one that was called is not as it was.
    """

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of the best attempt."""
        node, module = self.node.parts[0].node, self.parts[0]
        check_inputs(node, inputs)
        watch = Watch()
        with within(node.spec):
            call = enter(node, inputs) if is_leaf(node) else inputs
            best = await in_thread(lambda: self._made(node, module)(**call), watch)
        if best is None:
            failure = watch.last
            if isinstance(failure, Failure):
                raise failure
            raise ProgramError(
                f"{self.node.path}: no attempt gave an answer."
            ) from failure
        return leave(node, best) if is_leaf(node) else wire(best)

    def _made(self, node: Node, module: dspy.Module) -> dspy.Module:
        spec: Any = self.node.spec
        score = reward_function(spec.reward)

        def reward(args: dict[str, Any], prediction: Any) -> float:
            outputs = leave(node, prediction) if is_leaf(node) else wire(prediction)
            return score({"inputs": wire(args), "outputs": outputs})

        kind: Any = dspy.Refine if self.node.module == "refine" else dspy.BestOfN
        made = kind(module, spec.attempts, reward, spec.threshold, spec.fail_count)
        if self.node.module == "refine":
            # Shown to the model that advises: what it means, not our source.
            made.reward_fn_code = described(spec.reward)
        return made


class Majority(Composite):
    """``dspy.majority`` of several answers."""

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The first of the answers that most agree on."""
        spec: Any = self.node.spec
        if self.parts:
            works = [lambda: apart(self.part(0, inputs))] * spec.attempts
            answers = await together(works, spec.attempts)
        else:
            answers = _answers(inputs["completions"], spec.field)
        return commonest(answers, spec.field)


class Compared(Composite):
    """``MultiChainComparison`` of what another program answers.

    Args:
        node: What it is.
        build: Makes the instance of a part.
        comparison: Of DSPy's class.
    """

    def __init__(self, node: Node, build: Build, comparison: dspy.Module) -> None:
        super().__init__(node, build)
        self.comparison = comparison

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """One answer from the attempts."""
        spec: Any = self.node.spec
        takes = self.node.parts[0].node.needs
        given = {name: one for name, one in inputs.items() if name in takes}
        attempts = await together(
            [lambda: apart(self.part(0, given))] * spec.attempts, spec.attempts
        )
        call = enter(self.node, inputs | {"completions": attempts})
        return leave(self.node, await ask(self.comparison, call))


def commonest(answers: list[dict[str, Any]], field: str | None) -> dict[str, Any]:
    """``dspy.majority``: the first of the answers that most agree on.

    Args:
        answers: Outputs, by name.
        field: The output that is compared; ``None``: the last of the first answer.
    """
    # It compares texts, and other values as they are printed.
    shown = [{k: _text(v) for k, v in answer.items()} for answer in answers]
    best = dspy.majority(shown, field=field)
    name = field or list(shown[0])[-1]
    return next(
        answer
        for answer, one in zip(answers, shown, strict=True)
        if one[name] == best[name]
    )


async def together(
    works: Sequence[Callable[[], Coroutine[Any, Any, dict[str, Any]]]], limit: int
) -> list[dict[str, Any]]:
    """Do things side by side, so many at a time; after a failure none is begun."""
    slots = asyncio.Semaphore(limit)
    failed: list[BaseException] = []

    async def one(work: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> Any:
        async with slots:
            if failed:
                return {}
            try:
                return await work()
            except Exception as error:  # noqa: BLE001 - the first is raised below
                failed.append(error)
                return {}

    found = await asyncio.gather(*(one(work) for work in works))
    if failed:
        raise failed[0]
    return found


def _given(part: Part, scope: Mapping[str, Any]) -> dict[str, Any]:
    node = part.node
    if node.open and not node.needs:
        # What it takes is not known: what is wired to it, or all there is.
        if part.inputs:
            return {n: scope[source] for n, source in part.inputs.items()}
        return dict(scope)
    wanted = {name: part.inputs.get(name, name) for name in node.needs}
    return {name: scope[source] for name, source in wanted.items() if source in scope}


def _in_part(failure: InvalidInputs, node: Node) -> InvalidInputs:
    where = (failure.field or "").removeprefix("inputs.")
    return InvalidInputs(
        f"{node.path}: {failure.message}",
        field=f"{node.path}.inputs.{where}",
        hint="Wire a value of that type, or loosen the signature.",
    )


def _answers(completions: Any, field: str | None) -> list[dict[str, Any]]:
    if not isinstance(completions, list) or not completions:
        raise InvalidInputs(
            "inputs.completions must be a list of answers.", field="inputs.completions"
        )
    for index, one in enumerate(completions):
        if not isinstance(one, dict) or not one or (field and field not in one):
            raise InvalidInputs(
                f"inputs.completions[{index}] must be an object with its outputs.",
                field=f"inputs.completions[{index}]",
            )
    return completions


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
