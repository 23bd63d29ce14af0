"""Things with versions, kept by JetStream: the newest, those before it, and who won.

It is a NATS key-value bucket with history, so any NATS client can look into it; a key
is a name of a tenant's. Puts compare before they set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from dspex.bus.batches import SUBJECT, sequence_of, silent
from dspex.bus.core import NoResponders
from dspex.bus.durable import API, Appender, Entry, api
from dspex.bus.stores import OPERATION, last_message
from dspex.contracts.failures import NotFound
from dspex.contracts.headers import STATUS
from dspex.contracts.subjects import token

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

WAIT = 5.0
"""Seconds the server has for an answer."""


class Kept(Struct, frozen=True, kw_only=True):
    """One version as it is stored.

    Attributes:
        key: Whose.
        data: Its bytes.
        sequence: Where in the stream; grows with every change of the bucket.
        deleted: Whether it says that the key is gone.
    """

    key: str
    data: bytes
    sequence: int
    deleted: bool = False


class Histories:
    """Versions by key, for each tenant.

    Args:
        bus: Where.
        bucket: Name of the key-value bucket; it is made by `provisioning`.
    """

    def __init__(self, bus: NatsBus, bucket: str) -> None:
        self._bus = bus
        self._stream = f"KV_{token(bucket, 'bucket')}"
        self._root = f"$KV.{bucket}"
        self._appender = Appender(bus)

    async def last(self, tenant: str, key: str) -> Kept | None:
        """What was stored last, be it that the key is gone.

        Raises:
            BusUnavailable: It cannot be known.
        """
        found = await last_message(self._bus, self._stream, self._subject(tenant, key))
        return None if found is None else _kept(key, found)

    async def at(self, tenant: str, key: str, sequence: int) -> Kept:
        """What was stored at a place in the stream.

        Raises:
            NotFound: It is not kept any more.
            BusUnavailable: It cannot be known.
        """
        try:
            found = await self._bus.request(
                f"{API}.DIRECT.GET.{self._stream}",
                msgspec.json.encode({"seq": sequence}),
                timeout=WAIT,
            )
        except (TimeoutError, NoResponders):
            raise silent(self._stream) from None
        subject = found.headers.get(SUBJECT)
        if found.headers.get(STATUS) or subject != self._subject(tenant, key):
            raise NotFound(f"{key!r} is not kept as it was then.")
        return _kept(key, found)

    async def put(
        self, tenant: str, key: str, data: bytes, last: int, *, delete: bool = False
    ) -> int:
        """Store the next version, if what was last is still the last.

        Args:
            tenant: Whose.
            key: Of the thing.
            data: Its bytes.
            last: Sequence of what was stored last; 0: nothing.
            delete: Whether it says that the key is gone.

        Returns:
            Its sequence.

        Raises:
            Conflict: Somebody else was faster.
            BusUnavailable: It was not acknowledged; it may be stored.
        """
        return await self._appender.append(
            Entry(
                subject=self._subject(tenant, key),
                data=data,
                expected_last=last,
                headers={OPERATION: "DEL"} if delete else {},
            )
        )

    async def keys(self, tenant: str) -> list[str]:
        """Every key of a tenant, sorted; those too that are gone.

        Raises:
            BusUnavailable: It cannot be known.
        """
        prefix = f"{self._root}.{token(tenant, 'tenant')}."
        found: list[str] = []
        while True:
            asked = {"subjects_filter": f"{prefix}*", "offset": len(found)}
            info = await api(self._bus, f"STREAM.INFO.{self._stream}", asked, WAIT)
            subjects: dict[str, Any] = info["state"].get("subjects") or {}
            found += [subject.removeprefix(prefix) for subject in subjects]
            if not subjects or len(found) >= int(info.get("total", 0)):
                return sorted(found)

    def _subject(self, tenant: str, key: str) -> str:
        return f"{self._root}.{token(tenant, 'tenant')}.{token(key, 'name')}"


def _kept(key: str, message: Message) -> Kept:
    return Kept(
        key=key,
        data=message.data,
        sequence=sequence_of(message),
        deleted=bool(message.headers.get(OPERATION)),
    )
