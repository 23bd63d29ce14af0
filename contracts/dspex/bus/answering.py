"""The life of a request in the process that answers it.

The same for a DSPy worker and for native-ops: take the request from a router (the
handshake) or straight from a client, wait for a slot, run, tell the client, tell
the router. Every way out ends in exactly one reply: ours, or, where another try may
help and a router takes the failure back, the router's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dspex.bus import incoming, logs, tracing
from dspex.bus.audiences import audience_of
from dspex.bus.core import NoResponders
from dspex.bus.events import Events
from dspex.bus.recent import Recent, digest_of, other_request
from dspex.bus.running import (
    Attempt,
    Identity,
    Run,
    Runner,
    Superseded,
    Turns,
    stopping,
)
from dspex.contracts import encoding, headers
from dspex.contracts.envelope import Done, Failed, Reply, failed
from dspex.contracts.failures import (
    BadRequest,
    Cancelled,
    DeadlineExceeded,
    Failure,
    Overloaded,
    WorkerLost,
    internal,
)
from dspex.contracts.subjects import DEFAULT_TENANT, answerable
from dspex.contracts.words import (
    AcceptedWord,
    BusyWord,
    FailedWord,
    FinishedWord,
    MovedWord,
    RefusedWord,
    Word,
)

if TYPE_CHECKING:
    from dspex.bus.core import Bus, Message
    from dspex.bus.incoming import Request
    from dspex.bus.slots import Slots

_log = logging.getLogger(__name__)


RETURNED = frozenset({"infrastructure", "provider"})
"""Failures that another try may get around: a router has them back first."""

TAKEN_BACK = 1.0
"""Seconds a router has to take a failure back."""


class Answerer:
    """Answers requests that a router dispatches or a client sends directly."""

    def __init__(
        self,
        bus: Bus,
        identity: Identity,
        slots: Slots,
        run: Run,
        turns: Turns | None = None,
    ) -> None:
        self.identity = identity
        self.slots = slots
        self._bus = bus
        self._turns = turns
        self._runner = Runner(identity, slots, run, turns)
        self._in_hand: dict[tuple[str, str], Attempt] = {}
        self._recent = Recent()

    async def dispatched(self, message: Message) -> str | None:
        """Answer what a router chose us for.

        Returns:
            The code of the failure it ended with; ``None`` without one.
        """
        timeout = self.identity.request_timeout_s
        router = message.headers.get(headers.ROUTER, "")
        request: Request | None = None
        try:
            request = incoming.read_dispatched(message, timeout)
            if (refusal := self._refusal(request)) is not None:
                await self._say(message.reply, refusal, request)
                return None
            with self.slots.hold(router):
                await self._say(message.reply, AcceptedWord, request)
                reply, events = await self._answer(request)
        except Superseded as why:
            if why.word is not None and request is not None:
                await self._say(message.reply, why.word, request, **why.said)
            return WorkerLost.code
        except Failure as failure:
            return await self._refuse(message, failure)
        except Exception:  # noqa: BLE001 - the router is told; the details stay in the log
            _log.exception("request failed")
            return await self._refuse(message, internal())
        return await self._conclude(message.reply, request, reply, events)

    def _refusal(self, request: Request) -> type[Word] | None:
        if self._knows(request):
            return None
        if request.known:
            raise _forgotten(request)
        if self.slots.full:
            return BusyWord
        if not request.session:
            return None
        return MovedWord if self._turns is None else self._turns.refusal(request)

    async def direct(self, message: Message, operation: str) -> str | None:
        """Answer what a client sent without a router.

        Returns:
            The code of the failure it ended with; ``None`` without one.
        """
        timeout = self.identity.request_timeout_s
        tenant = self.identity.subjects.sender(message.subject).tenant
        request = incoming.read(message, operation, tenant, timeout)
        if self.slots.full and not self._knows(request):
            raise Overloaded(
                f"All {self.slots.concurrency} slots and {self.slots.queue} places "
                "to wait are taken.",
                hint="Send it again after a pause, or start more workers.",
                retry_after_ms=1000,
            )
        with self.slots.hold():
            reply, _ = await self._answer(request)
        return reply.code if isinstance(reply, Failed) else None

    async def cancel(self, message: Message) -> None:
        """Stop the request a message on a cancel subject names."""
        address = self.identity.subjects.read_cancel(message.subject)
        if attempt := self._in_hand.get((address.tenant, address.name)):
            attempt.stop(Cancelled("The client asked to stop it."))

    async def drop(self, message: Message) -> None:
        """Forget an attempt that a router gave up on; nobody is told its end."""
        found = message.headers
        key = (
            found.get(headers.TENANT, DEFAULT_TENANT),
            found.get(headers.REQUEST, ""),
        )
        attempt = self._in_hand.get(key)
        if attempt and str(attempt.request.attempt) == found.get(headers.ATTEMPT):
            attempt.superseded = True
            attempt.stop(WorkerLost("Another process has the request now."))

    async def _refuse(self, message: Message, failure: Failure) -> str:
        """Leave the telling to the router: it knows the client and what it was told."""
        said = failed(message.headers.get(headers.REQUEST, ""), failure)
        if answerable(message.reply):
            word = RefusedWord(request=said.request, failure=said)
            await self._bus.publish(message.reply, encoding.encode(word))
        return failure.code

    async def _answer(self, request: Request) -> tuple[Reply, Events]:
        """Run a request and tell its end, unless the router shall decide about it."""
        logs.request_id.set(request.id)
        key = (request.tenant, request.id)
        first = self._in_hand.get(key) or self._recent.find(request)
        if first is not None:
            return await self._answer_again(request, first)
        audience = audience_of(request, self.identity.subjects, request.attempt)
        events = Events(self._bus, audience)
        if request.returns:
            events.keep_deltas()
        reply = await self._run(request, events)
        if not (request.router and _may_be_retried(reply)):
            await events.finish(reply)
        return reply, events

    def _knows(self, request: Request) -> bool:
        """Whether a request is in hand or was answered: it takes no slot again."""
        key = (request.tenant, request.id)
        return key in self._in_hand or self._recent.find(request) is not None

    async def _run(self, request: Request, events: Events) -> Reply:
        """Run a request while it can be found by its id."""
        key = (request.tenant, request.id)
        attempt = self._in_hand[key] = Attempt(request, events)
        try:
            with tracing.span(request.operation, request.headers) as span:
                reply = await self._runner.outcome(attempt)
                if isinstance(reply, Failed):
                    tracing.mark_failed(span, reply.code)
            if attempt.superseded:  # dropped in the very moment it ended
                raise Superseded
            if not attempt.idempotent or _is_settled(reply):
                self._recent.keep(request, reply)
            attempt.ended.set_result(reply)
            return reply
        finally:
            del self._in_hand[key]
            if not attempt.ended.done():
                attempt.ended.set_result(None)

    async def _answer_again(
        self, request: Request, first: Attempt | Reply
    ) -> tuple[Reply, Events]:
        """Answer a request that is in hand, or was a moment ago, once more."""
        reply: Reply | None
        if isinstance(first, Attempt):
            if digest_of(first.request) != digest_of(request):
                raise other_request(request)
            reply = await asyncio.shield(first.ended) or failed(request.id, stopping())
        else:
            reply = first
        audience = audience_of(request, self.identity.subjects, request.attempt)
        events = Events(self._bus, replace(audience, again=True))
        if not (request.router and _may_be_retried(reply)):
            await events.finish(reply)
        return reply, events

    async def _conclude(
        self, to: str, request: Request, reply: Reply, events: Events
    ) -> str | None:
        """Tell the router how a request ended, or hand it a failure nobody knows of."""
        if isinstance(reply, Done):
            said: dict[str, Any] = {"code": "done"}
            if request.returns:
                said |= {"reply": reply, "deltas": events.deltas}
            try:
                await self._say(to, FinishedWord, request, **said)
            except BadRequest:  # too large with its deltas: then it is not kept there
                await self._say(to, FinishedWord, request, code="done")
            return None
        if not _may_be_retried(reply):
            await self._say(to, FinishedWord, request, code=reply.code)
        elif not await self._handed_back(to, request, reply):
            await events.finish(reply)
        return reply.code

    async def _handed_back(self, to: str, request: Request, reply: Failed) -> bool:
        async with await self._bus.replies() as replies:
            replies.target = to
            word = self._word(FailedWord, request, failure=reply)
            try:
                await self._bus.publish(
                    to, encoding.encode(word), reply=replies.subject
                )
                await replies.next(TAKEN_BACK)
            except (NoResponders, TimeoutError, Failure):
                return False
        return True

    async def _say(
        self, to: str, kind: type[Word], request: Request, **said: Any
    ) -> None:
        if answerable(to):
            word = self._word(kind, request, **said)
            await self._bus.publish(to, encoding.encode(word))

    def _word(self, kind: type[Word], request: Request, **said: Any) -> Word:
        slots = self.slots
        return kind(
            request=request.id,
            queued=slots.queued,
            in_hand=slots.in_hand,
            yours=slots.routers[request.router] if request.router else 0,
            **said,
        )


def _forgotten(request: Request) -> WorkerLost:
    return WorkerLost(
        f"What became of {request.id!r} is forgotten by the process that had it.",
        hint="It may have run. Look what became of it before you send it anew.",
    )


def _is_settled(reply: Reply) -> bool:
    """Whether running it once more would be of no use to anybody."""
    if isinstance(reply, Done):
        return True
    return reply.category not in RETURNED | {DeadlineExceeded.category}


def _may_be_retried(reply: Reply) -> bool:
    """Whether a router may do better with a failure than to tell it."""
    return isinstance(reply, Failed) and reply.category in RETURNED
