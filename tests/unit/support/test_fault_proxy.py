"""The proxy breaks what it is told to break, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fault_proxy import CHUNK, HELD, FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

SOON = 5.0
"""Seconds until what shall happen has happened."""

PAUSE = 0.1
"""Seconds in which what shall not happen does not."""


@pytest.fixture(name="proxy")
async def _proxy() -> AsyncIterator[FaultProxy]:
    """In front of a server that sends everything back."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server, FaultProxy(*server.sockets[0].getsockname()) as proxy:
        yield proxy


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@pytest.fixture(name="peer")
async def _peer(proxy: FaultProxy) -> AsyncIterator[Streams]:
    """A connection through the proxy over which something went already."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await _asked(reader, writer) == b"x"
    yield reader, writer
    writer.close()


async def _asked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"x"
) -> bytes:
    writer.write(data)
    async with asyncio.timeout(SOON):
        return await reader.readexactly(len(data))


async def _is_reset(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(SOON):
        try:
            return await reader.read(1) == b""
        except ConnectionResetError:
            return True


async def test_bytes_pass(proxy: FaultProxy) -> None:
    """Without faults large messages pass both ways, are counted, and so is an end."""
    sent = bytes(range(256)) * 8192
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)

    found = asyncio.ensure_future(reader.read(-1))
    writer.write(sent)
    writer.write_eof()

    assert await asyncio.wait_for(found, SOON) == sent
    assert proxy.connections == 1
    assert proxy.bytes_up == proxy.bytes_down == len(sent)
    assert proxy.url == f"nats://127.0.0.1:{proxy.port}"
    writer.close()


@given(pauses=st.lists(st.floats(0, 0.002), min_size=1, max_size=20))
async def test_jitter_keeps_the_order(pauses: list[float]) -> None:
    """However delays differ, no byte overtakes another."""
    sent = [bytes([number]) * 3 for number in range(len(pauses))]
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server, FaultProxy(*server.sockets[0].getsockname()) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        for data, pause in zip(sent, pauses, strict=True):
            proxy.latency(pause, jitter=pause)
            writer.write(data)
            await asyncio.sleep(0)
        writer.write_eof()

        assert await reader.read(-1) == b"".join(sent)
        writer.close()


async def test_latency(proxy: FaultProxy, peer: Streams) -> None:
    """Bytes take at least so long in each direction, side by side, until healed."""
    proxy.latency(0.05)
    begun = time.perf_counter()
    await _asked(*peer)
    slow = time.perf_counter() - begun
    proxy.heal()
    begun = time.perf_counter()
    for _ in range(20):
        await _asked(*peer)
    quick = time.perf_counter() - begun

    assert slow >= 0.1
    assert quick < 20 * slow / 4


async def test_cut(proxy: FaultProxy, peer: Streams) -> None:
    """Cut connections end as errors at once, and new ones work."""
    proxy.cut()

    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(peer[0].read(1), SOON)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await _asked(reader, writer) == b"x"
    assert proxy.connections == 2
    writer.close()


async def test_refuse(proxy: FaultProxy, peer: Streams) -> None:
    """Refused are new connections only, and only until it is healed."""
    proxy.refuse()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await _is_reset(reader)
    writer.close()
    assert await _asked(*peer) == b"x"

    proxy.heal()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await _asked(reader, writer) == b"x"
    writer.close()


async def test_blackhole_holds(proxy: FaultProxy, peer: Streams) -> None:
    """In a black hole nothing moves and nothing breaks; healed, all of it arrives."""
    reader, writer = peer
    proxy.blackhole()
    writer.write(b"kept")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), PAUSE)
    assert proxy.open == 1

    proxy.heal()

    assert await asyncio.wait_for(reader.readexactly(4), SOON) == b"kept"


async def test_blackhole_swallows(proxy: FaultProxy, peer: Streams) -> None:
    """A connection that lost bytes is reset when it heals; one that did not goes on."""
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await _asked(idle_reader, idle_writer)
    reader, writer = peer
    proxy.blackhole(swallow=True)
    writer.write(b"gone")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), PAUSE)

    proxy.heal()

    assert await _is_reset(reader)
    assert await _asked(idle_reader, idle_writer) == b"x"
    idle_writer.close()


async def test_end_is_not_told_through_a_blackhole(proxy: FaultProxy) -> None:
    """Nobody hears across a black hole that the other side has left."""
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        left.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, FaultProxy(*server.sockets[0].getsockname()) as other:
        _, writer = await asyncio.open_connection("127.0.0.1", other.port)
        other.blackhole()
        writer.close()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(left.wait(), PAUSE)
        other.heal()
        await asyncio.wait_for(left.wait(), SOON)


async def test_held_bytes_are_bounded(proxy: FaultProxy, peer: Streams) -> None:
    """A sender into a black hole is soon made to wait, as by a real network."""
    _, writer = peer
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    proxy.blackhole()
    most = 64 * CHUNK * HELD
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < most:
            writer.write(bytes(CHUNK))
            await asyncio.wait_for(writer.drain(), PAUSE)
            sent += CHUNK

    with pytest.raises(TimeoutError):
        await send()

    assert sent < most


async def test_throttle(proxy: FaultProxy, peer: Streams) -> None:
    """No more bytes pass in a second than it is told."""
    proxy.throttle(1_000_000)
    begun = time.perf_counter()
    await _asked(*peer, bytes(200_000))

    assert time.perf_counter() - begun >= 0.2


async def test_target_away() -> None:
    """Where the target does not listen, connections are reset."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with FaultProxy("127.0.0.1", port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)

        assert await _is_reset(reader)
        writer.close()


async def test_nothing_is_left() -> None:
    """With the proxy ends all that it started, a black hole or not."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server, FaultProxy(*server.sockets[0].getsockname()) as other:
        reader, writer = await asyncio.open_connection("127.0.0.1", other.port)
        await _asked(reader, writer)
        other.blackhole()
        writer.write(b"held")
        await asyncio.sleep(0)

    assert await _is_reset(reader)
    assert other.open == 0
    assert "link" not in {task.get_name() for task in asyncio.all_tasks()}
    writer.close()
