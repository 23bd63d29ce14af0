"""Reading the journal: entry by entry, or the whole life of one request.

Memory is bounded by one batch. What is missing or cannot be read is told as
``Damaged`` and passed over.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from dspex.bus.batches import STORED, SUBJECT, batch, sequence_of
from dspex.bus.provisioning import Names
from dspex.bus.stores import Blobs
from dspex.contracts import encoding
from dspex.contracts.envelope import DoneEvent, Event, Requested
from dspex.contracts.failures import Failure, NotFound
from dspex.contracts.records import Cut, Record
from dspex.contracts.subjects import DEFAULT_TENANT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.contracts.subjects import Subjects

ANY_TENANT = "*"
"""In place of a tenant: those of all but the default one."""


class Entry(Struct, frozen=True, kw_only=True):
    """One copy.

    Attributes:
        sequence: Where in the stream it is.
        stored: Unix milliseconds by the server's clock.
        subject: Where it was told.
        tenant: Whose request it is about.
        said: What it says.
        data: Its bytes.
    """

    sequence: int
    stored: float
    subject: str
    tenant: str
    said: Event | Record
    data: bytes


class Damaged(Struct, frozen=True, kw_only=True):
    """What should be there and is not, or cannot be read.

    Attributes:
        sequence: Where in the stream; the first, when several are missing.
        subject: Where it was told, if that is known.
        why: In words.
    """

    sequence: int
    subject: str = ""
    why: str


class Reader:
    """Reads a journal.

    Args:
        bus: Where.
        subjects: Under which prefix.

    Attributes:
        subjects: The same.
        blobs: What was stored apart.
    """

    def __init__(self, bus: NatsBus, subjects: Subjects) -> None:
        names = Names(subjects.prefix)
        self._bus = bus
        self.subjects = subjects
        self._stream = names.journal
        self.blobs = Blobs(bus, names.journal_blobs)

    async def entries(
        self, *, since: float | None = None, until: float | None = None
    ) -> AsyncIterator[Entry | Damaged]:
        """Everything there is, in the order in which it was stored.

        Args:
            since: Unix milliseconds by the server's clock; absent: from the beginning.
            until: The same; absent: to the end as it is when it is reached.

        Raises:
            BusUnavailable: The journal does not answer.
        """
        last = 0
        while messages := await batch(self._bus, self._stream, last, "", since):
            since = None
            for message in messages:
                sequence = sequence_of(message)
                if last and sequence > last + 1:
                    missing = sequence - last - 1
                    yield Damaged(sequence=last + 1, why=f"{missing} missing")
                last = sequence
                found = self.read(message)
                if until is not None and stored_at(message) > until:
                    return
                yield found

    async def of_request(
        self, request: str, tenant: str = ""
    ) -> AsyncIterator[Entry | Damaged]:
        """Everything about one request, in the order in which it was stored.

        Args:
            request: Its id.
            tenant: Whose it is; empty: the default tenant's, else whoever has one.
        """
        tenants = [tenant] if tenant else [DEFAULT_TENANT, ANY_TENANT]
        for one in tenants:
            messages = await self._all_of(request, one)
            for message in messages:
                yield self.read(message)
            if messages:
                return

    def read(self, message: Message) -> Entry | Damaged:
        """What a stored message says."""
        subject = message.headers.get(SUBJECT, message.subject)
        sequence = sequence_of(message)
        try:
            tenant, family, _, _ = self.subjects.read_journaled(subject)
            wanted = Event if family == "event" else Record
            said = encoding.decode(message.data, wanted)
        except Failure as failure:
            return Damaged(sequence=sequence, subject=subject, why=failure.message)
        return Entry(
            sequence=sequence,
            stored=stored_at(message),
            subject=subject,
            tenant=tenant,
            said=said,
            data=message.data,
        )

    async def whole(self, entry: Entry) -> Entry | Damaged:
        """An entry with what was stored apart, put back in."""
        cut = getattr(entry.said, "cut", None)
        if cut is None:
            return entry
        try:
            said = await self.restored(entry.said, cut)
        except Failure as failure:
            return Damaged(
                sequence=entry.sequence, subject=entry.subject, why=failure.message
            )
        return replace(entry, said=said, data=encoding.encode(said))

    async def restored(self, said: Event | Record, cut: Cut) -> Event | Record:
        """What was said, with what was stored apart.

        Raises:
            NotFound: It is not there.
        """
        if not cut.blob:
            raise NotFound(f"{cut.bytes} bytes were left out: {cut.why}.")
        data = await self.blobs.get(cut.blob)
        if isinstance(said, Requested):
            return replace(said, body=encoding.decode(data, Any), cut=None)
        wanted = Event if isinstance(said, DoneEvent) else Record
        found: Event | Record = encoding.decode(data, wanted)
        return found

    async def _all_of(self, request: str, tenant: str) -> list[Message]:
        subjects = self.subjects.of(tenant)
        wanted = [*self._event_subjects(request, tenant), subjects.records(request)]
        found: list[Message] = []
        for subject in wanted:
            last = 0
            while messages := await batch(self._bus, self._stream, last, subject):
                found += messages
                last = sequence_of(messages[-1])
        return sorted(found, key=sequence_of)

    def _event_subjects(self, request: str, tenant: str) -> list[str]:
        subjects = self.subjects.of(tenant)
        return [subjects.events(request), subjects.session_events(request)]


def stored_at(message: Message) -> float:
    """When a message was stored, unix milliseconds by the server's clock."""
    text = message.headers.get(STORED, "")
    # Nanoseconds are three digits more than Python reads.
    head, _, fraction = text.removesuffix("Z").partition(".")
    found = datetime.fromisoformat(f"{head}.{fraction[:6]:0<6}+00:00")
    return round(found.timestamp() * 1000, 3)
