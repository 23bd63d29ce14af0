"""What a job goes through, as values and pure functions.

A job is one message of the stream of jobs, and one record that says what became of
it. The message is delivered at least once; every change of the record is made by
compare-and-set, so of all who believe to have a job in hand one gets further::

    queued ─ take ─> running ─ finish ─> done | failed | dead
       ^                │
       └── try again ───┘        cancel: queued, running ─> cancelled
                                 reopen: dead ─> queued

Every function takes the record as it was read and says what comes next; whoever
cannot store it, because another one came first, reads and asks again.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dspex.contracts.envelope import Done, Failed, Reply, failed
from dspex.contracts.failures import Cancelled, DeadlineExceeded, WorkerLost
from dspex.contracts.job_records import Job, JobRecord
from dspex.contracts.job_requests import AttemptFailure, JobAttempt, JobState, ShownJob

LONGEST_PAUSE = 3600.0
"""Seconds between two attempts at most."""

MOST_SHOWN = 100
"""Attempts a record holds, over all generations; the first ones leave."""

_LONGEST_MESSAGE = 1000

_TAKEN = set(ShownJob.__struct_fields__) - {"result", "result_blob"}


class Step(Struct, frozen=True, kw_only=True):
    """What comes next, once ``record`` is stored.

    Attributes:
        do: ``run`` the attempt; ``wait``: try again after ``pause``; ``end``: tell the
            end; ``bury``: write its dead letter, note where it is, tell the end;
            ``answer``: it has ended before; ``drop``: its message is of no use any
            more; ``leave``: somebody else has its message in hand.
        record: To store; absent: nothing changes.
        pause: Seconds until it is tried again.
    """

    do: Literal["run", "wait", "end", "bury", "answer", "drop", "leave"]
    record: JobRecord | None = None
    pause: float = 0.0


def opened(job: Job, sequence: int, now: float) -> JobRecord:
    """The first record of a job."""
    return JobRecord(
        job=job.job,
        tenant=job.tenant,
        operation=job.operation,
        pool=job.pool,
        priority=job.priority,
        digest=job.digest,
        state="queued",
        submitted_at=job.submitted_at,
        changed_at=now,
        not_before=job.not_before,
        deadline=job.deadline,
        max_attempts=job.max_attempts,
        keep_result_s=job.keep_result_s,
        generation=job.generation,
        sequence=sequence,
    )


def take(
    record: JobRecord | None, job: Job, sequence: int, worker: str, now: float
) -> Step:
    """A worker has the message of a job.

    Args:
        record: As it was read; ``None``: there is none yet.
        job: What the message says.
        sequence: Of the message.
        worker: Incarnation that has it.
        now: Unix milliseconds.
    """
    record = record or opened(job, sequence, now)
    if job.generation > record.generation and job.digest == record.digest:
        if record.state != "dead":
            return Step(do="leave")  # what was read is older than the message
        record = _again(record, sequence, now)
    if not _is_its_message(record, job, sequence):
        return Step(do="drop")
    if record.ended:
        return _after_the_end(record)
    record = _lost(replace(record, sequence=sequence))
    record = replace(record, number=record.number + 1)
    if record.deadline is not None and record.deadline <= now:
        return Step(do="end", record=_ended(record, _too_late(record), now))
    if record.tries >= record.max_attempts:
        return Step(do="bury", record=_buried(record, now))
    attempt = JobAttempt(number=record.number, worker=worker, at=now)
    record = replace(
        record,
        state="running",
        tries=record.tries + 1,
        attempts=[*record.attempts, attempt][-MOST_SHOWN:],
        changed_at=now,
    )
    return Step(do="run", record=record)


def finish(
    record: JobRecord | None, job: Job, number: int, reply: Reply, now: float
) -> Step:
    """A worker has come to the end of an attempt.

    Args:
        record: As it was read.
        job: What the message says.
        number: Of the attempt.
        reply: What it came to.
        now: Unix milliseconds.
    """
    if record is None or record.generation != job.generation:
        return Step(do="leave")  # what was read is older than the attempt
    if record.ended:
        return Step(do="drop")  # cancelled, for example
    if record.state != "running" or record.number != number:
        return Step(do="leave")
    if isinstance(reply, Done) or not _may_be_tried_again(reply):
        return Step(do="end", record=_ended(record, reply, now))
    record = _with_failure(record, reply)
    if record.tries >= record.max_attempts:
        return Step(do="bury", record=_buried(record, now))
    pause = _pause(job, record.tries, reply)
    if record.deadline is not None and now + pause * 1000 >= record.deadline:
        return Step(do="end", record=_ended(record, reply, now))
    queued = replace(record, state="queued", changed_at=now)
    return Step(do="wait", record=queued, pause=pause)


def cancel(record: JobRecord, now: float) -> Step:
    """Somebody wants it to end."""
    if record.ended:
        return Step(do="drop")
    reply = failed(record.job, Cancelled("The job was cancelled."))
    record = replace(record, number=record.number + 1)
    return Step(do="end", record=_ended(record, reply, now))


def expire(record: JobRecord, now: float) -> Step:
    """Somebody looks at it: one that waits beyond its deadline has failed."""
    late = record.deadline is not None and record.deadline <= now
    if record.state != "queued" or not late:
        return Step(do="drop")
    record = replace(record, number=record.number + 1)
    return Step(do="end", record=_ended(record, _too_late(record), now))


def give_up(record: JobRecord | None, sequence: int, now: float) -> Step:
    """The server delivers its message no more."""
    if record is None or record.sequence not in (0, sequence):
        return Step(do="drop")
    if record.state == "dead" and not record.dead:
        return Step(do="bury", record=record)
    if record.ended:
        return Step(do="drop")
    record = _lost(record)
    record = replace(record, sequence=sequence, number=record.number + 1)
    return Step(do="bury", record=_buried(record, now))


def lettered(record: JobRecord | None, sequence: int) -> Step:
    """Its dead letter stands where ``sequence`` says."""
    if record is None or record.state != "dead" or record.dead:
        return Step(do="drop")
    return Step(do="end", record=replace(record, dead=sequence))


def reopen(record: JobRecord, sequence: int, now: float) -> Step:
    """It stands in the stream once more, taken from the dead letters."""
    if record.state != "dead":
        return Step(do="drop")
    return Step(do="wait", record=_again(record, sequence, now))


def shown(record: JobRecord) -> ShownJob:
    """A record as its tenant sees it."""
    taken = {name: getattr(record, name) for name in _TAKEN}
    result = msgspec.to_builtins(record.result)
    return ShownJob(**taken, result=result, result_blob=record.blob)


def _after_the_end(record: JobRecord) -> Step:
    if record.state == "dead" and not record.dead:
        return Step(do="bury", record=record)  # its letter was not written
    return Step(do="answer")


def _is_its_message(record: JobRecord, job: Job, sequence: int) -> bool:
    same = (record.digest, record.generation) == (job.digest, job.generation)
    return same and record.sequence in (0, sequence)


def _again(record: JobRecord, sequence: int, now: float) -> JobRecord:
    return replace(
        record,
        state="queued",
        generation=record.generation + 1,
        tries=0,
        number=record.number + 1,
        sequence=sequence,
        result=None,
        blob=None,
        dead=0,
        not_before=None,
        deadline=None,
        changed_at=now,
    )


def _lost(record: JobRecord) -> JobRecord:
    """A running attempt whose message comes again has come to nothing."""
    if record.state != "running":
        return record
    failure = WorkerLost("The worker was lost, or did not answer for too long.")
    return _with_failure(record, failed(record.job, failure))


def _with_failure(record: JobRecord, reply: Failed) -> JobRecord:
    said = AttemptFailure(
        code=reply.code,
        category=reply.category,
        message=reply.message[:_LONGEST_MESSAGE],
    )
    *before, last = record.attempts
    return replace(record, attempts=[*before, replace(last, failure=said)])


def _ended(record: JobRecord, reply: Reply, now: float) -> JobRecord:
    state: JobState = "done"
    if isinstance(reply, Failed):
        state = "cancelled" if reply.code == Cancelled.code else "failed"
        if record.state == "running":
            record = _with_failure(record, reply)
    return replace(record, state=state, result=reply, changed_at=now)


def _buried(record: JobRecord, now: float) -> JobRecord:
    last = record.attempts[-1].failure if record.attempts else None
    if last is None:
        last = AttemptFailure(
            code=WorkerLost.code,
            category=WorkerLost.category,
            message="Its message was delivered as often as it may be, and never ended.",
        )
    reply = Failed(
        request=record.job,
        code=last.code,
        category=last.category,
        message=f"{record.tries} of {record.max_attempts} attempts failed. "
        f"The last one: {last.message}",
        hint="See to the cause; then send job.retry.",
        retryable=False,
    )
    return replace(record, state="dead", result=reply, changed_at=now)


def _too_late(record: JobRecord) -> Failed:
    failure = DeadlineExceeded(
        "The job had not ended by its deadline.",
        hint="Submit it with a later one, or add capacity.",
    )
    return failed(record.job, failure)


def _may_be_tried_again(reply: Failed) -> bool:
    # An attempt that took too long: the job's own deadline is looked at elsewhere.
    too_long = reply.code == DeadlineExceeded.code
    return too_long or (reply.retryable and reply.category != "caller")


def _pause(job: Job, tries: int, reply: Failed) -> float:
    asked = (reply.retry_after_ms or 0) / 1000
    return min(LONGEST_PAUSE, max(asked, job.backoff_s * 2.0 ** (tries - 1)))
