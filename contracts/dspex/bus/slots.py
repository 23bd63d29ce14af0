"""How many requests a process has, and whose they are."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


class Slots:
    """How many requests run at a time, and how many may wait.

    Args:
        concurrency: Requests that run.
        queue: Requests that wait beyond those.

    Attributes:
        in_flight: Requests that run.
        in_hand: Requests that run or wait.
        served: Requests it ever had in hand.
        routers: How many of those in hand each router sent.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self.concurrency = concurrency
        self.queue = queue
        self.in_flight = 0
        self.in_hand = 0
        self.served = 0
        self.routers: Counter[str] = Counter()
        self._free = asyncio.Semaphore(concurrency)
        self._when_free: list[Callable[[], None]] = []

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return self.in_hand - self.in_flight

    @property
    def full(self) -> bool:
        """Whether one more request would have nowhere to wait."""
        return self.in_hand >= self.concurrency + self.queue

    def when_free(self, call: Callable[[], None]) -> None:
        """Call ``call`` whenever a request is no longer in hand."""
        self._when_free.append(call)

    @contextmanager
    def hold(self, router: str = "") -> Iterator[None]:
        """Have a request in hand, from the router that sent it if one did."""
        self.in_hand += 1
        self.served += 1
        self.routers[router] += 1
        try:
            yield
        finally:
            self.in_hand -= 1
            self.routers[router] -= 1
            if not self.routers[router]:
                del self.routers[router]
            for call in self._when_free:
                call()

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a slot and run in it; for a request in hand."""
        await self._free.acquire()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._free.release()

    def by_router(self) -> dict[str, int]:
        """How many of those in hand each router sent; safe from another thread."""
        return {name: count for name, count in self.routers.copy().items() if name}
