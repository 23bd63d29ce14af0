"""Recorded requests as load: as they arrived, so many times faster."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from msgspec import Struct, field
from msgspec.structs import replace

from dspex.bus.core import NoResponders
from dspex.bus.tasks import Tasks
from dspex.contracts.envelope import DoneEvent
from dspex.contracts.failures import BusUnavailable, Failure
from dspex.contracts.replays import Replayed, ReplayStatus, Script

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dspex.contracts.replay_requests import ReplaySummary
    from dspex.services.replay.again import Again
    from dspex.services.replay.lives import Recorded

MOST = 10_000
"""Requests of one run."""

LATE = 10.0
"""Seconds past the time of the last request in which its answer comes."""

_QUANTILES = (50, 90, 99)


class Measured(Struct):
    """What was measured.

    Attributes:
        latencies: Of those that were answered, milliseconds.
        seconds: From the first request to the last answer.
    """

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def added_to(self, found: ReplaySummary) -> ReplaySummary:
        """A summary with throughput and quantiles of latency."""
        answered = len(self.latencies)
        rate = answered / self.seconds if self.seconds else 0.0
        ordered = sorted(self.latencies)
        quantiles = {
            f"p{share}_ms": round(
                ordered[min(answered - 1, answered * share // 100)], 1
            )
            for share in (_QUANTILES if ordered else ())
        }
        return replace(
            found,
            answered=answered,
            seconds=round(self.seconds, 3),
            per_second=round(rate, 2),
            **quantiles,
        )


class Load:
    """Sends requests when their time comes, whatever became of those before.

    Args:
        again: Sends one.
        speed: How many times faster than they came.
    """

    def __init__(self, again: Again, speed: float) -> None:
        self.measured = Measured()
        self._again = again
        self._speed = speed
        self._ended: asyncio.Queue[Replayed] = asyncio.Queue(MOST)
        self._tasks = Tasks()

    async def results(self, requests: list[Recorded]) -> AsyncGenerator[Replayed, None]:
        """Send all of them; what came of each, as their answers come."""
        begun = time.perf_counter()
        span = (requests[-1].asked.at - requests[0].asked.at) / 1000 / self._speed
        until = begun + span + self._again.timeout + LATE
        self._tasks.start(self._send_all(requests, begun), "load")
        try:
            for _ in requests:
                left = until - time.perf_counter()
                try:
                    one = await asyncio.wait_for(self._ended.get(), left)
                except TimeoutError:
                    raise BusUnavailable("Some answers never came.") from None
                yield one
        finally:
            await self._tasks.cancel()
        self.measured.seconds = time.perf_counter() - begun

    async def _send_all(self, requests: list[Recorded], begun: float) -> None:
        first = requests[0].asked.at
        for one in requests:
            due = begun + (one.asked.at - first) / 1000 / self._speed
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self._tasks.start(self._send(one), "request")

    async def _send(self, one: Recorded) -> None:
        new = str(uuid4())
        if self._again.record is not None:
            self._again.record.scripts[new] = Script(one.said)
        begun = time.perf_counter()
        try:
            reply = await self._again.send(one, new)
        except (Failure, TimeoutError, NoResponders):
            self._say(one, new, "failed")
            return
        finally:
            if self._again.record is not None:
                self._again.record.scripts.pop(new, None)
        self.measured.latencies.append((time.perf_counter() - begun) * 1000)
        done = any(isinstance(part, DoneEvent) for part in one.said)
        same = done == (reply.__struct_config__.tag == "done")
        self._say(one, new, "identical" if same else "changed")

    def _say(self, one: Recorded, new: str, status: ReplayStatus) -> None:
        said = Replayed(request=one.asked.request, replayed_as=new, status=status)
        self._ended.put_nowait(said)
