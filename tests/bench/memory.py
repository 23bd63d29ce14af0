"""Whether a router keeps something of every request it has seen."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from tests.bench.measure import tell
from tests.bench.results import Bar, Findings, Result, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.rig import Rig

REQUESTS = 1_000_000
"""Sent in all, unless ``DSPEX_BENCH_REQUESTS`` says another number."""

SAMPLES = 10
CLIENTS = 32
MIB = 1 << 20

BODY = {"signature": "question, context: list[str] -> answer"}


class Sample(Struct, frozen=True):
    """How much a process held after so many requests.

    Attributes:
        requests: Answered so far.
        resident: Bytes.
    """

    requests: int
    resident: int


async def memory(rig: Rig) -> Findings:
    """Resident memory of one router over a million requests."""
    [router] = [one for one in rig.stack.programs if one.name == "router"]
    wanted = int(os.environ.get("DSPEX_BENCH_REQUESTS", REQUESTS))
    step = max(CLIENTS, wanted // SAMPLES)
    samples = []
    for done in range(step, wanted + 1, step):
        await _send(rig, step)
        samples.append(Sample(done, resident(router.pid)))
        tell(f"  {done} requests: {_mib(samples[-1])} MiB")
    return findings(samples)


def findings(samples: Sequence[Sample]) -> Findings:
    """What the samples say; the first is taken when everything is warm."""
    first, last = samples[0], samples[-1]
    slope = per_request(samples) * 100_000 / MIB
    how = (
        f"resident memory of the router process after {first.requests} and after "
        f"{last.requests} requests for `signature.parse`, each under an id of its own, "
        f"from {CLIENTS} clients"
    )
    return Findings(
        results=[
            Result(
                name="memory_first", value=first.resident / MIB, unit="MiB", how=how
            ),
            Result(name="memory_last", value=last.resident / MIB, unit="MiB", how=how),
            Result(
                name="memory_slope",
                value=slope,
                unit="MiB per 100,000 requests",
                bar=Bar(1.0),
                how=f"the line through {len(samples)} samples of that, by least "
                "squares.",
            ),
        ],
        details=[
            ("requests", "resident MiB"),
            *((str(one.requests), _mib(one)) for one in samples),
        ],
    )


def per_request(samples: Sequence[Sample]) -> float:
    """Bytes that each request adds: the slope of the line nearest to the samples."""
    count = len(samples)
    middle = sum(one.requests for one in samples) / count
    level = sum(one.resident for one in samples) / count
    spread = sum((one.requests - middle) ** 2 for one in samples)
    rise = sum((one.requests - middle) * (one.resident - level) for one in samples)
    return rise / spread if spread else 0.0


def resident(pid: int) -> int:
    """Resident memory of a process, bytes; Linux only."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _send(rig: Rig, count: int) -> None:
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            await rig.client.call("signature.parse", BODY)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())


def _mib(sample: Sample) -> str:
    return number(sample.resident / MIB)
