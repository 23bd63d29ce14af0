"""The real programs as child processes, against a server and a scripted model."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Self

from tests.support.forkserver import FORKED, Forked, ForkServer
from tests.support.nats_server import as_user

from dspex.bus.connection import BusSettings, NatsBus, connect
from dspex.contracts.failures import Failure
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dspex.bus.core import Message
    from dspex.contracts.heartbeats import Heartbeat
from dspex.bus.health import read_beat

READY_WITHIN = 120.0


class Program:
    """One program as a child process; its log is kept for a failing test.

    Args:
        module: What to run.
        *arguments: Its command line.
        python: Its interpreter, such as that of another environment.
        environ: Configuration of this one, on top of the stack's; another address of
            the NATS server, for example.
        within: A command that runs it, such as ``ip netns exec NAME``.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environ: dict[str, str] | None = None,
        python: str = sys.executable,
        within: tuple[str, ...] = (),
    ) -> None:
        self.python = python
        self.command = (*within, python, "-m", module, *arguments)
        self._within = within
        self.name = module.removeprefix("dspex.")
        self._made_of = (module, *arguments)
        self._environ = environ or {}
        self._process: asyncio.subprocess.Process | Forked | None = None
        self._log: Path | None = None

    async def start(self, environ: dict[str, str], folder: Path) -> None:
        self._log = folder / f"{self.name}-{id(self)}.log"
        environ = os.environ | environ | self._environ | {"DSPEX_PARENT_PIPE": "1"}
        if ForkServer.running and self._may_be_forked(environ):
            self._process = await ForkServer.running.start(
                *self._made_of, environ=environ, log=self._log
            )
            return
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                env=environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def _may_be_forked(self, environ: dict[str, str]) -> bool:
        ours = self._made_of[0] in FORKED and self.python == sys.executable
        # What loaders and interpreters read only when they start.
        early = {name for name in environ if name.startswith(("LD_", "PYTHON"))}
        changed = any(environ[name] != os.environ.get(name) for name in early)
        return ours and not changed and not self._within

    def another(self) -> Program:
        """One like it, not started yet."""
        return Program(
            *self._made_of,
            environ=self._environ,
            python=self.python,
            within=self._within,
        )

    @property
    def role(self) -> str:
        """Whose rights on the NATS server are its own."""
        return self.name.rpartition(".")[2]

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log else ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode if self._process else None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)

    def close_stdin(self) -> None:
        """What the end of its parent looks like to it."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def wait(self, timeout: float = 30.0) -> int:
        assert self._process is not None
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    async def kill(self) -> None:
        """End it at once, as a crash would."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def stop(self) -> None:
        """Ask it to end; end it when it does not."""
        if self._process is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            await self.wait(20)
        except TimeoutError:
            await self.kill()


class Stack:
    """Router, native-ops and workers under a prefix of their own.

    Args:
        url: The NATS server.
        folder: For logs.
        prefix: First token of every subject, so that stacks share a server.
        environ: Configuration of all programs, on top of the test's own.
        guarded: Each program connects as the user of its role.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        prefix: str,
        environ: dict[str, str],
        *,
        guarded: bool = False,
    ) -> None:
        self.url = url
        self.prefix = prefix
        self.subjects = Subjects(prefix)
        self.folder = folder
        self.environ = environ | {"DSPEX_NATS_URL": url, "DSPEX_PREFIX": prefix}
        self.programs: list[Program] = []
        self._guarded = guarded or os.environ.get("DSPEX_TEST_NATS") == "permissions"
        self._beats: dict[str, Heartbeat] = {}
        self._changed = asyncio.Event()
        self._bus: NatsBus | None = None

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._bus = await connect(BusSettings(url=self.url, name="test-stack"))
        await self._bus.subscribe(self.subjects.heartbeats(), self._hear)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(program.stop() for program in self.programs))
        if self._bus is not None:
            await self._bus.close()
        if self._guarded:
            logs = "\n".join(p.log for p in self.programs).splitlines()
            denied = [line for line in logs if "ermissions violation" in line]
            assert not denied, denied

    async def start(self, *programs: Program) -> None:
        """Start programs; ``ready`` waits for them."""
        for program in programs:
            self.programs.append(program)
            environ = dict(self.environ)
            if self._guarded:
                environ["DSPEX_NATS_URL"] = as_user(self.url, program.role)
            await program.start(environ, self.folder)

    async def ready(
        self, *, workers: int, native: int = 1, routers: int = 1, state: int = 0
    ) -> None:
        """Wait until so many answer.

        Raises:
            TimeoutError: They do not; the logs say why.
        """
        try:
            async with asyncio.timeout(READY_WITHIN):
                await self.until(lambda: self._count("python") >= workers)
                await self.until(lambda: self._count("native") >= native)
                await self.until(lambda: self._count("state") >= state)
                await self._routers(routers)
        except TimeoutError:
            raise self._not_ready(self.programs) from None

    async def serving(self, *programs: Program) -> None:
        """Wait until each of these has said that it is ready.

        Raises:
            TimeoutError: They do not; the logs say why.
        """
        try:
            async with asyncio.timeout(READY_WITHIN):
                for program in programs:
                    await self.until(lambda pid=program.pid: self._is_ready(pid))
        except TimeoutError:
            raise self._not_ready(programs) from None

    async def until(self, holds: object) -> None:
        """Wait until a condition on the heartbeats holds."""
        assert callable(holds)
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def news(self) -> None:
        """Wait for the next heartbeat."""
        self._changed.clear()
        await self._changed.wait()

    async def silence(self, seconds: float) -> None:
        """Wait until no heartbeat has come for so long."""
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                return

    def beats(self, implementation: str = "python") -> list[Heartbeat]:
        """The latest heartbeats of those that are ready."""
        return [
            beat
            for beat in self._beats.values()
            if beat.implementation == implementation and beat.state == "ready"
        ]

    def beat_of(self, pid: int) -> Heartbeat | None:
        """The latest heartbeat of a process, whatever its state."""
        return next((one for one in self._beats.values() if one.pid == pid), None)

    def _is_ready(self, pid: int) -> bool:
        beat = self.beat_of(pid)
        return beat is not None and beat.state == "ready"

    def _not_ready(self, programs: Iterable[Program]) -> TimeoutError:
        logs = "\n".join(f"--- {p.name}\n{p.log}" for p in programs)
        return TimeoutError(f"not ready after {READY_WITHIN} s\n{logs}")

    def _count(self, implementation: str) -> int:
        return len(self.beats(implementation))

    def _hear(self, message: Message) -> None:
        try:
            beat = read_beat(self.subjects, message)
        except Failure:
            return  # forged by a test
        self._beats[beat.worker] = beat
        self._changed.set()

    async def _routers(self, wanted: int) -> None:
        assert self._bus is not None
        pids = {p.pid for p in self.programs if p.name == "router"}
        while True:
            seen = await self._ping_routers(len(pids))
            if seen >= wanted:
                return

    async def _ping_routers(self, most: int) -> int:
        assert self._bus is not None
        async with await self._bus.replies() as replies:
            await self._bus.publish("$SRV.INFO.dspex-router", reply=replies.subject)
            seen = 0
            try:
                for _ in range(1000):
                    message = await replies.next(0.2)
                    seen += self.prefix.encode() + b"." in message.data
            except Exception:  # noqa: BLE001 - none, or no more: asked again
                return seen
        return seen


def worker_environ(model_url: str) -> dict[str, str]:
    """Configuration that points a worker's language model at the scripted server."""
    return {
        "DSPEX_LMS_DEFAULT_MODEL": "openai/scripted",
        "DSPEX_LMS_DEFAULT_API_BASE": model_url,
        "DSPEX_LMS_DEFAULT_API_KEY": "test-key-not-a-secret",
        # Many stacks share a server, and what they may keep is set aside there.
        "DSPEX_JOURNAL_MAX_MIB": "16",
    }
