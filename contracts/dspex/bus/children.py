"""One child process: started, watched, stopped, its output kept in a file.

The other end is here too: how a process ends with who started it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field

from dspex.bus import loglines

if TYPE_CHECKING:
    import re
    from asyncio.subprocess import Process
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import BinaryIO

Role = Literal[
    "server",
    "guard",
    "model",
    "router",
    "native",
    "state",
    "replay",
    "supervisor",
    "worker",
]

_TAIL_BYTES = 8192


class Program(Struct, frozen=True, kw_only=True):
    """What to start.

    Attributes:
        name: Unique in a stack; also the name of its log file.
        role: What it is.
        argv: Command and arguments.
        environ: Variables added to our own.
    """

    name: str
    role: Role
    argv: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)


class Ended(Exception):
    """A child ended before it said that it was ready."""


class Child:
    """A program as it runs.

    Its standard input is a pipe that only we hold, so that it can tell when we
    are gone. It has a session of its own, so that Ctrl-C reaches us alone and we
    decide in which order the children stop.
    """

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self._process: Process | None = None
        self._started = 0.0

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def status(self) -> int | None:
        """Exit status; negative is the signal that ended it; ``None``: it runs."""
        return self._process.returncode if self._process else None

    def lifetime(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started

    async def start(self, *, piped: bool = False) -> None:
        """Start it.

        Args:
            piped: Its output comes to us first, for ``announced`` and ``pump``;
                otherwise it goes to the log without passing here.
        """
        self.release()
        with self._open_log() as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.program.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if piped else log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.program.environ},
            )
        self._started = time.monotonic()

    async def announced(
        self, mark: re.Pattern[str], say: Callable[[str], None] | None = None
    ) -> str:
        """Wait until a line of a piped child's output holds ``mark``.

        Args:
            mark: What it writes when it is ready.
            say: Called with each line before that one.

        Returns:
            All it wrote, up to and with that line.

        Raises:
            Ended: It ended before. The message shows the end of the log, unless
                ``say`` was told all of it.
        """
        said: list[str] = []
        with self._open_log() as log:
            while line := await self._line():
                log.write(line)
                said.append(line.decode(errors="replace"))
                if mark.search(said[-1]):
                    return "".join(said)
                if say is not None:
                    say(f"{self.program.name}: {said[-1].rstrip()}")
        await self.wait()
        if say is not None and said:
            raise Ended(f"{self._how_it_ended()}, as said above; all of it: {self.log}")
        raise Ended(self.describe_end())

    async def pump(self) -> None:
        """Keep writing a piped child's output to its log, until it ends."""
        with self._open_log() as log:
            while line := await self._line():
                log.write(line)
                log.flush()

    async def wait(self) -> None:
        """Wait until it has ended, then end what it started and left behind."""
        if self._process is not None:
            ran = self.running
            await self._process.wait()
            if ran:  # long after the end that number may be somebody else's
                self._end_group()

    def ask_to_stop(self) -> None:
        """Send it SIGTERM, if it runs."""
        if self.running and self._process is not None:
            self._process.terminate()

    async def stop(self, grace: float) -> None:
        """Ask it to end; after ``grace`` seconds, end it and what it started."""
        if self._process is None:
            return
        if self.running:
            self.ask_to_stop()
            try:
                async with asyncio.timeout(grace):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
                await self._process.wait()
            self._end_group()
        self.release()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        if self.running and self._process is not None and self._process.stdin:
            self._process.stdin.write(f"{line}\n".encode())

    def release(self) -> None:
        """Close the pipe that says we are there."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """End it and what it started, at once."""
        if self.running:
            # It leads its own group, which exists for as long as it is not waited for.
            os.killpg(self.pid, signal.SIGKILL)

    def _end_group(self) -> None:
        # As long as one of its group lives, the system gives nobody else that number.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # nobody is left; macOS says that it is not permitted

    def tail(self) -> str:
        """The last lines of its log that say what went wrong."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(loglines.telling(text))

    def describe_end(self) -> str:
        """``router ended with status 1``, the end of its log, and where the rest is."""
        tail = self.tail()
        shown = f" The end of {self.log}:\n{tail}" if tail else f" {self.log} is empty."
        return f"{self._how_it_ended()}.{shown}"

    def _how_it_ended(self) -> str:
        return f"{self.program.name} {how_it_ended(self.status)}"

    async def _line(self) -> bytes:
        output = self._process.stdout if self._process else None
        if output is None:
            return b""
        try:
            return await output.readline()
        except ValueError:  # longer than the reader's limit: the reader dropped it
            return b"...\n"

    def _open_log(self) -> BinaryIO:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return self.log.open("ab")


def how_it_ended(status: int | None) -> str:
    """``was ended by SIGKILL`` or ``ended with status 1``."""
    if status is not None and status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:  # a real-time signal has no name
            return f"was ended by signal {-status}"
    return f"ended with status {status}"


_PR_SET_PDEATHSIG = 1


def end_with_parent(environ: Mapping[str, str]) -> None:
    """Ask the system to end this process with its parent, if that started it so.

    It holds until the program handles signals itself and watches its parent's pipe:
    while it imports, and that takes seconds.
    """
    if environ.get("DSPEX_PARENT_PIPE") != "1" or sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
