"""The sessions that this process holds: one turn after another, each logged.

A turn is logged before it is answered, and only the latest holder can log: whoever was
frozen, cut off or replaced finds that out when it tries, drops the session, and tells
nobody an end. What runs a turn is what runs any request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from dspex.bus.clock import now_ms
from dspex.bus.running import Moved, Outcome
from dspex.bus.session_holders import Holders
from dspex.bus.session_log import SessionLogs
from dspex.bus.tasks import Tasks
from dspex.contracts import encoding, headers
from dspex.contracts.failures import (
    BusUnavailable,
    Conflict,
    Failure,
    NotFound,
    OutputInvalid,
    Quota,
)
from dspex.contracts.sessions import HeldEntry, TurnEntry
from dspex.contracts.subjects import answerable
from dspex.contracts.words import BusyWord, MovedWord
from dspex.native.programs.turns import whole, with_history
from dspex.services.worker.admitting import admit
from dspex.services.worker.held import Held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Handler, Message
    from dspex.bus.events import Events
    from dspex.bus.incoming import Request
    from dspex.bus.running import Attempt, Run
    from dspex.bus.slots import Slots
    from dspex.contracts.session_requests import Turn
    from dspex.contracts.sessions import SessionState
    from dspex.contracts.subjects import Subjects
    from dspex.contracts.words import Word

_log = logging.getLogger(__name__)

TRIES = 16
"""How often a log is read again because something else was added to it."""

SWEEP = 1.0
"""Seconds between two looks for sessions that are idle."""

_ENVELOPE = 8 * 1024
"""Bytes of a reply beside its outputs, at most."""


class Limits(Struct, frozen=True, kw_only=True):
    """How many sessions stay in memory.

    Attributes:
        most: At a time; the least recently used idle ones leave.
        idle: Seconds without a turn after which one leaves.
    """

    most: int
    idle: float


class Sessions:
    """The sessions of one worker; those of `dspex.bus.running.Turns`.

    Args:
        bus: Where.
        subjects: Under which prefix.
        worker: This process's incarnation.
        slots: Its slots.
        limits: How many sessions stay in memory.
    """

    def __init__(
        self,
        bus: NatsBus,
        subjects: Subjects,
        worker: str,
        slots: Slots,
        limits: Limits,
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._worker = worker
        self._slots = slots
        self._limits = limits
        self._logs = SessionLogs(bus, subjects)
        self._holders = Holders(bus, subjects.prefix)
        self._held: dict[tuple[str, str], Held] = {}
        self._tasks = Tasks()
        self._drains = False
        self._take: Handler | None = None

    def __len__(self) -> int:
        return len(self._held)

    def start(self, take: Handler) -> None:
        """Take turns from now on.

        Args:
            take: Takes what routers dispatch.
        """
        self._take = take
        self._tasks.start(self._sweep(), "sweep")

    def drain(self) -> None:
        """Let every session go, once its last turn has ended."""
        self._drains = True
        for held in list(self._held.values()):
            self._let_go_if_idle(held)

    async def stop(self) -> None:
        """Let what is left go; nothing runs any more."""
        for held in list(self._held.values()):
            await self._let_go(held)
        await self._tasks.cancel()

    def refusal(self, request: Request) -> type[Word] | None:
        """As `dspex.bus.running.Turns`."""
        held = self._held.get((request.tenant, request.session))
        if held is None or held.knows(request.id):
            return None
        if request.fence < held.fence:
            return MovedWord
        if held.found.state is None:
            return None
        has_room = self._slots.in_flight < self._slots.concurrency
        decided = admit(held.found.state.settings, len(held.attempts), has_room)
        return None if decided == "take" else BusyWord

    @asynccontextmanager
    async def turn(self, attempt: Attempt) -> AsyncIterator[None]:
        """As `dspex.bus.running.Turns`."""
        request = attempt.request
        key = (request.tenant, request.session)
        held = self._held.setdefault(key, Held(*key))
        held.begin(attempt)
        try:
            async with held.lock:
                if held.over:
                    raise Moved
                if held.fence < request.fence:
                    await self._hold(held, request.fence)
                yield
        finally:
            held.end(attempt)
            if self._drains:
                self._let_go_if_idle(held)

    async def run(
        self, operation: str, turn: Turn, events: Events, run: Run
    ) -> Outcome:
        """Do a turn whose turn it is, or say again what it gave.

        Args:
            operation: What is asked.
            turn: What for.
            events: Where its life is told.
            run: Runs what it stands for.

        Raises:
            Moved: Another process holds the session now.
            Failure: It is refused, or failed; nothing was logged.
        """
        audience = events.audience
        held = self._held[audience.subjects.tenant, audience.session]
        state = held.found.state
        if state is None or state.is_over(now_ms()):
            # Perhaps another one was opened under its id: whoever holds it next looks.
            await self._drop(held)
            raise Moved
        logged = state.find(audience.request)
        if logged is not None:
            if (logged.operation, logged.inputs) != (operation, turn.inputs):
                raise _other_turn(audience.request)
            return Outcome(outputs=logged.outputs, usage=logged.usage, lm=logged.lm)
        _require_room(state)
        body = whole(state.settings, operation, turn)
        inputs, kept = with_history(body, state.turns)
        outcome = await run(operation, replace(body, inputs=inputs), events)
        self._require_sendable(outcome, audience.takes_claims)
        entry = TurnEntry(
            at=now_ms(),
            fence=held.fence,
            request=audience.request,
            operation=operation,
            inputs=dict(kept),
            outputs=outcome.outputs,
            usage=outcome.usage,
            lm=outcome.lm,
        )
        # What has begun to be logged is logged to the end, whoever wants it stopped.
        await self._to_the_end(self._commit(held, entry))
        return outcome

    async def _hold(self, held: Held, fence: int) -> None:
        """Read a session, write down that it is held here, and listen for its turns."""
        try:
            await self._take_over(held, fence)
            if held.subscription is None:
                await self._listen(held)
        except BaseException:
            await self._drop(held)
            raise
        self._make_room()

    async def _listen(self, held: Held) -> None:
        def take(message: Message) -> None:
            if self._take is None or not held.concerns(message):
                return
            if held.precedes(message):
                self._tasks.start(self._give_up(held, message), "give up")
            else:
                self._take(message)

        subject = self._subjects.of(held.tenant).session_run(held.session)
        held.subscription = await self._bus.subscribe(subject, take)
        await self._bus.flush()

    async def _give_up(self, held: Held, message: Message) -> None:
        """Say that the session has a later holder; it is listening on for nothing."""
        await self._drop(held)
        request = message.headers.get(headers.REQUEST, "")
        if answerable(message.reply):
            word = encoding.encode(MovedWord(request=request))
            await self._bus.publish(message.reply, word)

    async def _take_over(self, held: Held, fence: int) -> None:
        tenant, session, found = held.tenant, held.session, held.found
        for _ in range(TRIES):
            found = await self._logs.read(tenant, session, found)
            state = found.live(session, now_ms())
            mine = (state.fence, state.worker) == (fence, self._worker)
            if state.fence >= fence and not mine:
                raise Moved
            entry = HeldEntry(at=now_ms(), worker=self._worker, fence=fence)
            try:
                if not mine:
                    found = await self._logs.append(tenant, session, found, entry)
            except Conflict:
                continue
            held.found, held.fence = found, fence
            return
        raise _restless(session)

    async def _commit(self, held: Held, entry: TurnEntry) -> None:
        """Log a turn, behind whatever else was logged, if the session is still ours."""
        try:
            for _ in range(TRIES):
                if await self._logged(held, entry):
                    break
            else:
                raise _restless(held.session)
        except (Moved, NotFound, BusUnavailable):
            # Of a log that did not answer nobody knows what it holds: read it anew.
            await self._drop(held)
            raise
        await self._compact(held)

    async def _logged(self, held: Held, entry: TurnEntry) -> bool:
        tenant, session = held.tenant, held.session
        try:
            held.found = await self._logs.append(tenant, session, held.found, entry)
        except Conflict:
            found = await self._logs.read(tenant, session, held.found)
            state = found.live(session, now_ms())
            if state.fence != held.fence:
                raise Moved from None
            held.found = found
            return state.find(entry.request) is not None
        return True

    async def _compact(self, held: Held) -> None:
        if not held.found.wants_snapshot(now_ms()):
            return
        try:
            held.found = await self._logs.compact(held.tenant, held.session, held.found)
        except Conflict:
            return  # the next turn finds out by whom
        except Failure as failure:
            _log.warning("no snapshot: %s", failure.message)

    async def _to_the_end(self, work: Awaitable[None]) -> None:
        task = self._tasks.start(_caught(work), "commit")
        me = asyncio.current_task()
        while True:
            try:
                problem = await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled() or me is None:
                    raise
                me.uncancel()
                continue
            if problem is not None:
                raise problem
            return

    def _require_sendable(self, outcome: Outcome, takes_claims: bool) -> None:
        size, limit = len(encoding.encode(outcome.outputs)), self._bus.max_payload
        if takes_claims and self._bus.claims is not None:
            limit = self._bus.claims.bodies.largest
        if size > limit - _ENVELOPE:
            raise OutputInvalid(
                f"The outputs cannot be sent: they have {size} bytes.",
                hint=f"Ask for less, or say {headers.BODY}: accept and read them as "
                "an object.",
            )

    def _make_room(self) -> None:
        """Let the least recently used go where there are more than may be."""
        too_many = len(self._held) - self._limits.most
        if too_many > 0:
            idle = [one for one in self._held.values() if one.is_idle]
            for held in sorted(idle, key=lambda one: one.used)[:too_many]:
                self._let_go_if_idle(held)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP, self._limits.idle))
            before = time.monotonic() - self._limits.idle
            for held in list(self._held.values()):
                if held.used < before:
                    self._let_go_if_idle(held)

    def _let_go_if_idle(self, held: Held) -> None:
        if held.is_idle:
            self._tasks.start(self._let_go(held), "let go")

    async def _let_go(self, held: Held) -> None:
        """Hold a session no longer, and say so."""
        if not held.is_idle:
            return  # a turn came meanwhile
        await self._drop(held)
        if not held.fence:
            return
        try:
            await self._holders.release(held.tenant, held.session, held.fence)
        except Conflict:
            return  # somebody else holds it
        except Failure as failure:
            _log.warning("a session was not released: %s", failure.message)

    async def _drop(self, held: Held) -> None:
        """Forget a session; who waits for it is told that it is elsewhere."""
        held.over = True
        if self._held.get((held.tenant, held.session)) is held:
            del self._held[held.tenant, held.session]
        subscription, held.subscription = held.subscription, None
        if subscription is not None:
            await subscription.drain()


async def _caught(work: Awaitable[None]) -> Exception | None:
    """What some work raised, for whoever waits for it to raise."""
    try:
        await work
    except Exception as problem:  # noqa: BLE001 - raised by who waits
        return problem
    return None


def _other_turn(request: str) -> Conflict:
    return Conflict(
        f"Another turn of the session has the id {request!r}: the same id means the "
        "same turn, which is answered once.",
        field=headers.REQUEST,
        hint="Use a new id for every turn, such as a UUID.",
    )


def _restless(session: str) -> BusUnavailable:
    return BusUnavailable(
        f"The log of session {session!r} changes all the time: the turn is not in it.",
        hint="Send it again once fewer values are stored at a time.",
    )


def _require_room(state: SessionState) -> None:
    most = state.settings.max_turns
    if len(state.turns) >= most:
        raise Quota(
            f"The session has {most} turns, as many as it was opened for.",
            field="max_turns",
            hint="Fork it from an earlier turn, or open another one.",
        )
