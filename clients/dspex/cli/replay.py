"""``dspex replay``: recorded requests again, from the record or for real."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from dspex.bus import settings
from dspex.cli import home, journal_select, lm, replay_step, replay_text, toy
from dspex.cli.asking import connected
from dspex.cli.call import report
from dspex.cli.console import aligned, console
from dspex.cli.journal import Trouble
from dspex.contracts.configuration import BUILTIN_MODEL, to_environ
from dspex.contracts.failures import BadRequest, Failure
from dspex.contracts.replays import Replayed
from dspex.contracts.subjects import token
from dspex.services.replay.engine import Replay, What, Where

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable

    from dspex.contracts.configuration import Configuration
    from dspex.contracts.replay_requests import Mode

ABOUT = """\
Send recorded requests again, to processes that are started for it and share nothing
with those that serve.

  exact  models and tools answer from the record: offline, without keys
  diff   the same with the current programs, configuration and DSPy
  live   with real models, such as another one: --lm other
  load   as they arrived, --speed times faster; measures throughput and latency

  dspex replay exact --since 1h
  dspex replay exact --request 0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71 --json
  dspex replay diff --session chat-1 --metric f1
  dspex replay live --operation predict --lm other
  dspex replay load --since 1h --speed 10
  dspex replay --step 0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71
  dspex replay live --step 0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71

--step goes through one request call by call. At each call: Enter goes on with the
recorded answer, p changes the prompt, r the reply, a asks the model (`live`) or the
tool (--allow-tools) anew, q stops. Texts are written in $EDITOR, or typed and ended
by a line with a dot. With --json a call is a line of JSON, and so is what is read:
{"do": "next"}, {"do": "prompt", "messages": […]}, {"do": "reply", "text": "…"},
{"do": "ask"}, {"do": "stop"}.
"""

END = """\
Exit status 0 if every request is identical; of live, load and --step: if every one
was answered.
"""

MODES: tuple[Mode, ...] = ("exact", "diff", "live", "load")

_BAR = 30
_WIDTH = 60


def add(found: argparse.ArgumentParser) -> None:
    """The command line of ``dspex replay``."""
    found.epilog = END
    found.add_argument(
        "mode",
        metavar="MODE",
        nargs="?",
        choices=MODES,
        help=f"{', '.join(MODES)}; may be left out with --step: exact",
    )
    found.add_argument(
        "--request",
        dest="requests",
        nargs="+",
        default=[],
        metavar="R",
        help="only these requests",
    )
    found.add_argument(
        "--step", default="", metavar="R", help="go through this request call by call"
    )
    journal_select.add(found)
    found.add_argument("--url", metavar="URL", help="NATS server, host:port")
    found.add_argument(
        "--into",
        default="",
        metavar="PREFIX",
        help="run under this prefix and keep its journal (default: a temporary one); "
        "load: send to the running stack with this prefix",
    )
    found.add_argument(
        "--lm", default="", metavar="NAME", help="use this language model instead"
    )
    found.add_argument(
        "--metric",
        default="",
        metavar="NAME",
        help="score new outputs against recorded ones, such as f1",
    )
    found.add_argument("--allow-tools", action="store_true", help="call tools for real")
    found.add_argument(
        "--python",
        default="",
        metavar="PATH",
        help="interpreter of all workers, such as one with another DSPy",
    )
    found.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="write results there, and continue an interrupted run",
    )
    found.add_argument(
        "--speed",
        type=float,
        default=1.0,
        metavar="N",
        help="load: how many times as fast; default: 1",
    )
    found.add_argument(
        "--latency",
        type=float,
        metavar="S",
        help="load: seconds a model takes (default: as recorded)",
    )
    found.add_argument("--json", action="store_true", help="print JSON, line by line")


def main(given: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    try:
        mode = _mode(given)
        found = settings.load(given.config, environ)
        url = home.find_url(given.url, environ, found, Path())
        where = _where(url, mode, found, given)
        return asyncio.run(_run(_what(mode, given), where, given))
    except Failure as failure:
        report(failure, as_json=given.json)
        return 1


def _mode(given: argparse.Namespace) -> Mode:
    mode: Mode | None = given.mode
    if mode is None and not given.step:
        raise BadRequest(
            f"Which mode? It takes one of {', '.join(MODES)}.",
            hint="dspex replay exact --since 1h, or dspex replay --step REQUEST.",
        )
    if given.step and mode == "load":
        raise BadRequest("--step goes with exact, diff and live.", field="step")
    if not given.speed > 0:
        raise BadRequest("--speed takes a number, more than 0.")
    return mode or "exact"


def _what(mode: Mode, given: argparse.Namespace) -> What:
    return What(
        mode=mode,
        wanted=journal_select.wanted(given),
        requests=given.requests,
        lm=given.lm,
        metric=given.metric,
        allow_tools=given.allow_tools,
        speed=given.speed,
        latency=given.latency,
    )


def _where(
    url: str, mode: Mode, found: Configuration, given: argparse.Namespace
) -> Where:
    prefix = token(given.into or f"replay{uuid4().hex[:8]}", "into")
    if prefix == found.prefix and mode != "load":
        raise BadRequest(
            "A replay does not go where the requests came from.",
            hint="Name another prefix, or none.",
            field="into",
        )
    environ: dict[str, str] = {}
    if mode == "live" and not found.lms:  # the model that `dspex up` would take
        environ = to_environ("default", lm.find(found, os.environ).lm)
    return Where(
        url=url,
        source=found,
        prefix=prefix,
        python=given.python,
        config=given.config,
        environ=environ,
        keep=bool(given.into),
        runs=mode == "load" and bool(given.into),
    )


async def _run(what: What, where: Where, given: argparse.Namespace) -> int:
    bus = await connected(where.url, where.source, "dspex-replay")
    trouble, out = Trouble(), console(dict(os.environ), sys.stderr)
    try:
        async with _with_model(what, where, out.step) as served:
            replay = Replay(bus, what, served, trouble.take, out.step)
            if given.step:
                return await replay_step.run(bus, replay, served, given)
            return await _all(replay, given)
    finally:
        trouble.report()
        await bus.close()


@asynccontextmanager
async def _with_model(
    what: What, where: Where, say: Callable[[str], None]
) -> AsyncIterator[Where]:
    """Where it runs, with the built-in model if that shall answer."""
    models = {one.model for one in where.source.lms.values()}
    models |= {where.environ.get("DSPEX_LMS_DEFAULT_MODEL", "")}
    if what.mode != "live" or BUILTIN_MODEL not in models:
        yield where
        return
    async with toy.serving(say) as found:
        yield replace(where, environ=where.environ | found)


async def _all(replay: Replay, given: argparse.Namespace) -> int:
    replay.known = _done(given.resume)
    all_: list[Replayed] = []
    async with aclosing(replay.results()) as results:
        async for one in results:
            all_.append(one)
            _tell(one, replay, given)
            _progress(len(all_), replay.total)
    if given.json:
        print(msgspec.json.encode({"summary": replay.summary}).decode(), flush=True)
    else:
        _table(all_)
        said = msgspec.to_builtins(replay.summary)
        print(", ".join(f"{name} {one}" for name, one in said.items()))
    return int(not replay.good)


def _tell(one: Replayed, replay: Replay, given: argparse.Namespace) -> None:
    line = msgspec.json.encode(one).decode()
    if given.resume is not None and one.request not in replay.known:
        with given.resume.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    if given.json:
        print(line, flush=True)


def _progress(number: int, of: int) -> None:
    if sys.stderr.isatty():
        filled = _BAR * number // of
        bar = "#" * filled + "." * (_BAR - filled)
        end = "\n" if number == of else ""
        print(f"\r[{bar}] {number}/{of}", end=end, file=sys.stderr, flush=True)


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
    return replay_text.difference(found, _WIDTH)
