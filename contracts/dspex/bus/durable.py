"""What must not be lost: streams, consumers and appending, by JetStream's JSON API.

nats-py's own JetStream drops configuration fields it does not know, and its
publishers wait on after the connection broke. Here everything is a request on our
bus, so it fails when the connection does, and tries again for as long as it may.
"""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import msgspec
from msgspec import Struct, field

from dspex.bus.core import NoResponders
from dspex.contracts import encoding
from dspex.contracts.failures import (
    BadRequest,
    BusUnavailable,
    Conflict,
    Failure,
    NotFound,
    Overloaded,
)

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

API = "$JS.API"
"""Root of JetStream's own subjects."""

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
TTL = "Nats-TTL"

ATTEMPT = 2.0
"""Seconds until an unacknowledged append is sent again."""

PAUSE = 0.1
"""Seconds before an append that found nobody is sent again."""

_NAME_IN_USE = 10058
_WRONG_LAST = (10071, 10164)
_FULL = 10077
_NOT_YET = (10008, 10009)  # no leader, or the system is starting
_IN_SECONDS = ("max_age", "duplicate_window", "ack_wait")


class StreamConfig(Struct, frozen=True, kw_only=True):
    """All of a stream's configuration that we use; ``None`` leaves a field out.

    Attributes:
        name: Its name.
        subjects: What it stores; never subjects that are answered, for the
            stream would answer first.
        description: For people.
        retention: ``limits``: kept until a limit is reached. The work-queue form
            forgets its duplicates when the server restarts.
        storage: ``file`` or ``memory``.
        num_replicas: Servers that hold it.
        max_age: Seconds a message is kept; 0 for ever.
        max_bytes: Largest size; -1 without limit.
        max_msgs_per_subject: Messages kept per subject; -1 without limit.
        discard: What goes at a limit: the ``old`` or the ``new`` message.
        duplicate_window: Seconds in which a message id is stored only once; never
            longer than ``max_age``.
        no_ack: Store without acknowledging, for copies beside the hot path.
        persist_mode: ``async`` stores without waiting for the disk.
        allow_direct: Any replica may answer reads.
        allow_msg_ttl: Messages may have an end of their own.
        allow_rollup_hdrs: A message may replace those before it.
        deny_delete: Messages cannot be deleted one by one.
        allow_msg_schedules: Messages may be put in at a time of their own.
        republish: What is told once it is stored: ``src``, ``dest``, ``headers_only``.
    """

    name: str
    subjects: list[str]
    description: str | None = None
    retention: Literal["limits", "interest", "workqueue"] = "limits"
    storage: Literal["file", "memory"] = "file"
    num_replicas: int = 1
    max_age: float = 0.0
    max_bytes: int = -1
    max_msgs_per_subject: int = -1
    discard: Literal["old", "new"] = "old"
    duplicate_window: float = 120.0
    no_ack: bool = False
    persist_mode: Literal["async"] | None = None
    allow_direct: bool = True
    allow_msg_ttl: bool | None = None
    allow_rollup_hdrs: bool | None = None
    deny_delete: bool | None = None
    allow_msg_schedules: bool | None = None
    republish: dict[str, Any] | None = None


class ConsumerConfig(Struct, frozen=True, kw_only=True):
    """A durable pull consumer: one per pool, made once, bound by its name.

    Attributes:
        name: Its name.
        filter_subjects: What it takes of the stream; empty: all.
        ack_wait: Seconds after which an unsettled message is delivered again.
        max_deliver: Deliveries of one message at most; -1 without limit.
        max_ack_pending: Messages delivered and not settled at most.
    """

    name: str
    filter_subjects: list[str] = field(default_factory=list)
    ack_wait: float = 30.0
    max_deliver: int = 4
    max_ack_pending: int = 1000


class Entry(Struct, frozen=True, kw_only=True):
    """One message to append.

    Attributes:
        subject: Of some stream.
        data: Its body.
        message_id: Stored once under this id; default: an id of its own, so that
            sending it again is harmless.
        expected_last: Sequence that must be the last one of ``subject``; 0: none.
        ttl: Seconds after which the server removes it, at least 1.
        headers: More headers.
    """

    subject: str
    data: bytes = b""
    message_id: str = ""
    expected_last: int | None = None
    ttl: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Stored(Struct, frozen=True):
    """What the server says of a message that is in a stream.

    Attributes:
        sequence: Its sequence.
        duplicate: It was there before, under the same id.
    """

    sequence: int
    duplicate: bool = False


Made = Literal["made", "changed", "kept"]
"""What came of making sure that something is there."""


async def ensure_stream(bus: NatsBus, config: StreamConfig) -> Made:
    """Create a stream, or make the one of this name like ``config``.

    Raises:
        Conflict: It exists, and differs in what cannot be changed.
        BusUnavailable: JetStream does not answer.
    """
    wire = _wire(config)
    is_there = True
    try:
        await api(bus, f"STREAM.INFO.{config.name}")
    except NotFound:
        is_there = False
    try:
        await api(bus, f"STREAM.CREATE.{config.name}", wire)  # or it is like that
    except Conflict:
        try:
            await api(bus, f"STREAM.UPDATE.{config.name}", wire)
        except (BadRequest, Conflict) as failure:
            raise Conflict(
                f"Stream {config.name!r} exists and cannot become what is wanted: "
                f"{failure.message}",
                hint="Give it another name, or move its messages by hand.",
            ) from None
        return "changed"
    return "kept" if is_there else "made"


async def ensure_consumer(bus: NatsBus, stream: str, config: ConsumerConfig) -> Made:
    """Create a durable pull consumer, or make the one of this name like ``config``.

    Raises:
        NotFound: There is no such stream.
        Conflict: It exists, and differs in what cannot be changed.
        BusUnavailable: JetStream does not answer.
    """
    wire = _wire(config) | {"durable_name": config.name, "ack_policy": "explicit"}
    before: dict[str, Any] | None = None
    with suppress(NotFound):
        info = await api(bus, f"CONSUMER.INFO.{stream}.{config.name}")
        before = info["config"]
    if before is not None and _says(before, wire):
        return "kept"
    try:
        await api(
            bus,
            f"CONSUMER.CREATE.{stream}.{config.name}",
            {"stream_name": stream, "config": wire},
        )
    except BadRequest as failure:
        raise Conflict(
            f"Consumer {config.name!r} of stream {stream!r} cannot become what is "
            f"wanted: {failure.message}",
            hint="Give it another name, or delete it; what waits stays in the stream.",
        ) from None
    return "changed" if before is not None else "made"


def _says(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a consumer is as wanted; one filter is told by another name."""
    if one := found.get("filter_subject"):
        found = found | {"filter_subjects": [one]}
    return all(found.get(name, []) == value for name, value in wanted.items())


async def api(
    bus: NatsBus, verb: str, body: Any = None, timeout: float = 5.0
) -> dict[str, Any]:
    """Ask JetStream, such as ``api(bus, "STREAM.INFO.JOBS")``.

    Raises:
        Failure: It refuses; or it does not answer (``BusUnavailable``).
    """
    data = b"" if body is None else msgspec.json.encode(body)
    try:
        message = await bus.request(f"{API}.{verb}", data, timeout=timeout)
    except (NoResponders, TimeoutError):
        raise BusUnavailable(
            f"JetStream does not answer {verb}.",
            hint="Start nats-server with JetStream, and look whether it is ready.",
        ) from None
    return read(message)


def read(message: Message) -> dict[str, Any]:
    """An answer of JetStream's, or the failure it says."""
    found: dict[str, Any] = encoding.decode(message.data, dict[str, Any])
    if error := found.get("error"):
        raise _failure(error)
    return found


class Appender:
    """Appends to streams, a bounded number of messages at a time.

    Args:
        bus: Where.
        concurrency: Messages not acknowledged yet at most; more wait.
    """

    def __init__(self, bus: NatsBus, *, concurrency: int = 64) -> None:
        self._bus = bus
        self._slots = asyncio.Semaphore(concurrency)

    async def append(self, entry: Entry, *, timeout: float = 5.0) -> int:
        """Store one message as ``store`` does; returns its sequence in the stream."""
        return (await self.store(entry, timeout=timeout)).sequence

    async def store(self, entry: Entry, *, timeout: float = 5.0) -> Stored:
        """Store one message; tried again, under one id, until it is.

        Args:
            entry: What to store.
            timeout: Seconds after which it fails.

        Raises:
            Conflict: Something else came last on its subject.
            BusUnavailable: It was not acknowledged in time; it may be stored.
            Overloaded: The stream is full and keeps what it has.
            Failure: The stream refuses it.
        """
        try:
            async with asyncio.timeout(timeout), self._slots:
                return await self._until_stored(entry)
        except TimeoutError:
            raise BusUnavailable(
                f"No stream acknowledged a message on {entry.subject!r} "
                f"within {timeout:g} s.",
                hint="Create the stream, or wait for JetStream; append it again "
                "with the same message id.",
            ) from None

    async def _until_stored(self, entry: Entry) -> Stored:
        headers = _headers(entry)
        tried = False
        while True:
            try:
                answer = await self._bus.request(
                    entry.subject, entry.data, headers=headers, timeout=ATTEMPT
                )
            except (NoResponders, TimeoutError, BusUnavailable):
                if self._bus.is_closed:
                    raise
                await asyncio.sleep(PAUSE)
            else:
                stored = await self._stored(entry, headers, answer, tried)
                if stored is not None:
                    return stored
                await asyncio.sleep(PAUSE)
            tried = True

    async def _stored(
        self, entry: Entry, headers: dict[str, str], answer: Message, tried: bool
    ) -> Stored | None:
        """Where it is stored; ``None`` when the server wants it again later."""
        found: dict[str, Any] = encoding.decode(answer.data, dict[str, Any])
        error = found.get("error")
        if error is None:
            return Stored(int(found["seq"]), bool(found.get("duplicate")))
        if error.get("err_code") in _NOT_YET:
            return None
        failure = _failure(error)
        if tried and isinstance(failure, Conflict):
            # Perhaps it conflicts with itself: stored before, and the word of it
            # lost. The server compares sequences before it looks for duplicates.
            own = await self._own(found["stream"], entry.subject, headers[MESSAGE_ID])
            if own is not None:
                return Stored(own)
        raise failure

    async def _own(self, stream: str, subject: str, message_id: str) -> int | None:
        """Where the last message of a subject is, if it has this id."""
        verb = f"STREAM.MSG.GET.{stream}"
        try:
            found = await api(self._bus, verb, {"last_by_subj": subject})
        except NotFound:
            return None  # what was last has ended since
        message = found["message"]
        stored = base64.b64decode(message.get("hdrs", "")).decode()
        if f"{MESSAGE_ID}: {message_id}\r\n" not in stored:
            return None
        return int(message["seq"])


def _headers(entry: Entry) -> dict[str, str]:
    headers = entry.headers | {MESSAGE_ID: entry.message_id or uuid4().hex}
    if entry.expected_last is not None:
        headers[EXPECTED_LAST] = str(entry.expected_last)
    if entry.ttl is not None:
        headers[TTL] = str(entry.ttl)
    return headers


def _wire(config: StreamConfig | ConsumerConfig) -> dict[str, Any]:
    """The configuration as the server reads it: times are nanoseconds."""
    fields = msgspec.structs.asdict(config)
    found = {name: value for name, value in fields.items() if value is not None}
    if found.get("max_age"):
        found["duplicate_window"] = min(found["duplicate_window"], found["max_age"])
    for name in _IN_SECONDS:
        if name in found:
            found[name] = int(found[name] * 1e9)
    return found


def _failure(error: dict[str, Any]) -> Failure:
    said = f"JetStream refuses: {error.get('description', '')}."
    if error.get("err_code") in _WRONG_LAST:
        return Conflict(said, hint="Read what came last, and decide again.")
    if error.get("err_code") == _NAME_IN_USE:
        return Conflict(said, hint="Update the stream instead.")
    if error.get("err_code") == _FULL:
        return Overloaded(said, hint="Try again later, or raise the stream's limits.")
    if error.get("code") == NotFound.status:
        return NotFound(said, hint="Create it first.")
    # 500 says what is wrong with a request; 503, that it may succeed later.
    return BusUnavailable(said) if error.get("code") == 503 else BadRequest(said)
