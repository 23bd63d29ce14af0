"""A stream, its consumer, and a pull loop at work on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.bus.hearing import WITHIN

from dspex.bus.durable import (
    Appender,
    ConsumerConfig,
    Entry,
    StreamConfig,
    api,
    ensure_consumer,
    ensure_stream,
)
from dspex.bus.pulling import Delivery, PullLoop, PullSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspex.bus.connection import NatsBus


class Rig:
    """A stream, its consumer, and what a pull loop did with its messages."""

    def __init__(self, bus: NatsBus, root: str) -> None:
        self.bus = bus
        self.root = root
        self.done: list[bytes] = []
        self.deliveries: list[Delivery] = []
        self.running = 0
        self.most = 0
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.settle: Callable[[Delivery], Awaitable[None]] | None = None
        self.loop: PullLoop | None = None

    async def make(self, **consumer: Any) -> None:
        await ensure_stream(
            self.bus, StreamConfig(name=self.root, subjects=[f"{self.root}.>"])
        )
        await ensure_consumer(
            self.bus, self.root, ConsumerConfig(name="pool", **consumer)
        )

    async def add(self, count: int) -> None:
        appender = Appender(self.bus)
        await asyncio.gather(
            *(
                appender.append(Entry(subject=f"{self.root}.a", data=b"%d" % number))
                for number in range(count)
            )
        )

    async def pull(self, **settings: Any) -> PullLoop:
        found = PullSettings(stream=self.root, consumer="pool", **settings)
        self.loop = PullLoop(self.bus, found, self.handle)
        await self.loop.start()
        return self.loop

    async def handle(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.let_go.wait()
            if self.settle is not None:
                await self.settle(delivery)
            self.done.append(delivery.message.data)
        finally:
            self.running -= 1

    async def settled(self) -> dict[str, Any]:
        """Wait until the server knows of every acknowledgement."""
        async with asyncio.timeout(WITHIN):
            while (info := await self.info())["num_ack_pending"]:
                continue
        return info

    async def info(self) -> dict[str, Any]:
        return await api(self.bus, f"CONSUMER.INFO.{self.root}.pool")
