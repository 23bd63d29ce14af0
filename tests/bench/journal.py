"""What the journal costs, and how fast a stream goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench.measure import Window, closed_loop, in_turns, middle, percentile, tell
from tests.bench.results import Bar, Findings, Result
from tests.support.stack import Program

from dspex.bus.durable import api
from dspex.bus.provisioning import Names
from dspex.client import Client
from dspex.contracts import encoding
from dspex.contracts.journaling import JournalChange

if TYPE_CHECKING:
    from tests.bench.rig import Rig

CLIENTS = 16
ROUNDS = 5
SECONDS = 3.0
SERIAL = 400
RESUMES = 100
BODY = {
    "signature": "question -> answer",
    "inputs": {"question": "Why is the sky blue?"},
}


async def journal(rig: Rig) -> Findings:
    """Requests with copies against requests without, and a stream that goes on."""
    state = Program("dspex.services.state")
    await rig.stack.start(state)
    await rig.stack.ready(workers=2, state=1)
    change = encoding.encode(JournalChange(tenants={"quiet": False}))
    await rig.bus.publish(rig.subjects.admin("journal"), change)
    await rig.bus.flush()
    try:
        return Findings(results=[*await _cost(rig), await _resumed(rig)])
    finally:
        await state.stop()
        names = Names(rig.stack.prefix)
        await api(rig.bus, f"STREAM.DELETE.{names.journal}")


async def _cost(rig: Rig) -> list[Result]:
    loud = Client(rig.bus, rig.subjects.of("loud"))
    quiet = Client(rig.bus, rig.subjects.of("quiet"))

    async def kept() -> None:
        await loud.call("predict", BODY)

    async def not_kept() -> None:
        await quiet.call("predict", BODY)

    with_it, without = await in_turns(kept, not_kept, SERIAL)
    ratios, rates = [], []
    for number in range(ROUNDS):
        tell(f"  round {number + 1} of {ROUNDS}")
        window = Window(warm_up=0.5, seconds=SECONDS)
        load = await closed_loop(kept, CLIENTS, window)
        other = await closed_loop(not_kept, CLIENTS, window)
        rates.append(load.per_second)
        ratios.append(other.per_second / load.per_second)
    size = await _one(rig, loud)
    on, off = percentile(with_it, 0.5), percentile(without, 0.5)
    value, spread = middle(ratios)
    return [
        Result(
            name="journal_p50",
            value=on / off,
            unit="x",
            bar=Bar(1.25),
            how=f"p50 of a predict whose copies are kept, {on:.2f} ms, over one whose "
            f"are not, {off:.2f} ms, in turns, one at a time, {SERIAL} of each; the "
            "model takes no time.",
        ),
        Result(
            name="journal_throughput",
            value=value,
            unit="x",
            spread=spread,
            how="requests per second without copies over those with, "
            f"{middle(rates)[0]:.0f}/s, {CLIENTS} clients, {ROUNDS} rounds of "
            f"{SECONDS:g} s each.",
        ),
        Result(
            name="journal_size",
            value=size,
            unit="bytes",
            how="what the stream grows by for one predict of one model call.",
        ),
    ]


async def _one(rig: Rig, client: Client) -> float:
    """Bytes of one request."""
    before = await _bytes(rig)
    for _ in range(RESUMES):
        await client.call("predict", BODY)
    await rig.bus.flush()
    return (await _bytes(rig) - before) / RESUMES


async def _bytes(rig: Rig) -> float:
    found = await api(rig.bus, f"STREAM.INFO.{Names(rig.stack.prefix).journal}")
    return float(found["state"]["bytes"])


async def _resumed(rig: Rig) -> Result:
    client = rig.client
    told = [event async for event in client.stream("predict", BODY)]
    firsts: list[float] = []
    for _ in range(RESUMES):
        begun = time.perf_counter()
        async for _event in client.resume(told[0].request, attempt=1, after=1):
            firsts.append((time.perf_counter() - begun) * 1000)
            break
    return Result(
        name="resume",
        value=percentile(firsts, 0.5),
        unit="ms",
        how="p50 from asking for the rest of a stream to its first event, through the "
        f"router, {RESUMES} times.",
    )
