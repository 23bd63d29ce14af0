"""The operations on jobs: what clients ask of the stream of jobs and its records."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from dspex.bus import metrics
from dspex.bus.clock import now_ms
from dspex.bus.job_running import tell_end
from dspex.bus.jobs import JobStore, Kept
from dspex.bus.provisioning import DAY, provision_pool
from dspex.contracts import catalog, encoding, jobs
from dspex.contracts.failures import (
    BadRequest,
    Conflict,
    NotFound,
    Overloaded,
    Unsupported,
    nearest,
)
from dspex.contracts.job_records import Job, JobRecord, key
from dspex.contracts.job_requests import JobList, ShownJob
from dspex.contracts.jobs import Step
from dspex.native.checking.bodies import require_body
from dspex.services.state.answers import outcome, tenant_of
from dspex.services.state.pools import Pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.core import Message
    from dspex.bus.events import Events
    from dspex.bus.program import Context
    from dspex.bus.running import Outcome
    from dspex.contracts.catalog import Operation
    from dspex.contracts.job_requests import (
        CancelJob,
        GetJob,
        ListJobs,
        RetryJob,
        SubmitJob,
        WaitJob,
    )

BURIALS, BURIAL = 20, 0.1
"""Looks for the dead letter of a job that has just died, and seconds between two."""

MOST_WAITING = 128
"""``job.wait``s in hand at a time: each takes a place of a request."""

SCANNED = 2000
"""Records that one list looks at; the next one goes on from there."""

PAGE = 50
"""Records read at a time; each may hold a result."""

LARGE_MARGIN = 3600.0
"""Seconds that are left of the life of a large body when its job may begin."""

ROOM = 16 * 1024
"""Bytes a reply needs beside a job's result."""


class Jobs:
    """Answers the operations on jobs.

    Args:
        context: What the program was started with.
    """

    def __init__(self, context: Context) -> None:
        configuration = context.configuration
        self._bus = context.bus
        self._subjects = configuration.subjects
        self._settings = configuration.jobs
        self.store = JobStore(context.bus, configuration.subjects)
        self._pools = Pools(configuration.subjects, configuration.pools)
        self._provisioned = set(configuration.pools)
        self._waiting: dict[str, set[asyncio.Event]] = {}

    async def start(self) -> None:
        """Hear of pools and of changes from now on."""
        await self._bus.subscribe(self._subjects.heartbeats(), self._pools.hear)
        await self._bus.subscribe(self._subjects.job_notices(), self._changed)
        self._bus.when_back(self._wake_all)

    async def submit(self, body: SubmitJob, events: Events) -> Outcome:
        """``job.submit``."""
        operation = _doable(body.operation)
        _check(operation, body.body)
        job = self._job(body, operation, events)
        kept = await self.store.read(job.tenant, job.job)
        if kept is None:
            kept = await self._put(job)
        if kept.record.digest != job.digest:
            raise Conflict(
                f"Job {job.job!r} is another one: it was submitted before, and asks "
                "for something else.",
                field="job",
                hint="Submit it under an id of its own.",
            )
        return outcome(jobs.shown(replace(kept.record, result=None, blob=None)))

    async def get(self, body: GetJob, events: Events) -> Outcome:
        """``job.get``."""
        return await self._show(await self._read(tenant_of(events), body.job))

    async def wait(self, body: WaitJob, events: Events) -> Outcome:
        """``job.wait``."""
        tenant, until = tenant_of(events), time.monotonic() + body.timeout_s
        async with self._changes(key(tenant, body.job)) as changed:
            while True:
                changed.clear()
                record = await self._read(tenant, body.job)
                left = until - time.monotonic()
                if record.ended or left <= 0:
                    return await self._show(record)
                if record.state == "queued" and record.deadline is not None:
                    left = min(left, max(0.0, (record.deadline - now_ms()) / 1000))
                try:
                    async with asyncio.timeout(left):
                        await changed.wait()
                except TimeoutError:
                    continue

    async def list(self, body: ListJobs, events: Events) -> Outcome:
        """``job.list``."""
        tenant, after = tenant_of(events), body.after
        found: list[ShownJob] = []
        room = self._bus.max_payload // 2
        for _ in range(SCANNED // PAGE):
            page, following = await self.store.list(tenant, after, PAGE)
            for kept in page:
                after = kept.revision
                if _fits(kept.record, body):
                    found.append(jobs.shown(replace(kept.record, result=None)))
                    room -= len(encoding.encode(found[-1]))
                if len(found) == body.limit or room <= 0:
                    return outcome(JobList(jobs=found, next=after))
            if not following:
                return outcome(JobList(jobs=found))
            after = following
        return outcome(JobList(jobs=found, next=after))

    async def cancel(self, body: CancelJob, events: Events) -> Outcome:
        """``job.cancel``."""
        tenant = tenant_of(events)

        def decide(record: JobRecord | None) -> Step:
            return jobs.cancel(_there(record, body.job), now_ms())

        step = await self.store.change(tenant, body.job, decide)
        if step.record is not None:
            await self._bus.publish(self._subjects.of(tenant).cancel(body.job))
            await tell_end(self.store, step.record)
        return await self._show(await self._read(tenant, body.job))

    async def _buried(self, tenant: str, job: str) -> JobRecord:
        """A job; if it has just died, once its dead letter is written."""
        record = await self._read(tenant, job)
        for _ in range(BURIALS):
            if record.state != "dead" or record.dead:
                break
            await asyncio.sleep(BURIAL)
            record = await self._read(tenant, job)
        return record

    async def retry(self, body: RetryJob, events: Events) -> Outcome:
        """``job.retry``."""
        tenant = tenant_of(events)
        record = await self._buried(tenant, body.job)
        if record.state != "dead" or not record.dead:
            if record.generation and not record.ended:
                return await self._show(record)  # it was just now
            raise Conflict(
                f"Job {body.job!r} is {record.state}, not dead.",
                field="job",
                hint="Only jobs whose every attempt failed are tried again; submit "
                "others anew.",
            )
        letter = await self.store.dead_letter(record.dead)
        if letter.job is None:
            raise NotFound(f"The dead letter of {body.job!r} holds no job.")
        job = replace(
            letter.job, generation=record.generation + 1, deadline=None, not_before=None
        )
        sequence = await self.store.append(job, now=now_ms())

        def decide(found: JobRecord | None) -> Step:
            found = _there(found, body.job)
            if found.generation != record.generation:
                return Step(do="drop")  # a worker has it already
            return jobs.reopen(found, sequence, now_ms())

        step = await self.store.change(tenant, body.job, decide)
        if step.record is not None:
            await self.store.tell_queued(step.record, "queued: tried again")
        return await self._show(await self._read(tenant, body.job))

    def _job(self, body: SubmitJob, operation: Operation, events: Events) -> Job:
        settings = self._settings
        asked = msgspec.structs.asdict(replace(body, job=None))
        digest = hashlib.sha256(msgspec.json.encode(asked, order="deterministic"))
        return Job(
            job=body.job or events.audience.request,
            tenant=tenant_of(events),
            operation=body.operation,
            body=msgspec.Raw(encoding.encode(body.body)),
            digest=digest.hexdigest()[:32],
            pool=self._pools.choose(operation, body.pool),
            priority=body.priority,
            submitted_at=now_ms(),
            not_before=body.not_before,
            deadline=body.deadline,
            timeout_s=body.timeout_s,
            max_attempts=body.max_attempts or settings.max_attempts,
            backoff_s=body.backoff_s,
            keep_result_s=body.keep_result_s or settings.keep_result_s,
        )

    async def _put(self, job: Job) -> Kept:
        """Put a job into the stream, then its record beside it.

        A worker may have it before the record is there: it makes the record then.
        """
        if job.deadline is not None and job.deadline <= now_ms():
            raise BadRequest(
                "The deadline is in the past.",
                field="deadline",
                hint="It is in unix milliseconds.",
            )
        if job.pool not in self._provisioned:
            await provision_pool(self._bus, self._subjects, job.pool, self._settings)
            self._provisioned.add(job.pool)
        job = await self._lighter(job)
        sequence = await self.store.append(job, now=now_ms())
        record = jobs.opened(job, sequence, now_ms())
        metrics.job_submitted(job.operation)
        await self.store.tell_queued(record, f"queued in pool {job.pool}")
        try:
            return Kept(record, await self.store.write(record, 0))
        except Conflict:
            kept = await self.store.read(job.tenant, job.job)
            if kept is None:
                raise
            return kept

    async def _lighter(self, job: Job) -> Job:
        """The job with a large body put elsewhere.

        Raises:
            BadRequest: It would be gone when the job begins.
        """
        body, claims = bytes(job.body), self._bus.claims
        if claims is None or not claims.is_large(body):
            return job
        late = now_ms() + (DAY - LARGE_MARGIN) * 1000
        if job.not_before is not None and job.not_before > late:
            raise BadRequest(
                f"A body of {len(body)} bytes is kept for a day, and the job shall "
                "begin later.",
                field="not_before",
                hint=f"Submit it later, or send at most {claims.bodies.inline} bytes.",
            )
        name = await claims.put(job.tenant, body, int(DAY))
        return replace(job, body=msgspec.Raw(b"null"), claim=name)

    async def _read(self, tenant: str, job: str) -> JobRecord:
        """A job as it is now; one that waits beyond its deadline has failed."""
        kept = await self.store.read(tenant, job)
        record = _there(kept.record if kept else None, job)
        if jobs.expire(record, now_ms()).record is None:
            return record

        def decide(found: JobRecord | None) -> Step:
            return jobs.expire(_there(found, job), now_ms())

        step = await self.store.change(tenant, job, decide)
        if step.record is None:
            return await self._read(tenant, job)
        await tell_end(self.store, step.record)
        return step.record

    async def _show(self, record: JobRecord) -> Outcome:
        """A job with its result, where that has room in a message."""
        blob = record.blob
        if blob is not None and blob.size <= self._bus.max_payload - ROOM:
            result = await self.store.result_of(record)
            record = replace(record, result=result, blob=None)
        return outcome(jobs.shown(record))

    @asynccontextmanager
    async def _changes(self, key: str) -> AsyncIterator[asyncio.Event]:
        """What is set whenever the record of a job was stored."""
        if sum(map(len, self._waiting.values())) >= MOST_WAITING:
            raise Overloaded(
                f"{MOST_WAITING} requests wait for jobs here already.",
                hint="Wait again after a pause, or follow the events of the job.",
                retry_after_ms=1000,
            )
        changed = asyncio.Event()
        waiting = self._waiting.setdefault(key, set())
        waiting.add(changed)
        try:
            yield changed
        finally:
            waiting.discard(changed)
            if not waiting:
                self._waiting.pop(key, None)

    def _changed(self, message: Message) -> None:
        key = ".".join(message.subject.split(".")[-2:])
        for one in self._waiting.get(key, ()):
            one.set()

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            for one in waiting:
                one.set()


def operations(found: Jobs) -> dict[str, Any]:
    """What answers each operation on jobs."""
    return {
        "job.submit": found.submit,
        "job.get": found.get,
        "job.list": found.list,
        "job.cancel": found.cancel,
        "job.wait": found.wait,
        "job.retry": found.retry,
    }


def _doable(name: str) -> Operation:
    operation = catalog.operation(name)
    if operation.implementation not in ("python", "native"):
        doable = [*catalog.served_by("python"), *catalog.served_by("native")]
        raise Unsupported(
            f"{name!r} cannot be a job. {nearest(name, doable)}",
            field="operation",
            hint="Send it as a request.",
        )
    return operation


def _check(operation: Operation, body: dict[str, Any]) -> None:
    """Refuse what whoever does the job would refuse; fields are those of ``body``.

    Raises:
        Failure: As the request itself would be answered.
    """
    require_body(operation.name, body)


def _there(record: JobRecord | None, job: str) -> JobRecord:
    if record is None:
        raise NotFound(
            f"There is no job {job!r}.",
            field="job",
            hint="Jobs that have ended are kept for `keep_result_s` seconds.",
        )
    return record


def _fits(record: JobRecord, body: ListJobs) -> bool:
    same = body.operation is None or record.operation == body.operation
    return same and (body.state is None or record.state == body.state)
