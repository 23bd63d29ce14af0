"""What makes a process unfit for more requests: it finishes those it has, and leaves.

Its exit status says why, to the supervisor or whatever else starts workers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from dspex.bus.tasks import Tasks
from dspex.contracts.failures import ResourceMemory
from dspex.contracts.pools import OUT_OF_MEMORY, OUT_OF_TIME
from dspex.services.worker import leftovers

if TYPE_CHECKING:
    from dspex.bus.events import Events
    from dspex.bus.running import Outcome, Run
    from dspex.contracts.requests import Body

_log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks for such threads."""


class Leaving:
    """Whether this process has to leave.

    Args:
        stop: Set when it has to.

    Attributes:
        status: Exit status that says why; 0: it need not.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self.status = 0
        self._stop = stop
        self._tasks = Tasks()

    def start(self, limit: float | None) -> None:
        """Leave once a thread goes on for so many seconds after its request."""
        if limit is not None:
            self._tasks.start(self._watch(limit), "leftovers")

    async def stop(self) -> None:
        """Look no more.

        Raises:
            SystemExit: The process had to leave; its status says why.
        """
        await self._tasks.cancel()
        if self.status:
            raise SystemExit(self.status)

    def noticed(self, run: Run) -> Run:
        """The same as ``run``, watched for allocations that fail."""

        async def watched(operation: str, body: Body, events: Events) -> Outcome:
            try:
                return await run(operation, body, events)
            except (MemoryError, ResourceMemory) as error:
                self._leave(OUT_OF_MEMORY, "out of memory")
                raise ResourceMemory(
                    "The process ran out of its memory limit.",
                    hint="Ask for less at a time, or raise memory_mib of the pool.",
                ) from error

        return watched

    async def _watch(self, limit: float) -> None:
        while not self.status:
            await asyncio.sleep(LOOK)
            if (seconds := leftovers.longest()) > limit:
                why = f"a thread goes on {seconds:.0f} s after its request"
                self._leave(OUT_OF_TIME, why)

    def _leave(self, status: int, why: str) -> None:
        if not self.status:
            _log.error("%s: finishing what is in hand, then leaving", why)
            self.status = status
        self._stop.set()
