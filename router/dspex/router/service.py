"""The router program: the only file of this room that sees messages."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

from dspex.bus import incoming, logs, tracing
from dspex.bus.events import Events, audience_of
from dspex.bus.health import read_beat
from dspex.bus.program import VERSION, Context
from dspex.bus.serving import Endpoint, Service, ServiceInfo
from dspex.bus.tasks import Tasks
from dspex.contracts import catalog, encoding
from dspex.contracts.envelope import Requested, failed
from dspex.contracts.failures import Failure, WorkerLost, internal
from dspex.contracts.requests import Body, Predict
from dspex.contracts.subjects import ROUTER_QUEUE, Subjects
from dspex.native.compiling import compile_signature
from dspex.native.requiring import extra_fields, require, require_demos
from dspex.router.dispatching import Dispatcher, Ticket, wanted_of
from dspex.router.settings import DEFAULTS, Settings
from dspex.router.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.core import Bus, Message
    from dspex.bus.incoming import Request

_log = logging.getLogger(__name__)

_EVENT_FIELDS = 1024
"""Bytes the fields of an event take beside the body it copies."""


class Router:
    """Takes requests, decides, dispatches.

    Args:
        bus: Where.
        subjects: Under which prefix.
        settings: How long it waits for what.
        clock: By which processes are silent; steady, in seconds.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        settings: Settings = DEFAULTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.targets = Targets(settings.silence)
        self._settings = settings
        self._bus = bus
        self._subjects = subjects
        self._dispatcher = Dispatcher(bus, subjects, self.targets, settings)
        self._in_hand: dict[tuple[str, str], list[Ticket]] = {}
        self._tasks = Tasks()
        self._unread = logs.Seldom(_log)
        self._stop_watching: Callable[[], None] | None = None
        self._service = Service(bus, subjects, _info(subjects), self._endpoints())

    async def start(self) -> None:
        """Learn who is there, then take requests."""
        await self._bus.subscribe(self._subjects.heartbeats(), self._hear)
        self._stop_watching = self._bus.when_back(self._back)
        await self._bus.publish(self._subjects.discover())
        await asyncio.sleep(self._settings.learning)
        self._tasks.start(self._expire(), "expire")
        await self._service.start()

    async def stop(self, grace: float) -> None:
        """Take nothing new, follow what is in hand to its end."""
        if self._stop_watching is not None:
            self._stop_watching()
        await self._service.stop(grace)
        await self._tasks.cancel()

    async def call(self, message: Message) -> str | None:
        """One request, whoever's it is; returns the code of its failure, if any."""
        address = self._subjects.read_call(message.subject)
        timeout = self._settings.default_timeout
        request = incoming.read(message, address.name, address.tenant, timeout)
        logs.request_id.set(request.id)
        events = Events(self._bus, audience_of(request, self._subjects, 0))
        with tracing.span(f"route {request.operation}", request.headers) as span:
            ticket = Ticket(request, events, self._settings.grace)
            code = await self._route(ticket)
            if code is not None:
                tracing.mark_failed(span, code)
            return code

    async def cancel(self, message: Message) -> None:
        """Remember that a request shall stop; its process hears the same message."""
        address = self._subjects.read_cancel(message.subject)
        for ticket in self._in_hand.get((address.tenant, address.name), ()):
            ticket.cancelled = True

    async def _route(self, ticket: Ticket) -> str | None:
        request, events = ticket.request, ticket.events
        key = (request.tenant, request.id)
        self._in_hand.setdefault(key, []).append(ticket)
        try:
            body = await self._admit(request, events)
            code = await self._dispatcher.dispatch(ticket, wanted_of(request, body))
        except Failure as failure:
            return await _tell(events, failure)
        except asyncio.CancelledError:
            if not ticket.accepted:  # else its process tells the client
                await _tell(events, _stopped())
            raise
        except Exception:  # noqa: BLE001 - the caller is told; the details stay in the log
            _log.exception("request failed")
            return await _tell(events, internal())
        finally:
            self._in_hand[key].remove(ticket)
            if not self._in_hand[key]:
                del self._in_hand[key]
        return None if code == "done" else code

    async def _admit(self, request: Request, events: Events) -> Body:
        """Check the request, so that no worker sees what cannot be answered."""
        operation = catalog.operation(request.operation)
        body: Body = encoding.decode(request.body, operation.request, request.media)
        events.reply_in(body.options.accept)
        copy = request.body if request.media == encoding.JSON else encoding.encode(body)
        said = {
            "operation": request.operation,
            "tenant": request.tenant,
            "deadline": int(request.deadline),
        }
        # Where the copy has no room beside the event's own fields, it is left out.
        room = self._bus.max_payload - _EVENT_FIELDS
        fits = len(copy) <= room
        await events.emit(Requested, body=msgspec.Raw(copy) if fits else None, **said)
        if isinstance(body, Predict):
            compiled = compile_signature(body.signature, body.instructions)
            require(compiled, body.inputs, "inputs")
            require_demos(compiled, body.demos, extra_fields(request.operation))
        return body

    def _hear(self, message: Message) -> None:
        try:
            beat = read_beat(self._subjects, message)
        except Failure as failure:
            self._unread.warning("heartbeat not read: %s", failure.message)
            return
        self.targets.hear(beat, self._clock())

    def _back(self) -> None:
        self.targets.forgive(self._clock())
        self._tasks.start(self._bus.publish(self._subjects.discover()), "discover")

    async def _expire(self) -> None:
        loop, pause = asyncio.get_running_loop(), self._settings.expire
        while True:
            asleep = loop.time()
            await asyncio.sleep(pause)
            if not self._bus.is_connected or loop.time() - asleep > 2 * pause:
                # Nobody could be heard, or what they said is still to be read.
                self.targets.forgive(self._clock())
                continue
            for worker in self.targets.expire(self._clock()):
                _log.warning("worker is silent", extra={"worker": worker})

    def _endpoints(self) -> list[Endpoint]:
        served = {
            "call": self._subjects.calls(),
            "tenant_call": self._subjects.tenant_calls(),
        }
        # Every router hears every cancel: any of them may have the request.
        heard = {
            "cancel": self._subjects.cancels(),
            "tenant_cancel": self._subjects.tenant_cancels(),
        }
        return [
            Endpoint(name=name, subject=subject, handler=self.call, queue=ROUTER_QUEUE)
            for name, subject in served.items()
        ] + [
            Endpoint(name=name, subject=subject, handler=self.cancel)
            for name, subject in heard.items()
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


def _info(subjects: Subjects) -> ServiceInfo:
    return ServiceInfo(
        name="dspex-router",
        version=VERSION,
        description="Routes DSPy requests to workers and native-ops.",
        metadata={
            "protocol": subjects.call("").removesuffix(".call."),
            "operations": ",".join(sorted(catalog.OPERATIONS)),
            "pid": str(os.getpid()),
        },
        id=uuid4().hex,
    )


async def main(context: Context) -> None:
    """Serve until told to stop, then drain."""
    router = Router(context.bus, context.configuration.subjects)
    await router.start()
    _log.info("router ready", extra={"workers": len(router.targets)})
    await context.stop.wait()
    await router.stop(grace=30.0)
