"""Examples of what supervisors tell, as schemas, documents and golden tests have it."""

from __future__ import annotations

from dspex.contracts import pools

_SUPERVISOR = "supervisor-3f9a61c2b7d0"

WORKER_NOTICE = pools.WorkerNotice(
    supervisor=_SUPERVISOR,
    host="worker-1",
    pool="light",
    name="light-2",
    worker="light-5b1f0c9e7a42",
    pid=4711,
    state="ended",
    reason="was ended by SIGSEGV",
    code="worker_lost",
    words="Fatal Python error: Segmentation fault",
    again_ms=500.0,
    at=1767225600000.0,
)
"""A worker that crashed."""

DESIRED_NOTICE = pools.DesiredNotice(
    supervisor=_SUPERVISOR,
    pool="light",
    desired=3,
    ready=2,
    reason="32 in flight, 6 waiting, for 32 places of 2 workers",
    at=1767225600000.0,
)
"""A pool that needs one more worker."""
