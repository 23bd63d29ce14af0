"""One session in the memory of the process that holds it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from dspex.bus.session_log import NOTHING
from dspex.contracts import headers
from dspex.contracts.failures import Cancelled
from dspex.contracts.subjects import DEFAULT_TENANT

if TYPE_CHECKING:
    from dspex.bus.core import Message, Subscription
    from dspex.bus.running import Attempt
    from dspex.bus.session_log import Found

LONGEST = 19
"""Digits of a fence at most."""


class Held:
    """One session.

    Args:
        tenant: Whose it is.
        session: Its id.

    Attributes:
        found: What its log says; nothing until it was read.
        fence: By which it is held; 0: not yet.
        subscription: Where its turns come in.
        attempts: Turns that run or wait.
        lock: Held by the turn that runs.
        used: When the last turn began or ended, steady seconds.
        over: It is not held any more.
    """

    def __init__(self, tenant: str, session: str) -> None:
        self.tenant = tenant
        self.session = session
        self.found: Found = NOTHING
        self.fence = 0
        self.subscription: Subscription | None = None
        self.attempts: list[Attempt] = []
        self.lock = asyncio.Lock()
        self.used = time.monotonic()
        self.over = False

    @property
    def is_idle(self) -> bool:
        """Whether no turn runs or waits."""
        return not self.attempts

    def knows(self, request: str) -> bool:
        """Whether a request runs, waits, or is logged."""
        if any(one.request.id == request for one in self.attempts):
            return True
        state = self.found.state
        return state is not None and state.find(request) is not None

    def concerns(self, message: Message) -> bool:
        """Whether what came on its subject names it, and no other session."""
        found = message.headers
        tenant = found.get(headers.TENANT, DEFAULT_TENANT)
        return (tenant, found.get(headers.SESSION)) == (self.tenant, self.session)

    def precedes(self, message: Message) -> bool:
        """Whether what came is for a later holder, or says nothing of that."""
        fence = message.headers.get(headers.FENCE, "")
        known = fence.isdecimal() and len(fence) < LONGEST
        return not known or int(fence) > self.fence

    def begin(self, attempt: Attempt) -> None:
        """Have a turn more; those before it are stopped if the session wants that."""
        state = self.found.state
        if state is not None and state.settings.on_busy == "interrupt":
            for one in self.attempts:
                one.stop(Cancelled("A newer turn of its session interrupted it."))
        self.attempts.append(attempt)
        self.used = time.monotonic()

    def end(self, attempt: Attempt) -> None:
        """Have it no longer."""
        self.attempts.remove(attempt)
        self.used = time.monotonic()
