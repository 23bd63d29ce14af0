"""What is kept of jobs: their messages, their records, their dead letters."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from dspex.contracts.envelope import Failed, Reply
from dspex.contracts.job_requests import BlobRef, JobAttempt, JobState

FIRST_NUMBER = 100
"""The events of a job count their attempts from here: those below are of the request
that submitted it, which may have the same id."""


def key(tenant: str, job: str) -> str:
    """Under which a job's record is kept."""
    return f"{tenant}.{job}"


class Job(Struct, frozen=True, kw_only=True):
    """A job as it stands in the stream.

    Attributes:
        job: Its id.
        tenant: Whose it is.
        operation: What to do.
        body: The body of the request, JSON; null where ``claim`` is.
        digest: Of everything that was asked, so that two jobs are not taken for one.
        pool: Whose workers do it.
        priority: 1 first, 5 last.
        submitted_at: Unix milliseconds.
        not_before: Unix milliseconds before which it does not begin.
        deadline: Unix milliseconds by which it must have ended.
        timeout_s: Longest time one attempt may take, seconds; absent: the pool's.
        max_attempts: How often it is tried.
        backoff_s: Seconds before the second attempt.
        keep_result_s: Seconds its record is kept once it has ended.
        generation: How often it was taken back from the dead letters.
        claim: Name of the body, where that is too large for a message.
    """

    job: str
    tenant: str
    operation: str
    body: msgspec.Raw
    digest: str
    pool: str
    priority: int
    submitted_at: float
    not_before: float | None = None
    deadline: float | None = None
    timeout_s: float | None = None
    max_attempts: int
    backoff_s: float
    keep_result_s: int
    generation: int = 0
    claim: str = ""


class JobRecord(Struct, frozen=True, kw_only=True):
    """What became of a job.

    Attributes:
        job: Its id.
        tenant: Whose it is.
        operation: What is to be done.
        pool: Whose workers do it.
        priority: 1 first, 5 last.
        digest: Of what was asked.
        state: What it is in.
        submitted_at: Unix milliseconds.
        changed_at: Unix milliseconds of the last change.
        not_before: Unix milliseconds before which it does not begin.
        deadline: Unix milliseconds by which it must have ended.
        max_attempts: How often it is tried.
        keep_result_s: Seconds it is kept once it has ended.
        generation: How often it was taken back from the dead letters.
        tries: Attempts in this generation.
        number: Counts the changes that are told; the attempt their events say.
        sequence: Of its message in the stream; 0 while that is not known.
        attempts: Every attempt.
        result: The reply it ended with, if that is small.
        blob: Where the reply lies otherwise.
        dead: Sequence of its dead letter; 0: none.
    """

    job: str
    tenant: str
    operation: str
    pool: str
    priority: int
    digest: str
    state: JobState
    submitted_at: float
    changed_at: float
    not_before: float | None = None
    deadline: float | None = None
    max_attempts: int
    keep_result_s: int
    generation: int = 0
    tries: int = 0
    number: int = FIRST_NUMBER
    sequence: int = 0
    attempts: list[JobAttempt] = []
    result: Reply | None = None
    blob: BlobRef | None = None
    dead: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state not in ("queued", "running")

    @property
    def ttl(self) -> int | None:
        """Seconds after which its record goes; ``None``: it stays."""
        return self.keep_result_s if self.ended else None

    @property
    def key(self) -> str:
        """Under which it is kept."""
        return key(self.tenant, self.job)


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A job that failed for good.

    Attributes:
        job: As it was submitted; absent when the message was no job.
        reason: What it failed with last.
        attempts: Every attempt, with its failure.
        at: Unix milliseconds.
        message: What was found in place of a job, shortened.
    """

    job: Job | None
    reason: Failed
    attempts: list[JobAttempt]
    at: float
    message: str = ""
