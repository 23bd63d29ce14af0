"""The logs of sessions: reading them into states, and adding to them.

One subject per session, in one stream. Whoever adds says what must have come last, so
of two writers that know the same state one succeeds. What is too large for a message
is written in parts, which count once the last of them is there.

The server removes what is old: every entry lives for twice as long as its session may
be idle, and a snapshot takes the place of a beginning that is older than half of that.
So a session that is used is whole, and one that is not goes by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from dspex.bus.batches import page, sequence_of
from dspex.bus.clock import now_ms
from dspex.bus.durable import Appender, Entry, api
from dspex.bus.provisioning import Names
from dspex.contracts import encoding
from dspex.contracts.failures import NotFound
from dspex.contracts.sessions import (
    ClosedEntry,
    LogEntry,
    Opened,
    SessionState,
    SnapshotEntry,
    apply,
)

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.contracts.subjects import Subjects

PART = "Dspex-Part"
"""Which part of an entry a message is, and of how many: ``2/3``."""

PART_SIZE = 256 * 1024
"""Bytes of an entry that go into one message."""

SNAPSHOT_EVERY = 32
"""Entries after which a snapshot takes their place, or a quarter of the turns there
are if that is more: so writing them costs a bounded share of what is written."""

CLOSED_FOR = 120
"""Seconds for which a closed session is known as closed."""

AT_ONCE = 64
"""Messages of a log that are on their way to a reader at a time."""


class Found(Struct, frozen=True, kw_only=True):
    """What a log says, as far as it was read.

    Attributes:
        state: The session; ``None``: there is none.
        last: Sequence of the last message; 0: none.
        seen: Sequence of the last entry that was whole.
        entries: Entries since the beginning or the last snapshot.
        base_at: When that was written, unix milliseconds.
    """

    state: SessionState | None = None
    last: int = 0
    seen: int = 0
    entries: int = 0
    base_at: float = 0.0

    def live(self, session: str, now: float) -> SessionState:
        """The session, if there is one at unix milliseconds ``now``.

        Raises:
            NotFound: There is none, or it has ended.
        """
        state = self.state
        if state is None or state.is_over(now):
            raise no_session(session)
        return state

    def with_entry(self, entry: LogEntry, sequence: int) -> Found:
        """After one more entry, the last message of which has this sequence."""
        base = isinstance(entry, Opened | SnapshotEntry)
        return Found(
            state=apply(self.state, entry),
            last=sequence,
            seen=sequence,
            entries=0 if base else self.entries + 1,
            base_at=entry.at if base else self.base_at,
        )

    def wants_snapshot(self, now: float) -> bool:
        """Whether a snapshot should take the place of what there is."""
        if self.state is None or self.state.closed:
            return False
        often = max(SNAPSHOT_EVERY, len(self.state.turns) // 4)
        old = now - self.base_at > self.state.settings.ttl_s * 1000
        return self.entries >= often or old


NOTHING = Found()
"""What is known of a log that was not read."""


class SessionLogs:
    """The logs of all sessions under one prefix.

    Args:
        bus: Where.
        subjects: Under which prefix.
    """

    def __init__(self, bus: NatsBus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._stream = Names(subjects.prefix).sessions
        self._appender = Appender(bus, concurrency=256)

    async def read(self, tenant: str, session: str, known: Found = NOTHING) -> Found:
        """Read a log, or what came since it was read.

        Raises:
            BusUnavailable: It cannot be read now.
        """
        subject = self._subjects.of(tenant).session_log(session)
        found, parts, after = known, _Parts(), known.seen
        while True:
            messages, more = await page(
                self._bus, self._stream, after, subject, AT_ONCE
            )
            for message in messages:
                after = sequence_of(message)
                found = replace(found, last=max(found.last, after))
                if (data := parts.add(message)) is not None:
                    entry: LogEntry = encoding.decode(data, LogEntry)
                    found = found.with_entry(entry, after)
            if not more:
                return found

    async def append(
        self,
        tenant: str,
        session: str,
        found: Found,
        entry: LogEntry,
        timeout: float = 30.0,
    ) -> Found:
        """Add an entry behind what was found.

        Raises:
            Conflict: Something else was added since.
            BusUnavailable: It was not acknowledged in time; it may be there.
        """
        subject = self._subjects.of(tenant).session_log(session)
        ttl, data = _ttl(apply(found.state, entry), entry), encoding.encode(entry)
        starts = range(0, len(data), PART_SIZE)
        last = found.last
        for number, start in enumerate(starts, 1):
            one = Entry(
                subject=subject,
                data=data[start : start + PART_SIZE],
                expected_last=last,
                ttl=ttl,
                headers={PART: f"{number}/{len(starts)}"} if len(starts) > 1 else {},
            )
            last = await self._appender.append(one, timeout=timeout)
        return found.with_entry(entry, last)

    async def compact(self, tenant: str, session: str, found: Found) -> Found:
        """Put a snapshot in the place of what there is.

        Raises:
            Conflict: Something else was added since.
            BusUnavailable: It was not acknowledged in time; it may be there.
        """
        assert found.state is not None
        snapshot = SnapshotEntry(at=now_ms(), state=found.state)
        before = found.last
        after = await self.append(tenant, session, found, snapshot)
        await self.cut(tenant, session, before)
        return after

    async def cut(self, tenant: str, session: str, up_to: int) -> None:
        """Remove the messages of a log up to a sequence, which is the last to go."""
        subject = self._subjects.of(tenant).session_log(session)
        wanted = {"filter": subject, "seq": up_to + 1}
        await api(self._bus, f"STREAM.PURGE.{self._stream}", wanted)

    async def names(self, tenant: str) -> list[str]:
        """The ids of a tenant's sessions that have a log, in order."""
        subjects = self._subjects.of(tenant)
        found: list[str] = []
        while True:
            wanted = {"subjects_filter": subjects.session_logs(), "offset": len(found)}
            said = await api(self._bus, f"STREAM.INFO.{self._stream}", wanted)
            some = said["state"].get("subjects") or {}
            found += [subject.split(".")[-2] for subject in some]
            if not some or len(found) >= said.get("total", 0):
                return sorted(found)


class _Parts:
    """Puts entries together that came in parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, message: Message) -> bytes | None:
        """Take a message in; returns an entry once it is whole."""
        number, _, count = message.headers.get(PART, "1/1").partition("/")
        if int(number) == 1:
            self._parts = []
        elif int(number) != len(self._parts) + 1:
            return None  # the beginning of an entry that was never finished is gone
        self._parts.append(message.data)
        if int(number) < int(count):
            return None
        return b"".join(self._parts)


def no_session(session: str) -> NotFound:
    """The failure of a request for a session there is not."""
    return NotFound(
        f"There is no session {session[:80]!r}: it was never opened, was closed, "
        "or ended after its ttl_s without a change.",
        field="session",
        hint="Open one with session.open; session.list shows those there are.",
    )


def _ttl(state: SessionState | None, entry: LogEntry) -> int:
    if isinstance(entry, ClosedEntry) or state is None:
        return CLOSED_FOR
    return 2 * state.settings.ttl_s
