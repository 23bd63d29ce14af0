"""What to do now, from what there shall be and what there is: pure.

The order of things: what is broken is ended; what is too many is told to stop; what
is to be replaced is told to stop when its replacement is ready; what is missing is
started, a few at a time. Called again and again, each time with what is true by then,
it needs no memory of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from dspex.contracts.pooling import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MIB = 1 << 20

BUSY = 0.1
"""Share of a CPU beyond which silence is that of who computes: who is frozen uses none,
and on a machine that is full nobody gets much more."""


class Patience(Struct, frozen=True, kw_only=True):
    """How long silence is borne, in seconds.

    Attributes:
        start: From a start to the first heartbeat that says ``ready``.
        silence: Without a heartbeat.
        stop: Beyond a worker's own grace, until it has ended.
    """

    start: float = 120.0
    silence: float = 10.0
    stop: float = 5.0


class Goal(Struct, frozen=True, kw_only=True):
    """What a pool shall be on this host.

    Attributes:
        processes: How many workers.
        settings: What each one is.
        generation: Workers of an earlier one are replaced.
        pause: Seconds until one may be started.
    """

    processes: int
    settings: Pool
    generation: int = 0
    pause: float = 0.0


class Worker(Struct, frozen=True, kw_only=True):
    """One worker process as it is now.

    Attributes:
        name: Its name on this host.
        pool: Its pool.
        generation: Of the pool, when it was started.
        begun: When it was started.
        state: ``starting``, ``ready``, or ``stopping``: told to stop.
        stopped: When it was told to.
        heard: When its last heartbeat came.
        served: Requests it has had.
        rss: Its resident memory, bytes.
        memory: That of all its processes together, bytes; 0: not looked at.
        children: Processes it has started that run.
        lag: Seconds its event loop has not come round.
        busy: Seconds of a CPU it has used since it fell silent.
        jitter: What its own limits are multiplied by, about 1.
        asked: Why an operator wants it replaced; empty: nobody does.
    """

    name: str
    pool: str
    generation: int = 0
    begun: float
    state: Literal["starting", "ready", "stopping"] = "starting"
    stopped: float = 0.0
    heard: float = 0.0
    served: int = 0
    rss: int = 0
    memory: int = 0
    children: int = 0
    lag: float = 0.0
    busy: float = 0.0
    jitter: float = 1.0
    asked: str = ""


class Start(Struct, frozen=True):
    """Start one worker of a pool."""

    pool: str


class Stop(Struct, frozen=True):
    """Tell a worker to finish what it has and end."""

    name: str
    why: str


class Kill(Struct, frozen=True):
    """End a worker at once.

    Attributes:
        name: The worker.
        why: For people, after its name.
        code: What its requests fail with.
    """

    name: str
    why: str
    code: Literal["worker_lost", "resource_memory", "resource_cpu"] = "worker_lost"


Action = Start | Stop | Kill


def decide(
    goals: Mapping[str, Goal],
    workers: Sequence[Worker],
    now: float,
    starting: int,
    patience: Patience,
) -> list[Action]:
    """What to do now.

    Args:
        goals: What there shall be, by pool.
        workers: What there is; those that were ended are not.
        now: The time, by the clock that the workers' times are of.
        starting: Most workers that may start at a time.
        patience: How long silence is borne.
    """
    kills = [
        kill
        for one in workers
        if (kill := fault(one, goals.get(one.pool), now, patience)) is not None
    ]
    ended = {kill.name for kill in kills}
    alive = [one for one in workers if one.name not in ended]
    stops: list[Stop] = []
    missing: dict[str, int] = {}
    for pool in {*goals, *(one.pool for one in alive)}:
        members = [one for one in alive if one.pool == pool and one.state != "stopping"]
        found, wanted = _shape(goals.get(pool), members, now)
        stops += found
        missing[pool] = wanted
    stopped = {stop.name for stop in stops}
    busy = sum(one.state == "starting" and one.name not in stopped for one in alive)
    return [*kills, *stops, *_starts(missing, starting - busy)]


def fault(
    worker: Worker, goal: Goal | None, now: float, patience: Patience
) -> Kill | None:
    """Why a worker must be ended at once, if it must."""
    name = worker.name
    settings = goal.settings if goal is not None else Pool()
    if worker.state == "stopping":
        late = now - worker.stopped > settings.grace_s + patience.stop
        return Kill(name, "did not stop when it was told to") if late else None
    if worker.state == "starting" and now - worker.begun > patience.start:
        return Kill(name, f"was not ready after {now - worker.begun:.0f} s")
    silent = now - worker.heard
    if worker.state == "ready" and silent > patience.silence:
        if worker.busy > silent * BUSY:
            why = f"was kept busy by native code: no heartbeat for {silent:.0f} s"
            return Kill(name, why, "resource_cpu")
        return Kill(name, f"is frozen: no heartbeat for {silent:.0f} s")
    return _beyond_limits(worker, settings)


def _beyond_limits(worker: Worker, settings: Pool) -> Kill | None:
    name, limit = worker.name, settings.memory_mib
    if limit is not None and worker.memory > limit * MIB:
        held = worker.memory // MIB
        why = f"ran out of memory: its processes hold {held} MiB, {limit} are allowed"
        return Kill(name, why, "resource_memory")
    most = settings.max_children
    if most is not None and worker.children > most:
        why = f"had {worker.children} child processes, {most} are allowed"
        return Kill(name, why, "resource_cpu")
    stalled = settings.stall_s is not None and worker.lag > settings.stall_s
    if stalled:
        why = f"was kept busy by a request for {worker.lag:.0f} s without a pause"
        return Kill(name, why, "resource_cpu")
    return None


def due(worker: Worker, goal: Goal, now: float) -> str:
    """Why a worker is to be replaced; empty if it is not."""
    settings, jitter = goal.settings, worker.jitter
    if worker.asked:
        return worker.asked
    if worker.generation < goal.generation:
        return "the pool is restarted"
    if _beyond(now - worker.begun, settings.recycle_after_s, jitter):
        return f"it is {now - worker.begun:.0f} s old"
    if _beyond(worker.served, settings.recycle_requests, jitter):
        return f"it has had {worker.served} requests"
    if _beyond(worker.rss / MIB, settings.recycle_mib, 1.0):
        return f"it holds {worker.rss // MIB} MiB"
    return ""


def _beyond(value: float, limit: float | None, jitter: float) -> bool:
    return limit is not None and value > limit * jitter


def _shape(
    goal: Goal | None, members: list[Worker], now: float
) -> tuple[list[Stop], int]:
    """Who of a pool is to stop, and how many are to be started."""
    if goal is None:
        return [Stop(one.name, "its pool is gone") for one in members], 0
    reasons = {one.name: due(one, goal, now) for one in members}
    fresh = [one for one in members if not reasons[one.name]]
    old = [one for one in members if reasons[one.name]]
    kept, extra = _trim(fresh, goal.processes)
    stops = [Stop(one.name, "fewer are wanted") for one in extra]
    # One that is not ready answers nobody, so nothing has to take its place first.
    ready_old = [one for one in old if one.state == "ready"]
    serving = sum(one.state == "ready" for one in kept) + len(ready_old)
    spare = max(0, serving - goal.processes)
    leaving = sorted(ready_old, key=lambda one: one.begun)[:spare]
    leaving += [one for one in old if one.state == "starting"]
    stops += [Stop(one.name, reasons[one.name]) for one in leaving]
    staying = len(kept) + len(old) - len(leaving)
    room = goal.processes + max(1, goal.processes // 4) - staying
    missing = max(0, min(goal.processes - len(kept), room))
    return stops, 0 if goal.pause > 0 else missing


def _trim(fresh: list[Worker], wanted: int) -> tuple[list[Worker], list[Worker]]:
    """Those that stay and those that are too many: the youngest, unready ones first."""
    ordered = sorted(fresh, key=lambda one: (one.state != "ready", one.begun))
    return ordered[:wanted], ordered[wanted:]


def _starts(missing: Mapping[str, int], places: int) -> Iterable[Start]:
    """As many as may start now, the pools in turn."""
    rounds = [
        (number, pool) for pool in sorted(missing) for number in range(missing[pool])
    ]
    return [Start(pool) for _, pool in sorted(rounds)[: max(0, places)]]
