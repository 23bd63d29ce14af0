"""What operators ask of supervisors, what these answer, and what they tell unasked."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from dspex.contracts.heartbeats import Gpu
from dspex.contracts.pooling import MOST_PROCESSES

Processes = Annotated[int, Meta(ge=0, le=MOST_PROCESSES)]

OUT_OF_MEMORY = 12
"""Exit status of a worker in which an allocation failed, as the system numbers it."""

OUT_OF_TIME = 62
"""Exit status of a worker in which a thread goes on long after its request."""


class PoolsRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask every supervisor what it keeps; each one answers for its host.

    Attributes:
        pool: Only this pool; absent: all.
    """

    pool: str | None = None


class ScaleRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask the supervisors for another number of workers.

    Attributes:
        pool: Of this pool.
        processes: How many; spread over all hosts that have the pool.
        host: Only there, and all of them; absent: everywhere.
    """

    pool: str
    processes: Processes
    host: str | None = None


class DrainRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask the supervisors to empty something without losing a request.

    Attributes:
        name: A host or a pool, which stay empty until they are scaled; or a worker,
            by its incarnation, which is replaced.
    """

    name: str


class RestartRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask the supervisors to replace every worker of a pool, a few at a time.

    The new ones are what the configuration file says by then.

    Attributes:
        pool: Of this pool.
    """

    pool: str


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """One worker process as its supervisor knows it.

    Attributes:
        name: Its name on its host, such as ``light-1``.
        worker: Its incarnation; empty until its first heartbeat.
        pid: Its process id.
        state: ``starting``, ``ready``, or ``stopping`` (finishes, takes nothing new).
        why: Why it is to end; empty unless it is.
        age_s: Seconds since it was started.
        in_flight: Requests running.
        queued: Requests waiting.
        concurrency: Requests it runs at a time.
        served: Requests it has had in hand since its start.
        sessions: Sessions it holds in memory.
        rss: Resident memory, bytes.
        dspy: Version of DSPy.
        python: Version of Python.
        gpus: The GPUs it sees.
    """

    name: str
    worker: str
    pid: int
    state: Literal["starting", "ready", "stopping"]
    why: str = ""
    age_s: float = 0.0
    in_flight: int = 0
    queued: int = 0
    concurrency: int = 0
    served: int = 0
    sessions: int = 0
    rss: int = 0
    dspy: str = ""
    python: str = ""
    gpus: list[Gpu] = field(default_factory=list)


class PoolStatus(Struct, frozen=True, kw_only=True):
    """One pool on one host.

    Attributes:
        pool: Its name.
        processes: Workers there shall be on this host.
        desired: Workers that the requests need, on all hosts together.
        reason: Why so many.
        scale: ``fixed`` or ``auto``.
        trouble: Why there are fewer than there shall be; empty unless something ended.
        again_ms: Milliseconds until the next start is tried; 0 when none waits.
        workers: Those there are.
    """

    pool: str
    processes: int
    desired: int
    reason: str
    scale: Literal["fixed", "auto"]
    trouble: str = ""
    again_ms: float = 0.0
    workers: list[WorkerStatus] = field(default_factory=list)


class HostStatus(Struct, frozen=True, kw_only=True, tag="pools"):
    """What one supervisor keeps.

    Attributes:
        supervisor: Its incarnation.
        host: Name of its host.
        supervisors: Supervisors it knows of, itself included.
        version: Release of DSPex.
        uptime_s: Seconds since it started.
        rss: Resident memory of the supervisor, bytes.
        pools: The pools.
    """

    supervisor: str
    host: str
    supervisors: int
    version: str
    uptime_s: float
    rss: int
    pools: list[PoolStatus]


class Changed(Struct, frozen=True, kw_only=True, tag="changed"):
    """What one supervisor does about a wish of an operator.

    Attributes:
        supervisor: Its incarnation.
        host: Name of its host.
        supervisors: Supervisors it knows of, itself included.
        pools: Pool -> workers there shall be on this host, of the pools concerned.
        workers: Names of the workers that are drained or replaced.
    """

    supervisor: str
    host: str
    supervisors: int
    pools: dict[str, int] = field(default_factory=dict)
    workers: list[str] = field(default_factory=list)


class PoolWish(Struct, frozen=True, kw_only=True):
    """How many workers operators asked for, kept until something else is asked.

    Attributes:
        processes: So many, on all hosts together.
        drained: Whether a pool that scales by itself stays empty until it is scaled.
    """

    processes: Processes
    drained: bool = False


class HostWish(Struct, frozen=True, kw_only=True):
    """What operators asked of one host, kept until something else is asked.

    Attributes:
        drained: Whether it stays empty until it is scaled by name.
        pools: Pools that were scaled on this host alone, or emptied with it.
        configured: What its configuration said when a pool was scaled: another
            number there is newer than the wish.
    """

    drained: bool = False
    pools: dict[str, Processes] = field(default_factory=dict)
    configured: dict[str, Processes] = field(default_factory=dict)


class WorkerNotice(Struct, frozen=True, kw_only=True, tag="worker"):
    """A worker came or went; told by its supervisor at once.

    Attributes:
        supervisor: Incarnation of the supervisor.
        host: Name of its host.
        pool: Pool of the worker.
        name: Name of the worker on that host.
        worker: Its incarnation; empty if it never had a heartbeat.
        pid: Its process id.
        state: ``ready`` or ``ended``.
        asked: Whether it ended because it was told to.
        reason: How it ended, for people.
        code: What its requests failed with: ``worker_lost``, ``resource_memory`` or
            ``resource_cpu``; empty unless it ended unasked.
        words: The last lines of its log that say what went wrong.
        again_ms: Milliseconds until the pool starts another one.
        at: Unix milliseconds.
    """

    supervisor: str
    host: str
    pool: str
    name: str
    worker: str
    pid: int
    state: Literal["ready", "ended"]
    asked: bool = False
    reason: str = ""
    code: Literal["", "worker_lost", "resource_memory", "resource_cpu"] = ""
    words: str = ""
    again_ms: float = 0.0
    at: float


class DesiredNotice(Struct, frozen=True, kw_only=True, tag="desired"):
    """How many workers a pool needs on all hosts together, and why.

    Attributes:
        supervisor: Incarnation of the supervisor that counted.
        pool: The pool.
        desired: Workers it needs.
        ready: Workers it has that take work.
        reason: Why so many, for people.
        at: Unix milliseconds.
    """

    supervisor: str
    pool: str
    desired: int
    ready: int
    reason: str
    at: float
