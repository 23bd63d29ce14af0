"""What a router does for one request, from its bytes to its one end.

A request comes to its end in one of these ways, looked for in this order: it is
wrong, or over its tenant's quota; it is in hand already or was answered a moment ago
(the same id: who answered it answers it again); its answer is kept (the same
question); somebody answers it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from dspex.bus.recent import digest_of, other_request
from dspex.contracts import catalog, encoding
from dspex.contracts.envelope import Delta, Done, Failed, Requested
from dspex.contracts.failures import DeadlineExceeded, NoWorker, Quota, Unsupported
from dspex.contracts.requests import Body, Predict
from dspex.contracts.words import FinishedWord
from dspex.native.checking.requiring import extra_fields, require, require_demos
from dspex.native.signatures.compiling import compile_signature
from dspex.router.caching import Answer, key_of
from dspex.router.choosing import Route, Wanted, choose, read_route, read_versions
from dspex.router.dispatching import Dispatcher
from dspex.router.known import Known

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.bus.core import Bus
    from dspex.contracts.catalog import Operation
    from dspex.router.dispatching import Parts
    from dspex.router.tickets import Ticket

_EVENT_FIELDS = 1024
"""Bytes the fields of an event take beside the body it copies."""


class RequestHandler:
    """Brings requests to their end.

    Args:
        bus: Where.
        parts: What it works with.
    """

    def __init__(self, bus: Bus, parts: Parts) -> None:
        self._bus = bus
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
        if (tenant, request) not in self._in_hand:
            self._known.note((tenant, request), worker, self._parts.clock())

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
        finally:
            held.remove(ticket)
            if not held:
                del self._in_hand[key]
            ticket.ended.set()

    async def handle(self, ticket: Ticket) -> str | None:
        """Bring a request to its end; returns the code of its failure, if any.

        Raises:
            Failure: What the client is to be told.
        """
        body, digest = await self._check(ticket)
        with self._within_quota(ticket):
            wanted = self._wanted(ticket, body)
            if (again := await self._same_request(ticket, wanted)) is not None:
                return await self._conclude(ticket, again)
            if self._may_be_kept(ticket):
                return await self._once(ticket, wanted, body, digest)
            end = await self._dispatcher.dispatch(ticket, wanted)
            return await self._conclude(ticket, end)

    async def _check(self, ticket: Ticket) -> tuple[Body, str]:
        """Check the request, so that no worker sees what cannot be answered.

        Returns:
            What is asked, and the digest of the signature, if there is one.
        """
        request, events = ticket.request, ticket.events
        operation = catalog.operation(request.operation)
        if request.media == encoding.ARROW:
            body = _unread_table(operation)
        else:
            body = encoding.decode(request.body, operation.request, request.media)
        options = body.options
        events.reply_in(options.accept)
        ticket.priority = options.priority
        ticket.outlives_its_reader = options.on_disconnect == "continue"
        ticket.idempotent = operation.idempotent
        if options.idempotent is not None:
            ticket.idempotent = options.idempotent
        await self._tell_requested(ticket, body)
        if not isinstance(body, Predict):
            return body, ""
        ticket.asked_lm = body.lm or ""
        compiled = compile_signature(body.signature, body.instructions)
        require(compiled, body.inputs, "inputs")
        require_demos(compiled, body.demos, extra_fields(request.operation))
        return body, compiled.digest

    async def _tell_requested(self, ticket: Ticket, body: Body) -> None:
        request = ticket.request
        copy = request.body if request.media == encoding.JSON else encoding.encode(body)
        # Where the copy has no room beside the event's own fields, it is left out, and
        # so is a table, which is read by who answers.
        fits = len(copy) <= self._bus.max_payload - _EVENT_FIELDS
        fits = fits and request.media != encoding.ARROW
        await ticket.events.emit(
            Requested,
            body=msgspec.Raw(copy) if fits else None,
            operation=request.operation,
            tenant=request.tenant,
            deadline=int(request.deadline),
        )

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
            gpu_mib=options.gpu_memory_mib,
        )

    async def _same_request(
        self, ticket: Ticket, wanted: Wanted
    ) -> FinishedWord | None:
        """Let who answered this very request answer it again."""
        request, parts = ticket.request, self._parts
        in_hand = self._in_hand[request.tenant, request.id]
        while (first := in_hand[0]) is not ticket:
            if digest_of(first.request) != digest_of(request):
                raise other_request(request)
            await _until_ended(first, ticket)
        worker = self._known.find(request, parts.clock())
        if not worker or worker not in parts.targets:
            return None
        parts.record.counters["repeated"] += 1
        there = replace(wanted, route=Route("worker", worker), pools=(), dspy="")
        try:
            end = await self._dispatcher.dispatch(ticket, there)
        except NoWorker:  # it left in the meantime
            return None
        return end if isinstance(end, FinishedWord) else None

    def _may_be_kept(self, ticket: Ticket) -> bool:
        settings = self._parts.settings
        mode = ticket.request.cache or settings.cache
        known = ticket.request.media != encoding.ARROW
        return mode != "off" and ticket.idempotent and known and settings.cache_size > 0

    async def _once(
        self, ticket: Ticket, wanted: Wanted, body: Body, digest: str
    ) -> str | None:
        """Answer from what is kept; ask where nothing is, once for all who wait."""
        parts, request = self._parts, ticket.request
        refresh = request.cache == "refresh"
        key = self._key(ticket, wanted, body, digest)
        while not refresh:
            if (answer := await parts.cache.find(key)) is not None:
                parts.record.counters["cache.hits"] += 1
                return await self._answer_from(answer, ticket)
            if (first := self._asked.get(key)) is None:
                break
            await _until_ended(first, ticket)
        parts.record.counters["cache.misses"] += 1
        self._asked[key] = ticket
        try:
            end = await self._dispatcher.dispatch(ticket, wanted, keep=True)
            if isinstance(end, FinishedWord) and end.reply and not ticket.stood_in:
                await self._keep(ticket, body, digest, end)
        finally:
            if self._asked.get(key) is ticket:
                del self._asked[key]
        return await self._conclude(ticket, end)

    def _key(self, ticket: Ticket, wanted: Wanted, body: Body, digest: str) -> str:
        parts = self._parts
        decision = choose(wanted, parts.targets.all(), self._dispatcher.random)
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
            outputs=reply.outputs, metadata=reply.metadata, deltas=end.deltas
        )
        key = key_of(ticket.request, body, digest, target.beat)
        await self._parts.cache.keep(key, answer)

    async def _answer_from(self, answer: Answer, ticket: Ticket) -> str | None:
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
        return None

    async def _conclude(self, ticket: Ticket, end: FinishedWord | Failed) -> str | None:
        """Tell a failure that nobody has told; remember who answered."""
        if isinstance(end, Failed):
            await ticket.events.finish(end)
            return end.code
        if end.code != "done":
            return end.code
        now = self._parts.clock()
        self._known.keep(ticket.request, ticket.answered_by, now)
        return None


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


async def _until_ended(first: Ticket, ticket: Ticket) -> None:
    """Wait for the end of another request.

    Raises:
        Failure: This one was stopped, or its deadline came first.
    """
    try:
        async with asyncio.timeout(max(0.0, ticket.remaining)):
            with ticket.waiting():
                await first.ended.wait()
    except TimeoutError:
        raise DeadlineExceeded(
            "The same request is in hand, and had not ended by this deadline.",
            hint="Send a later Dspex-Deadline.",
        ) from None
