"""Reading the events of a request from an inbox, and where in them a reader is."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.bus.claims import packed, unpacked
from dspex.bus.core import NoResponders
from dspex.client.patience import BACK
from dspex.contracts import encoding, headers
from dspex.contracts.envelope import FINAL_KINDS, Event, FailedEvent, failure
from dspex.contracts.failures import BusUnavailable, DeadlineExceeded, NoWorker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from dspex.bus.claims import Claims
    from dspex.bus.core import Message, Replies
    from dspex.client.client import Client

LATE = 0.5
"""Seconds past the deadline in which the failure that says so may still come."""


class Reading:
    """The events of one request that its reader has had.

    Args:
        request: Its id.
        attempt: Attempt of the last one; ``None``: none yet.
        after: Its number.
    """

    def __init__(
        self, request: str, attempt: int | None = None, after: int = 0
    ) -> None:
        self.request = request
        self.attempt = attempt
        self.after = after
        self.ended = False
        self._had: dict[int, int] = {} if attempt is None else {attempt: after}

    def take(self, event: Event) -> bool:
        """Whether the reader is to have an event; never twice, and none of others."""
        if event.request != self.request:
            return False
        if event.seq <= self._had.get(event.attempt, 0):
            return False
        self._had[event.attempt] = event.seq
        # A process tells more than the router beside it, so it is what one goes by.
        if event.attempt or not self.attempt:
            self.attempt, self.after = event.attempt, event.seq
        self.ended = event.__struct_config__.tag in FINAL_KINDS
        return True

    async def events(
        self, replies: Replies, claims: Claims | None, until: float
    ) -> AsyncGenerator[Event, None]:
        """What comes, up to the end of the request or of the stream.

        Args:
            replies: Where it comes.
            claims: Where events are that are too large for a message.
            until: Steady time, seconds, at which the reader gives up.

        Raises:
            TimeoutError: Nothing came in time.
            NoResponders: Nobody listens where the request went.
            Failure: The request failed, or the connection was lost.
        """
        while not self.ended:
            message = await replies.next(max(0.0, until - time.monotonic()))
            if message.is_end():
                return
            data = await unpacked(claims, message)
            event: Event = encoding.decode(data, Event, media_of(message))
            if isinstance(event, FailedEvent):
                self.ended = True
                raise failure(event)
            if self.take(event):
                yield event


class Sent(Struct, frozen=True):
    """A request: where it goes, its body, its headers."""

    subject: str
    data: bytes
    headers: dict[str, str]


class Inbox:
    """Where the events of one request come to, over as many requests as it takes.

    Args:
        client: Whose it is.
        reading: What its reader has had.
        pool: The pool that is asked without a router; empty: a router is.
    """

    def __init__(self, client: Client, reading: Reading, pool: str = "") -> None:
        self._client = client
        self._bus = client.bus
        self._reading = reading
        self._timeout = client.options.timeout
        self._pool = pool
        self._until = time.monotonic() + self._timeout + LATE

    async def ask(self, sent: Sent) -> AsyncGenerator[Event, None]:
        """Send a request, and read its inbox.

        Raises:
            Failure: The request failed, nobody took it, or the connection was lost.
        """
        async with await self._bus.replies(dedicated=True) as replies:
            replies.target = sent.subject
            client = self._client
            data, told = await packed(
                client.claims, client.subjects.tenant, sent.data, sent.headers
            )
            told[headers.STREAM] = "inbox"
            await self._bus.publish(
                sent.subject, data, headers=told, reply=replies.subject
            )
            try:
                events = self._reading.events(replies, client.claims, self._until)
                async with aclosing(events):
                    async for event in events:
                        yield event
            except NoResponders:
                raise nobody(self._pool) from None
            except TimeoutError:
                raise silence(self._timeout) from None

    async def go_on(
        self, resume: Callable[[Reading], Sent]
    ) -> AsyncGenerator[Event, None]:
        """Read on, and again whenever the connection is lost and comes back.

        Args:
            resume: Makes the request that asks for what is missing.
        """
        away_until = -math.inf
        while not self._reading.ended:
            try:
                events = self.ask(resume(self._reading))
                async with aclosing(events):
                    async for event in events:
                        yield event
            except BusUnavailable:
                away_until = time.monotonic() + BACK
            except NoWorker:
                # After an outage the others come back as we do, or a moment later.
                if time.monotonic() > away_until:
                    raise
            else:
                return
            if time.monotonic() > self._until:
                raise silence(self._timeout)
            await asyncio.sleep(BACK / 20)


def nobody(pool: str = "") -> NoWorker:
    """The failure of a request that nobody was there to take."""
    who = f"worker of pool {pool!r}" if pool else "router"
    return NoWorker(
        f"No {who} listens on this NATS server.",
        hint="Start one: `dspex up`, or dspex-router and dspex-worker.",
    )


def silence(timeout: float) -> DeadlineExceeded:
    """The failure of a request that nobody answered."""
    return DeadlineExceeded(
        f"No answer came within {timeout:g} s, nor a failure that says why.",
        hint="Look at the logs of the router and the workers for this request.",
    )


def media_of(message: Message) -> str:
    """The encoding of a message."""
    return encoding.content_type(message.headers.get(headers.CONTENT_TYPE))
