"""Waiting until every part of a starting stack answers."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from dspex.bus.children import Child, Ended
from dspex.bus.core import NoResponders
from dspex.bus.health import read_beat
from dspex.bus.responder import host_name
from dspex.bus.serving import CONTROL
from dspex.contracts.failures import Failure
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.pools import WorkerNotice

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.core import Bus, Message
    from dspex.contracts.subjects import Subjects

News = asyncio.Queue[Child | Heartbeat | WorkerNotice]
"""What happens to a stack: children that ended, heartbeats that came, workers that
came or went."""

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
        router: Whether the router is known to be there.
    """

    def __init__(
        self, processes: dict[int, str], host: str, *, router: bool = False
    ) -> None:
        self._awaited = dict(processes)
        self._host = host
        self.router = router

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
        if isinstance(news, WorkerNotice):
            if news.code:
                raise Ended(describe(news))
            self._say(describe(news))
            return
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
    return host_name(os.environ)


def describe(notice: WorkerNotice) -> str:
    """What happened to a worker, and the end of its log if that is of use."""
    name = f"worker-{notice.name}"
    if notice.state == "ready":
        return f"{name}: ready"
    if notice.asked:
        return f"{name}: stopped ({notice.reason})"
    words = f" The end of its log:\n{notice.words}" if notice.words else ""
    return f"{name} {notice.reason}.{words}"
