"""``stream.resume``: the events of a request from the journal, and on as they come.

What arrives live only wakes the reader: events are told from the journal alone, in the
order in which they were stored. So there is no seam between then and now, and a reader
that lags costs a batch of memory.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus.batches import batch, sequence_of
from dspex.bus.clock import now_ms
from dspex.bus.journal import Reader
from dspex.bus.provisioning import Names
from dspex.bus.running import Outcome
from dspex.contracts import encoding
from dspex.contracts.envelope import DoneEvent, Event
from dspex.contracts.failures import DeadlineExceeded, NotFound
from dspex.contracts.stream_requests import ResumedStream
from dspex.services.state.position import Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.bus.events import Events
    from dspex.contracts.records import Cut
    from dspex.contracts.stream_requests import ResumeStream
    from dspex.contracts.subjects import Subjects

PAGE = 512 * 1024
"""Bytes of events that one reply holds, about."""

POLL = 0.25
"""Seconds after which the journal is looked at, whether or not anything was heard."""

STORED = 0.01
"""Seconds a copy may take until it is stored."""

APPEARS = 2.0
"""Seconds in which something of a request is to be found."""

LATE = 5.0
"""Seconds past a request's own deadline after which its end comes no more."""


class Streams:
    """Answers ``stream.resume``.

    Args:
        bus: Where.
        subjects: Under which prefix.
    """

    def __init__(self, bus: NatsBus, subjects: Subjects) -> None:
        self._bus = bus
        self._reader = Reader(bus, subjects)
        self._stream = Names(subjects.prefix).journal

    async def resume(self, body: ResumeStream, events: Events) -> Outcome:
        """Tell what follows: to an inbox until the end, else a page of it.

        Raises:
            NotFound: The request is not in the journal, or not without a gap.
            DeadlineExceeded: Its end should be there and is not.
        """
        source = _Source(self._bus, self._stream, events.audience.subjects, body)
        attempt = body.attempt
        if attempt is None and body.after:
            attempt = await source.newest_attempt()
        position = Position(attempt, body.after)
        to_inbox = events.audience.relays
        told: list[dict[str, Any]] = []
        size = 0
        async with source:
            async for message in source.messages(position, waits=to_inbox):
                event = encoding.decode(message.data, Event)
                if isinstance(event, DoneEvent) and event.cut is not None:
                    event = await self._restored(event, event.cut)
                due = position.take(event)
                for event in due if to_inbox else ():
                    await events.relay(event)
                if not to_inbox:
                    told += msgspec.to_builtins(due)
                    size += len(message.data) if due else 0
                if position.ended or size > PAGE:
                    break
        return Outcome(
            outputs=msgspec.to_builtins(
                ResumedStream(
                    request=body.request,
                    attempt=position.attempt,
                    after=position.seq,
                    ended=position.ended,
                    events=told,
                )
            )
        )

    async def _restored(self, event: DoneEvent, cut: Cut) -> Any:
        """An end with its outputs, which may be on their way to the object store."""
        begun = time.monotonic()
        while True:
            try:
                return await self._reader.restored(event, cut)
            except NotFound:
                if not cut.blob or time.monotonic() - begun > APPEARS:
                    raise
                await asyncio.sleep(POLL)


class _Source:
    """The stored events of one request, and the news that there are more."""

    def __init__(
        self, bus: NatsBus, stream: str, subjects: Subjects, body: ResumeStream
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._request = body.request
        self._subjects = [
            subjects.events(body.request),
            subjects.session_events(body.request),
        ]
        self._listening: list[Any] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> _Source:
        for subject in self._subjects:
            self._listening.append(await self._bus.subscribe(subject, self._hear))
        return self

    async def __aexit__(self, *_: object) -> None:
        for subscription in self._listening:
            await subscription.unsubscribe()

    async def newest_attempt(self) -> int:
        """The highest number of an attempt that is stored."""
        newest, last = 0, 0
        while messages := await self._batch(last):
            last = sequence_of(messages[-1])
            newest = max(newest, *map(_attempt, messages))
        return newest

    async def messages(
        self, position: Position, *, waits: bool
    ) -> AsyncIterator[Message]:
        """The stored events; with ``waits`` also those that are stored later."""
        last, begun = 0, time.monotonic()
        while True:
            self._news.clear()
            messages = await self._batch(last)
            for message in messages:
                last = sequence_of(message)
                yield message
            if messages:
                continue
            self._check(position, begun, last)
            if not waits and position.found and last:
                return
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL):
                await self._news.wait()
                await asyncio.sleep(STORED)
        except TimeoutError:
            return

    async def _batch(self, last: int) -> list[Message]:
        """The next ones; a request tells under one of two subjects."""
        for subject in self._subjects:
            if messages := await batch(self._bus, self._stream, last, subject):
                return messages
        return []

    def _check(self, position: Position, begun: float, last: int) -> None:
        """Whether it is worth waiting for more."""
        if not (last and position.found) and time.monotonic() - begun > APPEARS:
            what = f"Request {self._request!r}" if not last else "That event"
            raise NotFound(
                f"{what} is not in the journal.",
                hint="It is older than what is kept, of another tenant, or not "
                "journaled: see [journal] in the configuration.",
            )
        due = position.deadline
        if due is not None and now_ms() > due + LATE * 1000:
            raise DeadlineExceeded(
                f"The deadline of request {self._request!r} has passed, and its end "
                "is not in the journal.",
                hint="Send it again with the same id.",
            )

    def _hear(self, message: Message) -> None:
        del message
        self._news.set()


class _Told(msgspec.Struct):
    attempt: int


def _attempt(message: Message) -> int:
    told: _Told = encoding.decode(message.data, _Told)
    return told.attempt
