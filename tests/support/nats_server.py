"""A real nats-server for one test session or one test: a binary, or a container."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Self

from dspex.bus.permissions import ROLES, configuration, variable
from dspex.contracts.subjects import Subjects

_BASE = """\
listen: "127.0.0.1:{port}"
max_payload: 1MB
ping_interval: "5s"
ping_max: 2
write_deadline: "5s"
feature_flags {{ js_ack_fc_v2: {js_ack_fc_v2} }}
jetstream {{ store_dir: "{store}", sync_interval: {sync_interval} }}
{extra}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class NatsServer:
    """One nats-server; keeps its port and its store over restarts.

    Args:
        folder: For its configuration, its log and its JetStream data.
        extra: Appended to its configuration.
        js_ack_fc_v2: The newer acknowledgement format.
        sync_interval: When JetStream has its files written to the disk.
    """

    def __init__(
        self,
        folder: Path,
        *,
        extra: str = "",
        js_ack_fc_v2: bool = False,
        sync_interval: str = "always",
    ) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "nats.conf"
        self._config.write_text(
            _BASE.format(
                port=self.port,
                store=folder / "store",
                js_ack_fc_v2=str(js_ack_fc_v2).lower(),
                sync_interval=sync_interval,
                extra=extra,
            )
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start, and return once it accepts connections."""
        self._process = await asyncio.create_subprocess_exec(
            _binary(),
            "-c",
            str(self._config),
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        seen = b""
        async with asyncio.timeout(20):
            while b"Server is ready" not in seen:
                line = await self._process.stderr.readline()
                if not line:
                    raise RuntimeError(f"nats-server ended: {seen.decode()}")
                seen += line
        self._drain = asyncio.get_running_loop().create_task(
            _read_to_end(self._process.stderr)
        )

    async def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
            await self._drain

    async def restart(self) -> None:
        """End it and start it again on the same port and store."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing moves."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class NatsContainer:
    """The same server from the image ``DSPEX_TEST_NATS_IMAGE``, by testcontainers."""

    PORT = 4222

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.wait_strategies import LogMessageWaitStrategy

        image = os.environ.get("DSPEX_TEST_NATS_IMAGE", "nats:2.12")
        container: Any = DockerContainer(image).with_command("-js")
        self._container = container.with_exposed_ports(self.PORT).waiting_for(
            LogMessageWaitStrategy("Server is ready")
        )
        self.url = ""

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._container.start)
        host = self._container.get_container_host_ip()
        port = self._container.get_exposed_port(self.PORT)
        self.url = f"nats://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._container.stop)


def shared_server(folder: Path) -> NatsServer | NatsContainer:
    """The server of a test session, by ``DSPEX_TEST_NATS``.

    ``container``, ``permissions`` (programs have the rights of their roles), or absent:
    a binary that lets everybody do everything.
    """
    if os.environ.get("DSPEX_TEST_NATS") == "container":
        return NatsContainer()
    guarded = os.environ.get("DSPEX_TEST_NATS") == "permissions"
    return NatsServer(folder, extra=users(Subjects("*")) if guarded else "")


def users(subjects: Subjects) -> str:
    """A user for each role, with its name as the password; others are operators."""
    roles = configuration(subjects)
    listed = "\n".join(
        f"{{user: {role}, password: {role}, permissions: ${variable(role, subjects)}}}"
        for role in ROLES
    )
    return f"{roles}\nno_auth_user: operator\nauthorization {{ users: [\n{listed}\n] }}"


def as_user(url: str, role: str) -> str:
    """The address for one of those users."""
    return url.replace("://", f"://{role}:{role}@", 1)


def _binary() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    assert found is not None, "nats-server is missing: make setup"
    return found


async def _read_to_end(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        continue
