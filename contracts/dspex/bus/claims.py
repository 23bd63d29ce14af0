"""Bodies too large for a message: put away under a name, and had again by it.

The claim-check pattern: the object store holds the body, the message its name. Memory
is bounded: of the bodies that are objects a process holds so many bytes at a time.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from dspex.bus.provisioning import DAY, Names
from dspex.bus.stores import Blobs
from dspex.contracts.bodies import ACCEPT, Bodies, new_claim
from dspex.contracts.failures import BadRequest, DeadlineExceeded, Failure, NotFound
from dspex.contracts.headers import BODY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

_log = logging.getLogger(__name__)


class Claims:
    """The large bodies under one prefix.

    Args:
        bus: Where.
        prefix: First token of every subject.
        bodies: What the configuration says of them.
    """

    def __init__(self, bus: NatsBus, prefix: str, bodies: Bodies | None = None) -> None:
        self.bodies = bodies or Bodies()
        self._blobs = Blobs(bus, Names(prefix).blobs, DAY)
        self._room = Room(self.bodies.held)
        self._is_there = False

    def is_large(self, data: bytes) -> bool:
        """Whether a body travels by its name, where both sides can."""
        return len(data) > self.bodies.inline

    async def put(self, tenant: str, data: bytes, ttl: int | None = None) -> str:
        """Put a body away.

        Args:
            tenant: Whose it is.
            data: The body.
            ttl: Seconds until it ends; default: as configured.

        Returns:
            The name to claim it by.

        Raises:
            BadRequest: It is too large.
            NotFound: There is no object store.
            Failure: It could not be stored.
        """
        self._check(len(data))
        if not self._is_there and not await self._blobs.exists():
            raise NotFound(
                "There is no object store of large bodies.",
                hint="Start dspex-state, which makes it.",
            )
        self._is_there = True
        name = new_claim(tenant)
        await self._blobs.put(name, data, ttl or self.bodies.ttl_s)
        return name

    async def get(self, name: str) -> bytes:
        """The body of that name.

        Raises:
            NotFound: It is not there, or has ended.
            BadRequest: It is too large, or not what its description says.
            BusUnavailable: It cannot be read now.
        """
        described = await self._blobs.find(name)
        self._check(described.size)
        return await self._blobs.read(described)

    @asynccontextmanager
    async def held(self, name: str, seconds: float) -> AsyncIterator[bytes]:
        """Have a request's body in memory, while the block lasts.

        Args:
            name: Of the body.
            seconds: How long it may take until it is there.

        Raises:
            Failure: As ``get``; ``field`` names the header.
            DeadlineExceeded: There was no room for it in time.
        """
        until = asyncio.get_running_loop().time() + max(0.0, seconds)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(until):
                    described = await self._blobs.find(name)
                    self._check(described.size)
                    await stack.enter_async_context(self._room.taken(described.size))
                    data = await self._blobs.read(described)
            except Failure as failure:
                failure.field = BODY
                raise
            except TimeoutError:
                raise DeadlineExceeded(
                    "The body could not be had by the deadline: other large bodies "
                    "took the room, or the object store was slow.",
                    hint="Send a later Dspex-Deadline, or raise bodies.held_mib.",
                    field=BODY,
                ) from None
            yield data

    def _check(self, size: int) -> None:
        if size > self.bodies.largest:
            raise BadRequest(
                f"The body has {size} bytes; at most {self.bodies.largest} are taken.",
                hint="Send less, or raise bodies.max_mib in the configuration.",
            )


class Room:
    """So many bytes, for those who come first.

    Args:
        size: How many there are.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Take some, once there are so many, while the block lasts."""
        async with self._turn:
            while self._free < size:
                self._freed.clear()
                await self._freed.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()


async def packed(
    claims: Claims | None, tenant: str, data: bytes, headers: Mapping[str, str]
) -> tuple[bytes, dict[str, str]]:
    """A request as it is sent: with its body, or with the name of it.

    Args:
        claims: Where large bodies are put; ``None``: nowhere.
        tenant: Whose request it is.
        data: Its body.
        headers: Its headers.

    Raises:
        BadRequest: It is too large for any.
    """
    if claims is None:
        return data, dict(headers)
    if claims.is_large(data):
        try:
            name = await claims.put(tenant, data)
        except BadRequest:
            raise
        except Failure as failure:  # then it goes as it is, if it can
            _log.warning("a large body is not put away: %s", failure.message)
        else:
            return b"", {**headers, BODY: name}
    return data, {**headers, BODY: ACCEPT}


async def unpacked(claims: Claims | None, message: Message) -> bytes:
    """The body of an answer, wherever it is.

    Raises:
        Failure: It cannot be had.
    """
    name = message.headers.get(BODY)
    if claims is None or not name:
        return message.data
    return await claims.get(name)
