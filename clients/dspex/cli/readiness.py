"""Waiting until every part of a starting stack answers."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from dspex.bus.core import NoResponders
from dspex.bus.health import read_beat
from dspex.bus.serving import CONTROL
from dspex.cli.processes import Child, Ended
from dspex.contracts.failures import Failure
from dspex.contracts.heartbeats import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.core import Bus, Message
    from dspex.contracts.subjects import Subjects

News = asyncio.Queue[Child | Heartbeat]
"""What happens to a stack: children that ended, heartbeats that came."""

ROUTER = "router"

ROUTER_PING = f"{CONTROL}.PING.dspex-router"
"""Where routers answer service discovery, by the NATS service protocol."""

PING_SECONDS = 0.25
"""Wait between two looks for the router, which sends no heartbeats."""


class Readiness:
    """Keeps what is still awaited.

    Args:
        processes: Process id -> name, of those that send heartbeats.
        host: This machine's name, as in heartbeats: another machine's worker may
            have the same process id.
    """

    def __init__(self, processes: dict[int, str], host: str) -> None:
        self._awaited = dict(processes)
        self._host = host
        self.router = False

    def note(self, heartbeat: Heartbeat) -> str | None:
        """Take a heartbeat in.

        Returns:
            The name of the process that has become ready with it.
        """
        if heartbeat.state != "ready" or heartbeat.host not in {"", self._host}:
            return None
        return self._awaited.pop(heartbeat.pid, None)

    def missing(self) -> list[str]:
        """Names of the parts that are not ready."""
        router = [] if self.router else [ROUTER]
        return [*router, *self._awaited.values()]


class Waiting:
    """Listens on the bus until nothing is missing.

    Args:
        bus: Connected to the stack's server.
        subjects: Those of the stack.
        news: Where the stack puts children that ended; heartbeats are added.
        say: Called with a line of progress now and then.
    """

    def __init__(
        self, bus: Bus, subjects: Subjects, news: News, say: Callable[[str], None]
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._news = news
        self._say = say

    async def until_ready(self, readiness: Readiness) -> None:
        """Return when nothing is missing; ask for heartbeats meanwhile.

        Raises:
            Ended: A child ended instead.
        """
        heartbeats = await self._bus.subscribe(
            self._subjects.heartbeats(), self._on_heartbeat
        )
        await self._bus.publish(self._subjects.discover())
        try:
            while readiness.missing():
                await self._step(readiness)
        finally:
            await heartbeats.unsubscribe()

    async def _step(self, readiness: Readiness) -> None:
        if not readiness.router and await self._router_answers():
            readiness.router = True
            self._say("router: ready")
        try:
            async with asyncio.timeout(PING_SECONDS):
                news = await self._news.get()
        except TimeoutError:
            return
        if isinstance(news, Child):
            raise Ended(news.describe_end())
        if name := readiness.note(news):
            self._say(f"{name}: ready")

    async def _router_answers(self) -> bool:
        try:
            await self._bus.request(ROUTER_PING, timeout=PING_SECONDS)
        except (NoResponders, TimeoutError, Failure):
            return False
        return True

    def _on_heartbeat(self, message: Message) -> None:
        try:
            self._news.put_nowait(read_beat(self._subjects, message))
        except (Failure, asyncio.QueueFull):
            return  # not one of ours, or one of many: the next comes in a second


def hostname() -> str:
    """This machine's name, as its processes write it into their heartbeats."""
    return socket.gethostname()
