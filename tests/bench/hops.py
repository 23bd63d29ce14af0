"""What the way through a router costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench.measure import in_turns, joined, middle, percentile, tell
from tests.bench.results import Bar, Findings, Result

from dspex.contracts import encoding, headers
from dspex.contracts.envelope import Accepted, Done

if TYPE_CHECKING:
    from tests.bench.measure import Call
    from tests.bench.rig import Rig

QUESTION = {
    "signature": "question -> answer",
    "inputs": {"question": "Why is the sky blue?"},
}
ROUNDS = 7
PAIRS = 150
STREAMS = 400


async def router_hop(rig: Rig) -> Findings:
    """Predict through the router, and predict on the pool's own subject."""
    body = encoding.encode(QUESTION)
    direct = {headers.OPERATION: "predict"}
    routed, straight = await _compare(
        call(rig, rig.subjects.call("predict"), body),
        call(rig, rig.subjects.pool_run("light"), body, direct),
    )
    ratio, spread = middle(_ratios(routed, straight))
    tails = [percentile(joined(side), 0.99) for side in (routed, straight)]
    said = _said(routed, straight)
    return Findings(
        results=[
            Result(
                name="router_hop",
                value=ratio,
                unit="x",
                bar=Bar(2.0),
                spread=spread,
                how="p50 of `predict` through the router over p50 of the same sent to "
                f"`pool.light.run`, model latency 0, one request at a time, {said}.",
            ),
            Result(
                name="router_hop_p99",
                value=tails[0] - tails[1],
                unit="ms",
                bar=Bar(10.0),
                how=f"p99 through the router ({tails[0]:.2f} ms) minus p99 direct "
                f"({tails[1]:.2f} ms), all rounds of `router_hop` together.",
            ),
        ]
    )


async def native_hop(rig: Rig) -> Findings:
    """A native operation through the router, and on its own subject."""
    body = encoding.encode({"signature": "question, context: list[str] -> answer"})
    routed, straight = await _compare(
        call(rig, rig.subjects.call("signature.parse"), body),
        call(rig, rig.subjects.native("signature.parse"), body),
    )
    ratio, spread = middle(_ratios(routed, straight))
    return Findings(
        results=[
            Result(
                name="native_hop",
                value=ratio,
                unit="x",
                bar=Bar(2.0),
                spread=spread,
                how="p50 of `signature.parse` through the router over p50 of the same "
                "on `native.signature.parse`, one request at a time, "
                f"{_said(routed, straight)}. There is next to no work in it: this is "
                "the price of a hop in its purest form.",
            )
        ]
    )


async def first_event(rig: Rig) -> Findings:
    """How soon a client hears that its request was accepted."""
    await _until_accepted(rig, 50)
    rounds = [await _until_accepted(rig, STREAMS // 4) for _ in range(4)]
    value, spread = middle([percentile(one, 0.99) for one in rounds])
    typical = percentile(joined(rounds), 0.5)
    return Findings(
        results=[
            Result(
                name="first_event",
                value=value,
                unit="ms",
                bar=Bar(5.0),
                spread=spread,
                how="p99 from publish to the event `accepted` at the inbox, "
                "`Dspex-Stream: inbox`, the whole stream read, one at a time; "
                f"{STREAMS // 4} requests a round; p50 {typical:.2f} ms.",
            )
        ]
    )


def call(
    rig: Rig, subject: str, body: bytes, sent: dict[str, str] | None = None
) -> Call:
    """A request to ``subject`` that must be answered with outputs."""

    async def ask() -> None:
        reply = await rig.bus.request(subject, body, headers=sent, timeout=30)
        encoding.decode(reply.data, Done)

    return ask


async def _compare(
    routed: Call, straight: Call
) -> tuple[list[list[float]], list[list[float]]]:
    await in_turns(routed, straight, PAIRS)
    sides: tuple[list[list[float]], list[list[float]]] = ([], [])
    for number in range(ROUNDS):
        tell(f"  round {number + 1} of {ROUNDS}")
        for side, found in zip(
            sides, await in_turns(routed, straight, PAIRS), strict=True
        ):
            side.append(found)
    return sides


async def _until_accepted(rig: Rig, count: int) -> list[float]:
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        async for event in rig.client.stream("predict", QUESTION):
            if isinstance(event, Accepted):
                found.append((time.perf_counter() - begun) * 1000)
    return found


def _ratios(routed: list[list[float]], straight: list[list[float]]) -> list[float]:
    return [
        percentile(one, 0.5) / percentile(other, 0.5)
        for one, other in zip(routed, straight, strict=True)
    ]


def _said(routed: list[list[float]], straight: list[list[float]]) -> str:
    p50s = [percentile(joined(side), 0.5) for side in (routed, straight)]
    return (
        f"in turns, {ROUNDS} rounds of {PAIRS} pairs; "
        f"p50 {p50s[0]:.2f} ms and {p50s[1]:.2f} ms"
    )
