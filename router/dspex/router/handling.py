"""What a router does for one request, from its bytes to its one end.

A request comes to its end in one of these ways, looked for in this order: it is
wrong; it is in hand already or was answered a moment ago (the same id: who answered it
answers it again); it is over its tenant's quota; its answer is kept (the same
question); somebody answers it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dspex.bus.recent import digest_of, other_request
from dspex.bus.requested import tell_requested
from dspex.bus.running import is_idempotent
from dspex.contracts import catalog, encoding, gpu_memory
from dspex.contracts.envelope import Delta, Done, Failed, failed
from dspex.contracts.failures import (
    DeadlineExceeded,
    Failure,
    NoWorker,
    Overloaded,
    Quota,
    Unsupported,
    WorkerLost,
)
from dspex.contracts.features import needed
from dspex.contracts.requests import Body
from dspex.contracts.session_requests import Turn
from dspex.contracts.words import FinishedWord
from dspex.router.asking import look_at
from dspex.router.caching import SHARED_WITHIN, Answer, key_of
from dspex.router.choosing import Route, Wanted, choose, read_route, read_versions
from dspex.router.dispatching import Dispatcher
from dspex.router.known import Known
from dspex.router.sessions import seated
from dspex.router.tickets import Elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.bus.incoming import Request
    from dspex.contracts.catalog import Operation
    from dspex.router.parts import Parts
    from dspex.router.tickets import Ticket


class RequestHandler:
    """Brings requests to their end.

    Args:
        parts: What it works with.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._dispatcher = Dispatcher(parts)
        self._known = Known(parts.settings.recent)
        self._in_hand: dict[tuple[str, str], list[Ticket]] = {}
        self._asked: dict[str, Ticket] = {}

    @property
    def in_hand(self) -> int:
        """Requests in hand; safe from another thread."""
        return len(self._in_hand)

    def elsewhere(self, tenant: str, request: str, worker: str) -> None:
        """Take in that another router gave a request to a process."""
        tickets = self.tickets(tenant, request)
        if any(ticket.attempt for ticket in tickets):
            return  # both dispatched it in the same instant
        self._known.note((tenant, request), worker, self._parts.clock())
        for ticket in tickets:
            ticket.runs_elsewhere()

    def tickets(self, tenant: str, request: str) -> list[Ticket]:
        """What is in hand under an id."""
        return list(self._in_hand.get((tenant, request), ()))

    @contextmanager
    def hold(self, ticket: Ticket) -> Iterator[None]:
        """Have a request in hand, so that it can be stopped and waited for."""
        key = (ticket.request.tenant, ticket.request.id)
        held = self._in_hand.setdefault(key, [])
        if held or key in self._known:
            # It was told of before: only who asks now shall hear of it again.
            events = ticket.events
            events.audience = replace(events.audience, again=True)
        held.append(ticket)
        try:
            yield
        except Failure as failure:
            ticket.told = failed(ticket.request.id, failure)
            raise
        finally:
            held.remove(ticket)
            if not held:
                del self._in_hand[key]
            self._remember(ticket)
            ticket.ended.set()

    def _remember(self, ticket: Ticket) -> None:
        """Know who has the end of a request, or may have begun what runs once."""
        if ticket.asked and (ticket.accepted or not ticket.idempotent):
            self._known.keep(ticket.request, ticket.asked, self._parts.clock())

    async def handle(self, ticket: Ticket) -> str | None:
        """Bring a request to its end; returns the code of its failure, if any.

        Raises:
            Failure: What the client is to be told.
        """
        async with ticket.events.whole(ticket.request) as request:
            body, digest = await self._check(ticket, request)
        wanted = self._wanted(ticket, body)
        if request.claim:  # who answers reads it again; here it only takes memory
            body = Body(options=body.options)
        del request
        while True:
            try:
                end = await self._same_request(ticket, wanted)
                if end is None:
                    with self._within_quota(ticket):
                        end = await self._answer(ticket, wanted, body, digest)
                return await self._conclude(ticket, end)
            except Elsewhere:
                continue

    async def _answer(
        self, ticket: Ticket, wanted: Wanted, body: Body, digest: str
    ) -> FinishedWord | Failed:
        if self._may_be_kept(ticket, body):
            return await self._once(ticket, wanted, body, digest)
        return await self._dispatcher.dispatch(ticket, wanted)

    async def _check(self, ticket: Ticket, request: Request) -> tuple[Body, str]:
        """Check the request, so that no worker sees what cannot be answered.

        Args:
            ticket: The request.
            request: The same, with its body.

        Returns:
            What is asked, and the digest of the signature, if there is one.
        """
        events = ticket.events
        operation = catalog.operation(request.operation)
        if request.media == encoding.ARROW:
            body = _unread_table(operation)
        else:
            kind = Turn if request.session else operation.request
            body = encoding.decode(request.body, kind, request.media)
        options = body.options
        events.reply_in(options.accept)
        ticket.priority = options.priority
        ticket.outlives_its_reader = options.on_disconnect == "continue"
        await tell_requested(events, request, body)
        if isinstance(body, Turn):
            body = await seated(self._parts.sessions, ticket, body)
        ticket.idempotent = is_idempotent(request.operation, body)
        ticket.asked_lm, digest = look_at(request.operation, body)
        return body, digest

    @contextmanager
    def _within_quota(self, ticket: Ticket) -> Iterator[None]:
        quotas, tenant = self._parts.quotas, ticket.request.tenant
        quotas.share(self._parts.targets.routers)
        refused = quotas.take(tenant, self._parts.clock())
        if refused is not None:
            used_up = f"its {refused.limit}: {refused.allowed:g}"
            if refused.limit == "tenants":
                used_up = f"the places for tenants without a quota: {refused.allowed:g}"
            raise Quota(
                f"Tenant {tenant!r} cannot be served: used up is {used_up}.",
                hint="Send it again after the pause, or ask for more in [tenants].",
                retry_after_ms=max(1, round(refused.retry_after * 1000)),
            )
        try:
            yield
        finally:
            quotas.give_back(tenant)

    def _wanted(self, ticket: Ticket, body: Body) -> Wanted:
        request, options = ticket.request, body.options
        route = read_route(request.route)
        fallbacks = self._parts.fallbacks
        fallback = fallbacks.get(request.operation) or fallbacks.get("*")
        pools = tuple(fallback.pools) if fallback and route.kind == "auto" else ()
        return Wanted(
            operation=request.operation,
            route=route,
            lm=ticket.asked_lm,
            pools=pools,
            dspy=read_versions(options.dspy) if options.dspy else "",
            features=needed(body),
            gpu_mib=gpu_memory.declared(body),
            gpu_field=gpu_memory.field_of(body),
        )

    async def _same_request(
        self, ticket: Ticket, wanted: Wanted
    ) -> FinishedWord | Failed | None:
        """The end of this very request, if it is in hand or known."""
        request = ticket.request
        in_hand = self._in_hand[request.tenant, request.id]
        while (first := in_hand[0]) is not ticket:
            if digest_of(first.request) != digest_of(request):
                raise other_request(request)
            await _until_ended(first, ticket)
            if _is_end_of_both(first, ticket):
                return first.told
        if ticket.seat is not None:
            return None  # the session's log knows
        return await self._from_who_knows(ticket, wanted)

    async def _from_who_knows(
        self, ticket: Ticket, wanted: Wanted
    ) -> FinishedWord | Failed | None:
        """Let the process that had this very request answer it again."""
        request, parts = ticket.request, self._parts
        while worker := self._known.find(request, parts.clock()):
            parts.record.counters["repeated"] += 1
            there = Wanted(
                operation=wanted.operation, route=Route("worker", worker), known=True
            )
            end: FinishedWord | Failed
            try:
                if worker not in parts.targets:
                    raise _left(worker)
                end = await self._dispatcher.dispatch(ticket, there)
            except (WorkerLost, NoWorker, Overloaded) as failure:
                end = failed(request.id, failure)
            if isinstance(end, FinishedWord):
                return end
            if worker == self._known.find(request, parts.clock()):
                return None if ticket.idempotent else end
            # Another router had to choose anew.
        return None

    def _may_be_kept(self, ticket: Ticket, body: Body) -> bool:
        settings, request = self._parts.settings, ticket.request
        operation = catalog.operation(request.operation)
        read_here = request.media != encoding.ARROW and not request.claim
        known = read_here and ticket.seat is None
        lasting = operation.implementation != "state" and not operation.fresh
        if not (known and lasting and ticket.idempotent and body.repeatable):
            return False
        return (request.cache or settings.cache) != "off" and settings.cache_size > 0

    async def _once(
        self, ticket: Ticket, wanted: Wanted, body: Body, digest: str
    ) -> FinishedWord | Failed:
        """Answer from what is kept; ask where nothing is, once for all who wait."""
        parts = self._parts
        key = self._key(ticket, wanted, body, digest)
        if not key:
            return await self._dispatcher.dispatch(ticket, wanted)
        if ticket.request.cache != "refresh":
            answer = await self._find(key, ticket)
            while answer is None and (first := self._asked.get(key)) is not None:
                await _until_ended(first, ticket)
                answer = await self._find(key, ticket)
                if not first.cancelled:
                    break  # if it failed, each asks for itself, side by side
            if answer is not None:
                parts.record.counters["cache.hits"] += 1
                return await self._answer_from(answer, ticket)
        parts.record.counters["cache.misses"] += 1
        self._asked[key] = ticket
        try:
            end = await self._dispatcher.dispatch(ticket, wanted, keep=True)
            if isinstance(end, FinishedWord) and end.reply and not ticket.stood_in:
                await self._keep(ticket, body, digest, end)
        finally:
            if self._asked.get(key) is ticket:
                del self._asked[key]
        return end

    async def _find(self, key: str, ticket: Ticket) -> Answer | None:
        """What is kept, as far as that is known within a moment."""
        try:
            async with asyncio.timeout(min(SHARED_WITHIN, ticket.remaining)):
                async with ticket.waiting():
                    return await self._parts.cache.find(key)
        except TimeoutError:
            return None

    def _key(self, ticket: Ticket, wanted: Wanted, body: Body, digest: str) -> str:
        """What an answer is kept under; empty while nobody is there to give one."""
        parts = self._parts
        try:
            decision = choose(wanted, parts.targets.all(), self._dispatcher.random)
        except NoWorker:
            return ""
        target = parts.targets.get(decision.worker)
        assert target is not None
        return key_of(ticket.request, body, digest, target.beat)

    async def _keep(
        self, ticket: Ticket, body: Body, digest: str, end: FinishedWord
    ) -> None:
        reply = end.reply
        # Who answered may have other versions than who was thought of first.
        target = self._parts.targets.get(reply.metadata.worker) if reply else None
        if reply is None or target is None:
            return
        answer = Answer(
            outputs=reply.outputs,
            metadata=reply.metadata,
            deltas=end.deltas,
            at=time.time(),
        )
        key = key_of(ticket.request, body, digest, target.beat)
        await self._parts.cache.keep(key, answer)

    async def _answer_from(self, answer: Answer, ticket: Ticket) -> FinishedWord:
        events = ticket.events
        if events.streams:
            for delta in answer.deltas:
                await events.emit(Delta, field=delta.field, text=delta.text)
        total = (time.perf_counter() - ticket.received) * 1000
        metadata = replace(
            answer.metadata,
            attempts=0,
            reason="cache",
            queue_ms=0.0,
            run_ms=0.0,
            total_ms=round(total, 3),
            cache_hit=True,
            usage=None,
        )
        request = ticket.request.id
        await events.finish(
            Done(request=request, outputs=answer.outputs, metadata=metadata)
        )
        return FinishedWord(request=request, code="done")

    async def _conclude(self, ticket: Ticket, end: FinishedWord | Failed) -> str | None:
        """Tell a failure that nobody has told; returns its code."""
        if isinstance(end, Failed):
            ticket.told = end
            await ticket.events.finish(end)
        return None if end.code == "done" else end.code


def _unread_table(operation: Operation) -> Body:
    """What a router knows of an Arrow stream: that its operation takes one.

    Raises:
        Unsupported: It does not.
    """
    if operation.columns:
        return Body()
    with_columns = [one.name for one in catalog.OPERATIONS.values() if one.columns]
    raise Unsupported(
        f"{operation.name!r} takes no Arrow stream. "
        f"Operations that do: {', '.join(with_columns)}.",
        field="Content-Type",
        hint="Send JSON or MessagePack.",
    )


def _left(worker: str) -> WorkerLost:
    return WorkerLost(
        f"Worker {worker!r}, which had this very request, is gone.",
        hint="It may have run. Look what became of it before you send it anew.",
    )


def _is_end_of_both(first: Ticket, ticket: Ticket) -> bool:
    """Whether a failure this router told of a request is that of its copy too."""
    told = first.told
    if told is None or not first.attempt or first.cancelled:
        return False
    return told.category != DeadlineExceeded.category or not ticket.idempotent


async def _until_ended(first: Ticket, ticket: Ticket) -> None:
    """Wait for the end of another request.

    Raises:
        Failure: This one was stopped, or its deadline came first.
    """
    try:
        async with asyncio.timeout(max(0.0, ticket.remaining)):
            async with ticket.waiting():
                await first.ended.wait()
    except TimeoutError:
        raise DeadlineExceeded(
            "The same request is in hand, and had not ended by this deadline.",
            hint="Send a later Dspex-Deadline.",
        ) from None
