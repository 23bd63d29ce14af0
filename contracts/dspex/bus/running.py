"""Running one request: wait for a slot, run, and make a reply of every way it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    nullcontext,
)
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from dspex.bus import metrics
from dspex.bus.clock import now_ms
from dspex.bus.events import Events
from dspex.bus.incoming import DIRECT
from dspex.bus.requested import tell_requested
from dspex.bus.tasks import Tasks
from dspex.contracts import catalog, encoding, headers
from dspex.contracts.envelope import Done, Metadata, Reply, Started, Usage, failed
from dspex.contracts.failures import (
    Cancelled,
    DeadlineExceeded,
    Failure,
    ProgramError,
    ResourceMemory,
    Unsupported,
    WorkerLost,
    internal,
    nearest,
)
from dspex.contracts.requests import Body
from dspex.contracts.session_requests import Turn
from dspex.contracts.subjects import Subjects
from dspex.contracts.words import MovedWord, ShortWord

if TYPE_CHECKING:
    from dspex.bus.incoming import Request
    from dspex.bus.slots import Slots
    from dspex.contracts.words import Word

_log = logging.getLogger(__name__)


class Identity(Struct, frozen=True, kw_only=True):
    """Who answers.

    Attributes:
        subjects: Under the configured prefix.
        pool: Its pool.
        worker: Its incarnation.
        implementation: ``python``, ``native``, ``state`` or ``replay``.
        operations: What it can do.
        request_timeout_s: Deadline of requests that bring none, seconds.
        dspy: Version of DSPy; empty without.
    """

    subjects: Subjects
    pool: str
    worker: str
    implementation: Literal["python", "native", "state", "replay"]
    operations: frozenset[str]
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


class Superseded(Exception):
    """A router gave the request to another process: nobody is told its end here.

    Attributes:
        word: What the router is told, where that process is for it to find.
        said: What the word says beside.
    """

    word: type[Word] | None = None
    said: Mapping[str, Any] = MappingProxyType({})


class Moved(Superseded):
    """Another process holds the session that the request is a turn of."""

    word = MovedWord


class Short(Superseded):
    """The GPU of this process has not the memory that the request needs.

    Args:
        gpu_mib: How much that is.
    """

    word = ShortWord

    def __init__(self, gpu_mib: int) -> None:
        super().__init__()
        self.said = {"gpu_memory_mib": gpu_mib}


class Turns(Protocol):
    """Sees to it that the turns of a session run here, one after another."""

    def __len__(self) -> int:
        """How many sessions are held; asked from another thread too."""
        ...

    def refusal(self, request: Request) -> type[Word] | None:
        """Why a turn is not taken; ``None``: it is.

        Raises:
            Failure: It is refused, and the client is to be told so.
        """
        ...

    def turn(self, attempt: Attempt) -> AbstractAsyncContextManager[None]:
        """Wait until it is a turn's turn, and hold its session meanwhile.

        Raises:
            Moved: Another process holds the session.
            Failure: There is no such session.
        """
        ...


class Attempt:
    """One request in hand: its task, and why it was stopped if it was.

    Attributes:
        superseded: A router gave it to another process: nobody is told its end.
        idempotent: Whether it may run again; known once its body was read.
    """

    def __init__(self, request: Request, events: Events) -> None:
        self.request = request
        self.events = events
        self.superseded = False
        self.idempotent = True
        self.ended: asyncio.Future[Reply | None] = asyncio.Future()
        self.stopped_by: Failure | None = None
        self.queue_ms = 0.0
        self.begun = time.perf_counter()
        self.run_begun: float | None = None
        self._task = asyncio.current_task()

    def stop(self, failure: Failure) -> None:
        """End it with ``failure``, unless something else ended it before."""
        if self.stopped_by is None and self._task is not None:
            self.stopped_by = failure
            self._task.cancel()

    def gone(self) -> None:
        """End it, for nobody reads its stream."""
        self.stop(Cancelled("The client stopped listening."))


class Runner:
    """Runs requests in the slots of a process.

    Args:
        identity: Who it is.
        slots: How many run at a time.
        run: Does an operation.
        turns: Sees to the turns of sessions, in processes that hold some.
    """

    def __init__(
        self, identity: Identity, slots: Slots, run: Run, turns: Turns | None = None
    ) -> None:
        self._turns = turns
        self._identity = identity
        self._slots = slots
        self._run = run
        self._tasks = Tasks()

    async def outcome(self, attempt: Attempt) -> Reply:
        """Run it; every way it can end is a reply."""
        reply = await self._reply(attempt)
        code = "done" if isinstance(reply, Done) else reply.code
        seconds = time.perf_counter() - attempt.begun
        metrics.served(attempt.request.operation, self._identity.pool, code, seconds)
        return reply

    async def _reply(self, attempt: Attempt) -> Reply:
        try:
            outcome = await self._within_deadline(attempt)
        except Failure as failure:
            return self._failed(attempt, failure)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            if attempt.superseded:
                raise Superseded from None
            return self._failed(attempt, attempt.stopped_by or stopping())
        except Superseded:
            raise
        except (MemoryError, SystemExit) as error:
            return self._failed(attempt, _of_the_program(error))
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

    async def _within_deadline(self, attempt: Attempt) -> Outcome:
        request = attempt.request
        remaining = request.remaining(now_ms())
        # The failure has to reach the client before the client stops waiting.
        margin = min(0.1, remaining * 0.05)
        limit = asyncio.timeout(remaining - margin)
        try:
            async with limit, attempt.events.whole(request) as whole:
                body = _body(whole, self._identity.operations)
                attempt.events.reply_in(body.options.accept)
                if request.reason == DIRECT:
                    await tell_requested(attempt.events, whole, body)
                attempt.idempotent = is_idempotent(request.operation, body)
                stays = body.options.on_disconnect == "continue"
                async with (
                    self._watched(attempt, stays),
                    self._turn(attempt),
                    self._slots.take(),
                ):
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

    def _turn(self, attempt: Attempt) -> AbstractAsyncContextManager[None]:
        if self._turns is None or not attempt.request.session:
            return nullcontext()
        return self._turns.turn(attempt)

    async def _run_slot(self, attempt: Attempt, body: Body) -> Outcome:
        attempt.run_begun = time.perf_counter()
        events, operation = attempt.events, attempt.request.operation
        await events.emit(
            Started,
            operation=operation,
            pool=self._identity.pool,
            worker=self._identity.worker,
        )
        return await self._run(operation, body, events)

    @asynccontextmanager
    async def _watched(self, attempt: Attempt, stays: bool) -> AsyncIterator[None]:
        """Keep its stream alive, in the queue too, and stop it when nobody reads."""
        if attempt.request.stream != "inbox":
            yield
            return
        gone = _nothing if stays else attempt.gone
        watch = self._tasks.start(attempt.events.watch(gone), "watch")
        try:
            yield
        finally:
            watch.cancel()

    def _failed(self, attempt: Attempt, failure: Failure) -> Reply:
        return failed(attempt.request.id, failure, self._metadata(attempt))

    def _metadata(self, attempt: Attempt) -> Metadata:
        identity, request = self._identity, attempt.request
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


def _nothing() -> None:
    """Let a stream run on that nobody reads."""


def _body(request: Request, operations: frozenset[str]) -> Body:
    """Decode the body as its operation wants it."""
    operation = catalog.operation(request.operation)
    if operation.name not in operations:
        raise Unsupported(
            f"{request.operation!r} is not done here. "
            + nearest(request.operation, operations),
            field=headers.OPERATION,
            hint="Publish on dspex.v1.call.<operation>; a router knows who does it.",
        )
    wanted = Turn if request.session else operation.request
    body: Body = encoding.decode(request.body, wanted, request.media)
    if request.lm and "lm" in body.__struct_fields__:
        named = {"lm": request.lm}  # not every body has it, so mypy would refuse it
        return replace(body, **named)
    return body


def is_idempotent(operation: str, body: Body) -> bool:
    """Whether a request may run twice: as it says itself, or as its operation is."""
    said = body.options.idempotent
    if said is not None:
        return said
    return catalog.operation(operation).idempotent and body.repeatable


def _of_the_program(error: MemoryError | SystemExit) -> Failure:
    if isinstance(error, MemoryError):
        return ResourceMemory("The process ran out of its memory limit.")
    # A program may end itself, not the process it shares with others.
    return ProgramError("The program called sys.exit().")


def stopping() -> WorkerLost:
    """What a request is told that the end of its process cut off."""
    return WorkerLost(
        "The process was stopped before the answer was ready.",
        hint="Send it again: another process will take it.",
    )


def _ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
