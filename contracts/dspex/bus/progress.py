"""Signs of life for deliveries in hand, from a thread that a busy program cannot block.

The thread has its own event loop and its own connection, as the heart has. A process
that is frozen as a whole gives none, so what it had goes to another one; nor does
one whose delivery is long past its time, for nobody will settle that one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspex.bus.core import Bus
    from dspex.bus.pulling import Delivery

_log = logging.getLogger(__name__)

IN_PROGRESS = b"+WPI"

RETRY = 1.0
"""Seconds until a connection is tried again."""


class Progress:
    """Tells the server of deliveries of one stream, from ``start`` to ``stop``.

    Args:
        connect: Opens the connection it speaks over.
        every: Seconds between two signs; a third of the consumer's ``ack_wait``.
    """

    def __init__(self, connect: Callable[[], Awaitable[Bus]], every: float) -> None:
        self._connect = connect
        self._every = every
        self._told: dict[int, tuple[str, float]] = {}
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="progress", daemon=True)

    def start(self) -> None:
        """Begin; it connects by itself."""
        self._thread.start()

    def add(self, delivery: Delivery, longest: float) -> None:
        """Tell of a delivery, for ``longest`` seconds at most."""
        until = time.monotonic() + longest
        self._told[delivery.stream_sequence] = (delivery.message.reply, until)

    def renew(self, delivery: Delivery) -> None:
        """The same message was delivered once more."""
        _, until = self._told.get(delivery.stream_sequence, ("", 0.0))
        self._told[delivery.stream_sequence] = (delivery.message.reply, until)

    def remove(self, delivery: Delivery) -> None:
        """It is settled, or about to be."""
        self._told.pop(delivery.stream_sequence, None)

    async def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._loop is not None and self._wake is not None:
            with suppress(RuntimeError):  # the thread has ended already
                self._loop.call_soon_threadsafe(self._wake.set)
        await asyncio.to_thread(self._thread.join, 5)

    def _main(self) -> None:
        try:
            asyncio.run(self._tell())
        except Exception:  # noqa: BLE001 - without it, deliveries come again: the log says why
            _log.exception("signs of progress ended")

    async def _tell(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        bus: Bus | None = None
        while not self._stopping.is_set():
            try:
                bus = bus or await self._connect()
                await self._tell_all(bus)
            except Failure as failure:
                _log.warning("progress not told: %s", failure.message)
            await self._rest(self._every if bus else RETRY)
        if bus is not None:
            await bus.close()

    async def _tell_all(self, bus: Bus) -> None:
        now = time.monotonic()
        for reply, until in list(self._told.values()):
            if now < until:
                await bus.publish(reply, IN_PROGRESS)

    async def _rest(self, seconds: float) -> None:
        assert self._wake is not None
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
