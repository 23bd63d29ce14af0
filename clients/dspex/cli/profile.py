"""``dspex profile``: what one process spends its time on."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dspex.bus import settings
from dspex.bus.core import NoResponders
from dspex.bus.health import read_beat
from dspex.cli import home
from dspex.cli.asking import connected
from dspex.cli.call import report
from dspex.cli.console import aligned, console
from dspex.contracts import encoding
from dspex.contracts.admin import ProcessProfile, ProfileRequest
from dspex.contracts.envelope import Failed, failure
from dspex.contracts.failures import Failure, NotFound, WorkerLost

if TYPE_CHECKING:
    import argparse

    from dspex.bus.core import Bus, Message
    from dspex.cli.console import Console
    from dspex.contracts.configuration import Configuration
    from dspex.contracts.heartbeats import Heartbeat
    from dspex.contracts.subjects import Subjects

ABOUT = """\
Look a hundred times a second at what the threads of one process do, and show the
functions that ran most. NAME is a worker as `dspex pools` shows it, a pool, or
router, native, state or supervisor: of several, the one that has most in hand.

  dspex profile light --seconds 10
  dspex profile router --stacks router.txt       # for flamegraph.pl, speedscope, …
"""

HEARD_WITHIN = 0.6
"""Seconds in which processes say that they are there."""

SPARE = 5.0
"""Seconds beyond the profile in which its answer comes."""


def add(found: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    found.add_argument("name", metavar="NAME", help="a worker, a pool, or router, …")
    found.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="1 to 60; default: 5"
    )
    found.add_argument(
        "--stacks", type=Path, metavar="FILE", help="write the collapsed stacks there"
    )
    found.add_argument("--url", metavar="URL", help="NATS server, host:port")
    found.add_argument("--json", action="store_true", help="print the answer as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    try:
        found = settings.load(arguments.config, environ)
        url = home.find_url(arguments.url, environ, found, Path())
        said = asyncio.run(_ask(url, found, arguments.name, arguments.seconds))
    except Failure as problem:
        report(problem, as_json=arguments.json)
        return 1
    if arguments.stacks:
        arguments.stacks.write_text(said.stacks, encoding="utf-8")
    if arguments.json:
        print(msgspec.json.encode(said).decode())
    else:
        _show(said, console(environ, sys.stdout))
    return 0


def pick(name: str, beats: list[Heartbeat]) -> str:
    """The process that a name means.

    Raises:
        NotFound: None has that name.
    """
    named = [one for one in beats if name in (one.worker, one.pool)]
    if not named:
        there = sorted({one.pool for one in beats} | {one.worker for one in beats})
        raise NotFound(
            f"No process {name!r} is there. There are: {', '.join(there) or 'none'}.",
            field="process",
            hint="`dspex pools` shows the workers.",
        )
    return max(named, key=lambda one: one.in_flight).worker


async def ask(bus: Bus, subjects: Subjects, wanted: ProfileRequest) -> ProcessProfile:
    """Have a process look at itself.

    Raises:
        Failure: It refuses, or does not answer.
    """
    try:
        message = await bus.request(
            subjects.admin("profile"),
            encoding.encode(wanted),
            timeout=wanted.seconds + SPARE,
        )
    except (TimeoutError, NoResponders):
        raise WorkerLost(
            f"{wanted.process!r} did not answer.",
            hint="Look with `dspex pools` whether it is still there.",
        ) from None
    said: ProcessProfile | Failed = encoding.decode(
        message.data, ProcessProfile | Failed
    )
    if isinstance(said, Failed):
        raise failure(said)
    return said


async def _ask(
    url: str, found: Configuration, name: str, seconds: float
) -> ProcessProfile:
    beats: dict[str, Heartbeat] = {}
    bus = await connected(url, found, "dspex-profile")
    try:
        subjects = found.subjects

        def hear(message: Message) -> None:
            with suppress(Failure):  # not one of ours
                beat = read_beat(subjects, message)
                beats[beat.worker] = beat

        await bus.subscribe(subjects.heartbeats(), hear)
        await bus.publish(subjects.discover())
        await asyncio.sleep(HEARD_WITHIN)
        process = pick(name, list(beats.values()))
        return await ask(
            bus, subjects, ProfileRequest(process=process, seconds=seconds)
        )
    finally:
        await bus.close()


def _show(said: ProcessProfile, out: Console) -> None:
    out.line(
        out.bold(f"{said.process}, pid {said.pid}")
        + f": looked at {said.samples} times in {said.seconds:.1f} s"
    )
    if not said.hottest:
        out.line("  all threads waited")
        return
    rows = [("own", "total", "function")]
    rows += [(str(one.own), str(one.total), one.function) for one in said.hottest]
    head, *lines = aligned(rows)
    out.line("  " + out.dim(head))
    for line in lines:
        out.line(f"  {line}")
