"""The programs started by fork, from a process that has imported them all.

Importing DSPy takes seconds of a processor, and the tests start hundreds of workers.
What is started here is a process of its own with its own environment, command line,
input and log, and runs the same ``python -m MODULE``; only the imports are shared.
Supervisors, what they and ``dspex up`` start, and other interpreters are executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORKED = (
    "dspex.native",
    "dspex.router",
    "dspex.services.state",
    "dspex.services.worker",
)
_CHUNK = 65536
_FILES = 2


class Forked:
    """A program that was forked; looks like an asyncio subprocess where it is used."""

    def __init__(self, pid: int, stdin: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = _Pipe(stdin)
        self._ended = asyncio.Event()

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def end(self, status: int) -> None:
        """What the server says once it has ended."""
        self.returncode = status
        self.stdin.close()
        self._ended.set()


class _Pipe:
    def __init__(self, end: int) -> None:
        self._end: int | None = end

    def close(self) -> None:
        if self._end is not None:
            os.close(self._end)
            self._end = None


class ForkServer:
    """The process that forks, seen from the tests; started when first needed."""

    running: ForkServer | None = None
    """The one of this test session; where there is none, programs are executed."""

    def __init__(self) -> None:
        self._orders, self._theirs = socket.socketpair()
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._children: dict[int, Forked] = {}
        self._one = asyncio.Lock()
        self._forked: asyncio.Queue[int] = asyncio.Queue(1)

    async def __aenter__(self) -> Self:
        ForkServer.running = self
        return self

    async def __aexit__(self, *_: object) -> None:
        ForkServer.running = None
        self._orders.close()
        self._theirs.close()
        if self._process is not None and self._listening is not None:
            await self._process.wait()
            await self._listening

    async def start(
        self,
        module: str,
        *arguments: str,
        environ: dict[str, str],
        log: Path,
    ) -> Forked:
        """``python -m MODULE ARGUMENTS``, its output in a file."""
        order = {"module": module, "arguments": arguments, "environ": environ}
        async with self._one:
            if self._process is None:
                await self._open()
            read, write = os.pipe()
            with log.open("wb") as output:
                data = json.dumps(order).encode() + b"\n"
                sent = socket.send_fds(self._orders, [data], (read, output.fileno()))
                self._orders.sendall(data[sent:])
            os.close(read)
            return self._take(await self._forked.get(), write)

    async def _open(self) -> None:
        number = self._theirs.fileno()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.forkserver", str(number)),
            pass_fds=(number,),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        self._theirs.close()
        assert self._process.stdout is not None
        self._listening = asyncio.create_task(self._listen(self._process.stdout))

    async def _listen(self, reports: asyncio.StreamReader) -> None:
        async for line in reports:
            pid, status = json.loads(line)
            if status is None:
                self._forked.put_nowait(pid)
            else:
                self._children.pop(pid).end(status)

    def _take(self, pid: int, stdin: int) -> Forked:
        self._children[pid] = Forked(pid, stdin)
        return self._children[pid]


class _Order(NamedTuple):
    module: str
    arguments: list[str]
    environ: dict[str, str]
    files: list[int]


def serve(channel: socket.socket) -> _Order | None:
    """Fork for every order that comes.

    Returns:
        In a child: its order; here: nothing, when the other end was closed.
    """
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    orders = _orders(channel)
    while True:
        ready, _, _ = select.select([channel, wake], [], [])
        if wake in ready:
            wake.recv(_CHUNK)
            _reap()
        if channel in ready:
            order = next(orders, None)
            if order is None or not _fork(order):
                return order


def _fork(order: _Order) -> int:
    pid = os.fork()
    if pid:
        for file in order.files:
            os.close(file)
        _report(pid, None)
    return pid


def _orders(channel: socket.socket) -> Iterator[_Order]:
    data, files = b"", []
    while True:
        while b"\n" not in data:
            more, new, _, _ = socket.recv_fds(channel, _CHUNK, _FILES)
            if not more:
                return
            data += more
            files += new
        line, data = data.split(b"\n", 1)
        yield _Order(**json.loads(line), files=files)
        files = []


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _report(pid, os.waitstatus_to_exitcode(status))


def _report(pid: int, status: int | None) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps([pid, status]), flush=True)


def become(order: _Order) -> NoReturn:
    """What a child does instead of ``execve``."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stdin, log = order.files
    for file, number in ((stdin, 0), (log, 1), (log, 2)):
        os.dup2(file, number)
    for file in order.files:
        os.close(file)
    os.environ.clear()
    os.environ.update(order.environ)
    sys.argv = [order.module, *order.arguments]
    runpy.run_module(order.module, run_name="__main__", alter_sys=True)
    sys.exit(0)


def main() -> None:
    # As the worker has it: LiteLLM would fetch a price list from the internet.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    channel = socket.socket(fileno=int(sys.argv[1]))
    for module in FORKED:
        importlib.import_module(f"{module}.service")
    gc.freeze()
    order = serve(channel)
    if order is not None:
        become(order)


if __name__ == "__main__":
    main()
