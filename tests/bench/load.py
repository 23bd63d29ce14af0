"""Many clients at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.measure import Window, closed_loop, middle, tell
from tests.bench.results import Bar, Findings, Result
from tests.bench.rig import LATENCIES

if TYPE_CHECKING:
    from tests.bench.rig import Rig

CLIENTS = 128
ROUNDS = 2
SECONDS = 10.0


async def concurrency(rig: Rig) -> Findings:
    """Whether 128 requests run side by side when the model takes its time."""
    latency = LATENCIES["slow"]
    ideal = CLIENTS / latency
    body = {
        "signature": "question -> answer",
        "inputs": {"question": "Why is the sky blue?"},
        "lm": "slow",
    }

    async def ask() -> None:
        await rig.client.call("predict", body)

    shares, said = [], ""
    for number in range(ROUNDS):
        tell(f"  round {number + 1} of {ROUNDS}")
        window = Window(warm_up=3 * latency, seconds=SECONDS, stagger=latency)
        load = await closed_loop(ask, CLIENTS, window)
        shares.append(load.per_second / ideal * 100)
        said = f"p50 {load.ms(0.5):.0f} ms, p99 {load.ms(0.99):.0f} ms"
    value, spread = middle(shares)
    return Findings(
        results=[
            Result(
                name="concurrency_128",
                value=value,
                unit="%",
                bar=Bar(95.0, at_least=True),
                spread=spread,
                how=f"throughput of {CLIENTS} clients that each ask again once they "
                f"have their answer, over the {ideal:.0f} per second that the model's "
                f"latency of {latency:g} s allows; two workers of 64 slots, clients "
                f"started evenly over {latency:g} s, {ROUNDS} rounds of {SECONDS:g} s "
                f"after a warm-up of {3 * latency:g} s; last round {said}.",
            )
        ]
    )
