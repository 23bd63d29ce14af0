"""What a configuration says of a pool, and of the supervisors that keep pools."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

MOST_PROCESSES = 10_000
"""Processes of one pool beyond which a number must be a mistake."""

WORKER_MODULE = "dspex.services.worker"
"""What a worker process runs, unless its pool says otherwise."""


class Pool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[pools.<name>]``: worker processes that are alike.

    Attributes:
        processes: How many a supervisor starts, until it is told another number.
        min: Fewest processes on all hosts together, where ``scale`` is ``auto``.
        max: Most processes on all hosts together; absent: any number.
        host_max: Most processes on one host; absent: any number.
        scale: ``fixed``: as many as were asked for; ``auto``: as many as the
            requests need, from ``min`` to ``max``.
        concurrency: Requests one process runs at a time.
        queue: Requests one process lets wait beyond those.
        weight: How much of the work one process takes: 2 is twice its share.
        lm: Language model of requests that name none.
        operations: What its workers do; empty: all that DSPy workers do.
        request_timeout_s: Deadline of requests that bring none, seconds.
        python: Interpreter of its workers, such as that of another environment;
            absent: the supervisor's own.
        module: Python module that is started as a worker.
        env: Variables of its workers, on top of the supervisor's.
        grace_s: What a worker that is to end gets to finish its requests, seconds.
        stall_s: A worker whose event loop has been blocked for so long is ended,
            seconds; absent: never.
        recycle_after_s: Age at which a worker is replaced, seconds, give or take a
            tenth; absent: none.
        recycle_requests: Requests after which a worker is replaced, give or take a
            tenth; absent: any number.
        recycle_mib: Resident memory beyond which a worker is replaced, MiB; absent:
            any.
        memory_mib: Memory that a worker never exceeds, MiB: an allocation beyond it
            fails, and a worker whose processes together hold more is ended; absent:
            no limit.
        nice: How far its workers give way to other processes: 0 to 19.
        cpus: Numbers of the CPUs its workers may use; empty: all.
        cpu_quota: CPU time that one worker gets, in CPUs, such as 0.5; needs
            ``supervisor.cgroup``; absent: any.
        threads: Threads of numerical libraries in one worker.
        max_files: Most files a worker may have open; absent: the system's limit.
        max_children: Most processes a worker may have started at a time; one that
            has more is ended; absent: any number.
        sessions: Sessions that one process keeps in memory; the others come back from
            their logs when they are used.
        session_idle_s: Seconds without a turn after which a session leaves memory.
        gpus: GPUs its workers are spread over, one each, by index or UUID, or
            ``["all"]``; empty: workers are shown those that the supervisor sees.
    """

    processes: Annotated[int, Meta(ge=0, le=MOST_PROCESSES)] = 1
    min: Annotated[int, Meta(ge=0)] = 0
    max: Annotated[int, Meta(ge=0)] | None = None
    host_max: Annotated[int, Meta(ge=0)] | None = None
    scale: Literal["fixed", "auto"] = "fixed"
    concurrency: Annotated[int, Meta(ge=1)] = 16
    queue: Annotated[int, Meta(ge=0)] = 64
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    lm: str = "default"
    operations: list[str] = field(default_factory=list)
    request_timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    python: str | None = None
    module: str = WORKER_MODULE
    env: dict[str, str] = field(default_factory=dict)
    grace_s: Annotated[float, Meta(gt=0)] = 30.0
    stall_s: Annotated[float, Meta(gt=0)] | None = 60.0
    recycle_after_s: Annotated[float, Meta(gt=0)] | None = None
    recycle_requests: Annotated[int, Meta(ge=1)] | None = None
    recycle_mib: Annotated[int, Meta(ge=1)] | None = None
    memory_mib: Annotated[int, Meta(ge=1)] | None = None
    nice: Annotated[int, Meta(ge=0, le=19)] = 0
    cpus: list[int] = field(default_factory=list)
    cpu_quota: Annotated[float, Meta(ge=0.01)] | None = None
    threads: Annotated[int, Meta(ge=1)] = 1
    max_files: Annotated[int, Meta(ge=64)] | None = None
    max_children: Annotated[int, Meta(ge=0)] | None = None
    sessions: Annotated[int, Meta(ge=1)] = 1000
    session_idle_s: Annotated[float, Meta(gt=0)] = 300.0
    gpus: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        # A variable may be a secret, so none is shown.
        return f"Pool(processes={self.processes}, module={self.module!r})"


class Supervising(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[supervisor]``: what keeps the workers of one host.

    Attributes:
        starting: Most workers that start at a time, for importing DSPy keeps a CPU
            busy; absent: one for each CPU.
        down_after_s: How long fewer workers must have been enough before a pool
            that scales by itself has fewer, seconds.
        target: Share of their slots that the workers of such a pool are to use.
        cgroup: Folder of a cgroup, version 2, below which each worker gets its own;
            absent: none does.
    """

    starting: Annotated[int, Meta(ge=1)] | None = None
    down_after_s: Annotated[float, Meta(ge=0)] = 60.0
    target: Annotated[float, Meta(gt=0, le=1)] = 0.8
    cgroup: str | None = None
