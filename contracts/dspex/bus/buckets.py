"""A shared memory: values by key, kept by JetStream until they are old.

It is a NATS key-value bucket of depth one, so any NATS client can look into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.bus.durable import Appender, Entry, StreamConfig, ensure_stream
from dspex.bus.stores import OPERATION, last_message
from dspex.contracts.subjects import token

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus


class Bucket:
    """Values by key; each ends ``ttl`` seconds after it was put.

    Args:
        bus: Where.
        name: Of the key-value bucket.
        ttl: Seconds.
        size: Bytes it holds at most; the oldest leave.
    """

    def __init__(self, bus: NatsBus, name: str, *, ttl: float, size: int) -> None:
        self._bus = bus
        self._stream = f"KV_{token(name, 'bucket')}"
        self._root = f"$KV.{name}"
        self._ttl = ttl
        self._size = size
        self._appender = Appender(bus)

    async def open(self) -> None:
        """Create the bucket if it is not there.

        Raises:
            BusUnavailable: The server keeps no streams, or has no room.
        """
        await ensure_stream(
            self._bus,
            StreamConfig(
                name=self._stream,
                subjects=[f"{self._root}.>"],
                max_msgs_per_subject=1,
                max_age=self._ttl,
                max_bytes=self._size,
                duplicate_window=min(self._ttl, 120.0),
                allow_rollup_hdrs=True,
                deny_delete=True,
            ),
        )

    async def put(self, key: str, value: bytes) -> None:
        """Keep a value, in place of the one there was.

        Raises:
            BadRequest: It is larger than the server takes.
            BusUnavailable: It was not acknowledged.
        """
        await self._appender.append(Entry(subject=self._subject(key), data=value))

    async def get(self, key: str) -> bytes | None:
        """The value of a key, if it has one.

        Raises:
            BusUnavailable: It cannot be known.
        """
        found = await last_message(self._bus, self._stream, self._subject(key))
        if found is None or found.headers.get(OPERATION):
            return None
        return found.data

    def _subject(self, key: str) -> str:
        return f"{self._root}.{token(key, 'key')}"
