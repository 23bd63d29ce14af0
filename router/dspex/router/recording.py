"""What a router did: the last decisions, and how often what happened."""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING

from dspex.bus import metrics
from dspex.bus.clock import now_ms
from dspex.contracts.admin import PoolLoad, RecordedDecision
from dspex.contracts.subjects import ROUTER_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspex.bus.incoming import Request
    from dspex.contracts.admin import DecisionsRequest
    from dspex.contracts.envelope import Decision
    from dspex.router.targets import Target
    from dspex.router.tickets import Ticket


class Record:
    """The last decisions of a router and its counters.

    Args:
        most: Decisions that are kept.
    """

    def __init__(self, most: int) -> None:
        self.counters: Counter[str] = Counter()
        self._last: deque[RecordedDecision] = deque(maxlen=most)

    def decided(self, request: Request, decision: Decision) -> None:
        """Keep a decision, in place of the oldest."""
        self.counters["dispatches"] += 1
        self._last.append(
            RecordedDecision(
                request=request.id,
                operation=request.operation,
                tenant=request.tenant,
                at=now_ms(),
                decision=decision,
            )
        )

    def ended(self, code: str, ticket: Ticket | None = None) -> None:
        """Count the end of a request.

        Args:
            code: ``done``, or the code of its failure.
            ticket: The request; ``None``: it could not be read.
        """
        self.counters["done" if code == "done" else f"failed.{code}"] += 1
        if ticket is None:
            metrics.served(metrics.OTHER, ROUTER_QUEUE, code, 0.0)
            return
        operation, seconds = ticket.request.operation, perf_counter() - ticket.received
        metrics.served(operation, ROUTER_QUEUE, code, seconds)
        metrics.queued(operation, ticket.waited_ms / 1000)

    def last(self, asked: DecisionsRequest) -> list[RecordedDecision]:
        """The last decisions, the newest first."""
        wanted = asked.request
        found = (one for one in reversed(self._last) if wanted in (None, one.request))
        return list(islice(found, asked.limit))


def pool_loads(
    targets: Iterable[Target], held: Mapping[str, int], queued: Mapping[str, int]
) -> list[PoolLoad]:
    """What is known of every pool.

    Args:
        targets: All processes.
        held: Requests this router has there, by pool.
        queued: Requests that wait for a place there, by pool.
    """
    pools: dict[str, list[Target]] = {name: [] for name in queued}
    for one in targets:
        pools.setdefault(one.beat.pool, []).append(one)
    return [
        PoolLoad(
            pool=name,
            workers=len(members),
            ready=sum(one.takes_work for one in members),
            places=sum(one.places for one in members),
            held=held.get(name, 0),
            queued=queued.get(name, 0),
        )
        for name, members in sorted(pools.items())
    ]
