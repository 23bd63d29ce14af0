"""One request from its decision to its end, over as many attempts as it takes."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dspex.contracts.envelope import Accepted, Decision, Failed, failed
from dspex.contracts.failures import (
    BadRequest,
    DeadlineExceeded,
    LmUnavailable,
    NoWorker,
    Overloaded,
    WorkerLost,
)
from dspex.contracts.words import FinishedWord
from dspex.router.attempts import Limits, Rest
from dspex.router.choosing import choose, may_come, to_holder
from dspex.router.places import QueueFull
from dspex.router.retries import backoff
from dspex.router.sending import BUSY, Fallen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.router.attempts import Again
    from dspex.router.choosing import Wanted
    from dspex.router.parts import Parts
    from dspex.router.targets import Target
    from dspex.router.tickets import Ticket


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """A decision that is about to be sent.

    Attributes:
        decision: Whom, and why.
        target: That process.
        wanted: What it was chosen by.
        lm: The language model it will use; empty: none.
    """

    decision: Decision
    target: Target
    wanted: Wanted
    lm: str

    @property
    def kind(self) -> str:
        """What takes alike long: the operation and the language model."""
        return f"{self.wanted.operation} {self.lm}".strip()


class Dispatcher:
    """Sends requests to the processes chosen for them, until one answers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.random = random.Random()
        self._limits = Limits(lost=parts.settings.losses, failed=parts.settings.retries)

    async def dispatch(
        self, ticket: Ticket, wanted: Wanted, *, keep: bool = False
    ) -> FinishedWord | Failed:
        """Choose, send, follow; choose again where that may help.

        Args:
            ticket: The request.
            wanted: What it needs of who answers it.
            keep: Whether the answer shall come here too.

        Returns:
            The last word of who answered, or the failure the client is to be told.

        Raises:
            Failure: Nobody took it, or who took it fell silent; the client has no
                answer.
        """
        last: Failed | None = None
        worker = ""
        ticket.was_busy = False
        while True:
            try:
                choice, wanted, end = await self._try(ticket, wanted, last, keep=keep)
            except (NoWorker, BadRequest) as nobody:
                if isinstance(nobody, NoWorker) and await self._hopes(
                    ticket, wanted, last
                ):
                    wanted = replace(wanted, tried=frozenset())
                    continue
                if last is None:
                    raise
                # What the client needs to know is why the first one failed.
                return await self._explained(ticket, worker, last)
            if isinstance(end, FinishedWord):
                return end
            if end is None:
                continue
            worker = choice.decision.worker
            again = self._after(ticket, choice, end)
            if again is None:
                return await self._explained(ticket, worker, end)
            wanted, last = await self._prepare(ticket, choice, again, end), end

    async def _explained(self, ticket: Ticket, worker: str, end: Failed) -> Failed:
        """The failure, with the reason of the worker's end if that was it."""
        if end.code != WorkerLost.code:
            return end
        within = min(self._parts.settings.reason, ticket.remaining)
        why = await self._parts.ends.why(worker, within)
        return failed(ticket.request.id, why) if why else end

    async def _hopes(self, ticket: Ticket, wanted: Wanted, last: Failed | None) -> bool:
        """Wait a little for somebody who starts, or comes back, or is started anew."""
        parts = self._parts
        left = min(parts.settings.hope - ticket.hoped, ticket.remaining)
        lost = last is not None and last.category == "infrastructure"
        coming = lost or any(may_come(one, wanted) for one in parts.targets.all())
        if left <= 0 or not coming:
            return False
        begun = time.perf_counter()
        await parts.places.news(ticket, left)
        ticket.hoped += time.perf_counter() - begun
        return True

    async def _try(
        self, ticket: Ticket, wanted: Wanted, last: Failed | None, *, keep: bool
    ) -> tuple[Choice, Wanted, FinishedWord | Failed | None]:
        """One attempt, in its turn if it is another one, where there is a place."""
        async with self._parts.health.turn(ticket, is_retry=last is not None):
            if ticket.seat is not None:
                wanted = await ticket.seat.aim(wanted)
            choice, pool = await self._placed(ticket, wanted)
            try:
                while True:
                    with _held(choice.target, wanted.gpu_mib):
                        wanted, end = await self._attempt(ticket, choice, keep=keep)
                    # Who fell through leaves its place to nobody but another there.
                    again = end is None and ticket.seat is None
                    anew = self._anew(ticket, wanted, pool) if again else None
                    if anew is None:
                        return choice, wanted, end
                    choice = anew
            finally:
                if pool:
                    self._parts.places.give_back(ticket, pool)

    async def _attempt(
        self, ticket: Ticket, choice: Choice, *, keep: bool
    ) -> tuple[Wanted, FinishedWord | Failed | None]:
        """One dispatch; without an end if nothing had started."""
        parts = self._parts
        before = ticket.begin(choice.decision)
        ticket.follows = choice.wanted.known
        await ticket.events.emit(Accepted, decision=choice.decision)
        parts.record.decided(ticket.request, choice.decision)
        begun = parts.clock()
        calls = parts.health.begin(choice.decision.worker, _lm_key(choice), begun)
        code = WorkerLost.code
        try:
            if ticket.seat is not None:
                await ticket.seat.bind(choice.wanted, choice.decision)
            end = await parts.sender.send(
                ticket, choice.decision, choice.target, keep=keep
            )
            code = end.code
        except Fallen as fallen:
            code = ""  # it says nothing about how well they do
            ticket.was_busy |= fallen.why == BUSY
            ticket.asked = before  # nothing began there
            return await _fallen(ticket, choice, fallen), None
        except BaseException as error:
            code = getattr(error, "code", "cancelled")
            raise
        finally:
            now, fresh = parts.clock(), not choice.wanted.known
            parts.health.end(calls, code if fresh else "", now - begun, now)
        if code == "done" and fresh:
            parts.times.record(choice.kind, now - begun, now)
        ticket.accepted = isinstance(end, FinishedWord)
        return choice.wanted, end

    async def _placed(self, ticket: Ticket, wanted: Wanted) -> tuple[Choice, str]:
        """A choice, and the pool in which it has a place; empty: it needs none."""
        places = self._parts.places
        while True:
            ticket.check()
            choice = self._choose(ticket, wanted)
            wanted = choice.wanted
            if wanted.route.kind == "worker" or wanted.holder:
                return choice, ""  # its own queue is the only one that counts
            pool = choice.decision.pool
            typical = self._parts.times.typical(choice.kind, self._parts.clock())
            try:
                waited = await places.take(ticket, pool, typical)
            except QueueFull as full:
                wanted = self._elsewhere(wanted, pool, full)
                continue
            if not waited:
                return choice, pool
            try:
                anew = self._anew(ticket, wanted, pool)
            except BaseException:
                places.give_back(ticket, pool)
                raise
            if anew is not None:
                return anew, pool
            places.give_back(ticket, pool)

    def _anew(self, ticket: Ticket, wanted: Wanted, pool: str) -> Choice | None:
        """Choose again in a pool; nobody, if there is no one there any more."""
        ticket.check()
        if not pool:
            return None
        try:
            choice = self._choose(ticket, replace(wanted, pools=(pool,)))
        except (NoWorker, Overloaded):
            return None
        kept = replace(choice.wanted, pools=wanted.pools)
        return dataclasses.replace(choice, wanted=kept)

    def _choose(self, ticket: Ticket, wanted: Wanted) -> Choice:
        targets, now = self._parts.targets, self._parts.clock()
        while True:
            decision = self._decide(ticket, wanted)
            target = targets.get(decision.worker)
            assert target is not None
            lm = wanted.lm or target.beat.lm
            if wanted.known or target.beat.implementation != "python":
                lm = ""
            kind = f"{wanted.operation} {lm}"
            if not lm or self._parts.health.admits_lm(kind, now):
                break
            wanted = self._other_lm(ticket, wanted, lm)
        if not wanted.known:
            self._check_time(ticket, kind.strip(), now)
        decision = replace(
            decision,
            attempt=ticket.attempt + 1,
            lm=wanted.lm if wanted.lm != ticket.asked_lm else "",
            waited_ms=round(ticket.waited_ms, 3),
            gpu_memory_mib=wanted.gpu_mib,
        )
        return Choice(decision=decision, target=target, wanted=wanted, lm=lm)

    def _decide(self, ticket: Ticket, wanted: Wanted) -> Decision:
        parts = self._parts
        try:
            if wanted.holder:
                return to_holder(wanted, parts.targets.all())
            if len(wanted.tried) < parts.settings.picks:
                return choose(wanted, parts.targets.all(), self.random)
            raise _given_up(len(wanted.tried))
        except NoWorker:
            if not ticket.was_busy:
                raise
            raise Overloaded(
                "Every worker that could answer is full.",
                hint="Send it again after a pause, or start more workers.",
                retry_after_ms=1000,
            ) from None

    def _elsewhere(self, wanted: Wanted, pool: str, full: QueueFull) -> Wanted:
        """Leave a full pool out, if there is another."""
        wanted = replace(wanted, full=wanted.full | {pool}, why_again="after_full")
        try:
            choose(wanted, self._parts.targets.all(), self.random)
        except NoWorker:
            raise Overloaded(
                full.message,
                hint="Send it again after the pause, or start more workers.",
                retry_after_ms=max(1, round(full.retry_after * 1000)),
            ) from None
        return wanted

    def _other_lm(self, ticket: Ticket, wanted: Wanted, lm: str) -> Wanted:
        """Take a language model that may stand in for one that is not to be asked."""
        for other in self._stand_ins(ticket, wanted, lm):
            if other not in (lm, *ticket.course.left):
                ticket.course.leave(lm)
                return replace(wanted, lm=other, why_again="after_breaker")
        kind, now = f"{wanted.operation} {lm}", self._parts.clock()
        pause = self._parts.health.lm_pause(kind, now)
        raise LmUnavailable(
            f"The language model {lm!r} failed too often: it is left alone for "
            f"{pause:.1f} s.",
            hint="Send it again after the pause, or configure [fallbacks].",
            retry_after_ms=max(1, round(pause * 1000)),
        )

    def _check_time(self, ticket: Ticket, kind: str, now: float) -> None:
        """Refuse at once what cannot be done by its deadline."""
        fastest = self._parts.times.fastest(kind, now)
        remaining = ticket.remaining
        if fastest is not None and remaining < fastest:
            raise DeadlineExceeded(
                f"{remaining * 1000:.0f} ms are left, and the fastest of the last "
                f"requests like it took {fastest * 1000:.0f} ms.",
                hint="Send a later Dspex-Deadline.",
            )

    def _after(self, ticket: Ticket, choice: Choice, end: Failed) -> Again | None:
        """Count a failed attempt, and decide whether another one follows."""
        if choice.wanted.known:
            return None
        rest = Rest(
            lms=self._stand_ins(ticket, choice.wanted, choice.lm),
            remaining=ticket.remaining,
            idempotent=ticket.idempotent and not ticket.cancelled,
        )
        return ticket.course.after(end, choice.lm, rest, self._limits)

    async def _prepare(
        self, ticket: Ticket, choice: Choice, again: Again, end: Failed
    ) -> Wanted:
        """Wait as long as the next attempt has to, and say what it needs."""
        parts = self._parts
        parts.record.counters["retries"] += 1
        # Who was full when it was first asked may have room by now.
        tried: frozenset[str] = frozenset()
        ticket.was_busy = False
        if end.category == "infrastructure":
            worker = choice.decision.worker
            await parts.sender.drop(ticket, worker, choice.decision.attempt)
            tried = frozenset({worker})
        wanted = replace(choice.wanted, tried=tried, why_again=f"after_{end.code}")
        if again.lm:
            wanted = replace(wanted, lm=again.lm)
        if again.waits:
            pause = backoff(ticket.course.failed, end.retry_after_ms, self.random)
            async with ticket.waiting():
                await asyncio.sleep(min(pause, max(0.0, ticket.remaining)))
        return wanted

    def _stand_ins(self, ticket: Ticket, wanted: Wanted, lm: str) -> tuple[str, ...]:
        """Language models of its chain that it may go to, and that may be asked."""
        parts, now, operation = self._parts, self._parts.clock(), wanted.operation
        found = parts.fallbacks.get(operation) or parts.fallbacks.get("*")
        named = found.lms.get(ticket.course.chain_of(lm), ()) if found and lm else ()
        able = [one.beat.lms for one in parts.targets.all() if wanted.admits(one)]
        return tuple(
            one
            for one in named
            if any(one in lms for lms in able)
            and parts.health.admits_lm(f"{operation} {one}", now)
        )


@contextmanager
def _held(target: Target, gpu_mib: int) -> Iterator[None]:
    """Have a request more at a process, and the GPU memory it declares."""
    target.own += 1
    target.own_gpu_mib += gpu_mib
    try:
        yield
    finally:
        target.own -= 1
        target.own_gpu_mib -= gpu_mib


async def _fallen(ticket: Ticket, choice: Choice, fallen: Fallen) -> Wanted:
    """What is wanted after a choice fell through."""
    wanted = replace(choice.wanted, why_again=f"after_{fallen.why}")
    if fallen.gpu_mib > wanted.gpu_mib:
        wanted = replace(wanted, gpu_mib=fallen.gpu_mib, gpu_field="program")
    worker = choice.decision.worker
    if ticket.seat is not None:
        return await ticket.seat.fell(fallen.why, wanted, worker)
    return replace(wanted, tried=wanted.tried | {worker})


def _lm_key(choice: Choice) -> str:
    return choice.kind if choice.lm else ""


def _given_up(times: int) -> NoWorker:
    return NoWorker(
        f"{times} workers were tried and none took the request.",
        hint="Send it again after a pause, and look at the workers' logs.",
        retry_after_ms=1000,
    )
