"""The router program: the only file of this room that sees messages."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import platform
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from dspex.bus import incoming, logs, tracing
from dspex.bus.audiences import audience_of
from dspex.bus.clock import now_ms
from dspex.bus.core import NoResponders
from dspex.bus.events import Events
from dspex.bus.health import Heart, read_beat
from dspex.bus.program import VERSION, Context
from dspex.bus.responder import host_name, resident_bytes
from dspex.bus.serving import BACKLOG, Endpoint, Service, ServiceInfo
from dspex.bus.tasks import Tasks
from dspex.contracts import catalog, encoding
from dspex.contracts.admin import BreakerNotice, Decisions, DecisionsRequest
from dspex.contracts.envelope import failed
from dspex.contracts.failures import Cancelled, Failure, WorkerLost, internal
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.subjects import ROUTER_QUEUE, Subjects, answerable
from dspex.router.caching import Cache
from dspex.router.ends import Ends, listen
from dspex.router.estimates import ServiceTimes
from dspex.router.handling import RequestHandler
from dspex.router.health import Health
from dspex.router.observing import observed
from dspex.router.parts import Parts
from dspex.router.places import Places
from dspex.router.quotas import Quotas, quotas_of
from dspex.router.recording import Record, pool_loads
from dspex.router.sending import Sender
from dspex.router.sessions import sessions_of
from dspex.router.settings import DEFAULTS, Settings, settings_of
from dspex.router.sharing import shared_cache
from dspex.router.targets import Targets
from dspex.router.tickets import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.core import Bus, Message, Subscription
    from dspex.bus.incoming import Request
    from dspex.contracts.configuration import Configuration
    from dspex.router.breakers import Change
    from dspex.router.caching import Shared

_log = logging.getLogger(__name__)


class _Chosen(Struct):
    worker: str


class _Accepted(Struct):
    """What one router wants to know of another's ``accepted``."""

    decision: _Chosen


class Router:
    """Takes requests, decides, dispatches.

    Args:
        bus: Where.
        configuration: Prefix, fallbacks, tenants.
        settings: How long it waits for what.
        clock: By which processes are silent; steady, in seconds.
        shared: Where routers share kept answers.
    """

    def __init__(
        self,
        bus: Bus,
        configuration: Configuration,
        settings: Settings = DEFAULTS,
        clock: Callable[[], float] = time.monotonic,
        shared: Shared | None = None,
    ) -> None:
        self.id = f"router-{uuid4().hex[:12]}"
        self._clock = clock
        self._started = clock()
        self._settings = settings
        self._bus = bus
        self._subjects = configuration.subjects
        self._tasks = Tasks()
        self.targets = Targets(settings.silence, self.id)
        self._parts = observed(self._assemble(configuration, settings, shared))
        self._handler = RequestHandler(self._parts)
        self.targets.gone = self._parts.health.forget
        self._unread = logs.Seldom(_log)
        self._unheard = logs.Seldom(_log)
        self._stop_watching: Callable[[], None] = lambda: None
        self._back_at = -math.inf
        self._pinged: set[str] = set()
        self._listening: list[Subscription] = []
        info, backlog = _info(self._subjects, self.id), BACKLOG + settings.queue
        self._service = Service(bus, self._subjects, info, self._endpoints(), backlog)

    async def start(self) -> None:
        """Learn who is there, then take requests."""
        await self._bus.subscribe(self._subjects.heartbeats(), self._hear)
        await listen(self._bus, self._subjects, self._parts)
        self._stop_watching = self._bus.when_back(self._back)
        await self._bus.publish(self._subjects.discover())
        await asyncio.sleep(self._settings.learning)
        self._tasks.start(self._expire(), "expire")
        self._tasks.start(self._ping_silent(), "ping")
        await self._service.start()

    async def stop(self, grace: float) -> None:
        """Take nothing new, follow what is in hand to its end."""
        self._stop_watching()
        await self._service.stop(grace)
        await self._tasks.cancel()

    def beat(self) -> Heartbeat:
        """What this router says of itself; runs in the heartbeat thread."""
        return Heartbeat(
            worker=self.id,
            pool=ROUTER_QUEUE,
            implementation="router",
            state="starting",
            seq=0,
            at=0.0,
            operations=[],
            concurrency=BACKLOG,
            in_flight=self._handler.in_hand,
            waiting=self._parts.places.queued,
            python=platform.python_version(),
            host=host_name(os.environ),
            pid=os.getpid(),
            rss=resident_bytes(),
        )

    async def call(self, message: Message) -> str | None:
        """One request, whoever's it is; returns the code of its failure, if any."""
        self._parts.record.counters["requests"] += 1
        try:
            request = self._read(message)
        except Failure as failure:
            self._parts.record.ended(failure.code)
            raise
        logs.request_id.set(request.id)
        events = Events(self._bus, audience_of(request, self._subjects, 0))
        with tracing.span(f"route {request.operation}", request.headers) as span:
            ticket = Ticket(request, events, self._settings.grace)
            code = await self._see_to(ticket)
            if code is not None:
                tracing.mark_failed(span, code)
            return code

    def _read(self, message: Message) -> Request:
        address = self._subjects.read_call(message.subject)
        timeout = self._settings.default_timeout
        request = incoming.read(message, address.name, address.tenant, timeout)
        return replace(request, session=address.session)

    async def cancel(self, message: Message) -> None:
        """Stop a request: here if it waits here, else its process hears the same."""
        address = self._subjects.read_cancel(message.subject)
        for ticket in self._handler.tickets(address.tenant, address.name):
            ticket.stop(Cancelled("The client asked to stop it."))

    async def decisions(self, message: Message) -> None:
        """Tell an operator what this router did."""
        asked = DecisionsRequest()
        if message.data:
            asked = encoding.decode(message.data, DecisionsRequest)
        parts = self._parts
        said = Decisions(
            router=self.id,
            routers=self.targets.routers,
            uptime_s=round(self._clock() - self._started, 3),
            counters=dict(parts.record.counters),
            pools=pool_loads(
                self.targets.all(), parts.places.held, parts.places.queued
            ),
            breakers=parts.health.open(self._clock()),
            decisions=parts.record.last(asked),
        )
        if answerable(message.reply):
            await self._bus.publish(message.reply, encoding.encode(said))

    async def _see_to(self, ticket: Ticket) -> str | None:
        """Bring a request to its one end; returns the code of its failure, if any."""
        code: str | None = None
        try:
            with self._handler.hold(ticket):
                code = await self._handler.handle(ticket)
        except Failure as failure:
            code = await _tell(ticket.events, failure)
        except asyncio.CancelledError:
            if not ticket.accepted:  # else its process tells the client
                await _tell(ticket.events, _stopped())
            raise
        except Exception:  # noqa: BLE001 - the caller is told; the details stay in the log
            _log.exception("request failed")
            code = await _tell(ticket.events, internal())
        self._parts.record.ended(code or "done", ticket)
        return code

    def _assemble(
        self, configuration: Configuration, settings: Settings, shared: Shared | None
    ) -> Parts:
        """The parts of this router, each made once and known to those it serves."""
        weights = {name: one.weight for name, one in configuration.tenants.items()}
        places = Places(self.targets, settings, weights, self._clock)
        sender = Sender(self._bus, self._subjects, self.targets, settings, self.id)
        sender.clock, sender.heard = self._clock, places.heard
        return Parts(
            targets=self.targets,
            ends=Ends(),
            places=places,
            sender=sender,
            health=Health(self.targets, self._breaker_changed, settings.slow_call),
            times=ServiceTimes(),
            record=Record(settings.decisions),
            quotas=Quotas(quotas_of(configuration.tenants)),
            cache=Cache(settings.cache_size, settings.cache_ttl, self._clock, shared),
            fallbacks=configuration.fallbacks,
            settings=settings,
            clock=self._clock,
            sessions=sessions_of(self._bus, self._subjects, self.targets),
        )

    def _hear(self, message: Message) -> None:
        try:
            beat = read_beat(self._subjects, message)
        except Failure as failure:
            self._unread.warning("heartbeat not read: %s", failure.message)
            return
        self.targets.hear(beat, self._clock())
        self._parts.places.heard_from(beat.pool)

    def _hear_accepted(self, message: Message) -> None:
        """Another router gave a request to somebody: should it come here again."""
        try:
            accepted: _Accepted = encoding.decode(message.data, _Accepted)
        except Failure:
            return
        address = self._subjects.read_event(message.subject)
        self._handler.elsewhere(address.tenant, address.name, accepted.decision.worker)

    async def _listen_to_others(self) -> None:
        """Hear what other routers decide, for as long as there are any."""
        subjects = self._subjects
        told = subjects.all_events("accepted"), subjects.tenant_events("accepted")
        if self.targets.routers > 1:
            # The rest of them, should one not have come about the last time.
            for subject in told[len(self._listening) :]:
                self._listening.append(
                    await self._bus.subscribe(subject, self._hear_accepted)
                )
        elif self._listening:
            listening, self._listening = self._listening, []
            for subscription in listening:
                await subscription.unsubscribe()

    def _back(self) -> None:
        # Those who come back a moment after us are not gone.
        self._back_at = self._clock()
        self.targets.forgive(self._clock())
        self._tasks.start(self._bus.publish(self._subjects.discover()), "discover")

    def _breaker_changed(self, change: Change) -> None:
        _log.warning(
            "breaker %s: %s", change.state, change.reason, extra={"of": change.name}
        )
        notice = BreakerNotice(
            router=self.id,
            scope=change.scope,
            name=change.name,
            state=change.state,
            reason=change.reason,
            at=now_ms(),
            open_for_ms=round(change.open_for * 1000, 1),
        )
        subject = self._subjects.notice("breaker")
        self._tasks.start(self._bus.publish(subject, encoding.encode(notice)), "notice")

    async def _expire(self) -> None:
        loop, pause = asyncio.get_running_loop(), self._settings.expire
        while True:
            asleep = loop.time()
            await asyncio.sleep(pause)
            self._parts.health.refresh(self._clock())
            self._parts.places.refresh()
            try:
                await self._listen_to_others()
            except Failure as failure:
                self._unheard.warning("other routers: %s", failure.message)
            if not self._bus.is_connected or loop.time() - asleep > 2 * pause:
                # Nobody could be heard, or what they said is still to be read.
                self.targets.forgive(self._clock())
                continue
            for worker in self.targets.expire(self._clock()):
                _log.warning("worker is silent", extra={"worker": worker})

    async def _ping_silent(self) -> None:
        """Ask for those that hold requests and say nothing: the server knows."""
        while True:
            await asyncio.sleep(self._settings.pings)
            since = self._clock() - self._settings.pings
            for target in list(self.targets.all()):
                worker = target.beat.worker
                due = target.own and target.heard <= since
                if due and worker not in self._pinged:
                    self._tasks.start(self._ping(worker), "ping")

    async def _ping(self, worker: str) -> None:
        self._pinged.add(worker)
        subject = self._subjects.worker_ping(worker)
        try:
            await self._bus.request(subject, timeout=1.0)
        except NoResponders:
            if self._clock() - self._back_at > self._settings.silence:
                _log.warning("worker is gone", extra={"worker": worker})
                self.targets.lose(worker)
        except (TimeoutError, Failure):
            return  # it may be busy; its heartbeats tell
        finally:
            self._pinged.discard(worker)

    def _endpoints(self) -> list[Endpoint]:
        subjects = self._subjects
        served = {
            "call": subjects.calls(),
            "tenant_call": subjects.tenant_calls(),
            "session_call": subjects.session_calls(),
            "tenant_session_call": subjects.tenant_session_calls(),
        }
        # Every router hears these: any of them may have the request.
        heard = {
            "cancel": (subjects.cancels(), self.cancel),
            "tenant_cancel": (subjects.tenant_cancels(), self.cancel),
            "decisions": (subjects.admin("decisions"), self.decisions),
        }
        return [
            Endpoint(name=name, subject=subject, handler=self.call, queue=ROUTER_QUEUE)
            for name, subject in served.items()
        ] + [
            Endpoint(name=name, subject=subject, handler=handler, to_the_end=True)
            for name, (subject, handler) in heard.items()
        ]


async def _tell(events: Events, failure: Failure) -> str:
    """Fail a request; the router's is the last word on it."""
    await events.finish(failed(events.audience.request, failure))
    return failure.code


def _stopped() -> WorkerLost:
    return WorkerLost(
        "The router was stopped before the answer was ready.",
        hint="Send it again: another router will take it.",
    )


def _info(subjects: Subjects, router: str) -> ServiceInfo:
    return ServiceInfo(
        name="dspex-router",
        version=VERSION,
        description="Routes DSPy requests to workers and native-ops.",
        metadata={
            "protocol": subjects.call("").removesuffix(".call."),
            "operations": ",".join(sorted(catalog.OPERATIONS)),
            "pid": str(os.getpid()),
        },
        id=router,
    )


async def main(context: Context) -> None:
    """Serve until told to stop, then drain."""
    configuration = context.configuration
    settings = settings_of(configuration.router)
    shared = await shared_cache(context, settings)
    router = Router(context.bus, configuration, settings, shared=shared)
    heart = Heart(configuration.subjects, context.connect_again, router.beat, router.id)
    await router.start()
    await heart.start()
    heart.set_state("ready")
    _log.info("router ready", extra={"workers": len(router.targets)})
    await context.stop.wait()
    heart.set_state("draining")
    await router.stop(grace=30.0)
    await heart.stop()
