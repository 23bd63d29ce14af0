"""Language models whose every call is told to the journal.

The call is taken where DSPy makes it, above its engines and its retries: what is
recorded is what the adapter asked and what it was given, so it reads alike for every
release of DSPy and every way to a provider. Which request a call belongs to travels in
a context variable, and in DSPy's own settings to reach the threads that DSPy starts.
"""

from __future__ import annotations

import time
from contextlib import aclosing, asynccontextmanager, closing, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import dspy

from dspex.bus.recording import Records
from dspex.contracts.records import CallFailure, LmCall, ToolCall
from dspex.contracts.replays import Asked
from dspex.services.worker.carriers import CarriedLM
from dspex.services.worker.failures import to_failure
from dspex.services.worker.metering import metered
from dspex.services.worker.plain import parameters, plain
from dspex.services.worker.usage import entries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from dspex.bus.core import Bus
    from dspex.bus.events import Events
    from dspex.contracts.failures import Failure

SETTING = "dspex_records"
"""Key of DSPy's settings under which the records of a request are."""

_told: ContextVar[tuple[Records, str] | None] = ContextVar("dspex_told", default=None)
_open: ContextVar[Call | None] = ContextVar("dspex_call", default=None)


class Recording:
    """What a request's calls are told to, until its outputs are known."""

    def __init__(self) -> None:
        self.outputs: Any = None


@asynccontextmanager
async def recording(
    bus: Bus, events: Events, worker: str, *, apart: bool = True
) -> AsyncIterator[Recording]:
    """Record the calls that are made in this block.

    Args:
        bus: Where they are told.
        events: Whose attempt it is.
        worker: Incarnation of this process.
        apart: Whether DSPy's settings are apart for requests on one event loop.
    """
    found = Recording()
    if not events.kept:
        yield found
        return
    records = Records(bus, events)
    token = _told.set((records, worker))
    try:
        with dspy.context(**{SETTING: _told.get()}) if apart else nullcontext():
            yield found
    finally:
        _told.reset(token)
        await records.end(found.outputs)


class RecordedLM(CarriedLM):
    """DSPy's language model, which tells its calls.

    Attributes:
        name: As the worker's configuration has it.
        secrets: Reads the keys that no record may hold; they are not kept here,
            where whatever shows an object would show them.
    """

    name = ""
    secrets: Callable[[], frozenset[str]] = frozenset

    async def acall(
        self, prompt: Any = None, *, messages: Any = None, **kwargs: Any
    ) -> Any:
        """As ``dspy.LM.acall``."""
        with metered(self):
            return await self._acall(prompt, messages, **kwargs)

    async def _acall(self, prompt: Any, messages: Any, **kwargs: Any) -> Any:
        call = _begun(self, prompt, messages, kwargs)
        if call is None:
            return await super().acall(prompt, messages=messages, **kwargs)
        token = _open.set(call)
        try:
            outputs = await super().acall(prompt, messages=messages, **kwargs)
        except BaseException as error:
            await call.records.tell(call.failed(error))
            raise
        finally:
            _open.reset(token)
        await call.records.tell(call.answered(outputs))
        return outputs

    def __call__(
        self, prompt: Any = None, *, messages: Any = None, **kwargs: Any
    ) -> Any:
        """As ``dspy.LM.__call__``."""
        with metered(self):
            return self._call(prompt, messages, **kwargs)

    def _call(self, prompt: Any, messages: Any, **kwargs: Any) -> Any:
        call = _begun(self, prompt, messages, kwargs)
        if call is None:
            return super().__call__(prompt, messages=messages, **kwargs)
        token = _open.set(call)
        try:
            outputs = super().__call__(prompt, messages=messages, **kwargs)
        except BaseException as error:
            call.records.tell_from_thread(call.failed(error))
            raise
        finally:
            _open.reset(token)
        call.records.tell_from_thread(call.answered(outputs))
        return outputs


class Call:
    """One call, from its beginning to its record."""

    def __init__(
        self, lm: RecordedLM, given: Any, options: dict[str, Any], told: Any
    ) -> None:
        self.records: Records = told[0]
        self._worker: str = told[1]
        self._lm = lm
        self._number = self.records.next_call()
        self._messages = plain(given)
        self._parameters = parameters(lm.kwargs | options)
        self._counted = len(entries(lm))
        self._pieces: list[tuple[float, int]] = []
        self._at = time.time()
        self._begun = time.perf_counter()

    def asked(self) -> Asked:
        """What it asks, as its record will have it."""
        audience = self.records.audience
        return Asked(
            request=audience.request,
            attempt=audience.attempt,
            call=self._number,
            messages=self._messages,
            parameters=self._parameters,
        )

    def ask_instead(self, messages: list[Any]) -> None:
        """It asks something else than the program wanted."""
        self._messages = messages

    def piece(self, text: str) -> None:
        """A piece of a streamed answer came."""
        self._pieces.append((self._ms(), len(text)))

    def answered(self, outputs: Any) -> LmCall:
        """The record of a call that gave something."""
        usages = entries(self._lm)
        usage = usages[-1] if len(usages) > self._counted else {}
        found = plain(outputs if isinstance(outputs, list) else [outputs])
        return self._record(
            outputs=found, usage=plain(dict(usage)), pieces=self._whole(found)
        )

    def failed(self, error: BaseException) -> LmCall:
        """The record of a call that gave nothing."""
        failure = to_failure(error, secrets=self._lm.secrets())
        return self._record(
            failure=CallFailure(
                code=failure.code,
                category=failure.category,
                message=failure.message,
                error=type(error).__name__,
                retry_after_ms=failure.retry_after_ms,
            ),
            pieces=self._pieces,
        )

    def _record(self, **said: Any) -> LmCall:
        audience = self.records.audience
        return LmCall(
            request=audience.request,
            attempt=audience.attempt,
            call=self._number,
            at=round(self._at * 1000, 3),
            ms=self._ms(),
            worker=self._worker,
            lm=self._lm.name,
            model=self._lm.model,
            messages=self._messages,
            parameters=self._parameters,
            dspy=dspy.__version__,
            **said,
        )

    def _whole(self, outputs: list[Any]) -> list[tuple[float, int]]:
        """The pieces, if they add up to the one text there is."""
        first = outputs[0] if len(outputs) == 1 else ""
        text = first.get("text") if isinstance(first, dict) else first
        told = sum(size for _, size in self._pieces)
        return self._pieces if text and told == len(text) else []

    def _ms(self) -> float:
        return round((time.perf_counter() - self._begun) * 1000, 3)


class ToolRecord:
    """One call of a tool, from its beginning to its record.

    Args:
        name: The tool, as the model knows it.
        subject: Where it is called.
        arguments: What it is given.
    """

    def __init__(self, name: str, subject: str, arguments: Any) -> None:
        told = _told.get() or dspy.settings.get(SETTING)
        self._records: Records | None = told[0] if told else None
        self._worker: str = told[1] if told else ""
        self._number = self._records.next_call() if self._records else 0
        self._said = {"name": name, "subject": subject, "arguments": arguments}
        self._at, self._begun = time.time(), time.perf_counter()

    async def answered(self, result: Any) -> None:
        """It gave something."""
        await self._tell(result=result)

    async def failed(self, failure: Failure) -> None:
        """It gave nothing."""
        await self._tell(
            failure=CallFailure(
                code=failure.code, category=failure.category, message=failure.message
            )
        )

    async def _tell(self, **ended: Any) -> None:
        if self._records is None:
            return
        audience = self._records.audience
        record = ToolCall(
            request=audience.request,
            attempt=audience.attempt,
            call=self._number,
            at=round(self._at * 1000, 3),
            ms=round((time.perf_counter() - self._begun) * 1000, 3),
            worker=self._worker,
            **self._said,
            **ended,
        )
        await self._records.tell(record)


def asked() -> Asked | None:
    """What the call that is being made asks; ``None``: it is not recorded."""
    call = _open.get()
    return None if call is None else call.asked()


def asked_instead(messages: list[Any] | None) -> list[Any] | None:
    """Take in the prompt that the call being made has now; ``None``: its own."""
    if messages is not None and (call := _open.get()) is not None:
        call.ask_instead(messages)
    return messages


def note_piece(event: Any) -> None:
    """Take in an event of an engine's stream, if a call waits for it."""
    call = _open.get()
    if call is not None and event.type == "delta" and event.delta.type == "text":
        call.piece(event.delta.text)


def noted(events: Iterator[Any]) -> Iterator[Any]:
    """The events of an engine's stream, taken in as they pass."""
    with closing(cast("Any", events)):
        for event in events:
            note_piece(event)
            yield event


async def anoted(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The same for coroutines."""
    async with aclosing(cast("Any", events)):
        async for event in events:
            note_piece(event)
            yield event


def _begun(
    lm: RecordedLM, prompt: Any, messages: Any, options: dict[str, Any]
) -> Call | None:
    told = _told.get() or dspy.settings.get(SETTING)
    if told is None:
        return None
    given = messages or [{"role": "user", "content": prompt}]
    return Call(lm, given, options, told)
