"""How soon a cancelled request gives its slot back."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.bench.measure import joined, middle, percentile
from tests.bench.results import Bar, Findings, Result
from tests.bench.rig import WORKER, program
from tests.support.stack import Program

from dspex.contracts.envelope import Started
from dspex.contracts.failures import Cancelled

if TYPE_CHECKING:
    from tests.bench.rig import Rig

POOL = "single"
ROUNDS = 5
CANCELS = 20
BODY = {
    "signature": "question -> answer",
    "inputs": {"question": "Why is the sky blue?"},
}


class _Waiting:
    """A request that tells when it began to run."""

    def __init__(self, rig: Rig) -> None:
        self.id = uuid4().hex
        self.started: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._rig = rig

    async def run(self) -> None:
        client = self._rig.client.with_options(request=self.id, pool=POOL, timeout=60)
        with suppress(Cancelled):
            async for event in client.stream("predict", BODY):
                if isinstance(event, Started):
                    self.started.set_result(time.perf_counter())


async def cancel(rig: Rig) -> Findings:
    """From the cancel of a request to the start of the one that waits for its slot."""
    run = Program(*WORKER, POOL)
    stack = rig.stack
    async with program(run, rig.folder / "logs", stack.environ):
        await stack.until(lambda: any(beat.pool == POOL for beat in stack.beats()))
        await _chain(rig, run, 5)
        rounds = [await _chain(rig, run, CANCELS) for _ in range(ROUNDS)]
    value, spread = middle([percentile(one, 0.5) for one in rounds])
    tail = percentile(joined(rounds), 0.99)
    return Findings(
        results=[
            Result(
                name="cancel",
                value=value,
                unit="ms",
                bar=Bar(20.0),
                spread=spread,
                how="p50 from publishing on the cancel subject of a request that waits "
                "for its model to the event `started` of the next one, in a worker "
                f"with one slot: {ROUNDS} rounds of {CANCELS}; p99 {tail:.1f} ms.",
            )
        ]
    )


async def _chain(rig: Rig, run: Program, count: int) -> list[float]:
    """Cancel a running request again and again, with the next one waiting."""
    found = []
    async with asyncio.TaskGroup() as group:
        running = _Waiting(rig)
        group.create_task(running.run())
        await running.started
        for _ in range(count):
            waiting = _Waiting(rig)
            group.create_task(waiting.run())
            await _queued(rig, run)
            begun = time.perf_counter()
            await rig.client.cancel(running.id)
            found.append((await waiting.started - begun) * 1000)
            running = waiting
        await rig.client.cancel(running.id)
    return found


async def _queued(rig: Rig, run: Program) -> None:
    """Wait until the worker says that a request waits for its slot."""

    def holds() -> bool:
        beat = rig.stack.beat_of(run.pid)
        return beat is not None and beat.queued == 1 and beat.seq > asked

    while True:
        beat = rig.stack.beat_of(run.pid)
        asked = beat.seq if beat else 0
        await rig.bus.publish(rig.subjects.discover())
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await rig.stack.until(holds)
                return
