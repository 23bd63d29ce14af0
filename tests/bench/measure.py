"""Clocks and statistics of the benchmarks."""

from __future__ import annotations

import asyncio
import math
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

Call = Callable[[], Awaitable[object]]
"""Sends one request and returns when its answer is there; raises if it failed."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def joined(rounds: Sequence[Sequence[float]]) -> list[float]:
    """The values of all rounds."""
    return [value for one in rounds for value in one]


def middle(rounds: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median of some rounds, and the lowest and the highest."""
    return statistics.median(rounds), (min(rounds), max(rounds))


async def milliseconds(call: Call) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    await call()
    return (time.perf_counter() - begun) * 1000


async def in_turns(
    first: Call, second: Call, count: int
) -> tuple[list[float], list[float]]:
    """Time two calls in turns, so that what disturbs one disturbs the other."""
    firsts, seconds = [], []
    for _ in range(count):
        firsts.append(await milliseconds(first))
        seconds.append(await milliseconds(second))
    return firsts, seconds


class Load(Struct, frozen=True):
    """What clients saw that each send their next request when they have an answer.

    Attributes:
        per_second: Answers per second.
        latencies: Milliseconds of each.
    """

    per_second: float
    latencies: list[float]

    def ms(self, share: float) -> float:
        return percentile(self.latencies, share)


class Window(Struct, frozen=True, kw_only=True):
    """When a closed loop is measured.

    Attributes:
        warm_up: Seconds before.
        seconds: Seconds measured.
        stagger: Seconds over which the clients start, evenly.
    """

    warm_up: float
    seconds: float
    stagger: float = 0.0


async def closed_loop(call: Call, clients: int, window: Window) -> Load:
    """Let clients ask one request after another, and measure the steady state."""
    start = time.perf_counter() + window.warm_up
    stop = start + window.seconds
    latencies: list[float] = []
    ends: list[float] = []

    async def client(number: int) -> None:
        await asyncio.sleep(window.stagger * number / clients)
        while (begun := time.perf_counter()) < stop:
            await call()
            if start <= (ended := time.perf_counter()) < stop:
                latencies.append((ended - begun) * 1000)
                ends.append(ended)

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
    # From the first answer to the last: with few clients the window's own length
    # would count a fraction of an answer too many or too few.
    return Load((len(ends) - 1) / (ends[-1] - ends[0]), latencies)


def tell(text: str) -> None:
    """Say how far it is; on standard error, for standard output is the result."""
    print(text, file=sys.stderr, flush=True)
