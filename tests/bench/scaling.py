"""How throughput grows with worker processes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from tests.bench.measure import Window, closed_loop, tell
from tests.bench.results import Bar, Findings, Result, number
from tests.bench.rig import KEY, WORKER, listening, program
from tests.support.nats_server import free_port
from tests.support.stack import Program, Stack

from dspex.client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.rig import Rig

PICTURE = Path(__file__).parents[2] / "docs" / "scaling.svg"

PROCESSES = (1, 2, 4, 8)
CONCURRENCY = 4
"""Requests a worker process runs at a time."""

LATENCY = 0.2
"""Seconds that the language model takes."""

WINDOW = Window(warm_up=2.0, seconds=8.0, stagger=LATENCY)
POOL = "scaling"
BODY = {
    "signature": "question -> answer",
    "inputs": {"question": "Why is the sky blue?"},
}


class Point(Struct, frozen=True, kw_only=True):
    """One number of processes.

    Attributes:
        processes: Workers.
        per_second: Answers per second.
        p50: Milliseconds.
        p99: The same.
    """

    processes: int
    per_second: float
    p50: float
    p99: float

    @property
    def ideal(self) -> float:
        """Answers per second if nothing but the language model took time."""
        return self.processes * CONCURRENCY / LATENCY

    @property
    def share(self) -> float:
        """Per cent of the ideal."""
        return self.per_second / self.ideal * 100


async def scaling(rig: Rig) -> Findings:
    """Throughput at 1 to 8 worker processes; draws ``docs/scaling.svg``."""
    points = []
    async with contextlib.AsyncExitStack() as exits:
        stack = await _stack(exits, rig)
        client = Client(rig.bus, stack.subjects)

        async def ask() -> None:
            await client.call("predict", BODY)

        for processes in PROCESSES:
            tell(f"  {processes} worker processes")
            missing = processes - len(stack.beats())
            await stack.start(*(Program(*WORKER, POOL) for _ in range(missing)))
            await stack.ready(workers=processes)
            # Half of them wait, so that a slot never does.
            clients = processes * CONCURRENCY * 2
            load = await closed_loop(ask, clients, WINDOW)
            points.append(
                Point(
                    processes=processes,
                    per_second=load.per_second,
                    p50=load.ms(0.5),
                    p99=load.ms(0.99),
                )
            )
    PICTURE.write_text(picture(points), encoding="utf-8")
    return findings(points)


def findings(points: Sequence[Point]) -> Findings:
    """The share of the ideal with most processes, and a table of all."""
    last = points[-1]
    return Findings(
        results=[
            Result(
                name=f"scaling_{last.processes}",
                value=last.share,
                unit="%",
                bar=Bar(80.0, at_least=True),
                how=f"answers per second of {last.processes} worker processes of "
                f"{CONCURRENCY} slots ({last.per_second:.1f}), over the "
                f"{last.ideal:.0f} that the model's latency of {LATENCY:g} s allows; "
                f"twice as many clients as slots, {WINDOW.seconds:g} s after a warm-up "
                f"of {WINDOW.warm_up:g} s.",
            )
        ],
        note="Throughput by worker processes, all on this machine: "
        f"![measured and ideal]({PICTURE.name})",
        details=[
            ("worker processes", "answers/s", "ideal", "share", "p50 ms", "p99 ms"),
            *(
                (
                    str(one.processes),
                    number(one.per_second),
                    number(one.ideal),
                    f"{one.share:.0f} %",
                    f"{one.p50:.0f}",
                    f"{one.p99:.0f}",
                )
                for one in points
            ),
        ],
    )


WIDTH, HEIGHT, MARGIN = 480, 320, 56
"""Of the picture, and around what is drawn, in pixels."""


def picture(points: Sequence[Point]) -> str:
    """Measured throughput beside the ideal, as SVG."""
    most = max(points, key=lambda one: one.ideal)

    def x(processes: float) -> float:
        return MARGIN + processes / most.processes * (WIDTH - 2 * MARGIN)

    def y(per_second: float) -> float:
        return HEIGHT - MARGIN - per_second / most.ideal * (HEIGHT - 2 * MARGIN)

    def line(path: str, style: str) -> str:
        return f'<polyline points="{path}" fill="none" {style}/>'

    measured = [(x(one.processes), y(one.per_second)) for one in points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in measured)
    axes = f"{x(0)},{y(most.ideal)} {x(0)},{y(0)} {x(most.processes)},{y(0)}"
    ideal = f"{x(0)},{y(0)} {x(most.processes)},{y(most.ideal)}"
    parts = [
        '<rect width="100%" height="100%" fill="white"/>',
        line(axes, 'stroke="#444"'),
        line(ideal, 'stroke="#999" stroke-dasharray="5 4"'),
        line(path, 'stroke="#0a6" stroke-width="2"'),
        *(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="#0a6"/>'
            for a, b in measured
        ),
        *(_text(x(one.processes), y(0) + 18, str(one.processes)) for one in points),
        *(
            _text(a, b + 18, number(one.per_second))
            for (a, b), one in zip(measured, points, strict=True)
        ),
        _text(x(most.processes), y(most.ideal) - 8, f"ideal {number(most.ideal)}"),
        _text(WIDTH / 2, HEIGHT - 12, "worker processes"),
        _text(WIDTH / 2, 20, "answers per second, measured and ideal"),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
        f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" text-anchor="middle">\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _text(left: float, top: float, text: str) -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" fill="#222">{text}</text>'


async def _stack(exits: contextlib.AsyncExitStack, rig: Rig) -> Stack:
    """A router and native-ops of its own, so that the rig's workers have no part."""
    port = free_port()
    model = Program(
        "tests.support.scripted_model", "--latency", str(LATENCY), "--port", str(port)
    )
    await exits.enter_async_context(program(model, rig.folder / "logs"))
    await listening(port, model)
    environ = {
        f"DSPEX_POOLS_{POOL.upper()}_CONCURRENCY": str(CONCURRENCY),
        "DSPEX_LMS_DEFAULT_MODEL": "openai/scripted",
        "DSPEX_LMS_DEFAULT_API_BASE": f"http://127.0.0.1:{port}/v1",
        "DSPEX_LMS_DEFAULT_API_KEY": KEY,
    }
    stack = Stack(rig.stack.url, rig.folder / "logs", POOL, environ)
    await exits.enter_async_context(stack)
    await stack.start(Program("dspex.native"), Program("dspex.router"))
    await stack.ready(workers=0)
    return stack
