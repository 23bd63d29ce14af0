"""Every trap of the NATS client that we closed, on a real server."""

from __future__ import annotations

import asyncio
import importlib.metadata
import socket
from typing import TYPE_CHECKING

import pytest
from tests.bus.hearing import Heard, eventually
from tests.support.stack import Program

from dspex.bus import connection
from dspex.bus.connection import BusSettings, NatsBus
from dspex.bus.core import NoResponders
from dspex.contracts.failures import BadRequest, BusUnavailable, Forbidden

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bus.conftest import OwnServer

    from dspex.bus.core import Message

pytestmark = pytest.mark.nats

PERMISSIONS = """
authorization { users: [ {
  user: u, password: p
  permissions: { publish: ["allowed.>", "_INBOX.>"], subscribe: [">"] }
} ] }
"""


async def test_a_cancelled_flush(bus: NatsBus, root: str) -> None:
    """Flushes cancelled twenty times leave the connection as it was."""
    for _ in range(20):
        flushing = asyncio.ensure_future(bus.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.wait([flushing])

    await bus.flush()
    await bus.subscribe(f"{root}.a", Heard())
    assert (bus.reconnects, bus.is_connected) == (0, True)
    with pytest.raises(TimeoutError):
        await bus.request(f"{root}.a", timeout=0.05)


async def test_a_flush_that_timed_out(own_server: OwnServer, root: str) -> None:
    """The late answer to a flush that gave up does not end the connection."""
    server, bus = await own_server()
    heard = Heard()
    await bus.subscribe(f"{root}.a", heard)
    server.pause()

    with pytest.raises(BusUnavailable):  # noqa: PT012 - it may not be frozen yet
        while True:
            await bus.flush(0.2)
    server.resume()
    await bus.publish(f"{root}.a")

    await heard.count(1)
    assert bus.reconnects == 0


async def test_a_flush_comes_after(bus: NatsBus, root: str) -> None:
    """A flush answers for all that was published before it, and a drain loses none."""
    for round_ in range(100):
        heard = Heard()
        subscription = await bus.subscribe(f"{root}.{round_}", heard)
        for _ in range(20):
            await bus.publish(f"{root}.{round_}", b"x" * 2000)

        await subscription.drain()

        assert len(heard.messages) == 20


async def test_a_reader_that_ended(bus: NatsBus, root: str) -> None:
    """When the client's reading ends by a defect, the connection is made anew."""
    heard, back = Heard(), asyncio.Event()
    await bus.subscribe(f"{root}.a", heard)
    bus.when_back(back.set)

    bus._client._pongs.insert(0, "not a future")  # type: ignore[arg-type]
    with pytest.raises(BusUnavailable):
        await bus.flush(0.2)
    async with asyncio.timeout(5):
        await back.wait()
    await bus.publish(f"{root}.a", b"again")

    assert await heard.count(1) == [b"again"]


async def test_requests_fail_when_the_server_dies(
    own_server: OwnServer, root: str
) -> None:
    """Requests in flight fail when the connection breaks, not at their timeout."""
    server, bus = await own_server()
    heard = Heard()
    await bus.subscribe(f"{root}.a", heard)
    asked = [
        asyncio.ensure_future(bus.request(f"{root}.a", timeout=60)) for _ in range(20)
    ]
    await heard.count(20)

    async with asyncio.timeout(5):
        await server.stop()
        found = await asyncio.gather(*asked, return_exceptions=True)

    assert {type(one) for one in found} == {BusUnavailable}


async def test_a_full_buffer_while_offline(own_server: OwnServer, root: str) -> None:
    """What is published offline is kept up to a limit, then refused as unavailable."""
    server, bus = await own_server()
    await server.stop()
    await eventually(lambda: not bus.is_connected)
    body = b"x" * (1 << 20)

    for _ in range(6):
        await bus.publish(f"{root}.a", body)
    with pytest.raises(BusUnavailable, match="connection to NATS"):
        await asyncio.gather(*(bus.publish(f"{root}.a", body) for _ in range(4)))


async def test_a_flush_while_offline(own_server: OwnServer) -> None:
    """A flush does not claim that a server has what nobody has."""
    server, bus = await own_server()
    await server.stop()
    await eventually(lambda: not bus.is_connected)

    with pytest.raises(BusUnavailable):
        await bus.flush()


async def test_draining_while_offline(own_server: OwnServer, root: str) -> None:
    """Draining a subscription ends although no server answers."""
    server, bus = await own_server()
    subscription = await bus.subscribe(f"{root}.a", Heard())
    await server.stop()

    async with asyncio.timeout(8):
        await subscription.drain()


async def test_subscriptions_come_back(own_server: OwnServer, root: str) -> None:
    """After a restart of the server, subscriptions and requests work again."""
    server, bus = await own_server()
    heard, back = Heard(), asyncio.Event()
    await bus.subscribe(f"{root}.a", heard)
    forget = bus.when_back(back.set)

    await server.restart()
    async with asyncio.timeout(10):
        await back.wait()
    await bus.publish(f"{root}.a", b"again")

    assert await heard.count(1) == [b"again"]
    assert bus.reconnects == 1
    forget()


async def test_watching_ends_once(bus: NatsBus) -> None:
    """Who no longer wants to hear of a connection that is back may say so twice."""
    forget = bus.when_back(lambda: None)

    forget()
    forget()

    assert not bus._when_back


async def test_it_reconnects_for_ever(own_server: OwnServer) -> None:
    """It tries on, far more often than the client does of its own accord."""
    server, bus = await own_server()
    assert bus._client.options["max_reconnect_attempts"] == -1
    assert bus._client.options["ping_interval"] == 5

    await server.stop()
    await eventually(lambda: bus._client._server_pool[0].reconnects >= 2)
    await server.start()

    await eventually(lambda: bus.is_connected)


async def test_gone(own_server: OwnServer) -> None:
    """``gone`` returns when the server stays away, and not while it is there."""
    server, bus = await own_server()
    gone = asyncio.ensure_future(bus.gone(0.3))
    await server.restart()
    await eventually(lambda: bus.reconnects > 0)
    assert not gone.done()

    await server.stop()

    async with asyncio.timeout(10):
        await gone


async def test_a_program_ends_without_its_server(
    own_server: OwnServer, root: str, tmp_path: Path
) -> None:
    """A program whose server stays away ends with status 1, for its supervisor."""
    server, bus = await own_server()
    heard = Heard()
    await bus.subscribe(f"{root}.v1.heartbeat.>", heard)
    program = Program("dspex.native")
    environ = {
        "DSPEX_NATS_URL": server.url,
        "DSPEX_PREFIX": root,
        "DSPEX_NATS_GRACE": "1",
    }
    await program.start(environ, tmp_path)
    try:
        await heard.count(1)
        await server.stop()

        assert await program.wait(30) == 1
    finally:
        await program.stop()


async def test_no_fast_parser(bus: NatsBus, root: str) -> None:
    """Header values are strings: the parser that makes lists is not installed."""
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("fast-mail-parser")
    heard = Heard()
    await bus.subscribe(f"{root}.a", heard)

    await bus.publish(f"{root}.a", headers={"x": "1"})
    await heard.count(1)

    assert heard.messages[0].headers["X"] == "1"


async def test_a_denied_publish(own_server: OwnServer) -> None:
    """A request that may not be published fails at once, not at its timeout."""
    _, bus = await own_server(user="u:p", extra=PERMISSIONS)

    async with asyncio.timeout(5):
        with pytest.raises(Forbidden, match=r"on 'denied\.subject'"):
            await bus.request("denied.Subject", timeout=60)

    heard = Heard()
    await bus.subscribe("allowed.a", heard)
    await bus.publish("allowed.a")
    await heard.count(1)


async def test_a_slow_consumer(nats_url: str, root: str) -> None:
    """What a busy subscriber cannot hold is dropped and counted, and it goes on."""
    settings = BusSettings(url=nats_url, pending_messages=10)
    bus = await connection.connect(settings)
    heard, last = Heard(), Heard()
    await bus.subscribe(f"{root}.a", heard)
    await bus.subscribe(f"{root}.last", last)

    for _ in range(500):
        await bus.publish(f"{root}.a")
    await bus.publish(f"{root}.last")
    await last.count(1)
    await bus.flush()
    await heard.until(lambda: len(heard.messages) + bus.dropped == 500)

    assert bus.dropped > 0
    await bus.publish(f"{root}.a", b"after")
    await heard.until(lambda: heard.bodies[-1] == b"after")
    await bus.close()


async def test_headers_cannot_end_the_connection(bus: NatsBus, root: str) -> None:
    """A body that fits only without its headers is refused before it is sent."""
    with pytest.raises(BadRequest):
        await bus.publish(
            f"{root}.a", b"x" * (bus.max_payload - 5), headers={"a": "b" * 50}
        )
    with pytest.raises(BadRequest):
        await bus.publish("x" * 5000)

    await bus.flush()
    assert (bus.reconnects, bus.is_connected) == (0, True)


async def test_closing_while_offline(own_server: OwnServer, root: str) -> None:
    """A connection that is gone can be closed, with messages it could not send."""
    server, bus = await own_server()
    await server.stop()
    await eventually(lambda: not bus.is_connected)
    await bus.publish(f"{root}.a", b"never sent")

    await bus.close()

    assert bus.is_closed
    async with asyncio.timeout(5):
        await bus.gone(0.01)


async def test_an_error_that_ends_the_connection(bus: NatsBus) -> None:
    """An error after which the client never reconnects is seen as the end."""
    asked = asyncio.ensure_future(bus.request("$SYS.nobody", timeout=60))
    await bus._client._process_err("'user authentication expired'")

    with pytest.raises((BusUnavailable, NoResponders)):
        await asked
    async with asyncio.timeout(5):
        await bus.gone(0.01)


async def test_closing_twice_and_under_load(nats_url: str, root: str) -> None:
    """Closing while handlers run leaves no task behind."""
    bus = await connection.connect(BusSettings(url=nats_url))
    await bus.subscribe(f"{root}.a", Heard())
    for _ in range(100):
        await bus.publish(f"{root}.a")

    await asyncio.gather(bus.close(), bus.close())
    await bus.close()

    assert bus.is_closed


async def test_nobody_there() -> None:
    """Where no server is, connecting fails within its timeout, without the password."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"nats://user:secret@127.0.0.1:{held.getsockname()[1]}"
        settings = BusSettings(url=url, connect_timeout=0.3)

        with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1") as caught:
            await connection.connect(settings)

    assert "secret" not in caught.value.message + repr(settings)


async def test_a_raising_handler_keeps_the_reader(bus: NatsBus, root: str) -> None:
    """A handler with a defect does not end the client's reading."""
    heard = Heard()

    def handler(message: Message) -> None:
        heard(message)
        raise ValueError('permissions violation for publish to "x"')

    await bus.subscribe(f"{root}.a", handler)
    for _ in range(3):
        await bus.publish(f"{root}.a")

    await heard.count(3)
    assert bus.reconnects == 0
