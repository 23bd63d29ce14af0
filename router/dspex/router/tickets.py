"""One request in the router's hands."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from dspex.bus.clock import now_ms
from dspex.bus.tasks import Tasks
from dspex.contracts.failures import Cancelled, Failure
from dspex.router.attempts import Course

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.events import Events
    from dspex.bus.incoming import Request
    from dspex.contracts.envelope import Decision, Failed
    from dspex.router.sessions import Seat


class Elsewhere(Exception):
    """Another router gave the same request to a process: it runs there already."""


class Ticket:
    """One request in the router's hands, in the task that sees to it.

    Attributes:
        request: As its headers describe it.
        events: Where its life is told.
        received: When it came, by ``time.perf_counter``.
        priority: Who goes first where requests wait; 1 first, 5 last.
        idempotent: Whether it may run more than once.
        outlives_its_reader: Whether it runs on when nobody reads its stream.
        attempt: Number of the last dispatch.
        course: How its attempts went.
        asked_lm: The language model it asks for; empty: that of who answers.
        stood_in: Another language model than the one asked for was asked last.
        accepted: A process has it and will answer the client itself.
        was_busy: A process it was sent to had no room.
        was_deaf: The bus was away since it was accepted: its end may be told already.
        hoped: Seconds it waited for somebody to come.
        waited_ms: Milliseconds it waited for its turn.
        margin: Seconds before the deadline at which the router answers itself:
            ``grace``, and less when there is little time.
        stopped_by: Why it shall stop.
        told: The failure that this router told the client, if it did.
        ended: Set when the router is done with it.
        asked: Who was asked last; it may have begun.
        follows: Whether who is asked now had this very request before.
        seat: Its place at the holder of its session, if it is a turn of one.
    """

    def __init__(self, request: Request, events: Events, grace: float) -> None:
        self.request = request
        self.events = events
        self.received = time.perf_counter()
        self.priority = 3
        self.idempotent = True
        self.outlives_its_reader = False
        self.attempt = 0
        self.course = Course()
        self.asked_lm = ""
        self.stood_in = False
        self.accepted = False
        self.was_busy = False
        self.was_deaf = False
        self.hoped = 0.0
        self.waited_ms = 0.0
        self.margin = min(grace, request.remaining(now_ms()) * 0.025)
        self.stopped_by: Failure | None = None
        self.told: Failed | None = None
        self.ended = asyncio.Event()
        self.asked = ""
        self.follows = False
        self.seat: Seat | None = None
        self._task = asyncio.current_task()
        self._waits = False
        self._elsewhere = False
        self._watches = Tasks()

    @property
    def remaining(self) -> float:
        """Seconds until the router itself has to answer."""
        return self.request.remaining(now_ms()) - self.margin

    @property
    def cancelled(self) -> bool:
        """Whether it shall stop."""
        return self.stopped_by is not None

    @property
    def is_known(self) -> bool:
        """Whether who is asked had it before, and must not begin it anew."""
        again = (self.follows or self.accepted) and self.seat is None
        return again and not self.idempotent

    def begin(self, decision: Decision) -> str:
        """Begin an attempt; returns who was asked before."""
        before, self.asked = self.asked, decision.worker
        self.attempt = decision.attempt
        self.stood_in = bool(decision.lm)
        self.accepted = self.was_deaf = False
        return before

    def stop(self, why: Failure) -> None:
        """Stop it: at once where it waits here, else where it runs."""
        if self.stopped_by is None:
            self.stopped_by = why
            self._interrupt()

    def gone(self) -> None:
        """Stop it, for nobody reads its stream."""
        self.stop(Cancelled("The client stopped listening."))

    def runs_elsewhere(self) -> None:
        """Another router gave the same request to a process."""
        if not self.attempt and not self._elsewhere:
            self._elsewhere = True
            self._interrupt()

    def check(self) -> None:
        """Let it go on, if it shall.

        Raises:
            Failure: It was stopped.
            Elsewhere: It runs already, and shall be followed there; raised once.
        """
        if self.stopped_by is not None:
            raise self.stopped_by
        if self._elsewhere:
            self._elsewhere = False
            raise Elsewhere

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """While it waits for something here, it can be stopped at once.

        Its stream is kept alive meanwhile, and watched: a reader that is gone stops it.

        Raises:
            Failure: It was stopped.
            Elsewhere: It runs already.
        """
        self.check()
        watched = self.request.stream == "inbox" and not self.outlives_its_reader
        if watched:
            self._watches.start(self.events.watch(self.gone), "watch")
        self._waits = True
        try:
            yield
        except asyncio.CancelledError:
            if self._task is not None and (self.cancelled or self._elsewhere):
                self._task.uncancel()
                self.check()
            raise
        finally:
            self._waits = False
            if watched:
                await self._watches.cancel()

    def _interrupt(self) -> None:
        if self._waits and self._task is not None:
            self._waits = False  # once is enough, whatever comes next
            self._task.cancel()
