"""What a test heard on the bus, to be awaited instead of slept for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.core import Message

WITHIN = 10.0
"""Seconds after which a test gives up hoping."""


class Heard:
    """A handler that keeps what it got."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._changed = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self._changed.set()

    @property
    def bodies(self) -> list[bytes]:
        return [message.data for message in self.messages]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition on what was heard holds."""
        async with asyncio.timeout(WITHIN):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def count(self, wanted: int) -> list[bytes]:
        """Wait for so many messages; their bodies."""
        await self.until(lambda: len(self.messages) >= wanted)
        return self.bodies


async def eventually(holds: Callable[[], bool]) -> None:
    """Let the loop run until a condition that nobody announces holds."""
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110 - nothing tells when it does
            await asyncio.sleep(0.01)
