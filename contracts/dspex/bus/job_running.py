"""Doing the jobs of a pool, in the slots that live requests leave free.

A job is pulled when a slot is free and nobody waits for it, and run like a request.
What became of it is stored first, then told, then acknowledged: a process that dies
in between leaves something that whoever gets the message next can go on from.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dspex.bus import logs, tracing
from dspex.bus.clock import now_ms
from dspex.bus.incoming import Request
from dspex.bus.jobs import JobStore
from dspex.bus.lanes import Lanes, LaneSettings
from dspex.bus.progress import Progress
from dspex.bus.provisioning import PRIORITIES, Names, lane
from dspex.bus.running import Attempt, Runner, stopping
from dspex.bus.tasks import Tasks
from dspex.contracts import encoding, jobs
from dspex.contracts.envelope import Failed, Reply, Status, failed
from dspex.contracts.failures import BadRequest, Cancelled, Failure
from dspex.contracts.headers import NO_HEADERS
from dspex.contracts.job_records import DeadLetter, Job, JobRecord

if TYPE_CHECKING:
    from dspex.bus.core import Message, Subscription
    from dspex.bus.events import Events
    from dspex.bus.program import Context
    from dspex.bus.pulling import Delivery
    from dspex.bus.running import Identity, Run
    from dspex.bus.slots import Slots
    from dspex.contracts.jobs import Step

_log = logging.getLogger(__name__)

SETTLING = 10.0
"""Seconds beyond an attempt's time in which its end must be stored."""

_SHOWN = 500
"""Characters that a dead letter shows of what is no job."""


class _Hand:
    """A job in hand, and its latest delivery: that one is settled."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.job: tuple[str, str] = ("", "")
        self._attempt: Attempt | None = None
        self._stopped_by: Failure | None = None

    def begins(self, attempt: Attempt) -> None:
        """It is run, unless it was to be stopped before that."""
        self._attempt = attempt
        if self._stopped_by is not None:
            attempt.stop(self._stopped_by)

    def ends(self) -> None:
        """What it came to is stored and told to the end, whoever wants it stopped."""
        self._attempt = None

    def stop(self, failure: Failure) -> None:
        """End its attempt, now or as soon as it begins."""
        self._stopped_by = failure
        if self._attempt is not None:
            self._attempt.stop(failure)


class JobWorker:
    """Does jobs from ``start`` to ``stop``.

    Args:
        context: What the program was started with.
        identity: Who it is; the jobs are those of its pool.
        slots: Those of the live requests.
        run: Does an operation.
    """

    def __init__(
        self, context: Context, identity: Identity, slots: Slots, run: Run
    ) -> None:
        self._bus = context.bus
        self._identity = identity
        self._slots = slots
        self._runner = Runner(identity, slots, run)
        self._store = JobStore(context.bus, identity.subjects)
        lanes = LaneSettings(
            stream=Names(identity.subjects.prefix).jobs,
            consumers=[lane(identity.pool, priority) for priority in PRIORITIES],
        )
        self._lanes = Lanes(context.bus, lanes, self._room, self._take)
        every = context.configuration.jobs.ack_wait_s / 3
        self._progress = Progress(context.connect_again, every)
        self._tasks = Tasks()
        self._hands: dict[int, _Hand] = {}
        self._cancels: list[Subscription] = []

    async def start(self) -> None:
        """Take jobs from now on, whenever there is room."""
        self._progress.start()
        subjects = self._identity.subjects
        for subject in (subjects.cancels(), subjects.tenant_cancels()):
            self._cancels.append(await self._bus.subscribe(subject, self._cancel))
        self._slots.when_free(self._lanes.look)
        await self._lanes.start()

    async def stop(self, grace: float) -> None:
        """Take nothing new, finish what is in hand, give the rest back.

        Args:
            grace: Seconds after which what still runs is left to another process.
        """
        await self._lanes.stop()
        await self._tasks.wait(grace)
        for hand in self._hands.values():
            hand.stop(stopping())
        await self._tasks.join(SETTLING)
        for one in self._cancels:
            await one.unsubscribe()
        await self._progress.stop()

    def _room(self) -> int:
        """How many jobs may be taken now: live requests go first."""
        slots = self._slots
        return 0 if slots.queued > 0 else slots.concurrency - slots.in_hand

    def _take(self, delivery: Delivery) -> None:
        sequence = delivery.stream_sequence
        if hand := self._hands.get(sequence):  # a server forgot that we have it
            hand.delivery = delivery
            self._progress.renew(delivery)
            return
        hand = self._hands[sequence] = _Hand(delivery)
        held = ExitStack()
        held.enter_context(self._slots.hold())
        self._progress.add(delivery, SETTLING)
        work = self._tasks.start(self._handle(hand), "job")

        def ended(_: object) -> None:
            del self._hands[sequence]
            self._progress.remove(delivery)
            held.close()

        work.add_done_callback(ended)

    def _cancel(self, message: Message) -> None:
        address = self._identity.subjects.read_cancel(message.subject)
        for hand in self._hands.values():
            if hand.job == (address.tenant, address.name):
                hand.stop(Cancelled("The job was cancelled."))

    async def _handle(self, hand: _Hand) -> None:
        delivery = hand.delivery
        try:
            job: Job = encoding.decode(delivery.message.data, Job)
        except BadRequest as failure:
            await self._bury_unread(delivery, failure)
            return
        hand.job = (job.tenant, job.job)
        try:
            await self._begin(hand, job)
        except (Failure, TimeoutError):
            # It comes again, to whoever has room then.
            _log.exception("job not settled", extra={"job": job.job})

    async def _begin(self, hand: _Hand, job: Job) -> None:
        sequence, worker = hand.delivery.stream_sequence, self._identity.worker

        def decide(record: JobRecord | None) -> Step:
            return jobs.take(record, job, sequence, worker, now_ms())

        step = await self._store.change(job.tenant, job.job, decide)
        if step.do == "run" and step.record is not None:
            await self._run(hand, job, step.record)
        elif step.do == "answer":
            await self._answer_again(hand.delivery, job)
        else:
            await self._settle(hand, job, step, None)

    async def _run(self, hand: _Hand, job: Job, record: JobRecord) -> None:
        logs.request_id.set(job.job)
        request = self._request(job, record)
        self._progress.add(hand.delivery, request.remaining(now_ms()) + SETTLING)
        events = self._store.events(job.tenant, record, job)
        reply = await self._attempt(hand, request, events)

        def decide(found: JobRecord | None) -> Step:
            return jobs.finish(found, job, record.number, reply, now_ms())

        step = await self._store.change(job.tenant, job.job, decide)
        await self._settle(hand, job, step, events)

    async def _attempt(self, hand: _Hand, request: Request, events: Events) -> Reply:
        attempt = Attempt(request, events)
        hand.begins(attempt)
        try:
            with tracing.span(request.operation, request.headers) as span:
                reply = await self._runner.outcome(attempt)
                if isinstance(reply, Failed):
                    tracing.mark_failed(span, reply.code)
            return reply
        finally:
            hand.ends()

    def _request(self, job: Job, record: JobRecord) -> Request:
        now = now_ms()
        limit = job.timeout_s or self._identity.request_timeout_s
        deadline = min(now + limit * 1000, job.deadline or float("inf"))
        return Request(
            operation=job.operation,
            id=job.job,
            tenant=job.tenant,
            body=b"" if job.claim else bytes(job.body),
            claim=job.claim,
            media=encoding.JSON,
            deadline=deadline,
            reply="",
            headers=NO_HEADERS,
            stream="events",
            attempt=record.tries,
            reason="job",
            elapsed_ms=max(0.0, now - job.submitted_at),
        )

    async def _settle(
        self, hand: _Hand, job: Job, step: Step, events: Events | None
    ) -> None:
        """Tell what is stored, then let the server know."""
        record = step.record
        if step.do == "leave":
            return
        if step.do == "wait" and record is not None and events is not None:
            await events.emit(Status, message=_again(record, step.pause))
            await hand.delivery.nak(step.pause)
            return
        if step.do == "bury" and record is not None:
            await bury(self._store, job, record)
        if record is not None:
            await tell_end(self._store, record, events)
        await hand.delivery.ack()

    async def _answer_again(self, delivery: Delivery, job: Job) -> None:
        """It ended, and whoever ended it may have died before telling."""
        kept = await self._store.read(job.tenant, job.job)
        if kept is not None and delivery.delivered > 1:
            again = replace(kept.record, number=kept.record.number + 1)
            await tell_end(self._store, again)
        await delivery.ack()

    async def _bury_unread(self, delivery: Delivery, failure: BadRequest) -> None:
        _log.error("no job: %s", failure.message)
        letter = DeadLetter(
            job=None,
            reason=failed("", failure),
            attempts=[],
            at=now_ms(),
            message=delivery.message.data[:_SHOWN].decode(errors="replace"),
        )
        known_by = f"unread.{delivery.stream_sequence}"
        await self._store.bury(letter, self._identity.pool, known_by)
        await delivery.term("not a job")


async def bury(store: JobStore, job: Job | None, record: JobRecord) -> None:
    """Write the dead letter of a job that is dead, and note where it is."""
    assert isinstance(record.result, Failed)
    letter = DeadLetter(
        job=job,
        reason=record.result,
        attempts=record.attempts,
        at=record.changed_at,
    )
    known_by = f"{record.key}.{record.digest}.{record.generation}"
    sequence = await store.bury(letter, record.pool, known_by)
    await store.change(
        record.tenant, record.job, lambda found: jobs.lettered(found, sequence)
    )


async def tell_end(
    store: JobStore, record: JobRecord, events: Events | None = None
) -> None:
    """Tell how a job ended.

    Args:
        store: Of jobs.
        record: As it was stored.
        events: Where the attempt was told; default: those of its latest change.
    """
    reply = await store.result_of(record)
    if reply is None:
        return
    await (events or store.events(record.tenant, record)).finish(reply)


def _again(record: JobRecord, pause: float) -> str:
    last = record.attempts[-1].failure
    why = last.message if last is not None else ""
    return (
        f"queued: attempt {record.tries} of {record.max_attempts} failed, "
        f"tried again in {pause:g} s: {why}"
    )
