"""``dspex replay --step``: one request, call by call, with a person or a machine."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from dspex.cli.console import console
from dspex.cli.replay_text import (
    asked_text,
    difference,
    read_asked,
    read_reply,
    reply_text,
)
from dspex.contracts import encoding
from dspex.contracts.failures import BadRequest
from dspex.services.replay.stepping import (
    Answered,
    Ask,
    Decision,
    Next,
    Step,
    Stepping,
    Stop,
    Walked,
)

if TYPE_CHECKING:
    import argparse

    from dspex.bus.connection import NatsBus
    from dspex.contracts.replays import Replayed
    from dspex.services.replay.engine import Replay, Where

_WIDTH = 200
_KEYS = "[Enter] go on  [p] change the prompt  [r] change the reply  [a] ask  [q] stop "


class Face(Protocol):
    """Shows a walk, and is told where it goes."""

    async def decide(self, step: Step) -> Decision:
        """What is to become of a call."""
        ...

    def answered(self, found: Answered) -> None:
        """Show what a call brought that was made for real."""
        ...

    def before(self, one: Replayed) -> None:
        """Show what came of an earlier request of the session."""
        ...

    def end(self, walked: Walked) -> None:
        """Show where it ended."""
        ...


async def run(
    bus: NatsBus, replay: Replay, where: Where, given: argparse.Namespace
) -> int:
    """Walk the request and return the exit status."""
    real = {"lm"} if given.mode == "live" else set()
    real |= {"tools"} if given.allow_tools else set()
    face: Face = Lines() if given.json else Person()
    stepping = Stepping(bus, replay, where, frozenset(real))
    walked = await stepping.walk(given.step, face.decide, face.answered, face.before)
    face.end(walked)
    return int(walked.replayed is None or walked.replayed.status == "failed")


class Lines:
    """JSON, line by line."""

    async def decide(self, step: Step) -> Decision:
        """As ``Face``; the end of what is read ends the walk."""
        _print(step)
        line = await _line()
        if not line.strip():
            return Next() if line else Stop()
        decision: Decision = encoding.decode(line.encode(), Decision)
        return decision

    def answered(self, found: Answered) -> None:
        """As ``Face``."""
        _print({"answered": found})

    def before(self, one: Replayed) -> None:
        """As ``Face``."""
        _print({"before": one})

    def end(self, walked: Walked) -> None:
        """As ``Face``."""
        _print({"walked": walked})


class Person:
    """Text and keys."""

    def __init__(self) -> None:
        self._out = console(dict(os.environ))

    async def decide(self, step: Step) -> Decision:
        """As ``Face``."""
        self._show(step)
        while True:
            self._out.part(self._out.bold(_KEYS))
            line = await _line()
            try:
                if (decision := await self._decision(line, step)) is not None:
                    return decision
            except BadRequest as problem:
                self._out.line(self._out.bad(problem.message))

    def answered(self, found: Answered) -> None:
        """As ``Face``."""
        said = found.failed or _text(found.outputs if found.call else found.result)
        self._out.line(f"{self._out.bold('it answered')}\n{said}\n")

    def before(self, one: Replayed) -> None:
        """As ``Face``."""
        self._out.line(self._out.dim(f"{one.request}: {one.status}"))

    def end(self, walked: Walked) -> None:
        """As ``Face``."""
        replayed = walked.replayed
        if replayed is None:
            self._out.line("stopped")
            return
        self._out.line(self._out.bold(f"the end: {replayed.status}"))
        self._out.line(walked.failed or _text(walked.outputs or replayed.why))
        if (found := replayed.first_difference) is not None:
            self._out.line(difference(found, _WIDTH))

    async def _decision(self, line: str, step: Step) -> Decision | None:
        key = line.strip()
        if not line or key == "q":
            return Stop()
        if key == "p":
            return read_asked(await _edited(asked_text(step)), step)
        if key == "r":
            return read_reply(await _edited(reply_text(step)), step)
        if key == "a":
            return Ask()
        return None if key else Next()

    def _show(self, step: Step) -> None:
        out = self._out
        what = f"call {step.call}" if step.call else f"tool {step.subject}"
        out.line(out.bold(f"{step.step}. {what}"))
        out.line(asked_text(step))
        if step.diff:
            out.line(out.warning("not the prompt of then:"))
            out.line("\n".join(step.diff))
        said = step.failed or (_text(step.recorded) if step.recorded else "nothing")
        known = "the record answers" if step.found else "the record answered then"
        out.line(f"{out.bold(known)}\n{said}\n")
        if step.problem:
            out.line(out.bad(step.problem))


async def _edited(text: str) -> str:
    """A text as a person changed it: in an editor, or typed up to a line with a dot."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not (editor and sys.stdin.isatty()):
        return await _typed()
    with TemporaryDirectory(prefix="dspex-step-") as folder:
        path = Path(folder) / "text.md"
        path.write_text(f"{text}\n", encoding="utf-8")
        process = await asyncio.create_subprocess_exec(*shlex.split(editor), str(path))
        if status := await process.wait():
            raise BadRequest(f"{editor} ended with status {status}: nothing changed.")
        return path.read_text(encoding="utf-8").removesuffix("\n")


async def _typed() -> str:
    print("type it; a line with a dot ends it", file=sys.stderr, flush=True)
    lines: list[str] = []
    while (line := await _line()) and line.rstrip("\n") != ".":
        lines.append(line.rstrip("\n"))
    return "\n".join(lines)


async def _line() -> str:
    """The next line of standard input; empty at its end.

    It is read in a thread of its own, which ends with the process: one of a pool
    would have to be waited for, and nobody may press Enter any more.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()

    def tell(line: str) -> None:
        if not found.done():
            found.set_result(line)

    def read() -> None:
        line = sys.stdin.readline()
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, line)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    return await found


def _text(said: Any) -> str:
    one = said[0] if isinstance(said, list) and len(said) == 1 else said
    if isinstance(one, str):
        return one
    return msgspec.json.format(msgspec.json.encode(one), indent=2).decode()


def _print(said: Any) -> None:
    print(msgspec.json.encode(said).decode(), flush=True)
