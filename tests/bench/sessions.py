"""What sessions cost: a turn, coming back from the log, and ten thousand of them."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.bench.measure import in_turns, joined, middle, percentile, tell
from tests.bench.memory import MIB, resident
from tests.bench.results import Bar, Findings, Result, number
from tests.support.stack import Program

from dspex.bus.clock import now_ms
from dspex.bus.session_log import NOTHING, SessionLogs
from dspex.client.sessions import opened
from dspex.contracts.envelope import Usage
from dspex.contracts.sessions import HeldEntry, Opened, SessionSettings, TurnEntry

if TYPE_CHECKING:
    from tests.bench.rig import Rig

    from dspex.bus.session_log import Found

SIGNATURE = "question -> answer"
QUESTION = "Why is the sky blue?"

ROUNDS = 8
TURNS = 40
"""Turns of the session of one round."""

LENGTHS = (100, 1000)
"""Turns of the logs that are read."""

READS = 9

SESSIONS = 10_000
"""Opened in all, unless ``DSPEX_BENCH_SESSIONS`` says another number."""

CLIENTS = 32
SAMPLES = 10


async def turn(rig: Rig) -> Findings:
    """A turn of a session against the same request without one."""
    await _state(rig)
    ratios, turns, plain = [], [], []
    for one in range(ROUNDS):
        tell(f"  round {one + 1} of {ROUNDS}")
        session = await opened(rig.client, SIGNATURE)

        async def inside(session: str = session.id) -> None:
            client = rig.client.with_options(session=session)
            await client.call("predict", {"inputs": {"question": QUESTION}})

        async def outside() -> None:
            await rig.client.predict(SIGNATURE, question=QUESTION)

        await inside()
        inner, outer = await in_turns(inside, outside, TURNS)
        ratios.append(percentile(inner, 0.5) / percentile(outer, 0.5))
        turns.append(inner)
        plain.append(outer)
        await session.close()
    value, spread = middle(ratios)
    how = (
        "p50 of a turn over p50 of the same request without a session, in turns, with "
        f"a model that takes no time; {ROUNDS} sessions of {TURNS} turns: "
        f"{percentile(joined(turns), 0.5):.2f} ms against "
        f"{percentile(joined(plain), 0.5):.2f} ms. The turn is in the log before it is "
        "answered."
    )
    return Findings(
        results=[
            Result(
                name="session_turn",
                value=value,
                unit="x",
                bar=Bar(1.5),
                spread=spread,
                how=how,
            )
        ]
    )


async def rebuild(rig: Rig) -> Findings:
    """How long a new holder reads, with and without a snapshot."""
    await _state(rig)
    logs = SessionLogs(rig.bus, rig.subjects)
    details: list[tuple[str, ...]] = [("turns", "entries ms", "snapshot ms")]
    results = []
    for length in LENGTHS:
        tell(f"  a log of {length} turns")
        name = uuid4().hex
        found = await _written(logs, name, length)
        entries = await _read_times(logs, name)
        await logs.compact("default", name, found)
        snapshot = await _read_times(logs, name)
        details.append((str(length), f"{entries:.1f}", f"{snapshot:.1f}"))
        results.append(
            Result(
                name=f"session_rebuild_{length}",
                value=snapshot,
                unit="ms",
                how=f"reading and folding the log of a session with {length} turns of "
                f"1 KB from its snapshot, median of {READS}; {entries:.1f} ms from its "
                "entries without one.",
            )
        )
    return Findings(results=results, details=details)


async def many(rig: Rig) -> Findings:
    """Memory of the workers while many sessions are opened and asked once."""
    await _state(rig)
    wanted = int(os.environ.get("DSPEX_BENCH_SESSIONS", SESSIONS))
    workers = [one for one in rig.stack.programs if one.name == "services.worker"]
    details: list[tuple[str, ...]] = [("sessions", "worker MiB", "router MiB")]
    [router] = [one for one in rig.stack.programs if one.name == "router"]
    begun, sizes = time.monotonic(), []
    for done in range(0, wanted, wanted // SAMPLES):
        await _open(rig, wanted // SAMPLES)
        sizes.append(max(resident(one.pid) for one in workers) / MIB)
        size = number(resident(router.pid) / MIB)
        details.append((str(done + wanted // SAMPLES), number(sizes[-1]), size))
        tell(f"  {details[-1]}")
    seconds = time.monotonic() - begun
    return Findings(
        results=[
            Result(
                name="session_memory",
                value=sizes[-1] / sizes[len(sizes) // 2],
                unit="x",
                bar=Bar(1.1),
                how=f"resident memory of the larger of two workers with {wanted} open "
                f"sessions over that with half of them; {sizes[-1]:.0f} MiB in the "
                f"end. Each session was asked once, {wanted / seconds:.0f} sessions "
                "per second; a worker keeps 1000 in memory.",
            )
        ],
        details=details,
    )


async def _state(rig: Rig) -> None:
    if not any(one.name == "services.state" for one in rig.stack.programs):
        state = Program("dspex.services.state")
        await rig.stack.start(state)
        await rig.stack.serving(state)


async def _written(logs: SessionLogs, name: str, length: int) -> Found:
    """A log of so many turns without a snapshot."""
    opening = Opened(at=now_ms(), request=name, settings=SessionSettings())
    found = await logs.append("default", name, NOTHING, opening)
    held = HeldEntry(at=now_ms(), worker="w", fence=1)
    found = await logs.append("default", name, found, held)
    for one in range(length):
        entry = TurnEntry(
            at=now_ms(),
            fence=1,
            request=f"{name}-{one}",
            operation="predict",
            inputs={"question": "q" * 500},
            outputs={"answer": "a" * 500},
            usage=Usage(calls=1),
        )
        found = await logs.append("default", name, found, entry)
    return found


async def _read_times(logs: SessionLogs, name: str) -> float:
    times = []
    for _ in range(READS):
        begun = time.perf_counter()
        await logs.read("default", name)
        times.append((time.perf_counter() - begun) * 1000)
    return middle(times)[0]


async def _open(rig: Rig, count: int) -> None:
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            session = await opened(rig.client, SIGNATURE)
            await session.predict(question=QUESTION)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
