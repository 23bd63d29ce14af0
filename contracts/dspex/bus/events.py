"""Telling the life of one request: to the event subjects and, if asked, its inbox."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from dspex.bus import outgoing
from dspex.bus.audiences import Audience
from dspex.bus.clock import now_ms
from dspex.bus.coalescing import Coalescer
from dspex.bus.core import NoResponders
from dspex.bus.tasks import Tasks
from dspex.contracts import encoding, headers
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
    NotFound,
    OutputInvalid,
    Overloaded,
    Unsupported,
)
from dspex.contracts.records import Cut
from dspex.contracts.subjects import answerable, is_token
from dspex.contracts.words import Text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dspex.bus.core import Bus, Message, Replies
    from dspex.bus.incoming import Request
    from dspex.contracts.subjects import Subjects

    Parcel = tuple[bytes, dict[str, str] | None]

_log = logging.getLogger(__name__)

KEEP_ALIVE = 5.0
"""Seconds of silence after which a stream says that it is alive."""

_ENVELOPE = 2048
"""Bytes that headers, and what redaction adds, take beside an event."""

PROBE_EVERY = 8
"""Every so many messages to an inbox ask the server whether anyone listens."""


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
        if kind is not Delta:
            await self._in_order(kind, **said)
            return
        now = time.monotonic()
        async with self._order:
            due = self._coalescer.add(said["field"], said["text"], now)
            await self._tell_deltas(due)
            self._set_timer(now)

    async def _in_order(self, kind: type[Any], **said: Any) -> None:
        """Tell one event behind the deltas that are held back."""
        async with self._order:
            await self._tell_deltas(self._coalescer.take(time.monotonic()))
            await self._tell(kind, **said)

    async def relay(self, event: Event) -> None:
        """Send an event of another request to the inbox, as it was told."""
        async with self._order:
            await self._publish_to_inbox(event, await self._packed(event))

    @asynccontextmanager
    async def whole(self, request: Request) -> AsyncIterator[Request]:
        """The request with its body, wherever that is.

        Raises:
            Failure: The body cannot be had; ``field`` names the header.
        """
        if not request.claim:
            yield request
            return
        claims = self._bus.claims
        if claims is None:
            raise Unsupported("There is no object store here.", field=headers.BODY)
        left = (request.deadline - now_ms()) / 1000
        async with claims.held(request.claim, left) as body:
            if self.redaction is not None:
                self.redaction.learn_body(body, request.media)
            yield replace(request, body=body)

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
            at=now_ms(),
            **said,
        )
        own = not audience.relays or isinstance(event, FailedEvent | Status)
        try:
            data = encoding.encode(event)
            to_inbox = self._to_inbox and own
            inbox = await self._packed(event, data) if to_inbox else None
            if not audience.again:
                await self._publish_copy(event, data)
        except BadRequest:
            self._seq -= 1  # not told, so the next event takes its number
            raise
        if self._kept is not None and isinstance(event, Delta):
            self._kept.append(Text(field=event.field, text=event.text))
        if inbox is not None:
            await self._publish_to_inbox(event, inbox)

    async def _publish_copy(self, event: Event, data: bytes) -> None:
        """Tell everybody who watches, and the journal if it keeps this request."""
        audience = self.audience
        if isinstance(event, DoneEvent) and len(data) > self.max_payload - _ENVELOPE:
            data = self._without_outputs(event, data)
        if self.redaction is not None:
            data = encoding.encode(self.redaction.of(encoding.decode(data, Any)))
        headers_ = None if self.kept else {headers.EXPECTED_STREAM: headers.NO_STREAM}
        kind = str(event.__struct_config__.tag)
        await self._bus.publish(audience.event(kind), data, headers=headers_)

    def _without_outputs(self, event: DoneEvent, data: bytes) -> bytes:
        blob = self.keep_apart("done", data)
        cut = Cut(bytes=len(data), blob=blob, why="larger than a message")
        return encoding.encode(replace(event, outputs={}, cut=cut))

    async def finish(self, reply: Reply) -> None:
        """Tell the end: the final event, the reply, and the end of the stream."""
        try:
            await self._finish(reply)
        except BadRequest as problem:  # too large, or without a form on the wire
            hint = problem.hint
            if not self.audience.takes_claims:
                hint += f" Or say {headers.BODY}: accept, and read it as an object."
            failure = OutputInvalid(
                f"The outputs cannot be sent: {problem.message}", hint=hint
            )
            await self._finish(failed(reply.request, failure, reply.metadata))

    async def _finish(self, reply: Reply) -> None:
        self._trouble = None  # there is no more to tell after this
        audience = self.audience
        said = msgspec.structs.asdict(reply)
        del said["request"]
        whole = not self._to_inbox and answerable(audience.reply)
        # Before the event: what it says is final, so the reply must be sendable.
        parcel = await self._packed(reply) if whole else None
        await self.emit(_final_kind(reply), **said)
        if self._to_inbox:
            await self._bus.publish(audience.reply)
        elif parcel is not None:
            data, sent = parcel
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
                except (TimeoutError, BusUnavailable):
                    await self._keep_alive()

    async def _keep_alive(self) -> None:
        if time.monotonic() - self._last < self._keep_alive_after:
            return
        # What the program was to hear of its last delta is not for us to hear.
        with suppress(BusUnavailable):  # it may come back
            await self._in_order(Status, message="still running")

    async def _packed(self, said: Any, as_json: bytes = b"") -> Parcel:
        """What goes to the reply subject, checked; a large end as its name.

        Args:
            said: A reply or an event.
            as_json: The same, where it is encoded already.

        Raises:
            BadRequest: It cannot be sent.
        """
        audience = self.audience
        media = encoding.said_in(said, audience.media)
        encoded = as_json if media == encoding.JSON else b""
        data = encoded or encoding.encode(said, media)
        sent = _headers(said, media)
        claims = self._bus.claims
        may = audience.takes_claims and isinstance(said, Done | DoneEvent)
        if may and claims is not None and claims.is_large(data):
            try:
                name = await claims.put(audience.subjects.tenant, data)
            except (BusUnavailable, NotFound, Overloaded) as failure:
                _log.warning("a large reply is not put away: %s", failure.message)
            else:
                return b"{}", (sent or {}) | {headers.BODY: name}
        outgoing.check(audience.reply, data, sent, "", self.max_payload)
        return data, sent

    async def _publish_to_inbox(self, event: Any, parcel: Parcel) -> None:
        self._last = time.monotonic()
        self._sent += 1
        due = self._sent % PROBE_EVERY == 0 or isinstance(event, Status)
        data, sent = parcel
        await self._bus.publish(
            self.audience.reply,
            data,
            headers=sent,
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
