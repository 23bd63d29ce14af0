"""One attempt: from the dispatch to the word that ends it.

The handshake: the router sends to a process with its own inbox as reply and the
client's in a header. The process answers the router at once (accepted or busy),
the client when it is done, and then the router once more. So a dead process shows
as "no responders" here, within milliseconds, and answers take no detour.

A failure that another attempt may get around comes back here before the client has
heard of it, and is taken over by an empty message.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dspex.bus import tracing
from dspex.bus.core import NoResponders
from dspex.contracts import encoding, headers
from dspex.contracts.bodies import ACCEPT
from dspex.contracts.envelope import Decision, Failed, failed, failure
from dspex.contracts.failures import (
    BadRequest,
    BusUnavailable,
    DeadlineExceeded,
    Internal,
    ResourceCpu,
    ResourceMemory,
    WorkerLost,
)
from dspex.contracts.subjects import DEFAULT_TENANT, answerable
from dspex.contracts.words import (
    AcceptedWord,
    BusyWord,
    FailedWord,
    FinishedWord,
    MovedWord,
    RefusedWord,
    ShortWord,
    Words,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspex.bus.core import Bus, Message, Replies
    from dspex.contracts.failures import Failure
    from dspex.contracts.subjects import Subjects
    from dspex.router.settings import Settings
    from dspex.router.targets import Target, Targets
    from dspex.router.tickets import Ticket

BUSY = "busy"
NO_RESPONDERS = "no_responders"
NOT_HELD = "not_held"
"""Nobody listened on the subject of a session."""
TAKEN = "taken"
"""Another router gave the session away meanwhile."""
MOVED = "moved"
"""Another process than the one chosen holds the session."""
SHORT = "short"
"""Its GPU has not the memory that the program declares."""

_WHY = {BusyWord: BUSY, MovedWord: MOVED, ShortWord: SHORT}


class Fallen(Exception):
    """A choice fell through before anything had started.

    Attributes:
        why: As above.
        gpu_mib: GPU memory that the request turned out to need, MiB.
    """

    def __init__(self, why: str, gpu_mib: int = 0) -> None:
        super().__init__(why)
        self.why = why
        self.gpu_mib = gpu_mib


class Sender:
    """Sends requests to the processes chosen for them, and follows them.

    Args:
        bus: Where.
        subjects: Under which prefix.
        targets: Everybody there is.
        settings: How long it waits for what.
        router: Incarnation of this router.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        targets: Targets,
        settings: Settings,
        router: str,
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._targets = targets
        self._settings = settings
        self._router = router
        self.clock: Callable[[], float] = time.monotonic
        self.heard: Callable[[Target], None] = lambda _: None

    async def send(
        self, ticket: Ticket, decision: Decision, target: Target, *, keep: bool = False
    ) -> FinishedWord | Failed:
        """Send a request to a process and wait for its end.

        Args:
            ticket: The request.
            decision: Whom it goes to, and why.
            target: That process.
            keep: Whether the answer shall come here too.

        Returns:
            The process's last word, or a failure that nobody has told the client.

        Raises:
            Fallen: Nothing started; another choice is to be made.
            Failure: What the client is to be told.
        """
        async with await self._bus.replies() as replies:
            replies.target = self._subjects.worker_run(decision.worker)
            if ticket.seat is not None and ticket.seat.subject:
                replies.target = ticket.seat.subject
            sent = self._headers(ticket, decision, keep=keep)
            dispatch = _Dispatch(self._bus, replies, ticket, sent)
            with _watching(target, replies, dispatch):
                await dispatch.send()
                return await self._follow(ticket, target, dispatch)

    async def drop(self, ticket: Ticket, worker: str, attempt: int) -> None:
        """Let a process that is given up forget an attempt, if it is still there."""
        request = ticket.request
        sent = {
            headers.REQUEST: request.id,
            headers.ATTEMPT: str(attempt),
            headers.TENANT: request.tenant,
        }
        await self._bus.publish(self._subjects.worker_stop(worker), headers=sent)

    async def _follow(
        self, ticket: Ticket, target: Target, dispatch: _Dispatch
    ) -> FinishedWord | Failed:
        """Wait for the end, watching that there can be one."""
        worker = target.beat.worker
        while (left := ticket.remaining) > 0:
            end: FinishedWord | Failed | None
            try:
                await dispatch.send_again()
                wait = min(left, self._pause(ticket))
                message = await dispatch.replies.next(wait)
            except (WorkerLost, ResourceMemory, ResourceCpu) as lost:
                end = failed(ticket.request.id, lost)
            except (NoResponders, BusUnavailable, TimeoutError) as silence:
                end = self._unheard(ticket, target, dispatch, silence)
            else:
                end = await self._take(ticket, target, message)
            if end is not None:
                return end
        return await self._too_late(ticket, worker)

    def _unheard(
        self, ticket: Ticket, target: Target, dispatch: _Dispatch, silence: Exception
    ) -> Failed | None:
        """What follows from hearing nothing: often nothing."""
        worker = target.beat.worker
        if isinstance(silence, BusUnavailable):
            # Its words may be lost. It knows the request again, and runs it once.
            ticket.was_deaf = True
            dispatch.is_due(0.0)
        elif isinstance(silence, NoResponders) and _may_have_it(ticket, dispatch):
            dispatch.is_due(self._settings.handshake)
        elif isinstance(silence, NoResponders):
            if ticket.seat is not None and ticket.seat.subject:
                raise Fallen(NOT_HELD)
            target.unreachable = True
            raise Fallen(NO_RESPONDERS)
        if worker not in self._targets:
            return failed(ticket.request.id, _lost(worker))
        if isinstance(silence, TimeoutError):
            # It got the message, or the server had said that nobody listens: it may
            # still answer, so the request stays there; new ones do not come.
            target.suspect = target.suspect or not ticket.accepted
        return None

    def _pause(self, ticket: Ticket) -> float:
        settings = self._settings
        return settings.check if ticket.accepted else settings.handshake

    async def _take(
        self, ticket: Ticket, target: Target, message: Message
    ) -> FinishedWord | Failed | None:
        """Take in one word; returns the end if it is one."""
        word = _word(message.data, target.beat.worker)
        target.hear_word(word, self.clock())
        self.heard(target)
        match word:
            case BusyWord() | MovedWord() | ShortWord():
                raise Fallen(_WHY[type(word)], getattr(word, "gpu_memory_mib", 0))
            case RefusedWord():
                raise failure(word.failure)
            case FinishedWord():
                return word
            case FailedWord():
                if answerable(message.reply):
                    await self._bus.publish(message.reply, b"{}")
                return word.failure
            case AcceptedWord():
                ticket.accepted = True
        if ticket.cancelled:
            # The client's own message may have arrived there before the request.
            subjects = self._subjects.of(ticket.request.tenant)
            await self._bus.publish(subjects.cancel(ticket.request.id))
        return None

    async def _too_late(self, ticket: Ticket, worker: str) -> FinishedWord:
        """Answer in place of a process that has not, unless it may have."""
        if ticket.accepted and ticket.was_deaf:
            code = DeadlineExceeded.code
            return FinishedWord(request=ticket.request.id, code=code)
        # Should it be about to answer after all, the client would hear of two ends.
        await self.drop(ticket, worker, ticket.attempt)
        raise DeadlineExceeded(
            f"Worker {worker!r} had not answered by the deadline.",
            hint="Send a later Dspex-Deadline, or look at that worker's log.",
        )

    def _headers(
        self, ticket: Ticket, decision: Decision, *, keep: bool
    ) -> dict[str, str]:
        request = ticket.request
        elapsed = (time.perf_counter() - ticket.received) * 1000
        sent = {
            headers.OPERATION: request.operation,
            headers.REQUEST: request.id,
            headers.DEADLINE: f"{request.deadline:.0f}",
            headers.ATTEMPT: str(decision.attempt),
            headers.REASON: decision.reason,
            headers.ELAPSED: f"{elapsed:.3f}",
            headers.ROUTER: self._router,
        }
        media = "" if request.media == encoding.JSON else request.media
        tenant = "" if request.tenant == DEFAULT_TENANT else request.tenant
        optional = {
            headers.REPLY: request.reply,
            headers.STREAM: request.stream,
            headers.CONTENT_TYPE: media,
            headers.TENANT: tenant,
            headers.LM: decision.lm,
            headers.RETURN: "reply" if keep else "",
            headers.GPU_MEMORY: str(decision.gpu_memory_mib or ""),
            headers.BODY: request.claim or (ACCEPT if request.takes_claims else ""),
        }
        if ticket.seat is not None:
            optional[headers.SESSION] = ticket.seat.session
            optional[headers.FENCE] = str(ticket.seat.fence)
        sent |= {name: value for name, value in optional.items() if value}
        return tracing.inject(sent)


class _Dispatch:
    """A request on its way to a process, as often as it takes to arrive.

    Attributes:
        sent: How often it was sent.
    """

    def __init__(
        self, bus: Bus, replies: Replies, ticket: Ticket, sent: dict[str, str]
    ) -> None:
        self.replies = replies
        self.sent = 0
        self._bus = bus
        self._ticket = ticket
        self._headers = sent
        self._due: float | None = None

    def is_due(self, seconds: float) -> None:
        """Send it again, in so many seconds."""
        self._due = time.monotonic() + seconds

    async def send(self) -> None:
        """Send it."""
        self._due = None
        self.sent += 1
        to, sent = self.replies.target, self._headers
        if self._ticket.is_known:
            sent = {**sent, headers.KNOWN: "once"}
        body, reply = self._ticket.request.body, self.replies.subject
        await self._bus.publish(to, body, headers=sent, reply=reply)

    async def send_again(self) -> None:
        """Send it again, if that is due and the bus is there."""
        due = self._due is not None and time.monotonic() >= self._due
        if due and self._bus.is_connected:
            await self.send()


@contextmanager
def _watching(target: Target, replies: Replies, dispatch: _Dispatch) -> Iterator[None]:
    """Be told when the process is lost, as a reply that fails, and when it is back."""

    def lose(why: Failure | None) -> None:
        replies.fail(why or _lost(target.beat.worker))

    def send_again() -> None:
        dispatch.is_due(0.0)  # it knows the request again, and runs it once

    target.on_lost.add(lose)
    target.on_back.add(send_again)
    try:
        yield
    finally:
        target.on_lost.discard(lose)
        target.on_back.discard(send_again)


def _may_have_it(ticket: Ticket, dispatch: _Dispatch) -> bool:
    """Whether a process may have a request though nobody listens there just now.

    After our own connection was away it comes back after us; one that drains took what
    came before. Turns are another matter: their session applies each of them once.
    """
    return ticket.was_deaf or (dispatch.sent > 1 and ticket.seat is None)


def _lost(worker: str) -> WorkerLost:
    return WorkerLost(
        f"Worker {worker!r} stopped before it had answered.",
        hint="Send it again: another worker will take it.",
    )


def _word(data: bytes, worker: str) -> Words:
    try:
        word: Words = encoding.decode(data, Words)
    except BadRequest as problem:  # the worker's fault, not the client's
        raise Internal(
            f"Worker {worker!r} said what the router cannot read.",
            hint="Compare their versions: `nats service ls` lists them.",
        ) from problem
    return word
