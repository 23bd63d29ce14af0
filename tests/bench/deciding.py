"""How long the router thinks."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.bench.measure import joined, middle, percentile
from tests.bench.results import Bar, Findings, Result

from dspex.contracts.heartbeats import Heartbeat
from dspex.router.choosing import Wanted, choose
from dspex.router.targets import Targets

if TYPE_CHECKING:
    from tests.bench.rig import Rig

WORKERS = 100
ROUNDS = 7
DECISIONS = 3000


async def decision(_: Rig | None) -> Findings:
    """One decision among a hundred workers."""
    targets = _hundred()
    wanted = Wanted(operation="predict", lm="default")
    source = random.Random(1)
    rounds = [_timed(wanted, targets, source) for _ in range(ROUNDS + 1)][1:]
    value, spread = middle([percentile(one, 0.99) for one in rounds])
    typical = percentile(joined(rounds), 0.5)
    return Findings(
        results=[
            Result(
                name="decision",
                value=value,
                unit="µs",
                bar=Bar(100.0),
                spread=spread,
                how=f"p99 of `choose` among {WORKERS} ready workers, {ROUNDS} rounds "
                f"of {DECISIONS}; p50 {typical:.1f} µs.",
            )
        ]
    )


def _timed(wanted: Wanted, targets: Targets, source: random.Random) -> list[float]:
    found = []
    for _ in range(DECISIONS):
        begun = time.perf_counter_ns()
        choose(wanted, list(targets.all()), source)
        found.append((time.perf_counter_ns() - begun) / 1000)
    return found


def _hundred() -> Targets:
    targets = Targets()
    for number in range(WORKERS):
        targets.hear(
            Heartbeat(
                worker=f"light-{number}",
                pool="light",
                implementation="python",
                state="ready",
                seq=1,
                at=0.0,
                operations=["predict", "chain_of_thought"],
                concurrency=16,
                in_flight=number % 16,
                lms=["default", "slow"],
            ),
            0.0,
        )
    return targets
