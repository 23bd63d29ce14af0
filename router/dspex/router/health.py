"""How well processes and language models do, and how much may be tried again."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dspex.contracts.failures import DeadlineExceeded
from dspex.router.breakers import (
    LM,
    WORKER,
    Breakers,
    BreakerSettings,
    Scope,
    outcome_of,
)
from dspex.router.retries import RetryBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dspex.contracts.admin import OpenBreaker
    from dspex.router.breakers import Call, Change, Key
    from dspex.router.targets import Targets
    from dspex.router.tickets import Ticket


class Health:
    """Breakers and the retry budget, applied to requests.

    Args:
        targets: Everybody there is; told whose breaker is open.
        changed: Called when a breaker changes.
        slow_call: A call of a language model that takes longer, in seconds, is slow;
            ``None``: none is.
    """

    def __init__(
        self,
        targets: Targets,
        changed: Callable[[Change], None],
        slow_call: float | None = None,
    ) -> None:
        self._targets = targets
        self._slow_call = slow_call
        self._changed = changed
        settings: dict[Scope, BreakerSettings] = {
            "worker": WORKER,
            "lm": replace(LM, slow_after=slow_call),
        }
        self._breakers = Breakers(random.Random(), settings)
        self._budget = RetryBudget()
        self._turns: deque[asyncio.Future[None]] = deque()

    def admits_lm(self, kind: str, now: float) -> bool:
        """Whether a language model may be asked for an operation.

        Args:
            kind: The operation and the name of the language model.
            now: Steady time, in seconds.
        """
        return self._breakers.admits(("lm", kind), now)

    def lm_pause(self, kind: str, now: float) -> float:
        """Seconds until it may be asked again."""
        return self._breakers.pause(("lm", kind), now)

    def begin(self, worker: str, kind: str, now: float) -> list[Call]:
        """Begin an attempt.

        Args:
            worker: Who is asked.
            kind: The operation and the language model; empty: none is asked.
            now: Steady time, in seconds.

        Returns:
            What ``end`` takes.
        """
        keys: list[Key] = [("worker", worker)]
        if kind:
            keys.append(("lm", kind))
        calls = [self._breakers.begin(key, now) for key in keys]
        self._bar(worker, now)
        return calls

    def end(self, calls: list[Call], code: str, seconds: float, now: float) -> None:
        """End an attempt.

        Args:
            calls: What ``begin`` returned.
            code: ``done``, or the code of its failure; empty: nothing had started.
            seconds: How long it took.
            now: Steady time, in seconds.
        """
        for call in calls:
            scope, name = call[0]
            outcome = outcome_of(code, scope)
            if scope == "lm" and self._hung(code, seconds):
                outcome = "failure"
            change = self._breakers.end(call, outcome, seconds, now)
            if change is not None:
                self._changed(change)
            if scope == "worker":
                self._bar(name, now)

    def refresh(self, now: float) -> None:
        """Take in what the passing of time has changed."""
        for change in self._breakers.half_opened(now):
            self._changed(change)
            if change.scope == "worker":
                self._bar(change.name, now)

    def forget(self, worker: str) -> None:
        """Drop what is known of a process that is gone."""
        self._breakers.forget(("worker", worker))

    def open(self, now: float) -> list[OpenBreaker]:
        """The breakers that are not closed, for people."""
        return self._breakers.open(now)

    @asynccontextmanager
    async def turn(self, ticket: Ticket, *, is_retry: bool) -> AsyncIterator[None]:
        """Be an attempt at a request; a retry beyond the budget waits for its turn.

        Raises:
            Failure: The request was stopped, or its deadline came.
        """
        budget = self._budget
        if is_retry:
            await self._retry_turn(ticket)
        budget.begin_request()
        try:
            yield
        finally:
            budget.end_request()
            if is_retry:
                budget.end_retry()
                self._next_turn()

    async def _retry_turn(self, ticket: Ticket) -> None:
        if not self._turns and self._budget.try_retry():
            return
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            async with asyncio.timeout(max(0.0, ticket.remaining)):
                async with ticket.waiting():
                    await turn
        except BaseException as error:
            if turn in self._turns:
                self._turns.remove(turn)
            elif turn.done() and not turn.cancelled():
                self._budget.end_retry()  # its turn had come in the same moment
                self._next_turn()
            if isinstance(error, TimeoutError):
                raise _too_many_retries() from None
            raise

    def _next_turn(self) -> None:
        while self._turns and self._budget.try_retry():
            turn = self._turns.popleft()
            if turn.done():
                self._budget.end_retry()
            else:
                turn.set_result(None)

    def _hung(self, code: str, seconds: float) -> bool:
        """Whether a deadline came while a language model was slow to answer."""
        slow = self._slow_call
        return slow is not None and code == DeadlineExceeded.code and seconds > slow

    def _bar(self, worker: str, now: float) -> None:
        target = self._targets.get(worker)
        if target is not None:
            target.barred = not self._breakers.admits(("worker", worker), now)


def _too_many_retries() -> DeadlineExceeded:
    return DeadlineExceeded(
        "The deadline passed while other retries went first: too much fails here.",
        hint="Look at `dspex decisions` and the workers' logs.",
    )
