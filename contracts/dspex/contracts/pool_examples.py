"""Examples of what supervisors tell, as schemas, documents and golden tests have it."""

from __future__ import annotations

from dspex.contracts import admin, pools, record_examples
from dspex.contracts.journaling import JournalChange

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

_WORKER = pools.WorkerStatus(
    name="light-1",
    worker="light-5b1f0c9e7a42",
    pid=4711,
    state="ready",
    age_s=312.5,
    in_flight=2,
    concurrency=16,
    served=1204,
    sessions=3,
    rss=412090368,
    dspy="3.4.1",
    python="3.11.9",
)

_POOL = pools.PoolStatus(
    pool="light",
    processes=1,
    desired=1,
    reason="2 in flight, for 16 places of 1 workers",
    scale="fixed",
    workers=[_WORKER],
)

_HOST = pools.HostStatus(
    supervisor=_SUPERVISOR,
    host="worker-1",
    supervisors=1,
    version="0.1.0",
    uptime_s=314.0,
    rss=61865984,
    pools=[_POOL],
)

_SCALED = pools.Changed(
    supervisor=_SUPERVISOR, host="worker-1", supervisors=1, pools={"light": 4}
)

_DRAINED = pools.Changed(
    supervisor=_SUPERVISOR, host="worker-1", supervisors=1, workers=["light-1"]
)

_DECISIONS = admin.Decisions(
    router="router-61c0a9f2d37e",
    routers=1,
    uptime_s=314.0,
    counters={"requests": 1204, "done": 1203, "failed.bad_request": 1},
    pools=[
        admin.PoolLoad(pool="light", workers=1, ready=1, places=16, held=2, queued=0)
    ],
)

_PROFILE = admin.ProcessProfile(
    process="light-5b1f0c9e7a42",
    pid=4711,
    seconds=5.0,
    samples=497,
    idle=981,
    lost=0,
    stacks="MainThread;triage:Triage.forward:14;triage:score:31 496\n",
    hottest=[
        admin.HotFunction(function="triage:score", own=496, total=496),
        admin.HotFunction(function="triage:Triage.forward", own=0, total=496),
    ],
)

ADMIN = {
    "pools": (pools.PoolsRequest(pool="light"), _HOST),
    "scale": (pools.ScaleRequest(pool="light", processes=4), _SCALED),
    "drain": (pools.DrainRequest(name="light-5b1f0c9e7a42"), _DRAINED),
    "restart": (pools.RestartRequest(pool="light"), _DRAINED),
    "journal": (JournalChange(sample=0.1), record_examples.STATE),
    "profile": (admin.ProfileRequest(process="light-5b1f0c9e7a42"), _PROFILE),
    "decisions": (admin.DecisionsRequest(limit=20), _DECISIONS),
}
"""What operators ask, by verb, and one of the answers: everybody asked gives one."""
