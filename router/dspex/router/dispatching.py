"""One request from its decision to its end.

The handshake: the router sends to a process with its own inbox as reply and the
client's in a header. The process answers the router at once (accepted or busy),
the client when it is done, and then the router once more. So a dead process shows
as "no responders" here, within milliseconds, and answers take no detour.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dspex.bus import incoming, tracing
from dspex.bus.core import NoResponders
from dspex.contracts import encoding, headers
from dspex.contracts.envelope import (
    Accepted,
    AcceptedWord,
    BusyWord,
    Decision,
    FinishedWord,
    RefusedWord,
    Words,
    failure,
)
from dspex.contracts.failures import (
    BadRequest,
    BusUnavailable,
    Cancelled,
    DeadlineExceeded,
    Internal,
    NoWorker,
    Overloaded,
    WorkerLost,
)
from dspex.contracts.subjects import DEFAULT_TENANT
from dspex.router.choosing import Wanted, choose, read_route
from dspex.router.settings import DEFAULTS, Settings

if TYPE_CHECKING:
    from dspex.bus.core import Bus, Replies
    from dspex.bus.events import Events
    from dspex.bus.incoming import Request
    from dspex.contracts.subjects import Subjects
    from dspex.router.targets import Target, Targets


AFTER_BUSY = "after_busy"
AFTER_NO_RESPONDERS = "after_no_responders"


class Fallen(Exception):
    """A choice fell through before anything had started."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Ticket:
    """One request in the router's hands.

    Attributes:
        request: As its headers describe it.
        events: Where its life is told.
        received: When it came, by ``time.perf_counter``.
        cancelled: Its client asked to stop it.
        accepted: A process has it and will answer the client itself.
        was_busy: A process it was sent to had no room.
        was_deaf: The bus was away since it was accepted: its end may be told already.
        margin: Seconds before the deadline at which the router answers itself:
            ``grace``, and less when there is little time.
    """

    def __init__(self, request: Request, events: Events, grace: float) -> None:
        self.request = request
        self.events = events
        self.received = time.perf_counter()
        self.cancelled = False
        self.accepted = False
        self.was_busy = False
        self.was_deaf = False
        self.margin = min(grace, request.remaining(incoming.now_ms()) * 0.025)


class Dispatcher:
    """Sends requests to the processes chosen for them."""

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        targets: Targets,
        settings: Settings = DEFAULTS,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._subjects = subjects
        self._targets = targets
        self._random = random.Random()

    async def dispatch(self, ticket: Ticket, wanted: Wanted) -> str:
        """Choose, send, follow; choose again while nothing has started.

        Returns:
            How it ended: ``done``, or the code of the failure the client was told.

        Raises:
            Failure: Nobody took it, or who took it was lost; the client has no answer.
        """
        attempt = 0
        while True:
            if ticket.cancelled:
                raise Cancelled("The client asked to stop it.")
            decision = self._choose(ticket, wanted)
            await ticket.events.emit(Accepted, decision=decision)
            attempt += 1
            try:
                sent = _headers(ticket, decision, attempt)
                return await self._send(ticket, decision, sent)
            except Fallen as fallen:
                ticket.was_busy |= fallen.why == AFTER_BUSY
                wanted = replace(
                    wanted,
                    tried=wanted.tried | {decision.worker},
                    why_again=fallen.why,
                )

    def _choose(self, ticket: Ticket, wanted: Wanted) -> Decision:
        try:
            if len(wanted.tried) < self._settings.picks:
                return choose(wanted, list(self._targets.all()), self._random)
            raise _given_up(len(wanted.tried))
        except NoWorker:
            if not ticket.was_busy:
                raise
            raise Overloaded(
                "Every worker that could answer is full.",
                hint="Send it again after a pause, or start more workers.",
                retry_after_ms=1000,
            ) from None

    async def _send(
        self, ticket: Ticket, decision: Decision, sent: dict[str, str]
    ) -> str:
        target = self._targets.get(decision.worker)
        if target is None:
            raise Fallen(AFTER_NO_RESPONDERS)
        target.own += 1
        try:
            async with await self._bus.replies() as replies:
                subject = self._subjects.worker_run(decision.worker)
                replies.target = subject
                await self._bus.publish(
                    subject, ticket.request.body, headers=sent, reply=replies.subject
                )
                return await self._follow(ticket, target, replies)
        finally:
            target.own -= 1

    async def _follow(self, ticket: Ticket, target: Target, replies: Replies) -> str:
        """Wait for the end, watching that there can be one."""
        worker, settings = target.beat.worker, self._settings
        while True:
            left = ticket.request.remaining(incoming.now_ms()) - ticket.margin
            if left <= 0:
                return _too_late(ticket, worker)
            try:
                pause = settings.check if ticket.accepted else settings.handshake
                reply = await replies.next(min(left, pause))
            except NoResponders:
                target.unreachable = True
                raise Fallen(AFTER_NO_RESPONDERS) from None
            except (TimeoutError, BusUnavailable) as silence:
                ticket.was_deaf |= isinstance(silence, BusUnavailable)
                self._check(worker, target, ticket)
                continue
            word = _word(reply.data, worker)
            if isinstance(word, FinishedWord):
                return word.code
            ticket.accepted = _has_it(word)
            if ticket.cancelled:
                await self._cancel(ticket.request)

    async def _cancel(self, request: Request) -> None:
        # The client's own message may have reached the process before the request.
        subjects = self._subjects.of(request.tenant)
        await self._bus.publish(subjects.cancel(request.id))

    def _check(self, worker: str, target: Target, ticket: Ticket) -> None:
        if worker not in self._targets:
            raise WorkerLost(
                f"Worker {worker!r} stopped before it had answered.",
                hint="Send it again: another worker will take it.",
            )
        # It got the message, or the server had said that nobody listens: it may
        # still answer, so the request stays with it, and new ones go elsewhere.
        target.suspect = target.suspect or not ticket.accepted


def _word(data: bytes, worker: str) -> Words:
    try:
        word: Words = encoding.decode(data, Words)
    except BadRequest as problem:  # the worker's fault, not the client's
        raise Internal(
            f"Worker {worker!r} said what the router cannot read.",
            hint="Compare their versions: `nats service ls` lists them.",
        ) from problem
    return word


def _headers(ticket: Ticket, decision: Decision, attempt: int) -> dict[str, str]:
    request = ticket.request
    elapsed = (time.perf_counter() - ticket.received) * 1000
    sent = {
        headers.OPERATION: request.operation,
        headers.REQUEST: request.id,
        headers.DEADLINE: f"{request.deadline:.0f}",
        headers.ATTEMPT: str(attempt),
        headers.REASON: decision.reason,
        headers.ELAPSED: f"{elapsed:.3f}",
    }
    media = "" if request.media == encoding.JSON else request.media
    tenant = "" if request.tenant == DEFAULT_TENANT else request.tenant
    optional = {
        headers.REPLY: request.reply,
        headers.STREAM: request.stream,
        headers.CONTENT_TYPE: media,
        headers.TENANT: tenant,
    }
    sent |= {name: value for name, value in optional.items() if value}
    return tracing.inject(sent)


def _has_it(word: Words) -> bool:
    """Whether a process took the request; why it did not is raised."""
    if isinstance(word, BusyWord):
        raise Fallen(AFTER_BUSY)
    if isinstance(word, RefusedWord):
        raise failure(word.failure)
    return isinstance(word, AcceptedWord)


def _given_up(times: int) -> NoWorker:
    return NoWorker(
        f"{times} workers were tried and none took the request.",
        hint="Send it again after a pause, and look at the workers' logs.",
        retry_after_ms=1000,
    )


def _too_late(ticket: Ticket, worker: str) -> str:
    """Answer in place of a process that has not, unless it may have."""
    if ticket.accepted and ticket.was_deaf:
        return DeadlineExceeded.code
    raise DeadlineExceeded(
        f"Worker {worker!r} had not answered by the deadline.",
        hint="Send a later Dspex-Deadline, or look at that worker's log.",
    )


def wanted_of(request: Request, body: object) -> Wanted:
    """What the request needs of who answers it."""
    return Wanted(
        operation=request.operation,
        route=read_route(request.route),
        lm=getattr(body, "lm", None) or "",
    )
