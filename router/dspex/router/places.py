"""Waiting for a place in a pool: the gates of ``admission``, with futures."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from dspex.contracts.failures import DeadlineExceeded, NoWorker, Overloaded
from dspex.router.admission import Admitted, Entry, Gate, Refused, expected_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.router.settings import Settings
    from dspex.router.targets import Target, Targets
    from dspex.router.tickets import Ticket


class QueueFull(Exception):
    """A pool has no place for one more request to wait."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Places:
    """Who may go where now, and who waits.

    Args:
        targets: Everybody there is.
        settings: How many may wait, and how long.
        weights: Shares of tenants that wait for the same places.
        clock: Steady, in seconds.
    """

    def __init__(
        self,
        targets: Targets,
        settings: Settings,
        weights: Mapping[str, float],
        clock: Callable[[], float],
    ) -> None:
        self._targets = targets
        self._settings = settings
        self._weights = weights
        self._clock = clock
        self._gates: dict[str, Gate] = {}
        self._futures: dict[int, asyncio.Future[None]] = {}
        self._pools: dict[int, str] = {}
        self._news = asyncio.Event()

    @property
    def held(self) -> dict[str, int]:
        """Requests that have a place, by pool."""
        return {pool: gate.held for pool, gate in self._gates.items()}

    @property
    def queued(self) -> dict[str, int]:
        """Requests that wait for one, by pool; safe from another thread."""
        return {pool: gate.queued for pool, gate in self._gates.copy().items()}

    async def take(self, ticket: Ticket, pool: str, typical: float | None) -> bool:
        """Get a place in a pool, at once or after a wait.

        Args:
            ticket: Who wants it.
            pool: Where.
            typical: Seconds that such a request takes, if that is known.

        Returns:
            Whether it waited.

        Raises:
            QueueFull: No more may wait.
            Overloaded: It waited as long as it may.
            DeadlineExceeded: It waited until its deadline, or would wait longer.
            NoWorker: The last worker left while it waited.
            Failure: It was stopped while it waited.
        """
        gate, now = self._gate(pool), self._clock()
        patience = min(self._settings.queue_timeout, ticket.remaining)
        entry = Entry(
            key=id(ticket),
            tenant=ticket.request.tenant,
            priority=ticket.priority,
            expires=now + patience,
        )
        self.poke(pool)  # places there are more of now are for those who wait
        outcome = gate.enter(entry, now)
        if isinstance(outcome, Admitted):
            return False
        if isinstance(outcome, Refused):
            raise self._full(pool, gate, typical)
        if outcome.displaced is None:
            self._check_time(ticket, pool, gate, typical)
        future = self._futures[entry.key] = asyncio.get_running_loop().create_future()
        self._pools[entry.key] = pool
        if outcome.displaced is not None:
            self._refuse(outcome.displaced, pool, gate, typical)
        begun = time.perf_counter()
        try:
            await self._wait(ticket, future, patience)
        except BaseException:
            gate.leave(entry.key, self._clock())
            self.poke(pool)
            raise
        finally:
            del self._futures[entry.key], self._pools[entry.key]
            ticket.waited_ms += (time.perf_counter() - begun) * 1000
        return True

    def _check_time(
        self, ticket: Ticket, pool: str, gate: Gate, typical: float | None
    ) -> None:
        """Refuse at once what will not have its turn by its deadline.

        Raises:
            DeadlineExceeded: It would wait in vain.
        """
        ahead, limit = gate.position(id(ticket)), self._targets.places(pool)
        if typical is None or ahead is None:
            return
        wait = expected_wait(ahead, limit, typical)
        if wait < ticket.remaining or not limit:
            return
        gate.leave(id(ticket), self._clock())
        raise DeadlineExceeded(
            f"{ahead} requests wait before it in pool {pool!r}, about {wait:.1f} s, "
            f"and {ticket.remaining:.1f} s are left.",
            hint="Send a later Dspex-Deadline, or start more workers.",
        )

    def give_back(self, ticket: Ticket, pool: str) -> None:
        """Leave a place to the next one."""
        self._gates[pool].leave(id(ticket), self._clock())
        self.poke(pool)

    def poke(self, pool: str) -> None:
        """Look whether those who wait may go now: something changed there."""
        gate = self._gates.get(pool)
        if gate is None or not gate.queued:
            return
        self._resize(pool, gate)
        for entry in gate.hand_out(self._clock()):
            future = self._futures[entry.key]
            if not future.done():
                future.set_result(None)

    def heard(self, target: Target) -> None:
        """The same, for a process that spoke."""
        self.poke(target.beat.pool)

    def heard_from(self, pool: str) -> None:
        """The same, after a heartbeat; those who wait for any news have some."""
        self.poke(pool)
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def news(self, ticket: Ticket, timeout: float) -> None:
        """Wait for a heartbeat of anybody, or until the time is over.

        Raises:
            Failure: The request was stopped meanwhile.
        """
        try:
            async with asyncio.timeout(timeout):
                async with ticket.waiting():
                    await self._news.wait()
        except TimeoutError:
            return

    def refresh(self) -> None:
        """Look at all pools; nobody waits for one in which nobody is left."""
        for pool, gate in list(self._gates.items()):
            self.poke(pool)
            if self._targets.is_open(pool):
                continue
            for future in self._waiting_for(pool):
                future.set_exception(NoWorker(f"Pool {pool!r} has no worker left."))
            if not gate.held and not gate.queued:
                del self._gates[pool]

    def _waiting_for(self, pool: str) -> list[asyncio.Future[None]]:
        return [
            future
            for key, future in self._futures.items()
            if self._pools[key] == pool and not future.done()
        ]

    def _gate(self, pool: str) -> Gate:
        if pool not in self._gates:
            self._gates[pool] = Gate(0, self._settings.queue, self._weights)
        gate = self._gates[pool]
        self._resize(pool, gate)
        return gate

    def _resize(self, pool: str, gate: Gate) -> None:
        gate.resize(self._targets.places(pool), self._settings.queue)

    async def _wait(
        self, ticket: Ticket, future: asyncio.Future[None], patience: float
    ) -> None:
        try:
            async with asyncio.timeout(patience), ticket.waiting():
                await future
        except TimeoutError:
            if ticket.remaining <= 0:
                raise DeadlineExceeded(
                    f"No place became free by the deadline, for {patience:.1f} s.",
                    hint="Send a later Dspex-Deadline, or start more workers.",
                ) from None
            raise Overloaded(
                f"No place became free within {patience:.1f} s.",
                hint="Send it again after a pause, or start more workers.",
                retry_after_ms=1000,
            ) from None

    def _full(self, pool: str, gate: Gate, typical: float | None) -> QueueFull:
        limit = self._targets.places(pool)
        wait = expected_wait(gate.queued, limit, typical or 1.0)
        return QueueFull(
            f"Pool {pool!r} has no place: {gate.held} requests run "
            f"and {gate.queued} wait.",
            min(wait, 60.0),
        )

    def _refuse(
        self, entry: Entry, pool: str, gate: Gate, typical: float | None
    ) -> None:
        """A more important request took the place of one that waited."""
        future = self._futures.get(entry.key)
        if future is not None and not future.done():
            future.set_exception(self._full(pool, gate, typical))
