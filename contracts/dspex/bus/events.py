"""Telling the life of one request: to the event subjects and, if asked, its inbox."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dspex.bus import outgoing
from dspex.bus.core import NoResponders
from dspex.bus.outgoing import answerable
from dspex.contracts import encoding, headers
from dspex.contracts.envelope import (
    CancelledEvent,
    Delta,
    Done,
    DoneEvent,
    Failed,
    FailedEvent,
    Reply,
    Status,
    failed,
)
from dspex.contracts.failures import (
    BY_CODE,
    BadRequest,
    BusUnavailable,
    Cancelled,
    Failure,
    Internal,
    OutputInvalid,
)
from dspex.contracts.subjects import Subjects, is_token
from dspex.contracts.words import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.core import Bus, Message, Replies
    from dspex.bus.incoming import Request

KEEP_ALIVE = 5.0
"""Seconds of silence after which a stream says that it is alive."""

PROBE_EVERY = 8
"""Every so many messages to an inbox ask the server whether anyone listens."""


class Audience(Struct, frozen=True, kw_only=True):
    """Who is told about one request.

    Attributes:
        subjects: As the request's tenant sees them.
        request: Correlation id.
        attempt: 0 for the router, then the number of the dispatch.
        reply: The client's reply subject; empty when it wants no answer.
        stream: ``events``, ``inbox`` or empty.
        media: Encoding of what goes to the reply subject.
        session: The session whose turn it is; empty: none.
        again: The request was told of before: only its reply subject is told.
        deadline: Unix milliseconds; 0: none is known.
    """

    subjects: Subjects
    request: str
    attempt: int = 0
    reply: str = ""
    stream: str = ""
    media: str = encoding.JSON
    session: str = ""
    again: bool = False
    deadline: float = 0.0

    def event(self, kind: str) -> str:
        """Where an event of this kind is told."""
        if self.session:
            return self.subjects.session_event(self.session, self.request, kind)
        return self.subjects.event(self.request, kind)


def audience_of(request: Request, subjects: Subjects, attempt: int) -> Audience:
    """Who is told about a request.

    Args:
        request: As its headers describe it.
        subjects: Under which prefix.
        attempt: 0 for the router, then the number of the dispatch.
    """
    return Audience(
        subjects=subjects.of(request.tenant),
        request=request.id,
        attempt=attempt,
        reply=request.reply,
        stream=request.stream,
        media=request.media,
        session=request.session,
        deadline=request.deadline,
    )


class Events:
    """What one process tells about one attempt at one request.

    Args:
        bus: Where to tell it.
        audience: Who is told.
        keep_alive: Seconds of silence after which a stream says that it is alive.
    """

    def __init__(
        self, bus: Bus, audience: Audience, keep_alive: float = KEEP_ALIVE
    ) -> None:
        self.audience = audience
        self._keep_alive_after = keep_alive
        self._bus = bus
        self._seq = 0
        self._to_inbox = audience.stream == "inbox" and answerable(audience.reply)
        self._probe: Replies | None = None
        self._kept: list[Text] | None = None
        self._last = time.monotonic()

    @property
    def streams(self) -> bool:
        """Whether the client asked for deltas."""
        return bool(self.audience.stream)

    @property
    def deltas(self) -> list[Text]:
        """The deltas told since ``keep_deltas``."""
        return self._kept or []

    def keep_deltas(self) -> None:
        """Remember the deltas that are told from now on."""
        self._kept = []

    def reply_in(self, media: str | None) -> None:
        """Encode what goes to the reply subject so, if the request says how."""
        if media is not None:
            self.audience = replace(self.audience, media=media)

    async def emit(self, kind: type[Any], **said: Any) -> None:
        """Tell one event of type ``kind`` with the fields ``said``.

        Raises:
            BadRequest: It cannot be sent; nobody was told.
        """
        self._seq += 1
        audience = self.audience
        event = kind(
            request=audience.request,
            attempt=audience.attempt,
            seq=self._seq,
            at=round(time.time() * 1000, 3),
            **said,
        )
        tag = str(kind.__struct_config__.tag)
        try:
            data = encoding.encode(event)
            inbox = self._for_inbox(event, data)
            if not audience.again:
                await self._bus.publish(audience.event(tag), data)
        except BadRequest:
            self._seq -= 1  # not told, so the next event takes its number
            raise
        if self._kept is not None and isinstance(event, Delta):
            self._kept.append(Text(field=event.field, text=event.text))
        if self._to_inbox:
            await self._publish_to_inbox(event, inbox)

    async def finish(self, reply: Reply) -> None:
        """Tell the end: the final event, the reply, and the end of the stream."""
        try:
            await self._finish(reply)
        except BadRequest as problem:  # too large, or without a form on the wire
            failure = OutputInvalid(
                f"The outputs cannot be sent: {problem.message}", hint=problem.hint
            )
            await self._finish(failed(reply.request, failure, reply.metadata))

    async def _finish(self, reply: Reply) -> None:
        audience = self.audience
        said = msgspec.structs.asdict(reply)
        del said["request"]
        whole = not self._to_inbox and answerable(audience.reply)
        # Before the event: what it says is final, so the reply must be sendable.
        data = self._sendable(reply, audience.media) if whole else b""
        await self.emit(_final_kind(reply), **said)
        if self._to_inbox:
            await self._bus.publish(audience.reply)
        elif whole:
            sent = _headers(reply, audience.media)
            await self._bus.publish(audience.reply, data, headers=sent)

    async def watch(self, gone: Callable[[], None]) -> None:
        """Keep a silent stream alive; call ``gone`` once nobody listens any more."""
        self._probe = await self._bus.replies()
        async with self._probe:
            while True:
                quiet = self._keep_alive_after - (time.monotonic() - self._last)
                try:
                    await self._probe.next(max(quiet, 0.05))
                except NoResponders:
                    return gone()
                except (TimeoutError, BusUnavailable):  # it may come back
                    await self._keep_alive()

    async def _keep_alive(self) -> None:
        if time.monotonic() - self._last >= self._keep_alive_after:
            await self.emit(Status, message="still running")

    def _for_inbox(self, event: Any, data: bytes) -> bytes:
        if not self._to_inbox or self.audience.media == encoding.JSON:
            return data
        return self._sendable(event, self.audience.media)

    def _sendable(self, said: Any, media: str) -> bytes:
        media = encoding.said_in(said, media)
        data = encoding.encode(said, media)
        reply, limit = self.audience.reply, self._bus.max_payload
        outgoing.check(reply, data, _headers(said, media), "", limit)
        return data

    async def _publish_to_inbox(self, event: Any, data: bytes) -> None:
        self._last = time.monotonic()
        audience = self.audience
        due = self._seq % PROBE_EVERY == 0 or isinstance(event, Status)
        await self._bus.publish(
            audience.reply,
            data,
            headers=_headers(event, audience.media),
            reply=self._probe.subject if due and self._probe else "",
        )


async def refuse(
    bus: Bus, subjects: Subjects, message: Message, failure: Failure
) -> None:
    """Fail a message that never became a request; only its sender's tenant is told.

    Args:
        bus: Where to tell it.
        subjects: Under which prefix.
        message: As it arrived; its headers may be at fault themselves.
        failure: What was wrong.
    """
    given = message.headers.get(headers.REQUEST, "")
    audience = Audience(
        subjects=subjects.sender(message.subject),
        request=given if is_token(given) else uuid4().hex,
        reply=message.reply,
        stream=message.headers.get(headers.STREAM, ""),
    )
    await Events(bus, audience).finish(failed(audience.request, failure))


def _headers(said: Any, media: str) -> dict[str, str] | None:
    """Headers by which readers know the encoding, and NATS tools a failure."""
    media = encoding.said_in(said, media)
    found = {} if media == encoding.JSON else {headers.CONTENT_TYPE: media}
    if isinstance(said, Failed | FailedEvent):
        leaf = BY_CODE.get(said.code, Internal)
        found[headers.ERROR_CODE] = str(leaf.status)
        found[headers.ERROR] = f"{said.code}: {' '.join(said.message.split())[:200]}"
    return found or None


def _final_kind(reply: Reply) -> type[Any]:
    if isinstance(reply, Done):
        return DoneEvent
    return CancelledEvent if reply.code == Cancelled.code else FailedEvent
