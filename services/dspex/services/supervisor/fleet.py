"""The workers of this host, as processes: does what the planner decides."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from dspex.bus.children import Child, how_it_ended
from dspex.bus.clock import now_ms
from dspex.bus.tasks import Tasks
from dspex.contracts.failures import Failure
from dspex.contracts.pools import OUT_OF_MEMORY, OUT_OF_TIME
from dspex.services.supervisor import limits, orphans
from dspex.services.supervisor.cgroups import Cgroups
from dspex.services.supervisor.devices import assign
from dspex.services.supervisor.guard import Guard
from dspex.services.supervisor.logfiles import bound
from dspex.services.supervisor.members import Member
from dspex.services.supervisor.planning import Kill, Patience, Start, Stop, decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.contracts.heartbeats import Gpu, Heartbeat
    from dspex.contracts.pools import WorkerNotice
    from dspex.services.supervisor.launching import Launcher
    from dspex.services.supervisor.members import PoolState

_log = logging.getLogger(__name__)

LEFT: dict[int | None, tuple[str, Literal["resource_memory", "resource_cpu"]]] = {
    OUT_OF_MEMORY: ("ran out of its memory limit", "resource_memory"),
    OUT_OF_TIME: ("was kept busy by a thread whose request had ended", "resource_cpu"),
}
"""Why a worker left by itself, by its exit status, and what its requests fail with."""

LOOK = 0.5
"""Seconds between two looks at what there is, when nothing happens."""


class Fleet:
    """Starts, watches, replaces and stops workers.

    Args:
        supervisor: Incarnation of the supervisor.
        launcher: How workers are started.
        starting: Most workers that start at a time.
        gpus: Reads the GPUs of this host.
        tell: Called with what everybody shall know of a worker.

    Attributes:
        pools: What there shall be, by pool.
        members: What there is, by name.
    """

    def __init__(
        self,
        supervisor: str,
        launcher: Launcher,
        starting: int,
        gpus: Callable[[], list[Gpu]],
        tell: Callable[[WorkerNotice], None],
    ) -> None:
        self.pools: dict[str, PoolState] = {}
        self.members: dict[str, Member] = {}
        self._supervisor = supervisor
        self._launcher = launcher
        self._starting = starting
        self._gpus = gpus
        self._tell = tell
        self._cgroups = Cgroups(launcher.cgroup, supervisor)
        self._guard = Guard(launcher.logs, self._cgroups.pattern)
        self._tasks = Tasks()
        self._changed = asyncio.Event()
        self._spawning = asyncio.Lock()  # whose process id is not known yet
        self._stopped = False

    async def start(self) -> None:
        """Start the guard; ``run`` starts the workers.

        Raises:
            ConfigurationError: The pools cannot be limited as they are to be.
        """
        self._cgroups.prepare({name: one.settings for name, one in self.pools.items()})
        orphans.adopt()
        await self._guard.start()
        self._tasks.start(self._keep_guard(), "guard")

    async def run(self, connected: Callable[[], bool]) -> None:
        """Look and act, for as long as it is not cancelled.

        Args:
            connected: Whether heartbeats can be heard.
        """
        looked = self.now()
        while True:
            now = self.now()
            # Silence says nothing while we were deaf, or did not run ourselves.
            if not connected() or now - looked > 5.0:
                for member in self.members.values():
                    member.forgive(now)
            looked = now
            await self._look(now)
            self._changed.clear()
            try:
                async with asyncio.timeout(LOOK):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def poke(self) -> None:
        """Look at once: something has changed."""
        self._changed.set()

    async def stop(self) -> None:
        """Stop all workers, each with the grace of its pool."""
        self._stopped = True
        now = self.now()
        for member in self.members.values():
            member.stopping("the supervisor stops", now)
        await asyncio.gather(
            *(
                one.child.stop(one.pool.settings.grace_s + Patience().stop)
                for one in list(self.members.values())
            )
        )
        await self._end_orphans()
        await self._guard.stop()
        await self._tasks.join(5.0)

    def kill(self) -> None:
        """End all workers at once: whoever stops us does not want to wait."""
        for member in list(self.members.values()):
            member.child.kill()

    def hear(self, beat: Heartbeat) -> None:
        """Take the heartbeat of one of ours in."""
        if beat.host != self._launcher.host:
            return
        member = next(
            (one for one in self.members.values() if one.child.pid == beat.pid), None
        )
        if member is not None and member.hear(beat, self.now()):
            _log.info("worker ready", extra={"worker": beat.worker})
            self._tell(member.notice(self._supervisor, beat.host, now_ms()))
            self.poke()

    def of(self, pool: str) -> list[Member]:
        """The workers of a pool, those that are stopping included."""
        return [one for one in self.members.values() if one.pool.name == pool]

    def complete(self) -> bool:
        """Whether every pool has as many ready workers as it shall have."""
        return all(
            sum(one.state == "ready" for one in self.of(name)) >= pool.processes
            for name, pool in self.pools.items()
        )

    @staticmethod
    def now() -> float:
        """The clock that all times here are of."""
        return time.monotonic()

    async def _look(self, now: float) -> None:
        await self._measure()
        await self._end_orphans()
        self._cgroups.sweep()
        for member in self.members.values():
            member.look(now)
        goals = {name: pool.goal(now) for name, pool in self.pools.items()}
        seen = [one.seen() for one in self.members.values() if one.killed is None]
        for action in decide(goals, seen, now, self._starting, Patience()):
            match action:
                case Start(pool):
                    await self._start(self.pools[pool])
                case Stop(name, why):
                    self._stop(self.members[name], why)
                case Kill(name, _):
                    self._kill(self.members[name], action)

    async def _measure(self) -> None:
        """See what workers use whose pools limit what all their processes have."""
        limited = [
            one
            for one in self.members.values()
            if one.pool.settings.memory_mib is not None
            or one.pool.settings.max_children is not None
        ]
        if limited:
            pids = [one.child.pid for one in limited]
            found = await asyncio.to_thread(limits.usages, pids)
            for one in limited:
                one.usage = found[one.child.pid]
        logs = [one.child.log for one in self.members.values()]
        await asyncio.to_thread(bound, logs)

    async def _end_orphans(self) -> None:
        """End what workers started that has left their sessions."""
        async with self._spawning:
            ours = {one.child.pid for one in self.members.values()}
            for pid in orphans.sweep({*ours, self._guard.child.pid}):
                _log.warning("ended a process that a worker left behind: %d", pid)

    async def _start(self, pool: PoolState) -> None:
        name = self._free_name(pool.name)
        settings = pool.settings
        gpu = ""
        try:
            if settings.gpus:
                taken = [one.gpu for one in self.members.values() if one.gpu]
                gpu = assign(settings.gpus, self._gpus(), taken)
            program = self._launcher.program(name, pool.name, settings, gpu)
            child = Child(program, self._launcher.log(name))
            async with self._spawning:
                await child.start()
                member = self.members[name] = Member(child, pool, gpu, self.now())
        except (Failure, OSError) as error:
            delay = pool.restarts.ended(0.0, self.now(), f"cannot be started: {error}")
            _log.error("worker not started: %s", error, extra={"again_s": delay})
            return
        self._guard.add(child.pid)
        self._tasks.start(self._watch(member), f"end of {name}")
        try:
            limits.apply(settings, child.pid)
            member.group = self._cgroups.place(name, child.pid, settings)
        except (OSError, ValueError) as error:
            _log.error("limits not set: %s", error, extra={"worker": name})
            self._kill(member, Kill(name, f"could not be limited: {error}"))

    def _stop(self, member: Member, why: str) -> None:
        _log.info("worker told to stop: %s", why, extra={"worker": member.name})
        member.stopping(why, self.now())
        member.child.ask_to_stop()

    def _kill(self, member: Member, kill: Kill) -> None:
        _log.warning("worker %s", kill.why, extra={"worker": member.name})
        member.killed = kill
        member.child.kill()

    async def _watch(self, member: Member) -> None:
        """Wait for the end of a worker, and tell everybody at once."""
        await member.child.wait()
        member.child.release()
        del self.members[member.name]
        self._guard.remove(member.child.pid)
        notice = self._end_of(member)
        if member.group is not None:
            self._cgroups.leave(member.group)
        self._tell(notice)
        if not notice.asked:
            _log.warning("worker %s", notice.reason, extra={"worker": member.name})
        self.poke()

    def _end_of(self, member: Member) -> WorkerNotice:
        now, status, kill = self.now(), member.child.status, member.killed
        notice = member.notice(self._supervisor, self._launcher.host, now_ms())
        reason = kill.why if kill is not None else how_it_ended(status)
        if kill is None and (self._stopped or member.state == "stopping"):
            return replace(
                notice, state="ended", asked=True, reason=member.why or reason
            )
        code = kill.code if kill is not None else "worker_lost"
        if kill is None and member.group and member.group.ran_out_of_memory:
            reason, code = LEFT[OUT_OF_MEMORY]
        elif kill is None and status in LEFT:
            reason, code = LEFT[status]
        words = member.child.tail()
        trouble = f"{member.name} {reason}." + (f" {words}" if words else "")
        again = member.pool.restarts.ended(member.lifetime(now), now, trouble)
        return replace(
            notice,
            state="ended",
            reason=reason,
            code=code,
            words=words,
            again_ms=round(again * 1000, 1),
        )

    async def _keep_guard(self) -> None:
        while not self._stopped:
            await self._guard.child.wait()
            if not self._stopped:
                _log.warning("the guard ended: starting another one")
                async with self._spawning:
                    await self._guard.start()

    def _free_name(self, pool: str) -> str:
        number = 1
        while f"{pool}-{number}" in self.members:
            number += 1
        return f"{pool}-{number}"


def default_starting() -> int:
    """Workers that may start at a time: one for each CPU."""
    return os.cpu_count() or 1
