"""The life of a request in the process that answers it.

The same for a DSPy worker and for native-ops: take the request from a router (the
handshake) or straight from a client, wait for a slot, run, tell the client, tell
the router. Every way out ends in exactly one reply.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from dspex.bus import incoming, logs, tracing
from dspex.bus.events import Events, audience_of
from dspex.bus.outgoing import answerable
from dspex.bus.tasks import Tasks
from dspex.contracts import catalog, encoding, headers
from dspex.contracts.envelope import (
    AcceptedWord,
    BusyWord,
    Done,
    Failed,
    FinishedWord,
    Metadata,
    RefusedWord,
    Reply,
    Started,
    Usage,
    Word,
    failed,
)
from dspex.contracts.failures import (
    Cancelled,
    DeadlineExceeded,
    Failure,
    Overloaded,
    ResourceMemory,
    Unsupported,
    WorkerLost,
    internal,
    nearest,
)
from dspex.contracts.requests import Body
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from dspex.bus.core import Bus, Message
    from dspex.bus.incoming import Request

_log = logging.getLogger(__name__)


class Identity(Struct, frozen=True, kw_only=True):
    """Who answers.

    Attributes:
        subjects: Under the configured prefix.
        pool: Its pool.
        worker: Its incarnation.
        implementation: ``python`` or ``native``.
        request_timeout_s: Deadline of requests that bring none, seconds.
        dspy: Version of DSPy; empty without.
    """

    subjects: Subjects
    pool: str
    worker: str
    implementation: Literal["python", "native"]
    request_timeout_s: float = 120.0
    dspy: str = ""


class Outcome(Struct, frozen=True, kw_only=True):
    """What running a request gave.

    Attributes:
        outputs: As they go into the reply.
        usage: Tokens used.
        lm: The language model asked.
    """

    outputs: dict[str, Any]
    usage: Usage | None = None
    lm: str = ""


Run = Callable[[str, Body, Events], Awaitable[Outcome]]
"""Does an operation: its name, its body, and where to tell deltas."""


class Slots:
    """How many requests run at a time, and how many may wait.

    Args:
        concurrency: Requests that run.
        queue: Requests that wait beyond those.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self.concurrency = concurrency
        self.queue = queue
        self.in_flight = 0
        self.queued = 0
        self._free = asyncio.Semaphore(concurrency)

    @property
    def full(self) -> bool:
        """Whether one more request would have nowhere to wait."""
        return self.in_flight + self.queued >= self.concurrency + self.queue

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        self.queued += 1
        try:
            await self._free.acquire()
        finally:
            self.queued -= 1
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._free.release()


class _Attempt:
    """One request in hand: its task, and why it was stopped if it was."""

    def __init__(self, request: Request, events: Events) -> None:
        self.request = request
        self.events = events
        self.stopped_by: Failure | None = None
        self.queue_ms = 0.0
        self.begun = time.perf_counter()
        self.run_begun: float | None = None
        self._task = asyncio.current_task()

    def stop(self, failure: Failure) -> None:
        if self.stopped_by is None and self._task is not None:
            self.stopped_by = failure
            self._task.cancel()

    def gone(self) -> None:
        self.stop(Cancelled("The client stopped listening."))


class Answerer:
    """Answers requests that a router dispatches or a client sends directly."""

    def __init__(self, bus: Bus, identity: Identity, slots: Slots, run: Run) -> None:
        self.identity = identity
        self.slots = slots
        self._bus = bus
        self._run = run
        self._in_hand: dict[tuple[str, str], set[_Attempt]] = {}
        self._tasks = Tasks()

    async def dispatched(self, message: Message) -> str | None:
        """Answer what a router chose us for.

        Returns:
            The code of the failure it ended with; ``None`` without one.
        """
        timeout = self.identity.request_timeout_s
        try:
            request = incoming.read_dispatched(message, timeout)
            if self.slots.full:
                busy = BusyWord(request=request.id, queued=self.slots.queued)
                await self._say(message.reply, busy)
                return None
            word = AcceptedWord(request=request.id, queued=self.slots.queued)
            await self._say(message.reply, word)
            code = await self._answer(request)
        except Failure as failure:
            return await self._refuse(message, failure)
        except Exception:  # noqa: BLE001 - the router is told; the details stay in the log
            _log.exception("request failed")
            return await self._refuse(message, internal())
        said = FinishedWord(request=request.id, code=code or "done")
        await self._say(message.reply, said)
        return code

    async def direct(self, message: Message, operation: str) -> str | None:
        """Answer what a client sent without a router.

        Returns:
            The code of the failure it ended with; ``None`` without one.
        """
        timeout = self.identity.request_timeout_s
        tenant = self.identity.subjects.sender(message.subject).tenant
        request = incoming.read(message, operation, tenant, timeout)
        if self.slots.full:
            raise Overloaded(
                f"All {self.slots.concurrency} slots and {self.slots.queue} places "
                "to wait are taken.",
                hint="Send it again after a pause, or start more workers.",
                retry_after_ms=1000,
            )
        return await self._answer(request)

    async def cancel(self, message: Message) -> None:
        """Stop the request a message on a cancel subject names."""
        address = self.identity.subjects.read_cancel(message.subject)
        for attempt in self._in_hand.get((address.tenant, address.name), set()):
            attempt.stop(Cancelled("The client asked to stop it."))

    async def _refuse(self, message: Message, failure: Failure) -> str:
        """Leave the telling to the router: it knows the client and what it was told."""
        said = failed(message.headers.get(headers.REQUEST, ""), failure)
        word = RefusedWord(request=said.request, failure=said)
        await self._say(message.reply, word)
        return failure.code

    async def _answer(self, request: Request) -> str | None:
        """Run a request and tell its end; returns the code of its failure."""
        logs.request_id.set(request.id)
        subjects = self.identity.subjects
        audience = audience_of(request, subjects, request.attempt)
        events = Events(self._bus, audience)
        attempt = _Attempt(request, events)
        key = (request.tenant, request.id)
        self._in_hand.setdefault(key, set()).add(attempt)
        try:
            with tracing.span(request.operation, request.headers) as span:
                reply = await self._outcome(attempt)
                if isinstance(reply, Failed):
                    tracing.mark_failed(span, reply.code)
        finally:
            self._in_hand[key].discard(attempt)
            if not self._in_hand[key]:
                del self._in_hand[key]
        await attempt.events.finish(reply)
        return reply.code if isinstance(reply, Failed) else None

    async def _outcome(self, attempt: _Attempt) -> Reply:
        """Run it; every way it can end is a reply."""
        try:
            outcome = await self._within_deadline(attempt)
        except Failure as failure:
            return self._failed(attempt, failure)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            return self._failed(attempt, attempt.stopped_by or _stopping())
        except MemoryError:
            return self._failed(
                attempt, ResourceMemory("The process ran out of its memory limit.")
            )
        except Exception:  # noqa: BLE001 - the caller is told; the details stay in the log
            _log.exception("request failed")
            return self._failed(attempt, internal())
        return Done(
            request=attempt.request.id,
            outputs=outcome.outputs,
            metadata=replace(
                self._metadata(attempt), usage=outcome.usage, lm=outcome.lm
            ),
        )

    async def _within_deadline(self, attempt: _Attempt) -> Outcome:
        request = attempt.request
        remaining = request.remaining(incoming.now_ms())
        # The failure has to reach the client before the client stops waiting.
        margin = min(0.1, remaining * 0.05)
        limit = asyncio.timeout(remaining - margin)
        try:
            async with limit:
                body = _body(request, self.identity.implementation)
                attempt.events.reply_in(body.options.accept)
                async with self._watched(attempt), self.slots.take():
                    attempt.queue_ms = _ms_since(attempt.begun)
                    return await self._run_slot(attempt, body)
        except TimeoutError:
            if not limit.expired():
                raise  # the program's own, a defect like any other
            raise DeadlineExceeded(
                f"The deadline passed after {_ms_since(attempt.begun):.0f} ms, "
                f"of which {attempt.queue_ms:.0f} ms in the queue.",
                hint="Send a later Dspex-Deadline, or add capacity.",
            ) from None

    async def _run_slot(self, attempt: _Attempt, body: Body) -> Outcome:
        attempt.run_begun = time.perf_counter()
        events, operation = attempt.events, attempt.request.operation
        await events.emit(
            Started,
            operation=operation,
            pool=self.identity.pool,
            worker=self.identity.worker,
        )
        return await self._run(operation, body, events)

    @asynccontextmanager
    async def _watched(self, attempt: _Attempt) -> AsyncIterator[None]:
        """Keep its stream alive, in the queue too, and stop it when nobody reads."""
        if attempt.request.stream != "inbox":
            yield
            return
        watch = self._tasks.start(attempt.events.watch(attempt.gone), "watch")
        try:
            yield
        finally:
            watch.cancel()

    def _failed(self, attempt: _Attempt, failure: Failure) -> Reply:
        return failed(attempt.request.id, failure, self._metadata(attempt))

    def _metadata(self, attempt: _Attempt) -> Metadata:
        identity, request = self.identity, attempt.request
        return Metadata(
            implementation=identity.implementation,
            pool=identity.pool,
            worker=identity.worker,
            attempts=request.attempt,
            reason=request.reason,
            queue_ms=round(attempt.queue_ms, 3),
            run_ms=round(_ms_since(attempt.run_begun), 3) if attempt.run_begun else 0.0,
            total_ms=round(request.elapsed_ms + _ms_since(attempt.begun), 3),
            dspy=identity.dspy,
        )

    async def _say(self, reply: str, word: Word) -> None:
        if answerable(reply):
            await self._bus.publish(reply, encoding.encode(word))


def _body(request: Request, implementation: str) -> Body:
    """Decode the body as its operation wants it."""
    operation = catalog.operation(request.operation)
    if operation.implementation != implementation:
        raise Unsupported(
            f"{request.operation!r} is not done here. "
            + nearest(request.operation, catalog.served_by(implementation)),
            field=headers.OPERATION,
            hint="Publish on dspex.v1.call.<operation>; a router knows who does it.",
        )
    body: Body = encoding.decode(request.body, operation.request, request.media)
    return body


def _stopping() -> WorkerLost:
    return WorkerLost(
        "The process was stopped before the answer was ready.",
        hint="Send it again: another process will take it.",
    )


def _ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
