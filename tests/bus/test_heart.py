"""Heartbeats from a thread of their own, on a real server."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from tests.bus.hearing import Heard, eventually
from tests.support.nats_server import free_port

from dspex.bus import connection
from dspex.bus.connection import BusSettings, NatsBus
from dspex.bus.health import Heart, LoopLag
from dspex.contracts import encoding
from dspex.contracts.failures import BusUnavailable
from dspex.contracts.heartbeats import Heartbeat

if TYPE_CHECKING:
    from tests.bus.conftest import OwnServer

    from dspex.bus.core import Bus
    from dspex.contracts.subjects import Subjects

pytestmark = pytest.mark.nats


def read() -> Heartbeat:
    return Heartbeat(
        worker="w1",
        pool="light",
        implementation="python",
        state="starting",
        seq=0,
        at=0.0,
        operations=["predict"],
        concurrency=4,
    )


class Beats(Heard):
    """The heartbeats that came."""

    @property
    def all(self) -> list[Heartbeat]:
        return [encoding.decode(body, Heartbeat) for body in self.bodies]

    @property
    def states(self) -> list[str]:
        return [beat.state for beat in self.all]


def heart(url: str, subjects: Subjects) -> Heart:
    async def connect() -> Bus:
        settings = BusSettings(url=url, name="heart", connect_timeout=0.5)
        return await connection.connect(settings)

    return Heart(subjects, connect, read)


@pytest.fixture(name="beats")
async def _beats(bus: NatsBus, subjects: Subjects) -> Beats:
    beats = Beats()
    await bus.subscribe(subjects.heartbeats(), beats)
    await bus.flush()
    return beats


async def test_states(nats_url: str, subjects: Subjects, beats: Beats) -> None:
    """Each change of state is told at once, and ``leaving`` is the last word."""
    beating = heart(nats_url, subjects)

    await beating.start()
    beating.set_state("ready")
    await beats.until(lambda: "ready" in beats.states)
    beating.set_state("draining")
    await beats.until(lambda: "draining" in beats.states)
    await beating.stop()
    await beats.until(lambda: "leaving" in beats.states)

    assert beats.states[0] == "starting"
    assert beats.states[-1] == "leaving"
    assert [beat.seq for beat in beats.all] == list(range(1, len(beats.all) + 1))
    assert abs(beats.all[-1].at / 1000 - time.time()) < 10
    assert beats.messages[0].subject == subjects.heartbeat("light", "w1")


async def test_stop_twice(nats_url: str, subjects: Subjects, beats: Beats) -> None:
    """A heart that has stopped says nothing more, whatever it is told."""
    beating = heart(nats_url, subjects)
    await beating.start()
    await beating.stop()

    beating.set_state("ready")
    await beating.stop()

    await beats.until(lambda: "leaving" in beats.states)
    assert beats.states[-1] == "leaving"


async def test_discover(
    nats_url: str, subjects: Subjects, beats: Beats, bus: NatsBus
) -> None:
    """Whoever asks gets a heartbeat at once, not after the usual second."""
    beating = heart(nats_url, subjects)
    await beating.start()

    for asked in range(1, 6):
        await bus.publish(subjects.discover())
        await beats.count(asked + 1)

    apart = (beats.all[-1].at - beats.all[0].at) / 1000
    assert apart < 3  # five usual pauses are 4.5 s at least
    await beating.stop()


async def test_a_blocked_program(
    nats_url: str, subjects: Subjects, beats: Beats
) -> None:
    """Heartbeats go on while the loop of the program is blocked."""
    beating = heart(nats_url, subjects)

    def program() -> None:
        async def main() -> None:
            await beating.start()
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                pass
            await beating.stop()

        asyncio.run(main())

    await asyncio.to_thread(program)
    await beats.until(lambda: "leaving" in beats.states)

    assert len(beats.all) >= 4  # at 0, 1 and 2 s, and the last word


async def test_no_server(subjects: Subjects) -> None:
    """Without a server the heart does not start, and says where it looked."""
    port = free_port()

    with pytest.raises(BusUnavailable, match=f"127.0.0.1:{port}"):
        await heart(f"nats://127.0.0.1:{port}", subjects).start()


async def test_a_restarted_server(own_server: OwnServer, subjects: Subjects) -> None:
    """Heartbeats come again after the server did."""
    server, bus = await own_server()
    beating, beats = heart(server.url, subjects), Beats()
    await beating.start()

    await server.restart()
    await eventually(lambda: bus.reconnects > 0)
    await bus.subscribe(subjects.heartbeats(), beats)
    await beats.count(1)

    await beating.stop()
    await beats.until(lambda: "leaving" in beats.states)


async def test_loop_lag() -> None:
    """The lag of a loop that does not come round is seen from another thread."""
    lag = LoopLag()
    lag.start()

    def block_and_look() -> float:
        time.sleep(0.3)
        return lag.milliseconds

    assert block_and_look() >= 150
    await eventually(lambda: lag.milliseconds < 100)


async def test_a_reading_that_fails(
    nats_url: str, subjects: Subjects, beats: Beats
) -> None:
    """A capacity that cannot be read once is left out; the heart beats on."""
    readings = iter([read, _broken, read])

    async def connect() -> Bus:
        return await connection.connect(BusSettings(url=nats_url, name="heart"))

    beating = Heart(subjects, connect, lambda: next(readings, read)())
    await beating.start()
    beating.set_state("ready")
    await beats.until(lambda: "ready" in beats.states)
    await beating.stop()

    assert [beat.seq for beat in beats.all][:2] == [1, 3]


def _broken() -> Heartbeat:
    raise OSError("no driver")
