"""Who holds which session: a key-value bucket, changed by compare-and-set.

The revision of an entry is the holder's fence: it grows with every change, over all
sessions, so whoever has the greater one came later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.bus.batches import sequence_of
from dspex.bus.durable import Appender, Entry
from dspex.bus.provisioning import Names
from dspex.bus.stores import OPERATION, last_message
from dspex.contracts.subjects import token

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus

MARKER = 60
"""Seconds for which the mark of a holder that left is kept."""


class Holder(Struct, frozen=True, kw_only=True):
    """Who holds a session.

    Attributes:
        worker: Its incarnation; empty: nobody does.
        fence: Revision of the entry; 0: there is none.
    """

    worker: str = ""
    fence: int = 0


NOBODY = Holder()


class Holders:
    """The holders of all sessions under one prefix.

    Args:
        bus: Where.
        prefix: First token of every subject.
    """

    def __init__(self, bus: NatsBus, prefix: str) -> None:
        self._bus = bus
        bucket = Names(prefix).session_holders
        self._stream = f"KV_{bucket}"
        self._root = f"$KV.{bucket}"
        self._appender = Appender(bus, concurrency=256)

    async def find(self, tenant: str, session: str) -> Holder:
        """Who holds a session now.

        Raises:
            BusUnavailable: It cannot be known.
        """
        subject = self._subject(tenant, session)
        found = await last_message(self._bus, self._stream, subject)
        if found is None:
            return NOBODY
        fence = sequence_of(found)
        gone = bool(found.headers.get(OPERATION))
        return Holder(worker="" if gone else found.data.decode(), fence=fence)

    async def bind(
        self, tenant: str, session: str, worker: str, before: Holder, ttl: int
    ) -> Holder:
        """Make a worker the holder, in place of the one there was.

        Args:
            tenant: Whose session it is.
            session: Its id.
            worker: The new holder.
            before: The one it takes the place of, as found.
            ttl: Seconds after which it is forgotten.

        Raises:
            Conflict: Another one holds it meanwhile.
            BusUnavailable: It was not acknowledged; it may be so.
        """
        entry = Entry(
            subject=self._subject(tenant, session),
            data=worker.encode(),
            expected_last=before.fence,
            ttl=ttl,
        )
        return Holder(worker=worker, fence=await self._appender.append(entry))

    async def release(self, tenant: str, session: str, fence: int) -> None:
        """Let a session go.

        Raises:
            Conflict: Another one holds it meanwhile.
            BusUnavailable: It was not acknowledged; it may be so.
        """
        entry = Entry(
            subject=self._subject(tenant, session),
            expected_last=fence,
            ttl=MARKER,
            headers={OPERATION: "DEL"},
        )
        await self._appender.append(entry)

    def _subject(self, tenant: str, session: str) -> str:
        return f"{self._root}.{token(tenant, 'tenant')}.{token(session, 'session')}"
