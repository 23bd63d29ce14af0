"""Large bodies (blobs), kept by JetStream, and the last message of a subject.

Blobs are stored as NATS's own object store stores them, so any NATS client can read
them. They are read by batches of direct gets, which leave no consumer behind.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from msgspec import Struct

from dspex.bus.batches import batch, sequence_of, silent
from dspex.bus.core import NoResponders
from dspex.bus.durable import API, Appender, Entry, api
from dspex.contracts import encoding
from dspex.contracts.failures import BadRequest, NotFound
from dspex.contracts.headers import STATUS
from dspex.contracts.subjects import is_token, token

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

OPERATION = "KV-Operation"

CHUNK = 128 * 1024
"""Bytes per message of a blob."""


class Described(Struct, kw_only=True):
    """What the object store keeps about one object (ADR-20).

    Attributes:
        name: Of the object.
        bucket: Where it is.
        nuid: Of its chunks.
        size: Bytes.
        chunks: How many there are.
        digest: Of all of them.
        mtime: When it was stored.
        options: How it was cut.
        deleted: It was there.
    """

    name: str
    bucket: str = ""
    nuid: str
    size: int
    chunks: int
    digest: str
    mtime: str = ""
    options: dict[str, Any] | None = None
    deleted: bool = False


class Blobs:
    """Large bodies, by name, until they end.

    Args:
        bus: Where.
        bucket: Name of the object store's bucket.
        ttl: Seconds after which a blob ends.
    """

    def __init__(self, bus: NatsBus, bucket: str, ttl: float = 3600.0) -> None:
        self._bus = bus
        self._bucket = token(bucket, "bucket")
        self._stream = f"OBJ_{bucket}"
        self._ttl = ttl
        self._appender = Appender(bus)

    async def delete(self, name: str) -> None:
        """Take an object away; harmless if it is not there.

        Raises:
            BusUnavailable: It is not known whether it is gone.
        """
        try:
            described = await self.find(name)
        except NotFound:
            return
        for subject in (self._about(name), self._chunks(described.nuid)):
            await api(self._bus, f"STREAM.PURGE.{self._stream}", {"filter": subject})

    async def exists(self) -> bool:
        """Whether the bucket is there.

        Raises:
            BusUnavailable: JetStream does not answer.
        """
        try:
            await api(self._bus, f"STREAM.INFO.{self._stream}")
        except NotFound:
            return False
        return True

    async def put(self, name: str, data: bytes, ttl: int | None = None) -> None:
        """Store ``data``; what had this name before ends with its own time.

        Args:
            name: What it is called.
            data: The object.
            ttl: Seconds after which it ends; default: when the bucket says.

        Raises:
            BusUnavailable: Not all of it was acknowledged; it is not there.
        """
        nuid = uuid4().hex
        chunks = range(0, len(data), CHUNK)
        for start in chunks:
            part = data[start : start + CHUNK]
            await self._appender.append(
                Entry(subject=self._chunks(nuid), data=part, ttl=ttl)
            )
        described = Described(
            name=name,
            bucket=self._bucket,
            nuid=nuid,
            size=len(data),
            mtime=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            chunks=len(chunks),
            digest=_digest(data),
            options={"max_chunk_size": CHUNK},
        )
        await self._appender.append(
            Entry(
                subject=self._about(name),
                data=msgspec.json.encode(described),
                headers={"Nats-Rollup": "sub"},
                ttl=ttl,
            )
        )

    async def get(self, name: str) -> bytes:
        """The data stored as ``name``, checked against its digest.

        Raises:
            NotFound: There is none, or it has ended.
            BadRequest: It is not what its description says.
            BusUnavailable: It could not be read whole.
        """
        return await self.read(await self.find(name))

    async def find(self, name: str) -> Described:
        """What is known of the object stored as ``name``.

        Raises:
            NotFound: There is none, or it has ended.
            BadRequest: It is no object.
        """
        about = await last_message(self._bus, self._stream, self._about(name))
        found: Described | None = None
        if about is not None and about.data:
            found = encoding.decode(about.data, Described)
        if found is None or found.deleted:
            raise NotFound(
                f"There is no blob {name[:80]!r}.",
                hint=f"Blobs end after {self._ttl:g} s; send it again.",
            )
        if not is_token(found.nuid):  # a wildcard would read what others stored
            raise _forged(name)
        return found

    async def read(self, described: Described) -> bytes:
        """The data of an object, checked against its description.

        Memory is bounded by the size that the description says.

        Raises:
            NotFound: It has ended.
            BadRequest: It is not what its description says.
            BusUnavailable: It could not be read whole.
        """
        data = b"".join(await self._read(described))
        # Some clients write the digest without its padding.
        if _digest(data).rstrip("=") != described.digest.rstrip("="):
            raise _forged(described.name)
        return data

    async def _read(self, described: Described) -> list[bytes]:
        chunks: list[bytes] = []
        after = size = 0
        while len(chunks) < described.chunks:
            found = await batch(
                self._bus, self._stream, after, self._chunks(described.nuid)
            )
            if not found:
                raise NotFound(
                    f"Blob {described.name[:80]!r} ended.", hint="Send it again."
                )
            chunks += [message.data for message in found]
            size += sum(len(message.data) for message in found)
            if size > described.size:
                raise _forged(described.name)
            after = sequence_of(found[-1])
        return chunks

    def _chunks(self, nuid: str) -> str:
        return f"$O.{self._bucket}.C.{nuid}"

    def _about(self, name: str) -> str:
        encoded = base64.urlsafe_b64encode(name.encode()).decode()
        return f"$O.{self._bucket}.M.{encoded}"


async def last_message(bus: NatsBus, stream: str, subject: str) -> Message | None:
    """The last message of a subject, if there is one."""
    try:
        found = await bus.request(f"{API}.DIRECT.GET.{stream}.{subject}", timeout=5)
    except (TimeoutError, NoResponders):
        raise silent(stream) from None
    return None if found.headers.get(STATUS) else found


def _forged(name: str) -> BadRequest:
    return BadRequest(
        f"Blob {name[:80]!r} is not what its description says.",
        hint="Store it anew, with the object store of your NATS client.",
    )


def _digest(data: bytes) -> str:
    return "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
