"""MCP servers that do not come up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from dspex.contracts.program_settings import McpServer
from dspex.services.worker.mcp_servers import Server


class Slow(Server):
    """Takes its time to start, and never does."""

    STEADY = 0.01

    def __init__(self, wanted: int) -> None:
        super().__init__("slow", McpServer(command="none"), {}, _changed)
        self.begun: list[float] = []
        self.enough = asyncio.Event()
        self._wanted = wanted

    async def _session(self) -> None:
        self.begun.append(time.monotonic())
        if len(self.begun) == self._wanted:
            self.enough.set()
        await asyncio.sleep(2 * self.STEADY)
        raise TimeoutError


async def _changed(server: Any) -> None:
    raise AssertionError(server)


async def test_one_that_is_slow_to_fail_is_left_alone_for_longer() -> None:
    """The time of a start that came to nothing is not that of a session."""
    server = Slow(wanted=3)
    running = asyncio.ensure_future(server.run())

    async with asyncio.timeout(10):
        await server.enough.wait()

    running.cancel()
    first, second, third = server.begun
    assert second - first >= 0.5
    assert third - second >= 1.0
    assert server.problem == "It was too slow to start."
