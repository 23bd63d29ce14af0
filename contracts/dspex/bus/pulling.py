"""Taking work from a durable consumer, as many pieces at a time as there is room.

nats-py's ``fetch`` loses its request when the server restarts and then waits out
its timeout. This loop asks again at once when the connection is back, and when the
server's heartbeats stay out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from dspex.bus.durable import API
from dspex.bus.tasks import Tasks
from dspex.contracts.failures import BusUnavailable
from dspex.contracts.headers import STATUS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message, Subscription

_log = logging.getLogger(__name__)

ACK_PREFIX = "$JS.ACK."
PENDING = "Nats-Pending-Messages"

_IDLE = "100"
_ENDED = ("404", "408")  # a request ran out, with so many messages still asked for


class PullSettings(Struct, frozen=True, kw_only=True):
    """How a pull loop works.

    Attributes:
        stream: Name of the stream.
        consumer: Name of its durable consumer, made by ``ensure_consumer``.
        concurrency: Deliveries in hand at most.
        expires: Seconds after which the server forgets a request for messages.
        heartbeat: Seconds between the server's signs of life while it has
            nothing; at most half of ``expires``.
        progress_every: Seconds after which the server hears that a delivery is
            still worked on; less than the consumer's ``ack_wait``.
        retry_delay: Seconds until a delivery whose handler failed comes again.
    """

    stream: str
    consumer: str
    concurrency: int = 8
    expires: float = 5.0
    heartbeat: float = 1.0
    progress_every: float = 10.0
    retry_delay: float = 1.0


class Delivery:
    """One message in hand; settle it once, by ``ack``, ``nak`` or ``term``.

    Attributes:
        message: As it was stored.
        stream_sequence: Where it is in the stream.
        delivered: How often it was delivered, this time included.
        settled: Whether the server was told what became of it.
    """

    def __init__(self, bus: NatsBus, message: Message) -> None:
        self.message = message
        self.settled = False
        self.told = time.monotonic()
        self._bus = bus
        # $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<...>; the newer form has
        # <domain>.<account> before the stream.
        tokens = message.reply.split(".")
        first = 4 if len(tokens) == 9 else 6
        self.delivered = int(tokens[first])
        self.stream_sequence = int(tokens[first + 1])

    async def ack(self, *, confirm: float | None = None) -> None:
        """It is done.

        Args:
            confirm: Seconds to wait for the server's word that it knows.

        Raises:
            TimeoutError: The server did not confirm.
            BusUnavailable: The connection broke.
        """
        if confirm is None or self.settled:
            await self._settle(b"+ACK")
            return
        await self._bus.request(self.message.reply, b"+ACK", timeout=confirm)
        self.settled = True

    async def nak(self, delay: float = 0.0) -> None:
        """Deliver it again, after ``delay`` seconds."""
        await self._settle(
            b"-NAK " + msgspec.json.encode({"delay": int(delay * 1e9)})
            if delay
            else b"-NAK"
        )

    async def term(self, reason: str = "") -> None:
        """Never deliver it again; the reason ends in the server's advisory."""
        await self._settle(f"+TERM {' '.join(reason.split())}".strip().encode())

    async def in_progress(self) -> None:
        """It takes longer: begin its ``ack_wait`` anew."""
        self.told = time.monotonic()
        if not self.settled:
            await self._bus.publish(self.message.reply, b"+WPI")

    async def _settle(self, word: bytes) -> None:
        if not self.settled:
            self.settled = True
            await self._bus.publish(self.message.reply, word)


class PullLoop:
    """Hands a consumer's messages to a handler, side by side.

    A handler that returns has acknowledged what it did not settle itself; one that
    raises gets the message again after ``retry_delay``.

    Args:
        bus: Where.
        settings: Of which consumer, and how many at a time.
        handler: Works on one delivery.
    """

    def __init__(
        self,
        bus: NatsBus,
        settings: PullSettings,
        handler: Callable[[Delivery], Awaitable[None]],
    ) -> None:
        self.settings = settings
        self._bus = bus
        self._handler = handler
        self._inbox = bus.new_inbox()
        self._in_hand: set[Delivery] = set()
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._asked = 0
        self._heard = 0.0
        self._not_before = 0.0
        self._changed = asyncio.Event()
        self._stopping = False
        self._work = Tasks()
        self._loop = Tasks()
        self._subscription: Subscription | None = None
        self._forget: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Take work from now on."""
        self._subscription = await self._bus.subscribe(self._inbox, self._take)
        self._forget = self._bus.when_back(self._begin_anew)
        self._loop.start(self._run(), "pull")

    async def stop(self, grace: float = 10.0) -> None:
        """Take nothing new, finish what runs, give the rest back.

        Args:
            grace: Seconds after which what still runs is given back too.
        """
        self._stopping = True
        self._forget()
        await self._loop.cancel()
        if self._subscription is not None:
            await self._subscription.drain()
        await self._work.join(grace)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._ask()
                await self._tell_progress()
            except BusUnavailable:
                _log.warning("pull loop waits for the connection")
                self._asked = 0
            try:
                async with asyncio.timeout(self.settings.heartbeat):
                    await self._changed.wait()
            except TimeoutError:
                self._notice_silence()

    async def _ask(self) -> None:
        """Ask for as many as there is room, but not for each one by itself."""
        limit, now = self.settings.concurrency, time.monotonic()
        room = limit - len(self._in_hand) - self._asked
        worth_it = room >= max(1, limit // 2) or (room > 0 and self._asked == 0)
        if not worth_it or now < self._not_before:
            return
        self._asked += room
        self._heard = now
        wanted = {
            "batch": room,
            "expires": int(self.settings.expires * 1e9),
            "idle_heartbeat": int(self.settings.heartbeat * 1e9),
        }
        subject = (
            f"{API}.CONSUMER.MSG.NEXT.{self.settings.stream}.{self.settings.consumer}"
        )
        await self._bus.publish(subject, msgspec.json.encode(wanted), reply=self._inbox)

    async def _tell_progress(self) -> None:
        now = time.monotonic()
        for delivery in list(self._in_hand):
            if now - delivery.told >= self.settings.progress_every:
                await delivery.in_progress()

    def _notice_silence(self) -> None:
        silent = time.monotonic() - self._heard
        if self._asked and silent > 2 * self.settings.heartbeat:
            _log.warning("pull request lost, asking again", extra={"silent_s": silent})
            self._asked = 0

    def _begin_anew(self) -> None:
        self._asked = 0
        self._not_before = 0.0
        self._changed.set()

    def _take(self, message: Message) -> None:
        self._heard = time.monotonic()
        if not message.reply.startswith(ACK_PREFIX):
            self._hear(message)
            return
        self._asked = max(0, self._asked - 1)
        delivery = Delivery(self._bus, message)
        self._in_hand.add(delivery)
        self._work.start(self._handle(delivery), "delivery")

    def _hear(self, message: Message) -> None:
        """Take in what the server says about a request."""
        status = message.headers.get(STATUS, "")
        if status == _IDLE:
            return
        if status in _ENDED:
            left = int(message.headers.get(PENDING, "0"))
            self._asked = max(0, self._asked - left)
        else:  # no such consumer, no leader, the server shuts down, ...
            said = message.headers.get("Description", "no responders")
            _log.warning("pull request refused", extra={"status": status, "said": said})
            self._asked = 0
            self._not_before = self._heard + self.settings.heartbeat
        self._changed.set()

    async def _handle(self, delivery: Delivery) -> None:
        try:
            async with self._slots:
                await self._work_on(delivery)
        except asyncio.CancelledError:
            await delivery.nak()
            raise
        finally:
            self._in_hand.discard(delivery)
            self._changed.set()

    async def _work_on(self, delivery: Delivery) -> None:
        if self._stopping:
            await delivery.nak()
            return
        try:
            await self._handler(delivery)
            await delivery.ack()
        except Exception:  # noqa: BLE001 - it comes again; the log has the details
            _log.exception("delivery failed")
            await delivery.nak(self.settings.retry_delay)
