"""The NATS service protocol (ADR-32), with requests answered side by side.

Any NATS tool finds our programs by it (``nats service ls``). It is written here
because ``nats.micro`` answers one request at a time, sends exceptions to callers
word for word, and loses what is in flight when it stops.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from msgspec import Struct, field

from dspex.bus.core import Message
from dspex.bus.events import refuse
from dspex.bus.tasks import Tasks
from dspex.contracts.failures import Failure, Internal, Overloaded, internal
from dspex.contracts.subjects import answerable

if TYPE_CHECKING:
    from dspex.bus.core import Bus, Handler, Subscription
    from dspex.contracts.subjects import Subjects

_log = logging.getLogger(__name__)

CONTROL = "$SRV"
"""Root of the protocol's own subjects."""

TYPES = "io.nats.micro.v1"
"""Root of the protocol's message types."""

BACKLOG = 2048
"""Requests one service has in hand at most; more are refused as overloaded."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """One subject a service answers on.

    Attributes:
        name: What tools show.
        subject: May hold wildcards.
        handler: Answers one message and returns the code of the failure it sent, if
            it sent one; a ``Failure`` it raises is sent to the caller.
        queue: Queue group; empty: every instance gets every message, and none is
            refused because many are in hand.
        to_the_end: Served until the last request has ended, such as a cancel.
        metadata: Strings tools show.
    """

    name: str
    subject: str
    handler: Callable[[Message], Awaitable[str | None]]
    queue: str = ""
    to_the_end: bool = False
    metadata: dict[str, str] = field(default_factory=dict)


class ServiceInfo(Struct, frozen=True, kw_only=True):
    """Who a service is.

    Attributes:
        name: Kind, such as ``dspex-router``.
        version: Semantic version.
        description: One sentence.
        metadata: Strings tools show.
        id: This instance.
    """

    name: str
    version: str
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid4().hex)


class _Counts:
    """Statistics of one endpoint."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.nanoseconds = 0

    def add(self, nanoseconds: int, error: str) -> None:
        self.requests += 1
        self.nanoseconds += nanoseconds
        if error:
            self.errors += 1
            self.last_error = error


class Service:
    """Serves endpoints until it is stopped; then answers what it has in hand.

    Args:
        bus: Where to serve.
        subjects: Under whose event subjects refusals are told.
        info: Who it is.
        endpoints: What it answers on.
        backlog: Requests it has in hand at most.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        info: ServiceInfo,
        endpoints: list[Endpoint],
        backlog: int = BACKLOG,
    ) -> None:
        self.info = info
        self._bus = bus
        self._subjects = subjects
        self._endpoints = endpoints
        self._backlog = backlog
        self._counts = {endpoint.name: _Counts() for endpoint in endpoints}
        self._started = datetime.now(UTC)
        self._tasks = Tasks()
        self._taking: list[Subscription] = []
        self._lasting: list[Subscription] = []

    async def start(self) -> None:
        """Answer from now on."""
        for verb, reply in (
            ("PING", self._ping),
            ("INFO", self._info),
            ("STATS", self._stats),
        ):
            name, instance = self.info.name, self.info.id
            for suffix in ("", f".{name}", f".{name}.{instance}"):
                subject = f"{CONTROL}.{verb}{suffix}"
                control = self._control(reply)
                self._lasting.append(await self._bus.subscribe(subject, control))
        for endpoint in self._endpoints:
            subscriptions = self._lasting if endpoint.to_the_end else self._taking
            subscriptions.append(
                await self._bus.subscribe(
                    endpoint.subject, self._serve(endpoint), queue=endpoint.queue
                )
            )
        await self._bus.flush()

    async def stop(self, grace: float = 10.0) -> None:
        """Take nothing new, finish what is in hand, then return.

        Args:
            grace: Seconds after which what still runs is cancelled.
        """
        await _drain(self._taking)
        await self._tasks.join(grace)
        await _drain(self._lasting)
        await self._tasks.join(grace)

    def handler(self, name: str) -> Handler:
        """What takes the messages of an endpoint, for subjects that come and go."""
        return self._serve(next(one for one in self._endpoints if one.name == name))

    def _serve(self, endpoint: Endpoint) -> Handler:
        def take(message: Message) -> None:
            # What has no queue group is short and may be what makes room: a cancel.
            if endpoint.queue and len(self._tasks) >= self._backlog:
                self._counts[endpoint.name].add(0, Overloaded.code)
                self._tasks.start(self._refuse(message), "refuse")
                return
            self._tasks.start(self._handle(endpoint, message), endpoint.name)

        return take

    async def _handle(self, endpoint: Endpoint, message: Message) -> None:
        begun = time.perf_counter_ns()
        error = ""
        try:
            error = await endpoint.handler(message) or ""
        except Failure as failure:
            error = failure.code
            await self._tell(message, failure)
        except Exception:  # noqa: BLE001 - the caller is told; the details stay in the log
            error = Internal.code
            _log.exception("handler failed", extra={"endpoint": endpoint.name})
            await self._tell(message, internal())
        finally:
            spent = time.perf_counter_ns() - begun
            self._counts[endpoint.name].add(spent, error)

    async def _tell(self, message: Message, failure: Failure) -> None:
        try:
            await refuse(self._bus, self._subjects, message, failure)
        except Failure as problem:
            _log.warning("a caller was not told: %s", problem.message)

    async def _refuse(self, message: Message) -> None:
        await self._tell(
            message,
            Overloaded(
                f"{self._backlog} requests are in hand here.",
                hint="Send it again after a pause.",
                retry_after_ms=1000,
            ),
        )

    def _control(self, reply: Callable[[], dict[str, Any]]) -> Handler:
        def take(message: Message) -> None:
            if answerable(message.reply):
                self._tasks.start(
                    self._bus.publish(message.reply, msgspec.json.encode(reply())),
                    "control",
                )

        return take

    def _ping(self) -> dict[str, Any]:
        return self._said("ping")

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {
                "name": endpoint.name,
                "subject": endpoint.subject,
                "queue_group": endpoint.queue,
                "metadata": endpoint.metadata,
            }
            for endpoint in self._endpoints
        ]
        said = {"description": self.info.description, "endpoints": endpoints}
        return self._said("info") | said

    def _stats(self) -> dict[str, Any]:
        endpoints = [
            _stats_of(endpoint, self._counts[endpoint.name])
            for endpoint in self._endpoints
        ]
        started = self._started.isoformat(timespec="microseconds")
        return self._said("stats") | {
            "started": started.replace("+00:00", "Z"),
            "endpoints": endpoints,
        }

    def _said(self, verb: str) -> dict[str, Any]:
        return {
            "type": f"{TYPES}.{verb}_response",
            "name": self.info.name,
            "id": self.info.id,
            "version": self.info.version,
            "metadata": self.info.metadata,
        }


async def _drain(subscriptions: list[Subscription]) -> None:
    while subscriptions:
        await subscriptions.pop().drain()


def _stats_of(endpoint: Endpoint, counts: _Counts) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "subject": endpoint.subject,
        "queue_group": endpoint.queue,
        "num_requests": counts.requests,
        "num_errors": counts.errors,
        "last_error": counts.last_error,
        "processing_time": counts.nanoseconds,
        "average_processing_time": counts.nanoseconds // max(1, counts.requests),
    }
