"""What was stored when a request was recorded, put in where it is replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dspex.bus.batches import SUBJECT, batch, sequence_of
from dspex.bus.durable import Appender, Entry
from dspex.bus.journal import stored_at
from dspex.bus.provisioning import Names
from dspex.bus.stores import OPERATION, Blobs
from dspex.contracts import encoding
from dspex.contracts.dataset_requests import DatasetRecord
from dspex.contracts.failures import NotFound
from dspex.contracts.program_requests import StoredRecord

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.contracts.versions import Record


class StoredBefore:
    """The stored programs and datasets of another prefix, put in as of a time.

    Args:
        bus: Where both are.
        source: The prefix of what was recorded.
        target: The prefix of the replay.
    """

    def __init__(self, bus: NatsBus, source: str, target: str) -> None:
        old, new = Names(source), Names(target)
        self._kinds = (
            _Bucket(bus, old.programs, new.programs, StoredRecord),
            _Bucket(bus, old.datasets, new.datasets, DatasetRecord),
        )

    async def read(self) -> None:
        """Learn which versions there are."""
        for one in self._kinds:
            await one.read()

    async def put(self, until: float) -> None:
        """Store what was stored until then, unix milliseconds."""
        for one in self._kinds:
            await one.put(until)


class _Bucket:
    """One of the two, with the objects that its records name."""

    def __init__(
        self, bus: NatsBus, source: str, target: str, record: type[Record]
    ) -> None:
        self._bus = bus
        self._from, self._to = source, target
        self._record = record
        self._objects = Blobs(bus, source), Blobs(bus, target)
        self._appender = Appender(bus)
        self._waiting: list[Message] = []
        self._sequences: dict[str, int] = {}

    async def read(self) -> None:
        last = 0
        while some := await batch(self._bus, f"KV_{self._from}", last):
            self._waiting += some
            last = sequence_of(some[-1])

    async def put(self, until: float) -> None:
        while self._waiting and stored_at(self._waiting[0]) <= until:
            await self._put(self._waiting.pop(0))

    async def _put(self, message: Message) -> None:
        subject = message.headers[SUBJECT].replace(self._from, self._to, 1)
        deleted = message.headers.get(OPERATION)
        data = message.data if deleted else await self._moved(message.data)
        at = await self._appender.append(
            Entry(
                subject=subject,
                data=data,
                headers={OPERATION: deleted} if deleted else {},
            )
        )
        self._sequences[str(sequence_of(message))] = at

    async def _moved(self, data: bytes) -> bytes:
        """A version that says where those before it are now."""
        record = encoding.decode(data, self._record)
        there = {
            version: self._sequences[str(old)]
            for version, old in record.sequences.items()
            if str(old) in self._sequences
        }
        if isinstance(record, DatasetRecord):
            await self._copy(record.blob)
        return encoding.encode(msgspec.structs.replace(record, sequences=there))

    async def _copy(self, name: str) -> None:
        source, target = self._objects
        try:
            await target.put(name, await source.get(name))
        except NotFound:
            return  # its dataset was deleted since
