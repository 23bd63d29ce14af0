"""Heartbeats from a thread of their own, so that a busy program cannot hold them up.

The thread has its own event loop and its own connection. A heartbeat goes out every
second (with 10 % jitter, lest a hundred workers beat as one), when a router asks
(``discover``), and at every change of state.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from dspex.bus.clock import now_ms
from dspex.bus.profiling import Profiler
from dspex.bus.tasks import Tasks
from dspex.contracts import encoding
from dspex.contracts.failures import BadRequest, Failure
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.subjects import answerable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspex.bus.core import Bus, Message
    from dspex.contracts.subjects import Subjects

_log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two heartbeats."""

State = Literal["starting", "ready", "draining", "leaving"]


def read_beat(subjects: Subjects, message: Message) -> Heartbeat:
    """Read a heartbeat, which must be what its subject says.

    Raises:
        BadRequest: It is not one, or of another: permissions pin subjects, not bodies.
    """
    pool, worker = subjects.read_heartbeat(message.subject)
    beat: Heartbeat = encoding.decode(message.data, Heartbeat)
    if (beat.pool, beat.worker) != (pool, worker):
        raise BadRequest(
            f"The heartbeat of {worker!r} in pool {pool!r} says that it is of "
            f"{beat.worker[:80]!r} in {beat.pool[:80]!r}."
        )
    return beat


class Heart:
    """Beats from ``start`` to ``stop``.

    Args:
        subjects: Under the configured prefix.
        connect: Opens the connection the heartbeats go over.
        read: The present capacity; called in the heartbeat thread, so it must only
            read plain values.
        worker: Incarnation under which it answers pings; empty: none.
    """

    def __init__(
        self,
        subjects: Subjects,
        connect: Callable[[], Awaitable[Bus]],
        read: Callable[[], Heartbeat],
        worker: str = "",
    ) -> None:
        self._worker = worker
        self._subjects = subjects
        self._connect = connect
        self._read = read
        self._state: State = "starting"
        self._seq = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._begun: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._main, name="heartbeat", daemon=True
        )

    async def start(self) -> None:
        """Beat from now on; returns after the first heartbeat.

        Raises:
            BusUnavailable: The thread got no connection.
        """
        self._thread.start()
        await asyncio.wrap_future(self._begun)

    def set_state(self, state: State) -> None:
        """Beat at once with a new state."""
        self._state = state
        self._beat_now()

    async def stop(self) -> None:
        """Say ``leaving`` and end the thread."""
        self.set_state("leaving")
        await asyncio.to_thread(self._thread.join, 5)

    def _beat_now(self) -> None:
        if self._loop is not None and self._wake is not None:
            try:
                self._loop.call_soon_threadsafe(self._wake.set)
            except RuntimeError:
                return  # the thread has ended: there is nobody left to tell

    def _main(self) -> None:
        try:
            asyncio.run(self._beat())
        except Exception as error:  # noqa: BLE001 - start() or the log gets it
            if not self._begun.done():
                self._begun.set_exception(error)
            else:
                _log.exception("heartbeats ended")

    async def _beat(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        bus = await self._connect()

        def asked(message: Message) -> None:
            self._beat_now()

        def pinged(message: Message) -> None:
            if answerable(message.reply):
                answers.start(bus.publish(message.reply, b"{}"), "pong")

        answers, profiler = Tasks(), Profiler(bus, self._worker)
        await bus.subscribe(self._subjects.discover(), asked)
        if self._worker:
            # To the end: whoever pings later is told by the server that we are gone.
            await bus.subscribe(self._subjects.worker_ping(self._worker), pinged)
            await bus.subscribe(self._subjects.admin("profile"), profiler.asked)
        while True:
            self._wake.clear()
            leaving = self._state == "leaving"
            await self._send(bus)
            if not self._begun.done():
                self._begun.set_result(None)
            if leaving:
                break
            await self._rest()
        await profiler.stop()
        await answers.join(1.0)
        await bus.close()

    async def _send(self, bus: Bus) -> None:
        self._seq += 1
        try:
            beat = replace(self._read(), state=self._state, seq=self._seq, at=now_ms())
            subject = self._subjects.heartbeat(beat.pool, beat.worker)
            await bus.publish(subject, encoding.encode(beat))
        except Failure as failure:
            _log.warning("heartbeat not sent: %s", failure.message)
        except Exception:  # noqa: BLE001 - the next one may be read; silence is noticed
            _log.exception("heartbeat not read")

    async def _rest(self) -> None:
        assert self._wake is not None
        pause = INTERVAL * random.uniform(0.9, 1.1)
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            return


class LoopLag:
    """Measures from another thread how long an event loop has not come round."""

    PERIOD = 0.1

    def __init__(self) -> None:
        self._last = time.monotonic()

    def start(self) -> None:
        """Watch the running loop for as long as it runs."""
        self._tick(asyncio.get_running_loop())

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._last = time.monotonic()
        loop.call_later(self.PERIOD, self._tick, loop)

    @property
    def milliseconds(self) -> float:
        """How far the loop is behind its time."""
        return max(0.0, time.monotonic() - self._last - self.PERIOD) * 1000
