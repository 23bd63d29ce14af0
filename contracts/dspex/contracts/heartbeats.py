"""What a process that answers requests says about itself every second."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

MOST = 1 << 20
"""Requests a process may say it has: beyond this it is no process of ours."""

Count = Annotated[int, Meta(ge=0, le=MOST)]


class Gpu(Struct, frozen=True, kw_only=True):
    """One GPU as NVML sees it.

    Attributes:
        name: Product name.
        uuid: What it is known by on every process; empty where it cannot be read.
        total: Memory, bytes.
        free: Free memory, bytes.
        reserved: Memory of it that running requests have declared, bytes.
    """

    name: str
    total: int
    free: int
    reserved: int = 0
    uuid: str = ""


class Heartbeat(Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """Capacity and state of one process.

    Attributes:
        worker: Its incarnation: new at every start, never used again.
        pool: Its pool; ``native`` for native-ops, ``router`` for routers,
            ``supervisor`` for supervisors.
        implementation: ``python`` (DSPy), ``native``, ``state``, ``replay``,
            ``router`` or ``supervisor``.
        state: ``starting``, ``ready``, ``draining`` (finishes, takes nothing
            new) or ``leaving`` (its last word).
        seq: Counts its heartbeats from 1.
        at: Unix milliseconds by its own clock.
        operations: What it can do.
        spare: What it can do when nobody else does.
        concurrency: Requests it runs at a time.
        queue: Requests it lets wait beyond those.
        in_flight: Requests running.
        queued: Requests waiting.
        served: Requests it has had in hand since its start.
        sessions: Sessions it holds in memory.
        waiting: How many requests wait in a router for a place, by pool.
        pools: How many workers a supervisor keeps, by pool.
        routers: How many of both each router sent it, by the router's incarnation.
        weight: How much of the work it takes: 2 is twice its share.
        lms: Names of the language models it is set up for.
        lm: The one used by requests that name none.
        versions: Digest of what its answers depend on beside the request: releases
            and language models. Equal for processes that may stand in for another.
        dspy: Version of DSPy; empty without.
        python: Version of Python.
        host: Name of its machine.
        pid: Its process id there.
        reconnects: How often it had lost its connection: what it said meanwhile may
            be lost.
        rss: Resident memory, bytes; 0 where it cannot be read.
        loop_lag_ms: How long its event loop has not come round, milliseconds.
        gpus: The GPUs it sees.
        lost_records: Records for the journal that it could not tell, or had to cut.
        lacks: What it has not of all that requests may need, such as ``adapter:xml``,
            ``module:rlm`` or ``optimizer:GEPA``.
    """

    worker: str
    pool: str
    implementation: Literal[
        "python", "native", "state", "replay", "router", "supervisor"
    ]
    state: Literal["starting", "ready", "draining", "leaving"]
    seq: Annotated[int, Meta(ge=0, le=1 << 53)]
    at: float
    operations: list[str]
    spare: list[str] = field(default_factory=list)
    concurrency: Annotated[int, Meta(ge=1, le=MOST)]
    queue: Count = 0
    in_flight: Count = 0
    queued: Count = 0
    served: Annotated[int, Meta(ge=0)] = 0
    sessions: Count = 0
    waiting: dict[str, Count] = field(default_factory=dict)
    pools: dict[str, Count] = field(default_factory=dict)
    routers: dict[str, Count] = field(default_factory=dict)
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    lms: list[str] = field(default_factory=list)
    lm: str = ""
    versions: str = ""
    dspy: str = ""
    python: str = ""
    host: str = ""
    pid: int = 0
    reconnects: Count = 0
    rss: int = 0
    loop_lag_ms: float = 0.0
    gpus: list[Gpu] = field(default_factory=list)
    lost_records: Annotated[int, Meta(ge=0)] = 0
    lacks: list[str] = field(default_factory=list)
