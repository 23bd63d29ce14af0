"""The life of an embedded nats-server, and of the guard that ends it with us."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dspex.bus.children import Child, Ended, Program
from dspex.cli import server

if TYPE_CHECKING:
    from pathlib import Path

    from dspex.cli.server import Server

STOP_SECONDS = 10.0


class EmbeddedServer:
    """A nats-server as a child process.

    Args:
        wanted: Where it listens and keeps its data.
        logs: Folder of its log.

    Attributes:
        child: The server's process.
        url: Where clients connect, once it is started.
        monitoring: Its monitoring pages.
        moved: Why it is not where it was to be; empty if it is.
    """

    def __init__(self, wanted: Server, logs: Path) -> None:
        self.url = ""
        self.monitoring = ""
        self.moved = ""
        self._wanted = wanted
        self._logs = logs
        self._path = wanted.store / "nats-server.conf"
        binary = server.find_binary(sys.executable, os.environ.get("PATH", ""))
        program = Program(
            name="nats-server",
            role="server",
            argv=(str(binary), "-c", str(self._path)),
        )
        self.child = Child(program, logs / "nats-server.log")
        self._guard: Child | None = None

    async def start(self) -> None:
        """Start it, and wait until it accepts connections.

        A second start takes the port of the first, so that clients find it again.

        Raises:
            Ended: It refused to start; the message holds the end of its log.
        """
        try:
            log = await self._launch()
        except Ended as error:
            wanted = self._wanted
            other = server.second_choice(wanted, str(error))
            if other is None:
                raise Ended(f"{error}{server.advice(wanted, str(error))}") from None
            self.moved = f"{wanted.host}:{wanted.port} is taken"
            self._wanted = other
            log = await self._launch()
        self.url, self.monitoring = server.addresses(log, self._wanted)
        port = int(self.url.rpartition(":")[2])
        self._wanted = replace(self._wanted, port=port, or_free=False)

    async def _launch(self) -> str:
        await self._stop_guard()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(server.render(self._wanted), encoding="utf-8")
        await self.child.start(piped=True)
        self._guard = Child(self._guard_program(), self._logs / "guard.log")
        await self._guard.start()
        return await self.child.announced(server.READY)

    async def stop(self) -> None:
        """Stop it; what was acknowledged is on disk."""
        # The guard first: it must not outlive the process whose id it knows.
        await self._stop_guard()
        await self.child.stop(STOP_SECONDS)

    def _guard_program(self) -> Program:
        return Program(name="guard", role="guard", argv=server.guard(self.child.pid))

    async def _stop_guard(self) -> None:
        if self._guard is not None:
            await self._guard.stop(STOP_SECONDS)
