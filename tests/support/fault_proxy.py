"""A TCP proxy that breaks the network between two programs, on demand.

    async with FaultProxy("127.0.0.1", server.port) as proxy:
        worker = Program(*WORKER, environ={"DSPEX_NATS_URL": proxy.url})
        ...
        proxy.blackhole()   # nothing moves, and nobody is told
        proxy.heal()

What it holds is bounded: when its buffers are full it stops reading, as a real
network does, and the sender's own buffers fill up.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import TYPE_CHECKING, Self

from dspex.bus.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 16 * 1024
"""Most bytes taken from a socket at a time."""

HELD = 32
"""Most chunks held in one direction of one connection."""

MOST = 512
"""Connections at a time; more are reset."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """Passes bytes on, until it is told otherwise.

    Args:
        host: Where the bytes go.
        port: The same.
        scheme: Of ``url``.
        listen: The address at which it listens.

    Attributes:
        port: Where it listens.
        connections: Connections taken so far, those reset at once included.
        bytes_up: Bytes passed on to the target.
        bytes_down: Bytes passed on from the target.
    """

    def __init__(
        self, host: str, port: int, *, scheme: str = "nats", listen: str = "127.0.0.1"
    ) -> None:
        self.port = 0
        self._listen = listen
        self.connections = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._target = (host, port)
        self._scheme = scheme
        self._random = random.Random(port)
        self._flows = asyncio.Event()
        self._delay, self._jitter, self._rate = 0.0, 0.0, 0.0
        self._refuses = self._swallows = False
        self._links: set[_Link] = set()
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None
        self._flows.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, self._listen, 0, limit=CHUNK
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._tasks.cancel()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Its address, to be used in place of the target's."""
        return f"{self._scheme}://{self._listen}:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are there now."""
        return len(self._links)

    def latency(self, seconds: float, jitter: float = 0.0) -> None:
        """Hold every byte back for so long, give or take ``jitter`` seconds."""
        self._delay, self._jitter = seconds, jitter

    def throttle(self, bytes_per_second: float) -> None:
        """Let no more than that through, in each direction of each connection."""
        self._rate = bytes_per_second

    def cut(self) -> None:
        """Reset all connections; later ones are taken."""
        for link in list(self._links):
            link.reset()

    def refuse(self) -> None:
        """Reset every connection that comes from now on."""
        self._refuses = True

    def blackhole(self, *, swallow: bool = False) -> None:
        """Let nothing through, in both directions; connections stay open.

        Args:
            swallow: Throw away what is sent meanwhile. No stream survives that, so
                the connections that lost bytes are reset by ``heal``. Otherwise it
                is held, and passed on by ``heal``.
        """
        self._swallows = swallow
        self._flows.clear()

    def heal(self) -> None:
        """End all faults."""
        self._delay = self._jitter = self._rate = 0.0
        self._refuses = self._swallows = False
        for link in list(self._links):
            if link.lost_bytes:
                link.reset()
        self._flows.set()

    def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        if self._refuses or len(self._links) >= MOST:
            _reset(writer)
            return
        link = _Link(self, reader, writer)
        self._links.add(link)
        link.task = self._tasks.start(link.run(self._target), "link")
        link.task.add_done_callback(lambda _: self._links.discard(link))

    def _due(self, before: float) -> float:
        """When bytes that came now may go on; never before those that came earlier."""
        jitter = self._random.uniform(-self._jitter, self._jitter)
        now = asyncio.get_running_loop().time()
        return max(before, now + max(0.0, self._delay + jitter))

    def _pieces(self, data: bytes) -> Iterator[tuple[bytes, float]]:
        """Bytes to write at a time, and the pause that follows each."""
        if not self._rate:
            yield data, 0.0
            return
        size = max(1, int(self._rate / 50))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            yield piece, len(piece) / self._rate


class _Link:
    """One connection: a stream to either side, and what is on its way."""

    def __init__(
        self,
        proxy: FaultProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.lost_bytes = False
        self.task: asyncio.Task[None] | None = None
        self._proxy = proxy
        self._reader = reader
        self._writers = [writer]

    def reset(self) -> None:
        for writer in self._writers:
            _reset(writer)
        if self.task is not None:
            self.task.cancel()

    async def run(self, target: tuple[str, int]) -> None:
        """Pass bytes on until both sides have ended, or one has broken."""
        near = self._writers[0]
        try:
            reader, writer = await asyncio.open_connection(*target, limit=CHUNK)
            self._writers.append(writer)
            async with asyncio.TaskGroup() as group:
                self._pass(group, self._reader, writer, up=True)
                self._pass(group, reader, near, up=False)
        except OSError:
            self.reset()
        finally:
            for one in self._writers:
                one.close()

    def _pass(
        self,
        group: asyncio.TaskGroup,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        up: bool,
    ) -> None:
        held: asyncio.Queue[_Chunk] = asyncio.Queue(HELD)
        group.create_task(self._take(reader, held))
        group.create_task(self._give(writer, held, up=up))

    async def _take(
        self, reader: asyncio.StreamReader, held: asyncio.Queue[_Chunk]
    ) -> None:
        due = 0.0
        data: bytes | None = b"-"
        while data:
            try:
                data = await reader.read(CHUNK)
            except ConnectionError:
                data = None
            if data and self._proxy._swallows:
                self.lost_bytes = True
                continue
            due = self._proxy._due(due)
            await held.put((due, data))

    async def _give(
        self, writer: asyncio.StreamWriter, held: asyncio.Queue[_Chunk], *, up: bool
    ) -> None:
        data: bytes | None = b"-"
        while data:
            due, data = await held.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            await self._proxy._flows.wait()
            try:
                await self._write(writer, data, up=up)
            except ConnectionError:
                self.reset()

    async def _write(
        self, writer: asyncio.StreamWriter, data: bytes | None, *, up: bool
    ) -> None:
        if data is None:
            raise ConnectionResetError
        if not data:
            writer.write_eof()
            return
        proxy = self._proxy
        for piece, pause in proxy._pieces(data):
            await proxy._flows.wait()
            writer.write(piece)
            await writer.drain()
            proxy.bytes_up += len(piece) if up else 0
            proxy.bytes_down += 0 if up else len(piece)
            await asyncio.sleep(pause)


_Chunk = tuple[float, bytes | None]
"""When it may go on, and what: empty at the end of a stream, none when it broke."""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST, which the other side sees at once as an error."""
    if (raw := writer.get_extra_info("socket")) is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
