"""Running whole programs: look up what they name, build, run, stream the last part."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import dspy

from dspex.contracts import program_specs as specs
from dspex.contracts.failures import NotFound
from dspex.native.programs.nodes import below, references, remotes_of
from dspex.native.programs.planning import check_inputs, plan
from dspex.services.worker import composing
from dspex.services.worker.calls import within
from dspex.services.worker.composing import Compared, run_node
from dspex.services.worker.ensembles import Ensemble
from dspex.services.worker.modules import Modules, is_async
from dspex.services.worker.nearest import FewShot, Nearest
from dspex.services.worker.streaming import Last, run_streaming

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dspex.bus.audiences import Audience
    from dspex.bus.calling import Functions, Operations
    from dspex.bus.events import Events
    from dspex.bus.replaying import RecordedFunctions
    from dspex.contracts.program_specs import Program, Specification
    from dspex.native.programs.nodes import Node
    from dspex.services.worker.threads import AtHome

    Find = Callable[[str, str], Awaitable[Specification]]
    """Looks up a stored program: its tenant, and its name or ``name@version``."""

    Own = Mapping[str, dspy.Module]
    """The programs of the configuration, by name."""


COMPOSITES: dict[str, type[composing.Composite]] = {
    "chain": composing.Chain,
    "parallel": composing.Parallel,
    "map": composing.Map,
    "branch": composing.Branch,
    "best_of_n": composing.Chosen,
    "refine": composing.Chosen,
    "majority": composing.Majority,
    "ensemble": Ensemble,
    "knn": Nearest,
    "knn_few_shot": FewShot,
}
"""What is not made by DSPy itself, by module."""


class ProgramRunner:
    """Runs programs that are data.

    Args:
        find: Looks stored programs up.
        functions: What calls tools.
        own: Programs written in Python.
        modules: Makes instances of DSPy's modules.
        operations: What asks for operations, such as ``program.put``.

    Attributes:
        functions: What calls tools.
        operations: What asks for operations.
    """

    def __init__(
        self,
        find: Find | None = None,
        functions: Functions | RecordedFunctions | AtHome | None = None,
        own: Own | None = None,
        modules: Modules | None = None,
        *,
        operations: Operations | AtHome | None = None,
    ) -> None:
        self._find = find
        self._own = own or {}
        self._modules = modules or Modules()
        self.functions = functions
        self.operations = operations

    def start(self) -> None:
        """Keep what programs need from others from now on."""
        self._modules.start()

    async def stop(self) -> None:
        """Let it go."""
        await self._modules.stop()

    async def prepared(
        self, program: Program, audience: Audience, path: str = "program"
    ) -> Node:
        """Look up all that a program names, and check it.

        Raises:
            Failure: The first fault; its ``field`` is the path of the part at fault.
        """
        found = await self._looked_up(program, audience.subjects.tenant)
        node = plan(program, found.get, path)
        for one in node.walk():
            if isinstance(one.spec, specs.PythonSpec):
                self._named(one.spec.name)
            for inner, subject in remotes_of(one.spec):
                if self.functions is not None:
                    self.functions.check(subject, audience, below(one.path, inner))
            await self._modules.ready(one)
        return node

    async def run(
        self, node: Node, inputs: dict[str, Any], events: Events
    ) -> dict[str, Any]:
        """Run a program within a request; its outputs, by name."""
        check_inputs(node, inputs)
        module = self.build(node)
        last = final(node, module) if events.streams else None
        if last is None:
            return await run_node(node, module, inputs)
        whole = _Whole(node, module, last)
        with within(node.spec):  # its adapter is how the stream is read
            prediction = await run_streaming(whole, inputs, last, events)
        return {name: prediction[name] for name in prediction}

    def build(self, node: Node) -> dspy.Module:
        """The instance of a checked program."""
        if isinstance(node.spec, specs.PythonSpec):
            return self._named(node.spec.name)
        if node.module in COMPOSITES:
            return COMPOSITES[node.module](node, self.build)
        if node.parts:
            alone = dataclasses.replace(node, parts=())
            return Compared(node, self.build, self._modules.of(alone))
        return self._modules.of(node)

    async def _looked_up(
        self, program: Program, tenant: str
    ) -> dict[str, Specification]:
        """Look up what a program names, and what that names, and so on."""
        found: dict[str, Specification] = {}
        waiting = references(program)
        while waiting and len(found) <= specs.MAX_PARTS:
            name = waiting.pop()
            if name in found:
                continue
            found[name] = await self._find_one(tenant, name)
            waiting += references(found[name])
        return found

    async def _find_one(self, tenant: str, name: str) -> Specification:
        if name in self._own:
            return specs.PythonSpec(name=name)
        if self._find is None:
            raise NotFound(f"There is no program {name!r}.", field="program")
        return await self._find(tenant, name)

    def _named(self, name: str) -> dspy.Module:
        found = self._own.get(name)
        if found is None:
            raise NotFound(
                f"The workers' configuration has no program {name[:80]!r}. "
                f"It has: {', '.join(sorted(self._own)) or 'none'}.",
                hint=f"Add a section [programs.{name[:80]}] with its path.",
                field="program.name",
            )
        return found


class _Whole:
    """A program as DSPy streams one; only its last predictor tells."""

    def __init__(self, node: Node, module: dspy.Module, last: Last) -> None:
        self._node = node
        self._module = module
        self._last = last

    async def acall(self, **inputs: Any) -> dspy.Prediction:
        """Run it."""
        with dspy.context(stream_listeners=[self._last]):
            return dspy.Prediction(**await run_node(self._node, self._module, inputs))


def final(node: Node, module: dspy.Module) -> Last | None:
    """The predictor whose outputs are the program's, if there is just one.

    Args:
        node: The program.
        module: Its instance.
    """
    if node.module == "chain":
        return _final_of_chain(node, module)
    if node.compiled is None or node.parts or not is_async(module):
        return None
    if node.module == "multi_chain_comparison":
        return None
    predictor: Any = module.predictors()[-1]
    names = {name: name for name in node.gives if name in predictor.signature.fields}
    return Last(predictor, names)


def _final_of_chain(node: Node, module: Any) -> Last | None:
    part = node.parts[-1]
    inner = final(part.node, module.parts[-1])
    if inner is None or any(map(_has_adapter, part.node.walk())):
        return None  # written otherwise than the stream of the whole is read
    names = {n: part.outputs.get(outer, outer) for n, outer in inner.names.items()}
    shown = {n: outer for n, outer in names.items() if outer in node.gives}
    # An instance that is there twice would tell of both its calls.
    others = [one for step in module.parts[:-1] for one in step.predictors()]
    if any(one is inner.predict for one in others) or not shown:
        return None
    return dataclasses.replace(inner, names=shown)


def _has_adapter(node: Node) -> bool:
    return node.spec is not None and node.spec.adapter is not None
