"""Taking work from several durable consumers, those of the first lanes first.

A lane is asked for as much as there is room for when all lanes before it are empty.
One that is empty is left with a request for a single message, which the server
answers when there is one: a process that has nothing to do begins at once, and takes
at most one message per lane that it has no room for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from dspex.bus.durable import API
from dspex.bus.pulling import ACK_PREFIX, Delivery
from dspex.bus.tasks import Tasks
from dspex.contracts.failures import Failure
from dspex.contracts.headers import STATUS

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message, Subscription

_log = logging.getLogger(__name__)

_EMPTY = ("404", "408")
"""Status of a request that was not answered, or not in time."""

EXPIRES = 5.0
"""Seconds after which the server forgets a request that it could not answer."""

LOST = 1.0
"""Seconds after which an answer that should come at once is not waited for."""

ABSENT = 2.0
"""Seconds until a consumer is asked again that is not there."""


class LaneSettings(Struct, frozen=True, kw_only=True):
    """What lanes are made of.

    Attributes:
        stream: Name of the stream.
        consumers: Names of its durable consumers, the first lane first.
    """

    stream: str
    consumers: list[str]


class _Lane:
    """One consumer, and the request it has from us."""

    def __init__(self, consumer: str, inbox: str) -> None:
        self.consumer = consumer
        self.inbox = inbox
        self.subscription: Subscription | None = None
        self.ends = 0.0  # when what was asked last is forgotten
        self.answers: asyncio.Queue[Message | None] | None = None

    @property
    def is_asked(self) -> bool:
        return time.monotonic() < self.ends


class Lanes:
    """Hands messages to a handler while there is room.

    Args:
        bus: Where.
        settings: Of which consumers.
        room: How many more messages may be taken now.
        take: Starts work on one; must not wait.
    """

    def __init__(
        self,
        bus: NatsBus,
        settings: LaneSettings,
        room: Callable[[], int],
        take: Callable[[Delivery], None],
    ) -> None:
        self._bus = bus
        self._stream = settings.stream
        self._lanes = [_Lane(one, bus.new_inbox()) for one in settings.consumers]
        self._room = room
        self._take = take
        self._changed = asyncio.Event()
        self._tasks = Tasks()
        self._forget: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Take messages from now on."""
        for lane in self._lanes:
            hear = partial(self._hear, lane)
            lane.subscription = await self._bus.subscribe(lane.inbox, hear)
        self._forget = self._bus.when_back(self._begin_anew)
        self._tasks.start(self._run(), "lanes")

    async def stop(self) -> None:
        """Take nothing more; what the server has on its way is given back."""
        self._forget()
        await self._tasks.cancel()
        self._take = self._give_back
        for lane in self._lanes:
            if lane.subscription is not None:
                await lane.subscription.drain()
        await self._tasks.join(LOST)

    def look(self) -> None:
        """There may be room again."""
        self._changed.set()

    def _begin_anew(self) -> None:
        for lane in self._lanes:
            lane.ends = 0.0
        self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                while self._room() > 0 and await self._fill():
                    pass
            except Failure as failure:
                _log.warning("lanes wait: %s", failure.message)
            try:
                async with asyncio.timeout(self._until_next()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _until_next(self) -> float | None:
        if self._room() <= 0:
            return None  # until look() says that there is room
        now = time.monotonic()
        return max(0.05, min(lane.ends for lane in self._lanes) - now)

    async def _fill(self) -> bool:
        """Take what the first lane has that has something; whether one had."""
        for lane in self._lanes:
            if lane.is_asked:  # then it is empty: the server would have answered
                continue
            if await self._take_from(lane):
                return True
            if not lane.is_asked:
                await self._ask(lane, {"batch": 1, "expires": int(EXPIRES * 1e9)})
                lane.ends = time.monotonic() + EXPIRES
        return False

    async def _take_from(self, lane: _Lane) -> int:
        """Take what a lane has now, as far as there is room; how many that were."""
        room, taken = self._room(), 0
        answers = lane.answers = asyncio.Queue()
        try:
            await self._ask(lane, {"batch": room, "no_wait": True})
            async with asyncio.timeout(LOST):
                while taken < room and (message := await answers.get()):
                    taken += 1
                    self._take(Delivery(self._bus, message))
        except TimeoutError:
            _log.warning("a pull request was lost", extra={"lane": lane.consumer})
        finally:
            lane.answers = None
            while not answers.empty():
                if late := answers.get_nowait():
                    self._take(Delivery(self._bus, late))
        return taken

    async def _ask(self, lane: _Lane, wanted: dict[str, object]) -> None:
        subject = f"{API}.CONSUMER.MSG.NEXT.{self._stream}.{lane.consumer}"
        await self._bus.publish(subject, msgspec.json.encode(wanted), reply=lane.inbox)

    def _hear(self, lane: _Lane, message: Message) -> None:
        is_work = message.reply.startswith(ACK_PREFIX)
        if not is_work and message.headers.get(STATUS) not in _EMPTY:
            # No such consumer, no JetStream, no leader, or too many who ask.
            lane.ends = time.monotonic() + ABSENT
        elif lane.answers is None:
            lane.ends = 0.0
        if lane.answers is not None:
            lane.answers.put_nowait(message if is_work else None)
            return
        if is_work:
            self._take(Delivery(self._bus, message))
        self._changed.set()

    def _give_back(self, delivery: Delivery) -> None:
        self._tasks.start(delivery.nak(), "nak")
