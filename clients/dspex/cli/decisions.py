"""``dspex decisions``: what the routers did, and why."""

from __future__ import annotations

import asyncio
import datetime
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dspex.bus import settings
from dspex.cli import home
from dspex.cli.asking import connected, gather
from dspex.cli.call import report
from dspex.cli.console import aligned, console
from dspex.contracts.admin import Decisions, DecisionsRequest
from dspex.contracts.failures import Failure, NoWorker

if TYPE_CHECKING:
    import argparse

    from dspex.bus.core import Bus
    from dspex.cli.console import Console
    from dspex.contracts.configuration import Configuration
    from dspex.contracts.subjects import Subjects


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    try:
        found = settings.load(arguments.config, environ)
        url = home.find_url(arguments.url, environ, found, Path())
        asked = DecisionsRequest(limit=arguments.limit, request=arguments.request)
        answers = asyncio.run(_ask(url, found, asked))
    except Failure as failure:
        report(failure, as_json=arguments.json)
        return 1
    if arguments.json:
        print(msgspec.json.encode(answers).decode())
        return 0
    for one in answers:
        _show(one, console(environ, sys.stdout))
    return 0


async def ask(bus: Bus, subjects: Subjects, asked: DecisionsRequest) -> list[Decisions]:
    """Ask all routers; each answers for itself.

    Raises:
        NoWorker: No router answered.
    """
    subject = subjects.admin("decisions")
    answers: list[Decisions] = await gather(
        bus, subject, asked, Decisions, lambda one: one.routers
    )
    if not answers:
        raise NoWorker(
            "No router answers on this NATS server.",
            hint="Start one: `dspex up`, or dspex-router.",
        )
    return answers


async def _ask(
    url: str, found: Configuration, asked: DecisionsRequest
) -> list[Decisions]:
    bus = await connected(url, found, "dspex-decisions")
    try:
        return await ask(bus, found.subjects, asked)
    finally:
        await bus.close()


def _show(one: Decisions, out: Console) -> None:
    out.line(out.bold(f"{one.router}, up {one.uptime_s:.0f} s"))
    counted = [f"{name} {count}" for name, count in sorted(one.counters.items())]
    out.line(f"  {', '.join(counted) or 'nothing asked yet'}")
    pools: list[tuple[str, ...]] = [
        ("pool", "workers", "ready", "places", "held", "queued")
    ]
    pools += [
        (p.pool, *map(str, (p.workers, p.ready, p.places, p.held, p.queued)))
        for p in one.pools
    ]
    _table(pools, out)
    for breaker in one.breakers:
        said = f"{breaker.scope} {breaker.name}: {breaker.state}, {breaker.reason}"
        out.line("  " + out.warning(f"breaker of {said}"))
    decisions: list[tuple[str, ...]] = [
        ("at", "request", "operation", "try", "worker", "why", "of")
    ]
    decisions += [
        (
            _clock(d.at),
            d.request,
            d.operation,
            str(d.decision.attempt),
            d.decision.worker,
            d.decision.reason,
            str(d.decision.eligible),
        )
        for d in one.decisions
    ]
    _table(decisions, out)


def _table(rows: list[tuple[str, ...]], out: Console) -> None:
    if len(rows) > 1:
        head, *lines = aligned(rows)
        out.line("  " + out.dim(head))
        for line in lines:
            out.line(f"  {line}")


def _clock(at: float) -> str:
    found = datetime.datetime.fromtimestamp(at / 1000).astimezone()
    return found.strftime("%H:%M:%S.%f")[:-3]
