"""The bodies of requests about jobs, and what they are answered with.

A job is a request that is kept until it has ended: it outlives its client, and the
worker that ran it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from dspex.contracts.failures import Category
from dspex.contracts.requests import Body

JobState = Literal["queued", "running", "done", "failed", "cancelled", "dead"]

Token = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
Milliseconds = Annotated[float, Meta(gt=0, lt=1e14)]

MOST_ATTEMPTS = 20
"""Attempts a job may ask for at most."""

LONGEST_KEPT = 86_400
"""Seconds a result is kept at most: as long as the store of large bodies keeps it."""

LONGEST_WAIT = 3600
"""Seconds one ``job.wait`` may ask for."""


class SubmitJob(Body, frozen=True, kw_only=True):
    """Have an operation done, whatever becomes of who asks and of who does it.

    Attributes:
        operation: Name of an operation that workers or native-ops do.
        body: The body that a request for it would have.
        job: The job's id; default: that of this request. Submitting a job again under
            its id changes nothing.
        pool: Whose workers do it; default: the first pool that does the operation.
        priority: Who goes first where jobs wait: 1 first, 5 last.
        not_before: Unix milliseconds before which it does not begin.
        deadline: Unix milliseconds after which it fails if it has not ended.
        timeout_s: Longest time one attempt may take, seconds; default: the pool's.
        max_attempts: How often it is tried; default: as configured.
        backoff_s: Seconds before the second attempt; each further pause is twice as
            long.
        keep_result_s: Seconds its result is kept; default: as configured.
    """

    operation: str
    body: dict[str, Any]
    job: Token | None = None
    pool: Token | None = None
    priority: Annotated[int, Meta(ge=1, le=5)] = 3
    not_before: Milliseconds | None = None
    deadline: Milliseconds | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=MOST_ATTEMPTS)] | None = None
    backoff_s: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    keep_result_s: Annotated[int, Meta(ge=1, le=LONGEST_KEPT)] | None = None


class GetJob(Body, frozen=True, kw_only=True):
    """Say what became of a job.

    Attributes:
        job: Its id.
    """

    job: Token


class CancelJob(Body, frozen=True, kw_only=True):
    """End a job that waits or runs; one that has ended stays as it is.

    Attributes:
        job: Its id.
    """

    job: Token


class RetryJob(Body, frozen=True, kw_only=True):
    """Try a dead job again, with as many attempts as at first.

    Attributes:
        job: Its id.
    """

    job: Token


class WaitJob(Body, frozen=True, kw_only=True):
    """Wait for a job to end.

    Attributes:
        job: Its id.
        timeout_s: Seconds after which it is shown as it is then, ended or not.
    """

    job: Token
    timeout_s: Annotated[float, Meta(ge=0, le=LONGEST_WAIT)] = 30.0


class ListJobs(Body, frozen=True, kw_only=True):
    """List jobs, the one that changed longest ago first.

    Attributes:
        state: Only those in this state.
        operation: Only those of this operation.
        limit: How many at most.
        after: What an earlier list said to go on from.
    """

    state: JobState | None = None
    operation: str | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    after: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0


class AttemptFailure(Struct, frozen=True, kw_only=True):
    """Why an attempt did not end a job.

    Attributes:
        code: Leaf of the failure tree.
        category: Branch it hangs on.
        message: What was wrong.
    """

    code: str
    category: Category
    message: str


class JobAttempt(Struct, frozen=True, kw_only=True):
    """One attempt at a job.

    Attributes:
        number: As the events of the attempt say it.
        worker: Incarnation that made it.
        at: Unix milliseconds when it began.
        failure: Why it did not end the job; absent while it runs, and when it did.
    """

    number: int
    worker: str
    at: float
    failure: AttemptFailure | None = None


class BlobRef(Struct, frozen=True, kw_only=True):
    """Where a reply lies that is too large for a message.

    Attributes:
        bucket: Name of the object store's bucket.
        name: Of the object: the reply as JSON.
        size: Bytes.
    """

    bucket: str
    name: str
    size: int


class ShownJob(Struct, frozen=True, kw_only=True):
    """A job as its tenant sees it.

    Attributes:
        job: Its id.
        state: ``queued`` and ``running``, or how it ended: ``done``, ``failed`` (trying
            again would not help), ``cancelled``, or ``dead`` (every attempt failed).
        operation: What is to be done.
        pool: Whose workers do it.
        priority: 1 first, 5 last.
        submitted_at: Unix milliseconds.
        changed_at: Unix milliseconds of the last change.
        not_before: Unix milliseconds before which it does not begin.
        deadline: Unix milliseconds by which it must have ended.
        attempts: Every attempt, the first one first.
        result: The reply it ended with, ``done`` or ``failed``: what a request would
            have been answered. Absent in lists.
        result_blob: Where the reply lies instead, if it is too large for a message.
    """

    job: str
    state: JobState
    operation: str
    pool: str
    priority: int
    submitted_at: float
    changed_at: float
    not_before: float | None = None
    deadline: float | None = None
    attempts: list[JobAttempt] = field(default_factory=list)
    result: dict[str, Any] | None = None
    result_blob: BlobRef | None = None


class JobList(Struct, frozen=True, kw_only=True):
    """Some jobs.

    Attributes:
        jobs: Without their results.
        next: What to give as ``after`` for those behind them; absent: there are none.
    """

    jobs: list[ShownJob]
    next: int | None = None
