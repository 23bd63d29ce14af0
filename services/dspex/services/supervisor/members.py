"""What a supervisor knows of its pools and of each worker it has started."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dspex.contracts.pools import PoolStatus, WorkerNotice, WorkerStatus
from dspex.services.supervisor.limits import Usage, cpu_seconds
from dspex.services.supervisor.planning import Goal, Kill, Worker
from dspex.services.supervisor.restarts import HEALTHY_AFTER, Restarts
from dspex.services.supervisor.scaling import Desired, Scaler

if TYPE_CHECKING:
    from typing import Literal

    from dspex.bus.children import Child
    from dspex.contracts.heartbeats import Heartbeat
    from dspex.contracts.pooling import Pool, Supervising
    from dspex.services.supervisor.cgroups import Cgroup

QUIET = 2.0
"""Seconds without a heartbeat after which it is looked at what a worker computes."""

JITTER = 0.1
"""How far the limits of workers differ, so that not all are replaced at once."""


class PoolState:
    """One pool on this host.

    Attributes:
        name: Its name.
        settings: As configured.
        processes: Workers there shall be.
        generation: How often it was restarted.
        restarts: When workers that ended are started again.
        scaler: Follows its load.
        desired: Workers that it needs on all hosts together.
    """

    def __init__(
        self, name: str, settings: Pool, supervising: Supervising, now: float
    ) -> None:
        self.name = name
        self.settings = settings
        self.processes = settings.processes
        self.generation = 0
        self.restarts = Restarts()
        self.scaler = Scaler(supervising.down_after_s, settings.processes, now)
        self.desired = Desired(workers=settings.processes, reason="as configured")

    def goal(self, now: float) -> Goal:
        """What there shall be."""
        return Goal(
            processes=self.processes,
            settings=self.settings,
            generation=self.generation,
            pause=self.restarts.pause(now),
        )

    def status(self, members: list[Member], now: float) -> PoolStatus:
        """What operators are told."""
        return PoolStatus(
            pool=self.name,
            processes=self.processes,
            desired=self.desired.workers,
            reason=self.desired.reason,
            scale=self.settings.scale,
            trouble=self.restarts.trouble,
            again_ms=round(self.restarts.pause(now) * 1000, 1),
            workers=[one.status(now) for one in members],
        )


class Member:
    """One worker process, from its start to its end.

    Attributes:
        child: The process.
        pool: Its pool.
        gpu: UUID of the GPU it was given; empty: none.
        state: ``starting``, ``ready`` or ``stopping``.
        beat: Its last heartbeat.
        why: Why it is to stop.
        asked: Why an operator wants it replaced.
        killed: Why it was ended at once, if it was.
        usage: What its processes use, where that is looked at.
        group: Its cgroup, where it has one.
    """

    def __init__(self, child: Child, pool: PoolState, gpu: str, now: float) -> None:
        self.child = child
        self.pool = pool
        self.gpu = gpu
        self.state: Literal["starting", "ready", "stopping"] = "starting"
        self.beat: Heartbeat | None = None
        self.why = ""
        self.asked = ""
        self.killed: Kill | None = None
        self.usage = Usage()
        self.group: Cgroup | None = None
        self._generation = pool.generation
        self._jitter = random.uniform(1 - JITTER, 1 + JITTER)
        self._begun = self._heard = now
        self._stopped = 0.0
        self._was_healthy = False
        self._busy = (0.0, 0.0)  # CPU seconds when it fell silent, and now

    @property
    def name(self) -> str:
        """Its name on this host."""
        return self.child.program.name

    @property
    def incarnation(self) -> str:
        """What it is called on the bus; empty until its first heartbeat."""
        return self.beat.worker if self.beat else ""

    def hear(self, beat: Heartbeat, now: float) -> bool:
        """Take a heartbeat in; returns whether it has become ready with it."""
        self.beat, self._heard = beat, now
        self._busy = (0.0, 0.0)
        if (
            beat.state == "ready"
            and not self._was_healthy
            and now - self._begun > HEALTHY_AFTER
        ):
            # Once: it says nothing of those of its pool that cannot start.
            self._was_healthy = True
            self.pool.restarts.healthy()
        if self.state != "starting" or beat.state != "ready":
            return False
        self.state = "ready"
        return True

    def forgive(self, now: float) -> None:
        """Count it as heard: while we were deaf, silence said nothing."""
        self._heard = now

    def look(self, now: float) -> None:
        """See what it computes, if it says nothing."""
        if now - self._heard > QUIET:
            used = cpu_seconds(self.child.pid)
            self._busy = (self._busy[0] or used, used)

    def stopping(self, why: str, now: float) -> None:
        """It was told to stop."""
        self.state, self.why, self._stopped = "stopping", why, now

    def lifetime(self, now: float) -> float:
        """Seconds since it was started."""
        return now - self._begun

    def seen(self) -> Worker:
        """What the planner is told."""
        beat = self.beat
        return Worker(
            name=self.name,
            pool=self.pool.name,
            generation=self._generation,
            begun=self._begun,
            state=self.state,
            stopped=self._stopped,
            heard=self._heard,
            served=beat.served if beat else 0,
            rss=beat.rss if beat else 0,
            memory=self.usage.memory,
            children=max(0, self.usage.processes - 1),
            lag=beat.loop_lag_ms / 1000 if beat else 0.0,
            busy=self._busy[1] - self._busy[0],
            jitter=self._jitter,
            asked=self.asked,
        )

    def status(self, now: float) -> WorkerStatus:
        """What operators are told."""
        beat = self.beat
        known = {} if beat is None else {
            "in_flight": beat.in_flight,
            "queued": beat.queued,
            "concurrency": beat.concurrency,
            "served": beat.served,
            "sessions": beat.sessions,
            "rss": beat.rss,
            "dspy": beat.dspy,
            "python": beat.python,
            "gpus": beat.gpus,
        }  # fmt: skip
        return WorkerStatus(
            name=self.name,
            worker=self.incarnation,
            pid=self.child.pid,
            state=self.state,
            why=self.why or self.asked,
            age_s=round(self.lifetime(now), 1),
            **known,  # type: ignore[arg-type] # each is what the field beside it is
        )

    def notice(self, supervisor: str, host: str, at: float) -> WorkerNotice:
        """That it is ready; what is told of its end is built on this."""
        return WorkerNotice(
            supervisor=supervisor,
            host=host,
            pool=self.pool.name,
            name=self.name,
            worker=self.incarnation,
            pid=self.child.pid,
            state="ready",
            at=at,
        )
