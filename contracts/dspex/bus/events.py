"""Telling the life of one request: to the event subjects and, if asked, its inbox."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dspex.bus import outgoing
from dspex.bus.coalescing import Coalescer
from dspex.bus.core import NoResponders
from dspex.bus.outgoing import answerable
from dspex.bus.tasks import Tasks
from dspex.contracts import catalog, encoding, headers
from dspex.contracts.envelope import (
    CancelledEvent,
    Delta,
    Done,
    DoneEvent,
    Event,
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
        operation: What was asked; empty when that could not be read.
        body: The bytes of the request, from which is learnt what is left out.
        body_media: Their encoding.
        relays: The inbox gets the events of another request instead of its own.
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
    operation: str = ""
    body: bytes = b""
    body_media: str = encoding.JSON
    relays: bool = False

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
        operation=request.operation,
        body=request.body,
        body_media=request.media,
        relays=request.stream == "inbox" and catalog.relays(request.operation),
    )


class Events:
    """What one process tells about one attempt at one request.

    Args:
        bus: Where to tell it.
        audience: Who is told.
        keep_alive: Seconds of silence after which a stream says that it is alive.

    Attributes:
        kept: Whether the journal keeps copies of what is told.
        redaction: What is left out of those copies; ``None``: nothing.
    """

    def __init__(
        self, bus: Bus, audience: Audience, keep_alive: float = KEEP_ALIVE
    ) -> None:
        self.audience = audience
        tenant, request = audience.subjects.tenant, audience.request
        capture = bus.capture
        self.kept = capture.keeps(tenant, audience.operation, request)
        self.redaction = capture.redaction(request, audience.body, audience.body_media)
        self._keep_alive_after = keep_alive
        self._bus = bus
        self._seq = 0
        self._sent = 0
        self._order = asyncio.Lock()
        self._coalescer = Coalescer()
        self._tasks = Tasks()
        self._timer: asyncio.TimerHandle | None = None
        self._trouble: Failure | None = None
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

    @property
    def max_payload(self) -> int:
        """Largest message the server takes, bytes."""
        return self._bus.max_payload

    def keep_apart(self, what: str, data: bytes) -> str:
        """Store what is too large for an event; its name, or empty if it is not."""
        if not self.kept or self.redaction is not None:
            return ""
        audience = self.audience
        name = f"{audience.subjects.tenant}.{audience.request}.{audience.attempt}"
        return self._bus.capture.keep_apart(f"{name}.{what}", data)

    async def emit(self, kind: type[Any], **said: Any) -> None:
        """Tell one event of type ``kind`` with the fields ``said``.

        Deltas that follow each other closely are told as one.

        Raises:
            BadRequest: It cannot be sent; nobody was told.
        """
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble
        now = time.monotonic()
        async with self._order:
            if kind is Delta:
                due = self._coalescer.add(said["field"], said["text"], now)
                await self._tell_deltas(due)
                self._set_timer(now)
                return
            await self._tell_deltas(self._coalescer.take(now))
            await self._tell(kind, **said)

    async def relay(self, event: Event) -> None:
        """Send an event of another request to the inbox, as it was told."""
        async with self._order:
            data = self._sendable(event, self.audience.media)
            await self._publish_to_inbox(event, data)

    def _set_timer(self, now: float) -> None:
        if self._coalescer.holds and self._timer is None:
            loop, wait = asyncio.get_running_loop(), self._coalescer.wait(now)
            self._timer = loop.call_later(wait, self._due)

    def _due(self) -> None:
        self._timer = None
        self._tasks.start(self._tell_held(), "deltas")

    async def _tell_held(self) -> None:
        try:
            async with self._order:
                await self._tell_deltas(self._coalescer.take(time.monotonic()))
        except Failure as failure:
            self._trouble = failure  # whoever tells next is told

    async def _tell_deltas(self, deltas: list[Text]) -> None:
        for delta in deltas:
            await self._tell(Delta, field=delta.field, text=delta.text)

    async def _tell(self, kind: type[Any], **said: Any) -> None:
        self._seq += 1
        audience = self.audience
        event = kind(
            request=audience.request,
            attempt=audience.attempt,
            seq=self._seq,
            at=round(time.time() * 1000, 3),
            **said,
        )
        try:
            data = encoding.encode(event)
            inbox = self._for_inbox(event, data)
            if not audience.again:
                await self._publish_copy(str(kind.__struct_config__.tag), data)
        except BadRequest:
            self._seq -= 1  # not told, so the next event takes its number
            raise
        if self._kept is not None and isinstance(event, Delta):
            self._kept.append(Text(field=event.field, text=event.text))
        own = not audience.relays or isinstance(event, FailedEvent | Status)
        if self._to_inbox and own:
            await self._publish_to_inbox(event, inbox)

    async def _publish_copy(self, kind: str, data: bytes) -> None:
        """Tell everybody who watches, and the journal if it keeps this request."""
        audience = self.audience
        if self.redaction is not None:
            data = encoding.encode(self.redaction.of(encoding.decode(data, Any)))
        headers_ = None if self.kept else {headers.EXPECTED_STREAM: headers.NO_STREAM}
        await self._bus.publish(audience.event(kind), data, headers=headers_)

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
        self._trouble = None  # there is no more to tell after this
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
        self._sent += 1
        due = self._sent % PROBE_EVERY == 0 or isinstance(event, Status)
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
        body=message.data,
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
