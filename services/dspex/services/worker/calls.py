"""What the parts of a program share while a request runs it.

It is found by a context variable, so parts that are kept from one request to the next
hold nothing of any request. DSPy's own settings are one too: they reach tasks, and the
threads of ``dspex.services.worker.stoppable``.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any

import dspy
import msgspec

from dspex.contracts.envelope import StepEvent, ToolCall, ToolResult
from dspex.contracts.failures import BadRequest, ToolFailed
from dspex.services.worker.adapters import adapter
from dspex.services.worker.convert import neutralised, to_wire
from dspex.services.worker.failures import to_failure
from dspex.services.worker.recorded import ToolRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dspex.bus.calling import Functions
    from dspex.bus.events import Events
    from dspex.bus.replaying import RecordedFunctions
    from dspex.contracts.requests import LmConfig
    from dspex.native.programs.nodes import Node
    from dspex.services.worker.lms import LanguageModels
    from dspex.services.worker.threads import AtHome


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """One request's run of a program, as one part of the program sees it.

    Attributes:
        lms: The worker's language models.
        functions: What calls tools and rewards; ``None``: there are none.
        events: Where its life is told.
        lm: Name of the language model.
        config: What is changed about it.
        adapter: How prompts are written.
        numbers: Of the calls of functions.
        steps: Whether it is told which parts of the program have ended.
    """

    lms: LanguageModels
    functions: Functions | RecordedFunctions | AtHome | None
    events: Events
    lm: str
    config: dict[str, Any]
    adapter: str | None = None
    numbers: Iterator[int] = dataclasses.field(default_factory=lambda: count(1))
    steps: bool = True

    async def function(
        self, name: str, subject: str, arguments: Any, timeout: float
    ) -> Any:
        """Call a function, and tell that it was called.

        Returns:
            What it answered, without the markers that DSPy reads as its own.

        Raises:
            ToolFailed: There is no result.
        """
        if self.functions is None:
            raise ToolFailed("Functions cannot be called here.")
        number, begun = next(self.numbers), time.perf_counter()
        await self._tell(ToolCall, call=number, tool=name, arguments=arguments)
        ended: dict[str, Any] = {"call": number, "tool": name}
        record = ToolRecord(name, subject, arguments)
        try:
            found = await self.functions.call(
                subject, arguments, self.events.audience, timeout
            )
        except ToolFailed as failure:
            ms = _ms_since(begun)
            await record.failed(failure)
            await self._tell(ToolResult, **ended, ms=ms, error=failure.message)
            raise
        await record.answered(found)
        await self._tell(ToolResult, **ended, ms=_ms_since(begun), result=found)
        return neutralised(found)

    async def step(self, node: Node, begun: float, code: str = "") -> None:
        """Tell that a part of the program has ended."""
        if self.steps:
            said = {"part": node.path, "module": node.module, "code": code}
            await self._tell(StepEvent, ms=_ms_since(begun), **said)

    async def _tell(self, kind: type[Any], **said: Any) -> None:
        try:
            await self.events.emit(kind, **said)
        except BadRequest:  # larger than a message: then without what is large
            large = ("arguments", "result")
            said = {key: None if key in large else v for key, v in said.items()}
            await self.events.emit(kind, **said)


_current: ContextVar[Call] = ContextVar("call")


def current() -> Call:
    """The request that runs."""
    return _current.get()


@contextmanager
def running(call: Call) -> Iterator[Call]:
    """Let parts of a program know the request, and DSPy its language model."""
    token = _current.set(call)
    try:
        with dspy.context(
            lm=call.lms.for_request(call.lm, call.config),
            adapter=adapter(call.adapter, call.lms.is_builtin(call.lm)),
        ):
            yield call
    finally:
        _current.reset(token)


@contextmanager
def within(spec: Any) -> Iterator[None]:
    """Run a part of a program, with the language model it names if it names one."""
    config = overrides(spec.config)
    if spec.lm is None and spec.adapter is None and not config:
        yield
        return
    call = current()
    inner = dataclasses.replace(
        call,
        lm=spec.lm or call.lm,
        adapter=spec.adapter or call.adapter,
        config=call.config | config,
    )
    with running(inner):
        yield


@asynccontextmanager
async def monitored(node: Node) -> AsyncIterator[None]:
    """Run a part of a program, and tell when it has ended, and how."""
    call, begun = current(), time.perf_counter()
    try:
        yield
    except Exception as error:
        await call.step(node, begun, to_failure(error).code)
        raise
    await call.step(node, begun)


def overrides(config: LmConfig) -> dict[str, Any]:
    """What a request or a specification changes about a language model."""
    said = msgspec.to_builtins(config)
    return {key: value for key, value in said.items() if value is not None}


def wire(values: Any) -> dict[str, Any]:
    """Values of DSPy's, by name, as JSON can say them."""
    return {name: to_wire(value) for name, value in values.items()}


def _ms_since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 3)
