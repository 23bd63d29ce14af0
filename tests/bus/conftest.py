"""One suite, two buses: what a test may connect to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from tests.support.nats_server import NatsServer

from dspex.bus import connection
from dspex.bus.connection import BusSettings, NatsBus
from dspex.bus.core import Bus
from dspex.bus.testing import MemoryServer
from dspex.contracts.subjects import Subjects

Connect = Callable[[], Awaitable[Bus]]
OwnServer = Callable[..., Awaitable[tuple[NatsServer, NatsBus]]]


@pytest.fixture(
    name="connect", params=["memory", pytest.param("nats", marks=pytest.mark.nats)]
)
async def _connect(
    request: pytest.FixtureRequest, nats_url: str
) -> AsyncIterator[Connect]:
    """Opens connections to one server, in this process or a real one."""
    memory = MemoryServer()
    opened: list[Bus] = []

    async def connect() -> Bus:
        if request.param == "memory":
            bus: Bus = memory.connect()
        else:
            bus = await connection.connect(BusSettings(url=nats_url, name="test"))
        opened.append(bus)
        return bus

    yield connect
    for bus in opened:
        await bus.close()


@pytest.fixture(name="root")
def _root() -> str:
    """First token of a test's subjects, so that tests share a server."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture(name="subjects")
def _subjects(root: str) -> Subjects:
    return Subjects(root)


@pytest.fixture(name="own_server")
async def _own_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[OwnServer]:
    """Starts servers that a test may stop, and a connection to each."""
    servers: list[NatsServer] = []
    buses: list[NatsBus] = []

    async def start(user: str = "", **options: Any) -> tuple[NatsServer, NatsBus]:
        server = NatsServer(tmp_path_factory.mktemp("nats"), **options)
        await server.start()
        servers.append(server)
        url = server.url.replace("//", f"//{user}@") if user else server.url
        bus = await connection.connect(BusSettings(url=url, name="test"))
        buses.append(bus)
        return server, bus

    yield start
    for bus in buses:
        await bus.close()
    for server in servers:
        await server.stop()
