"""The supervisor program: the only file of this package that sees the bus."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dspex.bus import logs, settings
from dspex.bus.backlog import Backlog
from dspex.bus.clock import now_ms
from dspex.bus.gpu import open_nvml
from dspex.bus.health import Heart, State, read_beat
from dspex.bus.program import VERSION, Context
from dspex.bus.responder import host_name, resident_bytes
from dspex.bus.serving import Endpoint, Service, ServiceInfo
from dspex.bus.tasks import Tasks
from dspex.bus.wishes import KeptWishes
from dspex.contracts import encoding
from dspex.contracts.configuration import ConfigurationError
from dspex.contracts.failures import BadRequest, Failure
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.pools import (
    Changed,
    DesiredNotice,
    DrainRequest,
    HostStatus,
    PoolsRequest,
    RestartRequest,
    ScaleRequest,
    WorkerNotice,
)
from dspex.contracts.subjects import SUPERVISOR_POOL, answerable
from dspex.services.supervisor.fleet import Fleet, default_starting
from dspex.services.supervisor.launching import Launcher
from dspex.services.supervisor.members import PoolState
from dspex.services.supervisor.peers import Peers
from dspex.services.supervisor.scaling import Desired, load_of, needed
from dspex.services.supervisor.wishes import Wishes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspex.bus.core import Message
    from dspex.contracts.configuration import Configuration

_log = logging.getLogger(__name__)

LOGS = settings.FOLDER / "logs"
"""Where the workers' output goes, unless the command line says otherwise."""

COUNT = 1.0
"""Seconds between two looks at what the pools need."""

LOOK_BEHIND = 2.0
"""Seconds between two looks at the jobs that wait."""

REPEAT = 5.0
"""Seconds after which what a pool needs is told again, though it is the same."""


class Supervisor:
    """Keeps the pools of a configuration on this host.

    Args:
        context: What the program was started with.
    """

    def __init__(self, context: Context) -> None:
        self.id = f"{SUPERVISOR_POOL}-{uuid4().hex[:12]}"
        self._context = context
        self._bus = context.bus
        self._subjects = context.configuration.subjects
        self._host = host_name(context.environ)
        self._supervising = context.configuration.supervisor
        launcher = _launcher(context, self._host)
        starting = self._supervising.starting or default_starting()
        gpus = open_nvml()
        self.fleet = Fleet(self.id, launcher, starting, gpus, self._tell)
        now = self.fleet.now()
        for name, pool in context.configuration.pools.items():
            self.fleet.pools[name] = PoolState(name, pool, self._supervising, now)
        self._begun = now
        self._peers = Peers(self.id, self._host)
        self._kept = KeptWishes(self._bus, context.configuration)
        self._wishes = Wishes(
            self.id, self._host, self.fleet, self._peers, self._kept.keep
        )
        self._state: State = "starting"
        self._announced: dict[str, int] = {}
        self._told: dict[str, tuple[Desired, float]] = {}
        self._backlog = Backlog(self._bus, self._subjects.prefix)
        self._tasks = Tasks()
        self._unread = logs.Seldom(_log)
        self._heart = Heart(self._subjects, context.connect_again, self._beat, self.id)
        self._service = Service(
            self._bus, self._subjects, self._info(), self._endpoints()
        )

    async def start(self) -> None:
        """Be heard of, start the workers, answer operators."""
        await self._bus.subscribe(self._subjects.heartbeats(), self._hear)
        await self._bus.subscribe(self._subjects.notice("desired"), self._follow)
        self._wishes.recall(*await self._kept.read(self._host, self.fleet.pools))
        await self.fleet.start()
        self._announce()
        await self._heart.start()
        await self._bus.publish(self._subjects.discover())
        await self._service.start()
        self._tasks.start(self.fleet.run(lambda: self._bus.is_connected), "fleet")
        self._tasks.start(self._count(), "count")
        self._tasks.start(self._look_behind(), "backlog")
        self._tasks.start(self._kept.run(), "wishes")

    async def stop(self) -> None:
        """Stop the workers, then be gone."""
        self._heart.set_state("draining")
        await self._service.stop(1.0)
        await self._tasks.cancel()
        await self._kept.store()
        await self.fleet.stop()
        await self._heart.stop()

    def _hear(self, message: Message) -> None:
        try:
            beat = read_beat(self._subjects, message)
        except Failure as failure:
            self._unread.warning("heartbeat not read: %s", failure.message)
            return
        self._peers.hear(beat, self.fleet.now())
        self.fleet.hear(beat)

    def _follow(self, message: Message) -> None:
        """Take in what a pool needs; one that scales by itself gets our share of it."""
        try:
            notice: DesiredNotice = encoding.decode(message.data, DesiredNotice)
        except Failure as failure:
            self._unread.warning("notice not read: %s", failure.message)
            return
        pool = self.fleet.pools.get(notice.pool)
        if pool is None:
            return
        if notice.supervisor != self.id:
            # As if counted here: we may have to go on from it when that one is gone.
            heard = Desired(workers=notice.desired, reason=notice.reason)
            pool.scaler.follow(self.fleet.now(), heard, pool.settings)
            pool.desired = heard
        if pool.settings.scale == "auto":
            self._wishes.spread(pool, notice.desired)
            self.fleet.poke()

    async def _count(self) -> None:
        """See what the pools need; the first one that has a pool tells it."""
        ready = False
        while True:
            await asyncio.sleep(COUNT)
            now = self.fleet.now()
            self._wishes.respread()
            self._announce()
            if not ready and self.fleet.complete():
                ready = True
                self._state = "ready"
                self._heart.set_state(self._state)
                _log.info(
                    "supervisor ready", extra={"workers": len(self.fleet.members)}
                )
            for pool in self._led(now):
                await self._need(pool, now)

    async def _look_behind(self) -> None:
        """See now and then how many jobs wait, as long as it is us who tell it."""
        while True:
            led = [pool.name for pool in self._led(self.fleet.now())]
            if not led:
                self._backlog.forget()
            await self._backlog.look(led)
            await asyncio.sleep(LOOK_BEHIND)

    def _led(self, now: float) -> list[PoolState]:
        """The pools for which this supervisor counts: it is the first that has them."""
        return [
            pool
            for pool in self.fleet.pools.values()
            if self._peers.sharing(pool.name, now)[0] == self._peers.me
        ]

    async def _need(self, pool: PoolState, now: float) -> None:
        """See what a pool needs, and tell it if it is news."""
        load = load_of(
            pool.name,
            self._peers.beats(now),
            pool.settings.concurrency,
            self._backlog.of(pool.name),
        )
        need = needed(load, self._supervising.target)
        pool.desired = pool.scaler.follow(now, need, pool.settings)
        if self._is_news(pool, now):
            await self._publish_desired(pool, load.ready)

    def _is_news(self, pool: PoolState, now: float) -> bool:
        before, at = self._told.get(pool.name, (None, 0.0))
        same = before is not None and before.workers == pool.desired.workers
        if same and now - at < REPEAT:
            return False
        self._told[pool.name] = (pool.desired, now)
        return True

    async def _publish_desired(self, pool: PoolState, ready: int) -> None:
        notice = DesiredNotice(
            supervisor=self.id,
            pool=pool.name,
            desired=pool.desired.workers,
            ready=ready,
            reason=pool.desired.reason,
            at=now_ms(),
        )
        await self._bus.publish(
            self._subjects.notice("desired"), encoding.encode(notice)
        )

    def _tell(self, notice: WorkerNotice) -> None:
        subject = self._subjects.notice("worker")
        self._tasks.start(self._bus.publish(subject, encoding.encode(notice)), "notice")

    def _restart(self, asked: RestartRequest) -> Changed:
        return self._wishes.restart(asked.pool, self._reread())

    def _reread(self) -> Configuration:
        arguments = self._context.arguments
        try:
            return settings.load(arguments.config, self._context.environ)
        except ConfigurationError as error:
            raise BadRequest(
                str(error), hint="Correct the configuration; nothing was changed."
            ) from None

    def _status(self, asked: PoolsRequest) -> HostStatus:
        now = self.fleet.now()
        return HostStatus(
            supervisor=self.id,
            host=self._host,
            supervisors=len(self._peers.supervisors(now)),
            version=VERSION,
            uptime_s=round(now - self._begun, 1),
            rss=resident_bytes(),
            pools=[
                pool.status(self.fleet.of(name), now)
                for name, pool in self.fleet.pools.items()
                if asked.pool in (None, name)
            ],
        )

    def _announce(self) -> None:
        """What the heartbeat says of the pools: read there by another thread."""
        pools = {} if self._wishes.drained else self.fleet.pools
        before = self._announced
        self._announced = {name: pool.processes for name, pool in pools.items()}
        if self._announced != before:
            self._heart.set_state(self._state)  # others count on it at once

    def _beat(self) -> Heartbeat:
        return Heartbeat(
            worker=self.id,
            pool=SUPERVISOR_POOL,
            implementation="supervisor",
            state="starting",
            seq=0,
            at=0.0,
            operations=[],
            concurrency=1,
            pools=self._announced,
            python=platform.python_version(),
            host=self._host,
            pid=os.getpid(),
            rss=resident_bytes(),
        )

    def _endpoints(self) -> list[Endpoint]:
        # Every supervisor hears these, and answers for its own host.
        wishes = self._wishes
        verbs: dict[str, Callable[[Message], Awaitable[None]]] = {
            "pools": self._answering(PoolsRequest, self._status),
            "scale": self._answering(ScaleRequest, wishes.scale),
            "drain": self._answering(DrainRequest, wishes.drain),
            "restart": self._answering(RestartRequest, self._restart),
        }
        return [
            Endpoint(name=verb, subject=self._subjects.admin(verb), handler=handler)
            for verb, handler in verbs.items()
        ]

    def _answering(
        self, kind: type[Any], answer: Callable[[Any], Any]
    ) -> Callable[[Message], Awaitable[None]]:
        """What reads a wish, and publishes what is done about it."""

        async def handle(message: Message) -> None:
            said = answer(encoding.decode(message.data or b"{}", kind))
            self._announce()
            if said is not None and answerable(message.reply):
                await self._bus.publish(message.reply, encoding.encode(said))

        return handle

    def _info(self) -> ServiceInfo:
        return ServiceInfo(
            name="dspex-supervisor",
            version=VERSION,
            description="Starts and watches the workers of one host.",
            metadata={"host": self._host, "pid": str(os.getpid())},
            id=self.id,
        )


def _launcher(context: Context, host: str) -> Launcher:
    arguments = context.arguments
    cgroup = context.configuration.supervisor.cgroup
    return Launcher(
        host=host,
        cgroup=Path(cgroup) if cgroup else None,
        url=context.bus.settings.url,
        config=arguments.config,
        logs=arguments.logs or LOGS,
        log_level=arguments.log_level,
    )


async def main(context: Context) -> None:
    """Keep the pools until told to stop, then stop the workers; told twice, at once."""
    (context.arguments.logs or LOGS).mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor(context)
    await supervisor.start()
    await context.stop.wait()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.fleet.kill)
    await supervisor.stop()
