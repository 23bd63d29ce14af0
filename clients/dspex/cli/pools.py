"""``dspex pools``, ``scale``, ``drain``, ``restart``, ``top``: what runs, how much."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus import settings
from dspex.cli import home
from dspex.cli.asking import connected, gather, nobody
from dspex.cli.call import report
from dspex.cli.console import console
from dspex.cli.hosts import Seen, lines
from dspex.contracts.failures import Failure, NotFound
from dspex.contracts.pools import (
    Changed,
    DrainRequest,
    HostStatus,
    PoolsRequest,
    RestartRequest,
    ScaleRequest,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from dspex.bus.connection import NatsBus
    from dspex.cli.console import Console
    from dspex.contracts.subjects import Subjects

INTERVAL = 1.0
"""Seconds between two pictures of ``dspex top``."""

_CLEAR = "\x1b[H\x1b[2J"

_POOLS = """\
Show every host, its pools and their workers: versions, load, memory, GPUs, what the
pool needs and why, and why there are fewer workers than there should be.
"""

_SCALE = """\
Change how many workers a pool has, spread over all hosts that have it.

  dspex scale light 4
  dspex scale gpu 1 --host machine-2
"""

_DRAIN = """\
Empty a host, a pool or one worker without losing a request. A host and a pool stay
empty until they are scaled (a host by its name: `dspex scale POOL N --host HOST`); a
worker, named as `dspex pools` shows it, is replaced.
"""

_RESTART = """\
Read the configuration and the code again and replace every worker of a pool, a few
at a time: a worker ends when its replacement is ready, and no request is lost.
"""

_TOP = "The same as `dspex pools`, again every second, until Ctrl-C."


def add(add_command: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """Add these commands to the command line.

    Args:
        add_command: Adds one: its name, a few words, its description.
    """
    pools = add_command("pools", "show hosts, pools and workers", _POOLS)
    pools.add_argument("pool", nargs="?", metavar="POOL", help="only this one")
    scale = add_command("scale", "change how many workers a pool has", _SCALE)
    scale.add_argument("pool", metavar="POOL")
    scale.add_argument("processes", type=int, metavar="N")
    scale.add_argument(
        "--host", metavar="HOST", help="all N on this host, and only there"
    )
    drain = add_command("drain", "empty a host, a pool or a worker", _DRAIN)
    drain.add_argument("name", metavar="HOST|POOL|WORKER")
    restart = add_command("restart", "replace the workers of a pool", _RESTART)
    restart.add_argument("pool", metavar="POOL")
    top = add_command("top", "watch hosts, pools and workers", _TOP)
    top.add_argument("pool", nargs="?", metavar="POOL", help="only this one")
    top.add_argument("--once", action="store_true", help="print it once and end")
    for one in (pools, scale, drain, restart, top):
        one.add_argument("--url", metavar="URL", help="NATS server, host:port")
    for one in (pools, scale, drain, restart):
        one.add_argument("--json", action="store_true", help="print one JSON list")


async def show(
    bus: NatsBus, subjects: Subjects, arguments: argparse.Namespace, out: Console
) -> None:
    """Print what there is.

    Raises:
        NoWorker: Nobody is there.
    """
    answers, seen = await _look(bus, subjects, arguments.pool)
    if arguments.json:
        out.line(msgspec.json.encode(answers).decode())
        return
    for line in lines(answers, seen.unsupervised(answers), out):
        out.line(line)


async def top(
    bus: NatsBus, subjects: Subjects, arguments: argparse.Namespace, out: Console
) -> None:
    """Print what there is, again and again."""
    while True:
        answers, seen = await _look(bus, subjects, arguments.pool)
        shown = lines(answers, seen.unsupervised(answers), out)
        clock = time.strftime("%H:%M:%S")
        picture = "\n".join([f"dspex top  {clock}", *shown])
        if arguments.once:
            out.line(picture)
            return
        out.part(f"{_CLEAR}{picture}\n")
        await asyncio.sleep(INTERVAL)


async def scale(
    bus: NatsBus, subjects: Subjects, arguments: argparse.Namespace, out: Console
) -> None:
    """Have another number of workers."""
    asked = msgspec.convert(
        {
            "pool": arguments.pool,
            "processes": arguments.processes,
            "host": arguments.host,
        },
        ScaleRequest,
    )
    answers = await _change(bus, subjects.admin("scale"), asked)
    if not answers:
        raise NotFound(
            f"No supervisor is called {arguments.host!r}.",
            field="host",
            hint="`dspex pools` shows the hosts.",
        )
    _tell(answers, arguments, out)


async def drain(
    bus: NatsBus, subjects: Subjects, arguments: argparse.Namespace, out: Console
) -> None:
    """Empty something."""
    asked = DrainRequest(name=arguments.name)
    answers = await _change(bus, subjects.admin("drain"), asked)
    if not any(one.pools or one.workers for one in answers):
        raise NotFound(
            f"No host, pool or worker is called {arguments.name!r}.",
            field="name",
            hint="`dspex pools` shows what there is.",
        )
    _tell(answers, arguments, out)


async def restart(
    bus: NatsBus, subjects: Subjects, arguments: argparse.Namespace, out: Console
) -> None:
    """Replace the workers of a pool."""
    asked = RestartRequest(pool=arguments.pool)
    _tell(await _change(bus, subjects.admin("restart"), asked), arguments, out)


def main(arguments: argparse.Namespace) -> int:
    """Run one of these commands and return its exit status."""
    environ = dict(os.environ)
    try:
        asyncio.run(_run(arguments, environ))
    except msgspec.ValidationError as error:
        print(f"dspex {arguments.command}: {error}", file=sys.stderr)
        return 1
    except Failure as failure:
        report(failure, as_json=getattr(arguments, "json", False))
        return 1
    except KeyboardInterrupt:
        return 0 if arguments.command == "top" else 130
    return 0


async def _run(arguments: argparse.Namespace, environ: dict[str, str]) -> None:
    found = settings.load(arguments.config, environ)
    url = home.find_url(arguments.url, environ, found, Path())
    bus = await connected(url, found, f"dspex-{arguments.command}")
    run = _RUN[arguments.command]
    try:
        await run(bus, found.subjects, arguments, console(environ, sys.stdout))
    finally:
        await bus.close()


async def _look(
    bus: NatsBus, subjects: Subjects, pool: str | None
) -> tuple[list[HostStatus], Seen]:
    """Ask the supervisors, and hear everybody's heartbeat meanwhile."""
    seen = Seen(subjects, pool)
    subscription = await bus.subscribe(subjects.heartbeats(), seen.hear)
    try:
        await bus.publish(subjects.discover())
        asked = PoolsRequest(pool=pool)
        subject = subjects.admin("pools")
        answers = await gather(
            bus, subject, asked, HostStatus, lambda one: one.supervisors
        )
        await bus.flush()
    finally:
        await subscription.unsubscribe()
    if not answers and not seen.beats:
        raise nobody()
    if pool and not seen.beats and not any(one.pools for one in answers):
        raise NotFound(
            f"There is no pool {pool!r}.",
            field="pool",
            hint="`dspex pools` shows what there is.",
        )
    return sorted(answers, key=lambda one: one.host), seen


async def _change(bus: NatsBus, subject: str, asked: Any) -> list[Changed]:
    answers = await gather(bus, subject, asked, Changed, lambda one: one.supervisors)
    if not answers and getattr(asked, "host", None) is None:
        raise nobody()
    return sorted(answers, key=lambda one: one.host)


def _tell(answers: list[Changed], arguments: argparse.Namespace, out: Console) -> None:
    if arguments.json:
        out.line(msgspec.json.encode(answers).decode())
        return
    for one in answers:
        said = [f"{pool}: {count} workers" for pool, count in one.pools.items()]
        if one.workers:
            doing = "replacing" if arguments.command == "restart" else "emptying"
            said.append(f"{doing} {', '.join(one.workers)}")
        if said:
            out.line(f"{one.host}  {'; '.join(said)}")


_RUN = {"pools": show, "top": top, "scale": scale, "drain": drain, "restart": restart}

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = dict.fromkeys(_RUN, main)
"""What runs each of these commands."""
