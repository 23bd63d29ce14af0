"""``dspex replay``: recorded requests again, from the record or for real."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from dspex.bus import settings
from dspex.bus.journal import Damaged, Reader
from dspex.bus.replaying import Record
from dspex.cli import home, journal_select, replay_lives
from dspex.cli.asking import connected
from dspex.cli.call import report
from dspex.cli.console import aligned, console
from dspex.cli.journal import Trouble
from dspex.cli.replay_load import MOST, Load
from dspex.cli.replay_run import Again, How
from dspex.cli.replay_shadow import StoredBefore, Wish, shadow
from dspex.contracts.failures import BadRequest, Failure
from dspex.contracts.replays import Replayed
from dspex.contracts.subjects import Subjects, token

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from dspex.bus.connection import NatsBus
    from dspex.contracts.configuration import Configuration

ABOUT = """\
Send recorded requests again, into processes of its own under a prefix of its own.

  exact  models and tools answer from the record: offline, without keys
  diff   the same with the programs, the configuration and the DSPy of now
  live   with real models, such as another one: --lm other
  load   as they arrived, --speed times faster; measures throughput and latency

  dspex replay exact --since 1h
  dspex replay exact --request 0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71 --json
  dspex replay diff --session chat-1 --metric f1
  dspex replay live --operation predict --lm other
  dspex replay load --since 1h --speed 10
"""

END = """\
Exit status 0 if every request is identical; of live and load: if every one was
answered.
"""

MODES = ("exact", "diff", "live", "load")

ANSWERED = frozenset({"live", "load"})
"""Modes in which an answer is enough, whatever it says."""

_BAR = 30


def add(found: argparse.ArgumentParser) -> None:
    """The command line of ``dspex replay``."""
    found.epilog = END
    found.add_argument("mode", metavar="MODE", choices=MODES, help=", ".join(MODES))
    found.add_argument(
        "--request",
        dest="requests",
        nargs="+",
        default=[],
        metavar="R",
        help="only these",
    )
    journal_select.add(found)
    found.add_argument("--url", metavar="URL", help="NATS server, host:port")
    found.add_argument(
        "--into",
        default="",
        metavar="PREFIX",
        help="prefix of the replay, whose journal is kept (default: one that goes); "
        "of load: of a stack that runs",
    )
    found.add_argument("--lm", default="", metavar="NAME", help="another model")
    found.add_argument(
        "--metric", default="", metavar="NAME", help="of new outputs, such as f1"
    )
    found.add_argument(
        "--allow-tools", action="store_true", help="call tools, also again"
    )
    found.add_argument(
        "--python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter of the workers, such as one with another DSPy",
    )
    found.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="keep what came of each request there, and go on where it ends",
    )
    found.add_argument(
        "--speed", type=float, default=1.0, metavar="N", help="of load; default: 1"
    )
    found.add_argument(
        "--latency",
        type=float,
        metavar="S",
        help="of load: seconds a model takes (default: as long as it took)",
    )
    found.add_argument("--json", action="store_true", help="print JSON, line by line")


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
    if not given.speed > 0:
        raise BadRequest("--speed takes a number, more than 0.")
    prefix = token(given.into or f"replay{uuid4().hex[:8]}", "into")
    if prefix == found.prefix and given.mode != "load":
        raise BadRequest(
            "A replay does not go where the requests came from.",
            hint="Name another prefix, or none.",
            field="into",
        )
    bus = await connected(url, found, "dspex-replay")
    try:
        session = Session(bus, found, given)
        return await session.run(url, prefix)
    finally:
        await bus.close()


class Session:
    """One run of the command.

    Args:
        bus: Where.
        found: The configuration.
        given: The command line.
    """

    def __init__(
        self, bus: NatsBus, found: Configuration, given: argparse.Namespace
    ) -> None:
        self._bus = bus
        self._found = found
        self._given = given
        self._reader = Reader(bus, found.subjects)
        self._trouble = Trouble()
        self._out = console(dict(os.environ), sys.stderr)
        self._done = _done(given.resume)
        self._all: list[Replayed] = []
        self._measured: dict[str, Any] = {}

    async def run(self, url: str, prefix: str) -> int:
        """Replay what is wanted; returns the exit status."""
        given = self._given
        wanted = journal_select.wanted(given)
        chosen = await replay_lives.choose(
            self._reader, wanted, given.requests, self._trouble.take
        )
        if not chosen:
            raise BadRequest(
                "The journal has no such request.",
                hint="`dspex journal ls` lists what there is.",
            )
        wish = Wish(
            url=url,
            prefix=prefix,
            pools=sorted(self._found.pools),
            from_record=_from_record(given),
            python=given.python,
            config=given.config,
            tools=self._tools(chosen),
            keep=bool(given.into),
        )
        if given.mode == "load" and given.into:
            await self._load(chosen, self._again(prefix, None), None)
        else:
            async with shadow(self._bus, wish, self._out.step):
                await self._in_shadow(chosen, prefix)
        self._trouble.report()
        return self._summary()

    async def _in_shadow(self, chosen: list[replay_lives.Chosen], prefix: str) -> None:
        programs = StoredBefore(self._bus, self._found.prefix, prefix)
        await programs.read()
        record = await self._record(prefix)
        again = self._again(prefix, record)
        if self._given.mode == "load":
            await programs.put(float("inf"))
            await self._load(chosen, again, record)
            return
        async for one in self._replays(chosen, programs, again):
            self._tell(one)

    async def _load(
        self,
        chosen: list[replay_lives.Chosen],
        again: Again,
        record: Record | None,
    ) -> None:
        requests: list[replay_lives.Recorded] = []
        for one in chosen[:MOST]:
            recorded = await replay_lives.read(self._reader, one)
            if isinstance(recorded, Damaged):
                self._trouble.take(recorded)
            elif recorded is not None and not (recorded.state or recorded.session):
                requests.append(recorded)
        if not requests:
            raise BadRequest("None of these can be sent without its session.")
        load = Load(again, record, self._given.speed, self._tell)
        await load.run(requests)
        self._measured = load.measured.summary()

    async def _replays(
        self, chosen: list[replay_lives.Chosen], programs: StoredBefore, again: Again
    ) -> AsyncIterator[Replayed]:
        for number, one in enumerate(chosen, 1):
            self._progress(number, len(chosen))
            until = one.at if self._given.mode == "exact" else float("inf")
            await programs.put(until)
            recorded = await replay_lives.read(self._reader, one)
            if isinstance(recorded, Damaged):
                self._trouble.take(recorded)
                yield Replayed(
                    request=one.request,
                    replayed_as=None,
                    status="failed",
                    why=recorded.why,
                )
            elif recorded is not None:
                known = self._done.get(one.request)
                if known is None or recorded.session or recorded.state:
                    known = await again.replay(recorded)
                yield known

    def _tools(self, chosen: list[replay_lives.Chosen]) -> list[str]:
        subjects = self._found.subjects
        tenants = sorted({one.tenant for one in chosen})
        theirs = [subjects.of(tenant).tools() for tenant in tenants]
        return [*self._found.tools.subjects, *theirs]

    async def _record(self, prefix: str) -> Record | None:
        given = self._given
        if not _from_record(given):
            return None
        latency = given.latency if given.mode == "load" else 0.0
        record = Record(self._bus, Subjects(prefix), latency)
        await record.start()
        return record

    def _again(self, prefix: str, record: Record | None) -> Again:
        how = How(
            lm=self._given.lm,
            metric=self._given.metric,
            answered=self._given.mode in ANSWERED,
            pools=frozenset(self._found.pools),
        )
        return Again(self._bus, Subjects(prefix), record, how)

    def _tell(self, one: Replayed) -> None:
        self._all.append(one)
        line = msgspec.json.encode(one).decode()
        if self._given.resume is not None and one.request not in self._done:
            with self._given.resume.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        if self._given.json:
            print(line, flush=True)

    def _progress(self, number: int, of: int) -> None:
        if sys.stderr.isatty():
            filled = _BAR * number // of
            bar = "#" * filled + "." * (_BAR - filled)
            end = "\n" if number == of else ""
            print(f"\r[{bar}] {number}/{of}", end=end, file=sys.stderr, flush=True)

    def _summary(self) -> int:
        counts = Counter(str(one.status) for one in self._all)
        scores = [one.score for one in self._all if one.score is not None]
        said: dict[str, Any] = {"replayed": len(self._all), **counts, **self._measured}
        if scores:
            said["score"] = round(sum(scores) / len(scores), 4)
        if self._given.json:
            print(msgspec.json.encode({"summary": said}).decode(), flush=True)
        else:
            _table(self._all)
            print(", ".join(f"{name} {one}" for name, one in said.items()))
        enough = self._given.mode in ANSWERED
        bad = {"failed"} if enough else {*counts} - {"identical"}
        return int(not self._all or any(counts[status] for status in bad))


def _from_record(given: argparse.Namespace) -> str:
    lm = "" if given.mode == "live" else "lm"
    tools = "" if given.allow_tools else "tools"
    return ",".join(filter(None, (lm, tools)))


def _done(path: Path | None) -> dict[str, Replayed]:
    """What an earlier run that was kept there came to."""
    if path is None or not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        found = [msgspec.json.decode(line, type=Replayed) for line in lines]
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"{path} holds no replay: {error}.",
            hint="Name the file of an earlier --resume, or a new one.",
        ) from None
    return {one.request: one for one in found}


def _table(replayed: list[Replayed]) -> None:
    rows: list[tuple[str, ...]] = [("request", "status", "first difference")]
    rows += [
        (one.request, one.status, _difference(one))
        for one in replayed
        if one.status != "identical"
    ]
    if len(rows) > 1:
        for line in aligned(rows):
            print(line)
    for one in replayed:
        if one.first_difference is not None and one.first_difference.diff:
            print(f"\n{one.request}, call {one.first_difference.call}")
            print("\n".join(one.first_difference.diff))


def _difference(one: Replayed) -> str:
    found = one.first_difference
    if found is None:
        return one.why
    before, after = f"{found.recorded!r:.60}", f"{found.replayed!r:.60}"
    return f"{found.path}: {before} -> {after}"
