"""Several consumers pulled in their order, and signs of life that nothing blocks."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from tests.bus.hearing import WITHIN

from dspex.bus import connection
from dspex.bus.connection import BusSettings, NatsBus
from dspex.bus.durable import (
    Appender,
    ConsumerConfig,
    Entry,
    StreamConfig,
    api,
    ensure_consumer,
    ensure_stream,
)
from dspex.bus.lanes import Lanes, LaneSettings
from dspex.bus.progress import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.bus.conftest import OwnServer

    from dspex.bus.pulling import Delivery

pytestmark = pytest.mark.nats


class Rig:
    """A stream with two consumers, and what was taken of it."""

    def __init__(self, bus: NatsBus, root: str) -> None:
        self.bus = bus
        self.root = root
        self.room = 0
        self.taken: list[Delivery] = []
        self.changed = asyncio.Event()
        settings = LaneSettings(stream=root, consumers=["p1", "p2"])
        self.lanes = Lanes(bus, settings, lambda: self.room, self.take)

    async def make(self, *consumers: str, ack_wait: float = 30.0) -> None:
        await ensure_stream(
            self.bus, StreamConfig(name=self.root, subjects=[f"{self.root}.*"])
        )
        for one in consumers or ("p1", "p2"):
            config = ConsumerConfig(
                name=one, filter_subjects=[f"{self.root}.{one}"], ack_wait=ack_wait
            )
            await ensure_consumer(self.bus, self.root, config)

    async def add(self, lane: str, *bodies: str) -> None:
        appender = Appender(self.bus)
        for body in bodies:
            entry = Entry(subject=f"{self.root}.{lane}", data=body.encode())
            await appender.append(entry)

    def take(self, delivery: Delivery) -> None:
        self.room -= 1
        self.taken.append(delivery)
        self.changed.set()

    def make_room(self, room: int) -> None:
        self.room = room
        self.lanes.look()

    async def took(self, count: int) -> list[str]:
        async with asyncio.timeout(WITHIN):
            while len(self.taken) < count:
                self.changed.clear()
                await self.changed.wait()
        return [one.message.data.decode() for one in self.taken]

    async def pending(self, consumer: str) -> tuple[int, int]:
        """Messages not delivered, and delivered but not settled."""
        info = await api(self.bus, f"CONSUMER.INFO.{self.root}.{consumer}")
        return info["num_pending"], info["num_ack_pending"]


@pytest.fixture(name="rig")
async def _rig(bus: NatsBus, root: str) -> AsyncIterator[Rig]:
    rig = Rig(bus, root)
    yield rig
    await rig.lanes.stop()


async def test_the_first_lane_goes_first(rig: Rig) -> None:
    """What waits in the first lane is taken before what waits in the second."""
    await rig.make()
    await rig.add("p2", "c", "d")
    await rig.add("p1", "a", "b")
    await rig.lanes.start()

    rig.make_room(1)
    assert await rig.took(1) == ["a"]
    rig.make_room(2)
    assert await rig.took(3) == ["a", "b", "c"]


async def test_no_more_than_there_is_room_for(rig: Rig) -> None:
    """What there is no room for stays with the server, for others."""
    await rig.make()
    await rig.add("p1", *"abcde")
    await rig.lanes.start()

    rig.make_room(2)
    await rig.took(2)

    assert await rig.pending("p1") == (3, 2)


@pytest.mark.parametrize("lane", ["p1", "p2"])
async def test_who_is_idle_begins_at_once(rig: Rig, lane: str) -> None:
    """A message for an idle process comes without being asked for once more."""
    await rig.make()
    await rig.lanes.start()
    rig.make_room(2)

    for count, body in enumerate("abc", 1):
        await rig.add(lane, body)
        await rig.took(count)
        rig.make_room(2)

    assert await rig.took(3) == ["a", "b", "c"]


async def test_a_consumer_that_is_made_later(rig: Rig) -> None:
    """A lane that is not there yet is asked again."""
    await rig.make("p1")
    await rig.lanes.start()
    rig.make_room(1)
    await rig.add("p1", "a")
    await rig.took(1)
    rig.make_room(1)

    await rig.make("p1", "p2")
    await rig.add("p2", "b")

    assert await rig.took(2) == ["a", "b"]


async def test_what_comes_while_stopping_is_given_back(rig: Rig, root: str) -> None:
    """A message that arrives when nothing is taken any more comes again elsewhere."""
    await rig.make()
    await rig.lanes.start()
    rig.make_room(1)
    await rig.add("p1", "a")
    await rig.took(1)

    await rig.lanes.stop()
    await rig.add("p1", "b")
    other = Rig(rig.bus, root)
    other.room = 1
    await other.lanes.start()

    assert await other.took(1) == ["b"]
    await other.lanes.stop()


async def test_a_restarted_server(own_server: OwnServer, root: str) -> None:
    """Requests that a restart lost are made again at once."""
    server, bus = await own_server()
    rig = Rig(bus, root)
    await rig.make()
    await rig.lanes.start()
    rig.make_room(4)
    await rig.add("p1", "a")
    await rig.took(1)

    await server.restart()
    await rig.add("p2", "b")

    while "b" not in await rig.took(len(rig.taken)):  # "a" may come again first
        await rig.took(len(rig.taken) + 1)
    await rig.lanes.stop()


@pytest.mark.parametrize("told", [True, False])
async def test_a_blocked_loop(rig: Rig, nats_url: str, told: bool) -> None:
    """Signs of life go out while the event loop does not turn; without, it comes
    again."""
    await rig.make(ack_wait=1.0)
    progress = Progress(lambda: connection.connect(BusSettings(url=nats_url)), 0.2)
    progress.start()
    await rig.lanes.start()
    rig.make_room(1)
    await rig.add("p1", "a")
    await rig.took(1)
    if told:
        progress.add(rig.taken[0], 60.0)

    block(2.5)
    rig.make_room(1)

    if told:
        assert await rig.pending("p1") == (0, 1)
        await rig.taken[0].ack()
        await rig.bus.flush()
        assert [one.delivered for one in rig.taken] == [1]
    else:
        await rig.took(2)
        assert rig.taken[1].delivered == 2
    await progress.stop()


async def test_signs_of_life_have_an_end(rig: Rig, nats_url: str) -> None:
    """What is past its time is not told of: nobody will settle it."""
    await rig.make(ack_wait=1.0)
    progress = Progress(lambda: connection.connect(BusSettings(url=nats_url)), 0.2)
    progress.start()
    await rig.lanes.start()
    rig.make_room(1)
    await rig.add("p1", "a")
    await rig.took(1)

    progress.add(rig.taken[0], 0.5)
    rig.make_room(1)

    await rig.took(2)
    assert rig.taken[1].delivered == 2
    await progress.stop()


def block(seconds: float) -> None:
    """What a program does that computes without ever waiting."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
