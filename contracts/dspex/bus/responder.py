"""What a process that answers requests is made of: a service and a heart.

Native-ops and DSPy workers are both this, with different things to run.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from dspex.bus import metrics
from dspex.bus.answering import Answerer
from dspex.bus.core import Message
from dspex.bus.health import Heart, LoopLag
from dspex.bus.running import Identity, Run, Turns
from dspex.bus.serving import Endpoint, Service, ServiceInfo
from dspex.contracts.heartbeats import Gpu, Heartbeat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.bus.core import Handler
    from dspex.bus.program import Context
    from dspex.bus.slots import Slots


def _no_gpus() -> list[Gpu]:
    return []


class Profile(Struct, frozen=True, kw_only=True):
    """What makes one kind of responder different from another.

    Attributes:
        info: How the service protocol shows it.
        identity: Who it is.
        direct: Subjects clients may use without a router, in queue group ``queue``:
            that of the default tenant and that of all others.
        queue: That queue group.
        operation_of: The operation a direct message asks for.
        operations: What it does.
        spare: What it can do when nobody else does.
        lacks: What it has not of all that requests may need.
        weight: How much of the work it takes.
        lms: Names of the language models it is set up for.
        lm: The one used by requests that name none.
        versions: Digest of what its answers depend on beside the request.
        gpus: Reads the GPUs it sees.
    """

    info: ServiceInfo
    identity: Identity
    direct: tuple[str, str]
    queue: str
    operation_of: Callable[[Message], str]
    operations: list[str]
    spare: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    weight: float = 1.0
    lms: list[str] = field(default_factory=list)
    lm: str = ""
    versions: str = ""
    gpus: Callable[[], list[Gpu]] = _no_gpus


class Responder:
    """Serves a profile until it is stopped."""

    def __init__(
        self,
        context: Context,
        profile: Profile,
        slots: Slots,
        run: Run,
        turns: Turns | None = None,
    ) -> None:
        self._profile = profile
        self._slots = slots
        self._turns = turns
        self._capture = context.bus.capture
        self._host = host_name(context.environ)
        self._answerer = Answerer(context.bus, profile.identity, slots, run, turns)
        self._service = Service(
            context.bus, profile.identity.subjects, profile.info, self._endpoints()
        )
        self._lag = LoopLag()
        self._reconnects = 0
        self._unwatch = context.bus.when_back(self._back)
        identity = profile.identity
        self._heart = Heart(
            identity.subjects, context.connect_again, self._beat, identity.worker
        )
        self._observe()

    async def start(self) -> None:
        """Show as ``starting``; nothing is served yet."""
        self._lag.start()
        await self._heart.start()

    async def open(self) -> None:
        """Serve, and show as ``ready``."""
        await self._service.start()
        self._heart.set_state("ready")

    @property
    def dispatched(self) -> Handler:
        """What takes messages that routers send elsewhere than to this process."""
        return self._service.handler("run")

    async def stop(self, grace: float) -> None:
        """Take nothing new, answer what is in hand, leave.

        Args:
            grace: Seconds after which what still runs is failed as ``worker_lost``.
        """
        self._heart.set_state("draining")
        await self._service.stop(grace)
        await self._heart.stop()
        self._unwatch()

    def _observe(self) -> None:
        slots, gpus = self._slots, self._profile.gpus
        here = {"dspex.pool": self._profile.identity.pool}

        def each(read: Callable[[Gpu], int]) -> Callable[[], metrics.Readings]:
            return lambda: [
                (read(gpu), {"hw.id": gpu.uuid, "hw.name": gpu.name}) for gpu in gpus()
            ]

        metrics.observe(metrics.SLOTS_USED, lambda: [(slots.in_flight, here)])
        metrics.observe(metrics.SLOTS_LIMIT, lambda: [(slots.concurrency, here)])
        metrics.observe(metrics.WORKER_QUEUE, lambda: [(slots.queued, here)])
        metrics.observe(metrics.GPU_USED, each(lambda gpu: gpu.total - gpu.free))
        metrics.observe(metrics.GPU_LIMIT, each(lambda gpu: gpu.total))

    def _back(self) -> None:
        self._reconnects += 1

    async def _direct(self, message: Message) -> str | None:
        operation = self._profile.operation_of(message)
        return await self._answerer.direct(message, operation)

    def _endpoints(self) -> list[Endpoint]:
        profile, answerer = self._profile, self._answerer
        subjects = profile.identity.subjects
        run = subjects.worker_run(profile.identity.worker)
        cancels = {
            "cancel": subjects.cancels(),
            "tenant_cancel": subjects.tenant_cancels(),
        }
        stop = subjects.worker_stop(profile.identity.worker)
        direct = dict(zip(("direct", "tenant_direct"), profile.direct, strict=True))
        return [
            Endpoint(name="run", subject=run, handler=answerer.dispatched),
            Endpoint(name="stop", subject=stop, handler=answerer.drop, to_the_end=True),
            *(
                Endpoint(
                    name=name, subject=one, handler=self._direct, queue=profile.queue
                )
                for name, one in direct.items()
            ),
            *(
                Endpoint(
                    name=name, subject=one, handler=answerer.cancel, to_the_end=True
                )
                for name, one in cancels.items()
            ),
        ]

    def _beat(self) -> Heartbeat:
        """Capacity now; runs in the heartbeat thread, so it only reads."""
        profile, slots = self._profile, self._slots
        identity = profile.identity
        return Heartbeat(
            worker=identity.worker,
            pool=identity.pool,
            implementation=identity.implementation,
            state="starting",
            seq=0,
            at=0.0,
            operations=profile.operations,
            spare=profile.spare,
            lacks=profile.lacks,
            concurrency=slots.concurrency,
            queue=slots.queue,
            in_flight=slots.in_flight,
            queued=slots.queued,
            served=slots.served,
            sessions=0 if self._turns is None else len(self._turns),
            routers=slots.by_router(),
            weight=profile.weight,
            lms=profile.lms,
            lm=profile.lm,
            versions=profile.versions,
            dspy=identity.dspy,
            python=platform.python_version(),
            host=self._host,
            pid=os.getpid(),
            reconnects=self._reconnects,
            loop_lag_ms=round(self._lag.milliseconds, 1),
            rss=resident_bytes(),
            gpus=profile.gpus(),
            lost_records=self._capture.lost,
        )


def host_name(environ: Mapping[str, str]) -> str:
    """What this machine is called: ``DSPEX_HOST``, or the name it has."""
    return environ.get("DSPEX_HOST") or platform.node()


def resident_bytes() -> int:
    """Resident memory of this process; 0 where /proc does not say."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            pages = int(statm.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
