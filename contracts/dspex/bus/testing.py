"""The bus without a server, for tests: what is published stays in the process.

It passes the same suite of tests as the real one, so a program tested on it will
behave the same on NATS: wildcards, queue groups, "no responders", payload limit.
"""

from __future__ import annotations

import asyncio
import random
import re
from typing import TYPE_CHECKING

from dspex.bus import outgoing
from dspex.bus.core import Bus, Handler, Message, Subscription, connection_lost
from dspex.contracts.failures import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATTERN = re.compile(r"(([^\s.*>]+|\*)\.)*([^\s.*>]+|\*|>)")


class MemoryServer:
    """What a NATS server is to its connections.

    Args:
        max_payload: Largest body, bytes.
        seed: Of the choice inside queue groups.
    """

    def __init__(self, *, max_payload: int = 1 << 20, seed: int = 0) -> None:
        self.max_payload = max_payload
        self._random = random.Random(seed)
        self._interests: list[_Interest] = []

    def connect(self) -> MemoryBus:
        """A new connection to it."""
        return MemoryBus(self)

    def add(self, interest: _Interest) -> None:
        """Deliver to ``interest`` from now on."""
        self._interests.append(interest)

    def remove(self, interest: _Interest) -> None:
        """Stop delivering to it."""
        if interest in self._interests:
            self._interests.remove(interest)

    def deliver(self, message: Message) -> bool:
        """Hand a message to all who want it; whether anybody did."""
        groups: dict[str, list[_Interest]] = {}
        matching = [one for one in self._interests if one.wants(message.subject)]
        for interest in matching:
            groups.setdefault(interest.queue or f"#{id(interest)}", []).append(interest)
        for members in groups.values():
            self._random.choice(members).hand_over(message)
        return bool(matching)


class _Interest:
    def __init__(
        self, subject: str, handler: Handler, queue: str, bus: MemoryBus
    ) -> None:
        self.queue = queue
        self._tokens = subject.split(".")
        self._handler = handler
        self._bus = bus
        self._live = True

    def wants(self, subject: str) -> bool:
        tokens = subject.split(".")
        for position, wanted in enumerate(self._tokens):
            if wanted == ">":
                return len(tokens) > position
            if position >= len(tokens) or wanted not in ("*", tokens[position]):
                return False
        return len(tokens) == len(self._tokens)

    def hand_over(self, message: Message) -> None:
        # Later, as over a socket: a publisher never runs its receivers.
        asyncio.get_running_loop().call_soon(self._handle, message)

    def _handle(self, message: Message) -> None:
        if self._live:
            self._handler(message)

    async def unsubscribe(self) -> None:
        self._live = False
        self._bus.server.remove(self)

    async def drain(self) -> None:
        self._bus.server.remove(self)
        await _next_turn()


class MemoryBus(Bus):
    """One connection to a ``MemoryServer``."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__()
        self.server = server
        self._mine: list[_Interest] = []
        self._closed = False

    async def publish(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """As ``Bus.publish``."""
        if self._closed:
            raise connection_lost()
        outgoing.check(subject, data, headers, reply, self.max_payload)
        wanted = self.server.deliver(Message(subject, data, reply, _copy(headers)))
        if not wanted and reply:
            self.server.deliver(Message(reply, b"", "", {"Status": "503"}))

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = ""
    ) -> Subscription:
        """As ``Bus.subscribe``."""
        if self._closed:
            raise connection_lost()
        if not _PATTERN.fullmatch(subject):
            raise BadRequest(f"Cannot subscribe to {subject[:80]!r}.")
        interest = _Interest(subject, handler, queue, self)
        self._mine.append(interest)
        self.server.add(interest)
        return interest

    async def flush(self, timeout: float = 5.0) -> None:
        """As ``Bus.flush``."""
        if self._closed:
            raise connection_lost()
        await _next_turn()

    async def close(self) -> None:
        """As ``Bus.close``."""
        self._closed = True
        for interest in self._mine:
            await interest.unsubscribe()
        self._fail_open(connection_lost())

    @property
    def max_payload(self) -> int:
        """As ``Bus.max_payload``."""
        return self.server.max_payload


def _copy(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """Headers as they are after the wire: on one line, without outer blanks."""
    if not headers:
        return None
    return {
        name: value.strip().replace("\r", " ").replace("\n", " ")
        for name, value in headers.items()
    }


async def _next_turn() -> None:
    """Let everything scheduled so far run."""
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()
