"""One example of every message about jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts import job_requests as jobs

if TYPE_CHECKING:
    from dspex.contracts.requests import Body

_JOB = "report-2026-01-01"
_AT = 1767225600000.125
_QUESTION = {
    "signature": "text -> summary",
    "inputs": {"text": "Sales rose by three percent."},
}
_QUEUED: dict[str, Any] = {
    "job": _JOB,
    "state": "queued",
    "operation": "predict",
    "pool": "light",
    "priority": 2,
    "submitted_at": _AT,
    "changed_at": _AT,
    "not_before": None,
    "deadline": 1767229200000.0,
    "attempts": [],
    "result": None,
    "result_blob": None,
}
_LOST = {
    "number": 101,
    "worker": "light-0b8e6d93f15a",
    "at": 1767225600100.0,
    "failure": {
        "code": "worker_lost",
        "category": "infrastructure",
        "message": "The worker was lost, or did not answer for too long.",
    },
}
_RAN = {
    "number": 102,
    "worker": "light-4f1c9ad27b60",
    "at": 1767225615100.0,
    "failure": None,
}
_DONE = _QUEUED | {
    "state": "done",
    "changed_at": 1767225616000.5,
    "attempts": [_LOST, _RAN],
    "result": {
        "type": "done",
        "request": _JOB,
        "outputs": {"summary": "Sales rose a little."},
        "metadata": {
            "implementation": "python",
            "pool": "light",
            "worker": "light-4f1c9ad27b60",
            "attempts": 2,
            "reason": "job",
            "queue_ms": 0.25,
            "run_ms": 412.5,
            "total_ms": 900.375,
            "cache_hit": False,
            "usage": {
                "prompt_tokens": 142,
                "completion_tokens": 12,
                "total_tokens": 154,
                "calls": 1,
            },
            "lm": "openai/gpt-4o-mini",
            "dspy": "3.4.1",
        },
    },
}
_CANCELLED = _QUEUED | {
    "state": "cancelled",
    "changed_at": 1767225601000.0,
    "result": {
        "type": "failed",
        "request": _JOB,
        "code": "cancelled",
        "category": "deadline",
        "message": "The job was cancelled.",
        "hint": "",
        "field": None,
        "retryable": False,
        "retry_after_ms": None,
        "metadata": None,
    },
}

REQUESTS: dict[str, Body] = {
    "job.submit": jobs.SubmitJob(
        operation="predict",
        body=_QUESTION,
        job=_JOB,
        priority=2,
        deadline=1767229200000.0,
        max_attempts=5,
        backoff_s=2.0,
        keep_result_s=3600,
    ),
    "job.get": jobs.GetJob(job=_JOB),
    "job.list": jobs.ListJobs(state="done", limit=10),
    "job.cancel": jobs.CancelJob(job=_JOB),
    "job.wait": jobs.WaitJob(job=_JOB, timeout_s=60.0),
    "job.retry": jobs.RetryJob(job=_JOB),
}
"""The body of a request, by operation."""

OUTPUTS: dict[str, dict[str, Any]] = {
    "job.submit": _QUEUED,
    "job.get": _DONE,
    "job.list": {"jobs": [_DONE | {"result": None}], "next": 4711},
    "job.cancel": _CANCELLED,
    "job.wait": _DONE,
    "job.retry": _QUEUED | {"attempts": [_LOST]},
}
"""The outputs that answer the request of the same operation."""
