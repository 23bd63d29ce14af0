"""Three nats-servers on loopback that hold each stream together."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from tests.support.nats_server import NatsServer, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_CLUSTER = """\
server_name: "n{number}"
cluster {{
  name: "c"
  listen: "127.0.0.1:{port}"
  routes: [{routes}]
}}
"""


@asynccontextmanager
async def cluster(folder: Path, size: int = 3) -> AsyncIterator[list[NatsServer]]:
    """Start a cluster; its servers are called ``n0``, ``n1``, …"""
    ports = [free_port() for _ in range(size)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    async with AsyncExitStack() as running:
        servers = [
            NatsServer(
                folder / f"n{number}",
                extra=_CLUSTER.format(number=number, port=port, routes=routes),
            )
            for number, port in enumerate(ports)
        ]
        for server in servers:
            await running.enter_async_context(server)
        yield servers
