"""Recorded requests as load: as they arrived, so many times faster."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from msgspec import Struct, field

from dspex.bus.core import NoResponders
from dspex.bus.tasks import Tasks
from dspex.contracts.envelope import DoneEvent
from dspex.contracts.failures import Failure
from dspex.contracts.replays import Replayed, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.replaying import Record
    from dspex.cli.replay_lives import Recorded
    from dspex.cli.replay_run import Again

MOST = 10_000
"""Requests of one run."""

_QUANTILES = (50, 90, 99)


class Measured(Struct):
    """What was measured.

    Attributes:
        latencies: Of those that were answered, milliseconds.
        seconds: From the first request to the last answer.
        failed: Requests that were not answered.
    """

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    failed: int = 0

    def summary(self) -> dict[str, Any]:
        """Throughput and quantiles of latency."""
        answered = len(self.latencies)
        found: dict[str, Any] = {
            "answered": answered,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "per_second": round(answered / self.seconds, 2) if self.seconds else 0.0,
        }
        ordered = sorted(self.latencies)
        for share in _QUANTILES if ordered else ():
            at = min(answered - 1, answered * share // 100)
            found[f"p{share}_ms"] = round(ordered[at], 1)
        return found


class Load:
    """Sends requests when their time comes, whatever became of those before.

    Args:
        again: Sends one.
        record: What answers the workers of the replay; ``None``: nothing does.
        speed: How many times faster than they came.
        tell: Called with what came of each.
    """

    def __init__(
        self,
        again: Again,
        record: Record | None,
        speed: float,
        tell: Callable[[Replayed], None],
    ) -> None:
        self.measured = Measured()
        self._again = again
        self._record = record
        self._speed = speed
        self._tell = tell
        self._tasks = Tasks()

    async def run(self, requests: list[Recorded]) -> None:
        """Send all of them and wait for their answers."""
        begun = time.perf_counter()
        first = requests[0].asked.at
        for one in requests:
            due = begun + (one.asked.at - first) / 1000 / self._speed
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self._tasks.start(self._send(one), "load")
        await self._tasks.wait(self._again.timeout + 5)
        await self._tasks.cancel()
        self.measured.seconds = time.perf_counter() - begun

    async def _send(self, one: Recorded) -> None:
        new = str(uuid4())
        if self._record is not None:
            self._record.scripts[new] = Script(one.said)
        begun = time.perf_counter()
        try:
            reply = await self._again.send(one, new)
        except (Failure, TimeoutError, NoResponders):
            self.measured.failed += 1
            self._say(one, new, "failed")
            return
        self.measured.latencies.append((time.perf_counter() - begun) * 1000)
        done = any(isinstance(part, DoneEvent) for part in one.said)
        same = done == (reply.__struct_config__.tag == "done")
        self._say(one, new, "identical" if same else "changed")

    def _say(self, one: Recorded, new: str, status: Any) -> None:
        self._tell(Replayed(request=one.asked.request, replayed_as=new, status=status))
