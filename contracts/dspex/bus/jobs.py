"""Where jobs are kept: their stream, records, dead letters and large replies."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from dspex.bus import metrics
from dspex.bus.audiences import Audience
from dspex.bus.batches import page, sequence_of
from dspex.bus.durable import Appender, Entry, api
from dspex.bus.events import Events
from dspex.bus.provisioning import DAY, Names
from dspex.bus.stores import OPERATION, Blobs
from dspex.contracts import encoding
from dspex.contracts.envelope import Reply, Status
from dspex.contracts.failures import Conflict, NotFound
from dspex.contracts.job_records import DeadLetter, Job, JobRecord, key
from dspex.contracts.job_requests import BlobRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.contracts.jobs import Step
    from dspex.contracts.subjects import Subjects

SMALL = 256 * 1024
"""Bytes of a reply that is kept in its record; larger ones are blobs."""

PATIENCE = 30.0
"""Seconds in which what became of a job must be stored: longer than a restart."""

SCHEDULE = "Nats-Schedule"
SCHEDULE_TARGET = "Nats-Schedule-Target"


class Kept(Struct, frozen=True):
    """A record as it was read.

    Attributes:
        record: What became of the job.
        revision: What its change must name.
    """

    record: JobRecord
    revision: int


class JobStore:
    """Jobs of all tenants under a prefix.

    Args:
        bus: Where.
        subjects: Of the prefix.
    """

    def __init__(self, bus: NatsBus, subjects: Subjects) -> None:
        names = Names(subjects.prefix)
        self.subjects = subjects
        self._bus = bus
        self._jobs = names.jobs
        self._dead = names.dead
        self._states = f"KV_{names.job_states}"
        self._root = f"$KV.{names.job_states}"
        self._bucket = names.blobs
        self._blobs = Blobs(bus, names.blobs, ttl=DAY)
        self._appender = Appender(bus)

    async def append(self, job: Job, *, now: float) -> int:
        """Put a job into the stream, now or, by the server, at its time.

        Returns:
            Its sequence; 0 where the server will choose one.
        """
        subject = self.subjects.job(job.pool, str(job.priority))
        later = job.not_before is not None and job.not_before > now
        headers: dict[str, str] = {}
        if later and job.not_before is not None:
            headers = {SCHEDULE: _at(job.not_before), SCHEDULE_TARGET: subject}
            subject = self.subjects.later_job(job.tenant, job.job)
        known_by = f"{key(job.tenant, job.job)}.{job.digest}.{job.generation}"
        data = encoding.encode(job)
        entry = Entry(subject=subject, data=data, message_id=known_by, headers=headers)
        stored = await self._appender.store(entry, timeout=PATIENCE)
        if stored.duplicate:
            # It may be that of a job which has ended and is forgotten, and then it
            # never comes again. Where it does come, the record is for one of the two.
            again = replace(entry, message_id="")
            stored = await self._appender.store(again, timeout=PATIENCE)
        return 0 if later else stored.sequence

    async def bury(self, letter: DeadLetter, pool: str, known_by: str) -> int:
        """Put a dead letter into its stream; returns its sequence."""
        return await self._appender.append(
            Entry(
                subject=self.subjects.dead(pool),
                data=encoding.encode(letter),
                message_id=known_by,
            ),
            timeout=PATIENCE,
        )

    async def dead_letter(self, sequence: int) -> DeadLetter:
        """A dead letter.

        Raises:
            NotFound: It is too old.
        """
        found = await api(self._bus, f"STREAM.MSG.GET.{self._dead}", {"seq": sequence})
        data = base64.b64decode(found["message"]["data"])
        letter: DeadLetter = encoding.decode(data, DeadLetter)
        return letter

    async def job_at(self, sequence: int) -> tuple[bytes, str]:
        """What stands in the stream of jobs, and on which subject.

        Raises:
            NotFound: Nothing does.
        """
        found = await api(self._bus, f"STREAM.MSG.GET.{self._jobs}", {"seq": sequence})
        message = found["message"]
        return base64.b64decode(message.get("data", "")), message["subject"]

    async def read(self, tenant: str, job: str) -> Kept | None:
        """The record of a job, as its leader has it.

        Raises:
            BusUnavailable: It cannot be known.
        """
        wanted = {"last_by_subj": f"{self._root}.{key(tenant, job)}"}
        try:
            found = await api(self._bus, f"STREAM.MSG.GET.{self._states}", wanted)
        except NotFound:
            return None
        message = found["message"]
        if f"{OPERATION}:" in base64.b64decode(message.get("hdrs", "")).decode():
            return None
        record = encoding.decode(base64.b64decode(message["data"]), JobRecord)
        return Kept(record, int(message["seq"]))

    async def write(self, record: JobRecord, revision: int) -> int:
        """Store a record in place of the one with this revision; 0: there is none.

        Raises:
            Conflict: Somebody stored another one.
            BusUnavailable: It was not acknowledged; it may be stored.
        """
        entry = Entry(
            subject=f"{self._root}.{record.key}",
            data=encoding.encode(record),
            expected_last=revision,
            ttl=record.ttl,
        )
        return await self._appender.append(entry, timeout=PATIENCE)

    async def change(
        self, tenant: str, job: str, decide: Callable[[JobRecord | None], Step]
    ) -> Step:
        """Read a record, decide, store; from the start when another one came first.

        Returns:
            The step that was stored, or that stores nothing.
        """
        async with asyncio.timeout(2 * PATIENCE):
            while True:
                kept = await self.read(tenant, job)
                step = decide(kept.record if kept else None)
                if step.record is None:
                    return step
                record = await self._lighter(step.record)
                try:
                    await self.write(record, kept.revision if kept else 0)
                except Conflict:
                    continue
                if record.ended and not (kept and kept.record.ended):
                    metrics.job_ended(record.operation, record.state)
                return replace(step, record=record)

    async def result_of(self, record: JobRecord) -> Reply | None:
        """The reply a job ended with.

        Raises:
            NotFound: It was large, and is gone.
        """
        if record.blob is None:
            return record.result
        data = await self._blobs.get(record.blob.name)
        reply: Reply = encoding.decode(data, Reply)
        return reply

    async def list(self, tenant: str, after: int, limit: int) -> tuple[list[Kept], int]:
        """The records behind a revision, the one changed longest ago first.

        Returns:
            The records, and behind which revision there are more; 0: behind none.
        """
        subject = f"{self._root}.{tenant}.*"
        found, more = await page(self._bus, self._states, after, subject, limit)
        kept = [_kept(one) for one in found if not one.headers.get(OPERATION)]
        return kept, sequence_of(found[-1]) if more else 0

    def events(self, tenant: str, record: JobRecord, job: Job | None = None) -> Events:
        """Where the life of a job is told, as of its latest change.

        Args:
            tenant: Whose it is.
            record: What became of it.
            job: What it does, where that is at hand: it says what is journaled.
        """
        audience = Audience(
            subjects=self.subjects.of(tenant),
            request=record.job,
            attempt=record.number,
            reply="",
            stream="events",
            operation=job.operation if job else "",
            body=bytes(job.body) if job else b"",
        )
        return Events(self._bus, audience)

    async def tell_queued(self, record: JobRecord, message: str) -> None:
        """Tell that a job waits."""
        await self.events(record.tenant, record).emit(Status, message=message)

    async def _lighter(self, record: JobRecord) -> JobRecord:
        """The record with a large reply put elsewhere."""
        if record.result is None:
            return record
        data = encoding.encode(record.result)
        if len(data) <= SMALL:
            return record
        name = f"job.{record.key}.{record.number}"
        await self._blobs.put(name, data)
        blob = BlobRef(bucket=self._bucket, name=name, size=len(data))
        return replace(record, result=None, blob=blob)


def _kept(message: Message) -> Kept:
    return Kept(encoding.decode(message.data, JobRecord), sequence_of(message))


def _at(milliseconds: float) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"@at {moment.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}"
