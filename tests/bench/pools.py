"""What a supervisor costs, and what 32 workers at once do to two cores."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.bench.measure import tell
from tests.bench.memory import MIB, resident
from tests.bench.results import Bar, Findings, Result
from tests.support.stack import Program, Stack

from dspex.bus.health import read_beat
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from tests.bench.rig import Rig

    from dspex.bus.core import Message
    from dspex.contracts.heartbeats import Heartbeat

WORKERS = 32
"""Started together, unless ``DSPEX_BENCH_WORKERS`` says another number."""

WITHIN = 900.0


class Starts:
    """When each worker spoke.

    Attributes:
        ready: Seconds of the steady clock at which each one was ready.
        gap: Longest time between two heartbeats of one worker, by its own clock,
            seconds.
    """

    def __init__(self, stack: Stack) -> None:
        self.ready: dict[str, float] = {}
        self.gap = 0.0
        self.resident: dict[str, int] = {}
        self._stack = stack
        self._last: dict[str, float] = {}
        self._news = asyncio.Event()

    def hear(self, message: Message) -> None:
        try:
            beat: Heartbeat = read_beat(self._stack.subjects, message)
        except Failure:
            return
        if beat.implementation != "python":
            return
        before = self._last.get(beat.worker, beat.at)
        self.gap = max(self.gap, (beat.at - before) / 1000)
        self._last[beat.worker] = beat.at
        self.resident[beat.worker] = beat.rss
        if beat.state == "ready":
            self.ready.setdefault(beat.worker, time.perf_counter())
        self._news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(WITHIN):
            while len(self.ready) < count:
                self._news.clear()
                await self._news.wait()


async def pools(rig: Rig) -> Findings:
    """Start many workers under one supervisor, and weigh them."""
    wanted = int(os.environ.get("DSPEX_BENCH_WORKERS", WORKERS))
    environ = rig.stack.environ | {"DSPEX_POOLS_LIGHT_PROCESSES": str(wanted)}
    environ |= {"DSPEX_POOLS_SINGLE_PROCESSES": "0"}
    prefix = f"p{uuid4().hex[:8]}"
    async with Stack(rig.stack.url, rig.folder / "pools", prefix, environ) as stack:
        starts = Starts(stack)
        await rig.bus.subscribe(stack.subjects.heartbeats(), starts.hear)
        kept = Program(
            "dspex.services.supervisor", "--logs", str(rig.folder / "pools" / "logs")
        )
        begun = time.perf_counter()
        await stack.start(kept)
        await starts.until(wanted)
        seconds = sorted(at - begun for at in starts.ready.values())
        tell(f"  {wanted} workers ready after {seconds[-1]:.1f} s")
        weight = resident(kept.pid) / MIB
    workers = sorted(starts.resident.values())
    return Findings(
        results=[
            Result(
                name="pools_supervisor",
                value=weight,
                unit="MiB",
                how=f"resident memory of a supervisor that keeps {wanted} workers.",
            ),
            Result(
                name="pools_worker",
                value=workers[len(workers) // 2] / MIB,
                unit="MiB",
                how=f"resident memory of an idle worker, the median of {wanted}.",
            ),
            Result(
                name="pools_first",
                value=seconds[0],
                unit="s",
                how="from the start of a supervisor to its first ready worker.",
            ),
            Result(
                name="pools_all",
                value=seconds[-1],
                unit="s",
                how=f"the same, until all {wanted} are ready, as many starting at a "
                "time as there are CPUs.",
            ),
            Result(
                name="pools_gap",
                value=starts.gap,
                unit="s",
                bar=Bar(3.0),
                how="the longest time meanwhile between two heartbeats of one worker; "
                "after 3 s without one, routers count it as lost.",
            ),
        ]
    )
