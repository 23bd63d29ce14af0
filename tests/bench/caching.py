"""How fast answers come that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.measure import Window, closed_loop, in_turns, middle, percentile, tell
from tests.bench.results import Bar, Findings, Result

if TYPE_CHECKING:
    from tests.bench.rig import Rig

CLIENTS = 64
ROUNDS = 5
SECONDS = 3.0
SERIAL = 300


async def cached(rig: Rig) -> Findings:
    """Kept answers through one router."""
    body = {
        "signature": "question -> answer",
        "inputs": {"question": "Why is the sky blue?"},
    }
    client = rig.client.with_options(cache="use")

    async def ask() -> None:
        found = await client.call("predict", body)
        assert found.metadata.cache_hit

    async def ask_anew() -> None:
        await rig.client.call("predict", body)

    await client.call("predict", body)
    rates = []
    for number in range(ROUNDS):
        tell(f"  round {number + 1} of {ROUNDS}")
        load = await closed_loop(ask, CLIENTS, Window(warm_up=0.5, seconds=SECONDS))
        rates.append(load.per_second)
    kept, asked = await in_turns(ask, ask_anew, SERIAL)
    value, spread = middle(rates)
    return Findings(
        results=[
            Result(
                name="cached",
                value=value,
                unit="/s",
                bar=Bar(2000.0, at_least=True),
                spread=spread,
                how=f"kept answers per second through one router, {CLIENTS} clients on "
                f"one connection in one process, {ROUNDS} rounds of {SECONDS:g} s; "
                f"one at a time p50 {percentile(kept, 0.5):.2f} ms, against "
                f"{percentile(asked, 0.5):.2f} ms when a worker answers with a model "
                "that takes no time.",
            )
        ]
    )
