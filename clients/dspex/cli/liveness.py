"""Noticing a child that runs and does nothing: frozen, or stuck for good.

A process that ends is noticed by its end. One that is stopped or hangs keeps its
connection and its place, and only what it no longer says gives it away: heartbeats
from native-ops and workers, an answer to discovery from the router.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from dspex.bus.core import NoResponders
from dspex.bus.health import read_beat
from dspex.bus.readiness import ROUTER_PING, hostname
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dspex.bus.children import Child
    from dspex.bus.core import Bus, Message
    from dspex.contracts.subjects import Subjects


class Patience(Struct, frozen=True, kw_only=True):
    """How long silence is borne, in seconds.

    Attributes:
        look: Between two looks, each with a ping of the router.
        answer: For the router's answer to a ping.
        misses: Pings in a row without an answer that are too many.
        silence: Without a heartbeat.
        start: From a start to the first sign of life.
    """

    look: float = 5.0
    answer: float = 2.0
    misses: int = 3
    silence: float = 10.0
    start: float = 120.0


class Signs:
    """When each process was last known to be alive: pure, the clock passed in.

    Args:
        patience: How long silence is borne.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._heard: dict[int, float] = {}
        self._begun: dict[int, float] = {}
        self._misses: dict[int, int] = {}

    def heard(self, pid: int, now: float) -> None:
        """A process gave a sign of life."""
        self._heard[pid] = now
        self._misses.pop(pid, None)

    def missed(self, pid: int) -> None:
        """A process that answered before did not answer a ping."""
        if pid in self._heard:
            self._misses[pid] = self._misses.get(pid, 0) + 1

    def forget(self) -> None:
        """Begin anew: nothing could be heard for a while, whoever was alive."""
        self._heard.clear()
        self._begun.clear()
        self._misses.clear()

    def verdict(self, pid: int, now: float, *, beats: bool) -> str:
        """Why a process must be taken for frozen; empty if it need not be.

        Args:
            pid: Of a process that has not ended.
            now: The time.
            beats: Whether it sends heartbeats, rather than answering pings.
        """
        heard = self._heard.get(pid)
        if heard is None:
            waited = now - self._begun.setdefault(pid, now)
            late = waited > self._patience.start
            return f"it has said nothing for {waited:.0f} s" if late else ""
        silent = now - heard
        if beats and silent > self._patience.silence:
            return f"no heartbeat for {silent:.0f} s"
        if self._misses.get(pid, 0) >= self._patience.misses:
            return f"{self._misses[pid]} pings unanswered"
        return ""


class Liveness:
    """Ends children that are frozen; whoever watches for ends starts them again.

    Args:
        bus: Connected to the stack's server.
        subjects: Those of the stack.
        children: Router, native-ops and workers.
        say: Told why a child is ended.
        patience: How long silence is borne.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        children: Sequence[Child],
        say: Callable[[str], None],
        patience: Patience,
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._children = children
        self._say = say
        self._patience = patience
        self._signs = Signs(patience)
        self._host = hostname()

    async def run(self) -> None:
        """Look, for as long as it is not cancelled."""
        await self._bus.subscribe(self._subjects.heartbeats(), self._on_heartbeat)
        looked = self._now()
        while True:
            await asyncio.sleep(self._patience.look)
            # Without a server nobody can be heard, and neither can they if this
            # process itself was frozen.
            late = self._now() - looked > 2 * self._patience.silence
            looked = self._now()
            if late or not self._bus.is_connected:
                self._signs.forget()
                continue
            await self._ping()
            self._judge(one for one in self._children if one.running)

    async def _ping(self) -> None:
        routers = [one for one in self._children if _is_router(one) and one.running]
        answered = await self._answering({one.pid for one in routers})
        for router in routers:
            # A router that does not say its process id may be any.
            if answered & {router.pid, None}:
                self._signs.heard(router.pid, self._now())
            else:
                self._signs.missed(router.pid)

    async def _answering(self, wanted: set[int]) -> set[int | None]:
        """Process ids in the answers of routers, until all that are wanted came."""
        found: set[int | None] = set()
        try:
            async with (
                await self._bus.replies() as replies,
                asyncio.timeout(self._patience.answer),
            ):
                await self._bus.publish(ROUTER_PING, reply=replies.subject)
                while not (found >= wanted or None in found):
                    message = await replies.next(self._patience.answer)
                    found.add(_pid(message.data))
        except (NoResponders, TimeoutError, Failure):
            pass
        return found

    def _judge(self, running: Iterable[Child]) -> None:
        for child in running:
            beats = not _is_router(child)
            why = self._signs.verdict(child.pid, self._now(), beats=beats)
            if why:
                self._say(f"{child.program.name} is frozen ({why}): ending it.")
                child.kill()

    def _on_heartbeat(self, message: Message) -> None:
        try:
            beat = read_beat(self._subjects, message)
        except Failure:
            return  # not one of ours
        if beat.pid and beat.host in {"", self._host}:
            self._signs.heard(beat.pid, self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _is_router(child: Child) -> bool:
    return child.program.role == "router"


def _pid(data: bytes) -> int | None:
    """The process id in a router's answer to a ping, if it says one."""
    try:
        return int(msgspec.json.decode(data)["metadata"]["pid"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None
