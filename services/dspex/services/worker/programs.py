"""From a request's body to DSPy and back: build, run, check."""

from __future__ import annotations

import logging
import traceback
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import dspy

from dspex.bus.gpu import Memory
from dspex.bus.running import Outcome, Superseded
from dspex.contracts import gpu_memory
from dspex.contracts.failures import Failure, InvalidSignature
from dspex.contracts.learning_requests import Optimize
from dspex.contracts.program_parts import programs_of
from dspex.contracts.program_requests import React, as_specification
from dspex.contracts.program_specs import PythonSpec
from dspex.contracts.requests import Predict
from dspex.native.checking.requiring import (
    REASONING,
    extra_fields,
    require,
    require_demos,
)
from dspex.native.keeping import Kept
from dspex.native.signatures.compiling import Compiled, compile_signature
from dspex.services.worker.adapters import adapter
from dspex.services.worker.calls import Call, overrides, running
from dspex.services.worker.convert import demo_to_python, to_python, to_wire
from dspex.services.worker.datasets import with_examples
from dspex.services.worker.failures import to_failure
from dspex.services.worker.learning import Learning, learn
from dspex.services.worker.running import ProgramRunner
from dspex.services.worker.signatures import dspy_signature
from dspex.services.worker.streaming import Last, run_streaming
from dspex.services.worker.threads import EventsFromThread, Home, Threads
from dspex.services.worker.usage import counting, total

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspex.bus.events import Events
    from dspex.contracts.program_requests import RunProgram
    from dspex.contracts.program_specs import Program
    from dspex.contracts.requests import Body
    from dspex.native.programs.nodes import Node
    from dspex.services.worker.lms import LanguageModels

    Hold = Callable[[int], Awaitable[None]]
    """Holds so many MiB of GPU memory until the request has ended."""

_log = logging.getLogger(__name__)

KEPT = 256
"""Modules kept ready, the least recently used leave first."""


class Programs:
    """Runs operations with DSPy.

    Args:
        lms: The worker's language models.
        default_lm: Name of the one used by requests that name none.
        threads: Where requests run that must have a thread of their own.
        runner: Runs programs that are data.
        memory: GPU memory that they declare; default: there is none.
    """

    _MODULES: ClassVar[dict[str, Callable[..., dspy.Module]]] = {
        "predict": dspy.Predict,
        "chain_of_thought": dspy.ChainOfThought,
    }

    def __init__(
        self,
        lms: LanguageModels,
        default_lm: str,
        threads: Threads | None = None,
        runner: ProgramRunner | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._threads = threads
        self._lms = lms
        self._default_lm = default_lm
        self._runner = runner or ProgramRunner()
        self._memory = memory or Memory(list)
        self._kept: Kept[dspy.Module] = Kept(KEPT, KEPT)

    def start(self) -> None:
        """Keep what programs need from others from now on."""
        self._runner.start()

    async def aclose(self) -> None:
        """Close the connections to language models, and let the threads end."""
        await self._runner.stop()
        await self._lms.aclose()
        if self._threads is not None:
            self._threads.close()

    async def run(self, operation: str, body: Body, events: Events) -> Outcome:
        """Do one operation.

        Raises:
            Failure: What DSPy or the provider raised, as the contract names it.
            Superseded: It is to go to a process with more GPU memory.
        """
        try:
            async with AsyncExitStack() as held:
                return await self._run_holding(operation, body, events, held)
        except (Failure, Superseded):
            raise
        except Exception as error:
            failure = to_failure(error, secrets=self._lms.secrets)
            if failure.category in ("program", "internal"):
                # Only where, not what: messages may hold keys and inputs.
                where = "".join(traceback.format_tb(error.__traceback__))
                _log.warning(failure.message, extra={"traceback": where})
            raise failure from error

    async def _run_holding(
        self, operation: str, body: Body, events: Events, held: AsyncExitStack
    ) -> Outcome:
        """Do it, in a thread where that must be; what it holds is held on this loop."""
        home, looked_for = Home(), events.audience.gpu_mib

        async def hold(mib: int) -> None:
            reserved = self._memory.reserve(mib, looked_for)
            await home.do(held.enter_async_context(reserved))

        if self._threads is None:
            return await self._run(operation, body, events, hold)
        there: Any = EventsFromThread(events)
        return await self._threads.run(lambda: self._run(operation, body, there, hold))

    async def _run(
        self, operation: str, body: Body, events: Events, hold: Hold
    ) -> Outcome:
        if isinstance(body, Predict):
            await hold(body.options.gpu_memory_mib)
            return await self._run_module(operation, body, events)
        return await self._run_program(body, events, hold)  # type: ignore[arg-type]

    async def _run_program(
        self, asked: RunProgram | React | Learning, events: Events, hold: Hold
    ) -> Outcome:
        used: dict[str, str] = {}
        if isinstance(asked, Learning):
            operations = self._runner.operations
            asked, used = await with_examples(asked, operations, events.audience)
        nodes = {
            path: await self._runner.prepared(program, events.audience, path)
            for path, program in _programs(asked)
        }
        needs = [one.gpu_memory_mib for one in nodes.values()]
        await hold(gpu_memory.of_request(asked, needs))
        node = next(iter(nodes.values()))
        call = Call(
            lms=self._lms,
            functions=self._runner.functions,
            events=events,
            lm=asked.lm or self._default_lm,
            config=overrides(asked.config),
            # Of hundreds of runs it is told how many there were.
            steps=not isinstance(asked, Learning),
        )
        with (
            running(call),
            dspy.context(trace=[]),
            counting(threads=_starts_threads(asked, node)) as tracker,
        ):
            if isinstance(asked, Learning):
                runner = self._runner
                outputs = await learn(asked, nodes, runner, events, self._lms) | used
            else:
                outputs = await self._runner.run(node, asked.inputs, events)
        asked_lm = getattr(node.spec, "lm", None) or call.lm
        return Outcome(
            outputs=outputs, usage=total(tracker), lm=self._lms.describe(asked_lm)
        )

    async def _run_module(
        self, operation: str, body: Predict, events: Events
    ) -> Outcome:
        compiled = compile_signature(body.signature, body.instructions)
        inputs = require(compiled, body.inputs, "inputs")
        module = self._module(operation, compiled)
        name = body.lm or self._default_lm
        call = to_python(compiled, inputs)
        if body.demos:
            require_demos(compiled, body.demos, extra_fields(operation))
            call["demos"] = [
                dspy.Example(**demo_to_python(compiled, demo)) for demo in body.demos
            ]
        with (
            dspy.context(
                lm=self._lms.for_request(name, overrides(body.config)),
                adapter=adapter(body.adapter, self._lms.is_builtin(name)),
                # Never the process-wide list: it would hold every tenant's inputs.
                trace=[],
            ),
            counting() as tracker,
        ):
            if events.streams:
                prediction = await run_streaming(module, call, Last.of(module), events)
            else:
                prediction = await module.acall(**call)
        return Outcome(
            outputs=_outputs(compiled, prediction, operation),
            usage=total(tracker),
            lm=self._lms.describe(name),
        )

    def _module(self, operation: str, compiled: Compiled) -> dspy.Module:
        """A module ready to call; shared, for a call leaves nothing in it."""
        key = f"{operation} {compiled.digest}".encode()
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        names = [slot.field.name for slot in (*compiled.inputs, *compiled.outputs)]
        if operation == "chain_of_thought" and REASONING in names:
            raise InvalidSignature(
                f"chain_of_thought writes an output {REASONING!r} of its own, "
                "and the signature has a field of that name.",
                field=REASONING,
                hint="Rename the field, or use predict.",
            )
        module = self._MODULES[operation](dspy_signature(compiled))
        self._kept.keep(key, module, 1)
        return module


def _starts_threads(asked: Any, node: Node) -> bool:
    """Whether threads of DSPy's own may run parts of a program."""
    own = any(isinstance(one.spec, PythonSpec) for one in node.walk())
    return own or isinstance(asked, Optimize)


def _programs(asked: Body) -> list[tuple[str, Program]]:
    """The programs of a request, with their paths in it; first the one it is about."""
    if isinstance(asked, React):
        return [("", as_specification(asked))]
    return programs_of(asked)


def _outputs(
    compiled: Compiled, prediction: dspy.Prediction, operation: str
) -> dict[str, Any]:
    found = {name: to_wire(value) for name, value in prediction.items()}
    first: dict[str, Any] = {}
    if operation == "chain_of_thought":
        first = {REASONING: found.pop(REASONING, "")}
    return first | require(compiled, found, "outputs")
