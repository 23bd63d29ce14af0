"""What operators ask of routers, what these answer, and what they tell unasked."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from dspex.contracts.envelope import Decision


class DecisionsRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask every router for its last decisions; each one answers.

    Attributes:
        limit: The most decisions to tell, the newest first.
        request: Only those about this request.
    """

    limit: Annotated[int, Meta(ge=0, le=100_000)] = 50
    request: str | None = None


class RecordedDecision(Struct, frozen=True, kw_only=True):
    """One decision of a router.

    Attributes:
        request: Correlation id.
        operation: What was asked.
        tenant: Who asked.
        at: Unix milliseconds.
        decision: Whom the router chose, and among whom.
    """

    request: str
    operation: str
    tenant: str
    at: float
    decision: Decision


class PoolLoad(Struct, frozen=True, kw_only=True):
    """What a router knows of one pool.

    Attributes:
        pool: Its name.
        workers: Processes that are there.
        ready: Those that take work.
        places: Requests this router may have there at a time.
        held: Requests it has there.
        queued: Requests that wait here for a place there.
    """

    pool: str
    workers: int
    ready: int
    places: int
    held: int
    queued: int


class OpenBreaker(Struct, frozen=True, kw_only=True):
    """A breaker that is not closed.

    Attributes:
        scope: ``worker`` or ``lm``.
        name: The incarnation of the worker; or the operation and the language model.
        state: ``open`` or ``half_open``.
        reason: Why it opened, for people.
        for_ms: Milliseconds until something is sent again; 0 when it is half open.
    """

    scope: Literal["worker", "lm"]
    name: str
    state: Literal["open", "half_open"]
    reason: str
    for_ms: float


class Decisions(Struct, frozen=True, kw_only=True, tag="decisions"):
    """What one router did.

    Attributes:
        router: Its incarnation.
        routers: Routers it knows of, itself included.
        uptime_s: Seconds since it started.
        counters: How often what happened since then: ``requests``, ``done``,
            ``failed.<code>``, ``retries``, ``cache.hits``, ….
        pools: What it knows of the pools.
        breakers: The breakers that are not closed.
        decisions: The last decisions, the newest first.
    """

    router: str
    routers: int
    uptime_s: float
    counters: dict[str, int]
    pools: list[PoolLoad]
    breakers: list[OpenBreaker] = field(default_factory=list)
    decisions: list[RecordedDecision] = field(default_factory=list)


class ProfileRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sample what one process does; that one answers.

    Attributes:
        process: The incarnation of a worker, router or other program, as in its
            heartbeats.
        seconds: How long.
    """

    process: str
    seconds: Annotated[float, Meta(ge=1, le=60)] = 5.0


class HotFunction(Struct, frozen=True, kw_only=True):
    """A function that was seen running.

    Attributes:
        function: ``module:function``.
        own: Samples in which it ran itself.
        total: Samples in which it, or something it called, ran.
    """

    function: str
    own: int
    total: int


class ProcessProfile(Struct, frozen=True, kw_only=True, tag="profile"):
    """What a process was seen doing.

    Attributes:
        process: Its incarnation.
        pid: Its process id.
        seconds: How long it was looked at; less than asked if it was stopped.
        samples: How often it was.
        idle: Stacks of threads that only waited; they are not among the stacks.
        lost: Stacks that are not there because there were too many different ones.
        stacks: Collapsed: a line per stack, its frames as ``module:function:line``
            from the thread inwards with ``;`` between, then how often it was seen.
        hottest: The functions that ran most, the first one most.
    """

    process: str
    pid: int
    seconds: float
    samples: int
    idle: int
    lost: int
    stacks: str
    hottest: list[HotFunction]


class BreakerNotice(Struct, frozen=True, kw_only=True, tag="breaker"):
    """A router stopped sending somewhere, or began again.

    Attributes:
        router: Incarnation of the router.
        scope: ``worker`` or ``lm``.
        name: The incarnation of the worker; or the operation and the language model.
        state: ``open`` (nothing is sent), ``half_open`` (probes) or ``closed``.
        reason: Why, for people.
        at: Unix milliseconds.
        open_for_ms: How long nothing is sent; 0 unless it opened.
    """

    router: str
    scope: Literal["worker", "lm"]
    name: str
    state: Literal["closed", "open", "half_open"]
    reason: str
    at: float
    open_for_ms: float = 0.0
