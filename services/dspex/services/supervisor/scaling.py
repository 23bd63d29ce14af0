"""How many workers a pool needs, and how they are spread over hosts: pure.

More are wanted at once; fewer only when fewer have been enough for a while: the most
that any moment of that while needed is what is wanted now.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.contracts.heartbeats import Heartbeat
    from dspex.contracts.pooling import Pool


class Load(Struct, frozen=True, kw_only=True):
    """What a pool has to do.

    Attributes:
        in_flight: Requests that run, or wait in a worker.
        waiting: Requests that wait in routers for a place.
        lag: Jobs that wait in JetStream.
        ready: Workers that take work.
        concurrency: Requests one worker runs at a time.
    """

    in_flight: int = 0
    waiting: int = 0
    lag: int = 0
    ready: int = 0
    concurrency: int = 1


class Desired(Struct, frozen=True, kw_only=True):
    """How many workers a pool needs.

    Attributes:
        workers: So many.
        reason: Why, for people.
    """

    workers: int
    reason: str


def load_of(
    pool: str, beats: Sequence[Heartbeat], concurrency: int, lag: int = 0
) -> Load:
    """What a pool has to do.

    Args:
        pool: Its name.
        beats: Everybody's latest heartbeats.
        concurrency: Requests one worker runs at a time, while none says so.
        lag: Jobs that wait in JetStream.
    """
    workers = [one for one in beats if one.pool == pool]
    ready = [one for one in workers if one.state == "ready"]
    return Load(
        in_flight=sum(one.in_flight + one.queued for one in workers),
        waiting=sum(one.waiting.get(pool, 0) for one in beats),
        lag=lag,
        ready=len(ready),
        concurrency=max((one.concurrency for one in ready), default=concurrency),
    )


def needed(load: Load, target: float) -> Desired:
    """How many workers this load needs now.

    Args:
        load: What there is to do.
        target: Share of their places that workers shall use.
    """
    work = load.in_flight + load.waiting + load.lag
    workers = math.ceil(work / (load.concurrency * target) - 1e-9)
    parts = [f"{load.in_flight} in flight"]
    parts += [f"{load.waiting} waiting"] if load.waiting else []
    parts += [f"{load.lag} jobs behind"] if load.lag else []
    places = load.ready * load.concurrency
    return Desired(
        workers=workers,
        reason=f"{', '.join(parts)}, for {places} places of {load.ready} workers",
    )


class Scaler:
    """Follows the load of one pool: up at once, down after a while.

    Args:
        down_after: Seconds that fewer must have been enough.
        workers: How many there are at first: they were wanted, so they count as
            needed at that moment.
        now: That moment.
    """

    def __init__(self, down_after: float, workers: int, now: float) -> None:
        self._down_after = down_after
        self._seen = deque([(now, workers)])

    def follow(self, now: float, need: Desired, settings: Pool) -> Desired:
        """Take in what is needed now; returns what is wanted, within the limits."""
        while self._seen and self._seen[0][0] <= now - self._down_after:
            self._seen.popleft()
        # What is not more than this can never again be the most.
        while self._seen and self._seen[-1][1] <= need.workers:
            self._seen.pop()
        self._seen.append((now, need.workers))
        most = self._seen[0][1]
        reason = need.reason
        if most > need.workers:
            reason += f"; up to {most} in the last {self._down_after:.0f} s"
        workers, bound = _bounded(most, settings)
        return Desired(workers=workers, reason=reason + bound)


def _bounded(workers: int, settings: Pool) -> tuple[int, str]:
    if workers < settings.min:
        return settings.min, f"; never fewer than {settings.min}"
    if settings.max is not None and workers > settings.max:
        return settings.max, f"; never more than {settings.max}"
    return workers, ""


def share(total: int, hosts: Sequence[str], me: str) -> int:
    """How many of all workers of a pool one host has; all hosts agree on it.

    Args:
        total: Workers of the pool.
        hosts: Who spreads them, each by a name that sorts alike everywhere.
        me: One of them.
    """
    ordered = sorted(hosts)
    each, rest = divmod(total, len(ordered))
    return each + (ordered.index(me) < rest)
