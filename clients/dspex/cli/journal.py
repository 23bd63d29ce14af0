"""``dspex journal``: what happened, from the copies that JetStream keeps."""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import SUPPRESS
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus import settings
from dspex.bus.journal import Damaged, Reader
from dspex.bus.selecting import Lives, Wanted, follow
from dspex.cli import home, journal_files, journal_select, journal_show, journal_switch
from dspex.cli.asking import connected
from dspex.cli.call import report
from dspex.cli.console import aligned, console
from dspex.cli.journal_rows import HEAD, row
from dspex.cli.journal_tail import tail
from dspex.contracts.failures import BadRequest, Failure

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from dspex.bus.connection import NatsBus
    from dspex.contracts.configuration import Configuration
    from dspex.contracts.lives import Life
    from dspex.contracts.subjects import Subjects

ABOUT = """\
Look at what happened: every request with the decision about it, its calls of
language models and tools, its events and how it ended.

  dspex journal ls --failed --since 1h
  dspex journal show 0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71
  dspex journal tail
  dspex journal export yesterday.parquet --since 1d
  dspex journal import yesterday.parquet
  dspex journal set --sample 0.1
"""


def add(commands: Any) -> None:
    """The command lines of ``dspex journal …``."""
    ls = _command(commands, "ls", "list requests, the newest last")
    journal_select.add(ls)
    ls.add_argument("--limit", type=int, default=50, metavar="N", help="default: 50")
    show = _command(commands, "show", "print the whole life of a request")
    show.add_argument("request", metavar="REQUEST", help="its id")
    show.add_argument("--tenant", default="", metavar="TENANT", help="whose it is")
    journal_select.add(_command(commands, "tail", "print requests as they end"))
    export = _command(commands, "export", "write requests to a file")
    export.add_argument("file", type=Path, metavar="FILE", help="*.jsonl or *.parquet")
    export.add_argument("--request", metavar="ID", help="only this one")
    journal_select.add(export)
    taken = _command(commands, "import", "read requests from an exported file")
    taken.add_argument("file", type=Path, metavar="FILE", help="*.jsonl or *.parquet")
    journal_switch.add(
        _command(commands, "set", "change what is journaled from now on")
    )


def main(given: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    try:
        found = settings.load(given.config, environ)
        url = home.find_url(given.url, environ, found, Path())
        return asyncio.run(_run(url, found, given))
    except Failure as failure:
        report(failure, as_json=given.json)
        return 1


async def _run(url: str, found: Configuration, given: argparse.Namespace) -> int:
    bus = await connected(url, found, "dspex-journal")
    try:
        return await _COMMANDS[given.what](bus, found.subjects, given)
    finally:
        await bus.close()


async def _ls(bus: NatsBus, subjects: Subjects, given: argparse.Namespace) -> int:
    if given.limit < 1:
        raise BadRequest("--limit takes a number, at least 1.")
    wanted = journal_select.wanted(given)
    last: deque[Life] = deque(maxlen=given.limit)
    trouble = Trouble()
    lives = Lives(wanted, last.append)
    entries = Reader(bus, subjects).entries(since=wanted.since, until=wanted.until)
    await follow(entries, lives, trouble.take)
    if given.json:
        for life in last:
            print(msgspec.json.encode(life.summary()).decode())
    elif not last:
        print("No request matches.", file=sys.stderr)
    else:
        out = console(dict(os.environ), sys.stdout)
        head, *lines = aligned([HEAD, *map(row, last)])
        out.line(out.dim(head))
        for line in lines:
            out.line(line)
    trouble.report()
    return 0


async def _show(bus: NatsBus, subjects: Subjects, given: argparse.Namespace) -> int:
    out = console(dict(os.environ), sys.stdout)
    reader = Reader(bus, subjects)
    return await journal_show.show(reader, given, out)


async def _export(bus: NatsBus, subjects: Subjects, given: argparse.Namespace) -> int:
    wanted = journal_select.wanted(given)
    reader, trouble = Reader(bus, subjects), Trouble()
    keys = None if wanted.all else await _keys(reader, wanted)
    written = await journal_files.write(
        given.file, journal_files.chosen(reader, wanted, keys, trouble.take)
    )
    _told(given, {"entries": written, "damaged": trouble.count})
    trouble.report()
    return 0


async def _keys(reader: Reader, wanted: Wanted) -> set[tuple[str, str]]:
    """Which requests are wanted: a first reading, which keeps their ids alone."""
    keys: set[tuple[str, str]] = set()
    lives = Lives(wanted, lambda life: keys.add((life.tenant, life.request)))
    entries = reader.entries(since=wanted.since, until=wanted.until)
    await follow(entries, lives, lambda _: None)
    return keys


async def _import(bus: NatsBus, subjects: Subjects, given: argparse.Namespace) -> int:
    trouble = Trouble()
    taken = await journal_files.take_in(bus, subjects, given.file, trouble.take)
    said = {"entries": taken.entries, "known": taken.known, "damaged": trouble.count}
    _told(given, said)
    trouble.report()
    return 0


class Trouble:
    """What could not be read: counted, and told once at the end."""

    def __init__(self) -> None:
        self.count = 0
        self._whys: Counter[str] = Counter()

    def take(self, damaged: Damaged) -> None:
        """Take in one."""
        self.count += 1
        if len(self._whys) < 20 or damaged.why in self._whys:
            self._whys[damaged.why] += 1

    def report(self) -> None:
        """Say it on standard error."""
        for why, times in self._whys.items():
            print(f"passed over: {times} x {why}", file=sys.stderr)


def _told(given: argparse.Namespace, said: dict[str, int]) -> None:
    if given.json:
        print(msgspec.json.encode(said).decode())
    else:
        parts = [f"{said['entries']} entries"]
        if known := said.get("known"):
            parts.append(f"{known} already there")
        print(", ".join([*parts, f"{said['damaged']} passed over"]))


def _command(commands: Any, name: str, said: str) -> argparse.ArgumentParser:
    found: argparse.ArgumentParser = commands.add_parser(
        name, help=said, description=f"{said[0].upper()}{said[1:]}."
    )
    # Before `ls` it may stand too, and a default here would hide it.
    found.add_argument(
        "--config",
        type=Path,
        default=SUPPRESS,
        metavar="PATH",
        help="configuration file",
    )
    found.add_argument("--url", metavar="URL", help="NATS server, host:port")
    found.add_argument("--json", action="store_true", help="print JSON, line by line")
    return found


_COMMANDS: dict[
    str, Callable[[NatsBus, Subjects, argparse.Namespace], Awaitable[int]]
] = {
    "ls": _ls,
    "show": _show,
    "tail": tail,
    "export": _export,
    "import": _import,
    "set": journal_switch.switch,
}
