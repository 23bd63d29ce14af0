"""Who may go to a pool now, who waits for it, and who comes first. Pure.

A gate hands out permits, one per request in flight. Who finds none free waits, up to
a bound. More important requests always go first; among equals tenants take turns by
deficit round robin (Shreedhar & Varghese 1995), and those of one tenant go in the
order they came. Time comes in as an argument, in seconds of any steady clock.

A round is so short that nobody has two turns in it: the heaviest tenant has one in
every round, one of half the weight in every second. Tenants are not asked round by
round whether it is their turn; the round of the next one is known beforehand.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

LEVELS = 5
"""Priorities: 1 goes first."""

OTHERS = "*"
"""Under this name stands the weight of tenants without their own."""

_TURN = 1_000_000
_SLACK = 64

_Key = TypeVar("_Key", bound="Hashable")


class Entry(Struct, frozen=True, kw_only=True):
    """One request at the gate.

    Attributes:
        key: Anything hashable that no other request at this gate has.
        tenant: Who asks.
        priority: 1 first, 5 last.
        expires: When it waits no longer: its queue timeout or its deadline.
    """

    key: Any
    tenant: str
    priority: int = 3
    expires: float = math.inf


class Admitted(Struct, frozen=True):
    """It has a permit and may go."""


class Waiting(Struct, frozen=True):
    """It waits; ``hand_out`` returns it, unless its wait ends or it leaves before.

    Attributes:
        displaced: Who lost its place in the full queue to it, and is out.
    """

    displaced: Entry | None = None


class Refused(Struct, frozen=True):
    """The queue is full of requests that are as important.

    Attributes:
        queued: How many wait.
        limit: Permits there are.
    """

    queued: int
    limit: int


class Gate:
    """The gate of one pool.

    Whoever calls ``leave`` or ``resize`` calls ``hand_out`` next: a free permit goes
    to those who wait, never past them to one that comes.

    Args:
        limit: Permits there are.
        queue_limit: Most requests that wait.
        weights: Shares of tenants of one priority when all of them wait, above 0; 1.0
            unless given here or for ``"*"``. Less than a millionth of the largest
            counts as that.

    Raises:
        ValueError: A weight is not a number above 0.
    """

    def __init__(
        self, limit: int, queue_limit: int, weights: Mapping[str, float] | None = None
    ) -> None:
        shares = _Shares(weights or {})
        self._levels = [_Level(shares) for _ in range(LEVELS)]
        self._waiting: dict[Any, Entry] = {}
        self._held: set[Any] = set()
        self._ends: _Heap[Any] = _Heap()
        self.resize(limit, queue_limit)

    @property
    def held(self) -> int:
        """Permits that are out; more than the limit for a while after it shrank."""
        return len(self._held)

    @property
    def queued(self) -> int:
        """Requests that wait, as of the last call that was told the time."""
        return len(self._waiting)

    def resize(self, limit: int, queue_limit: int) -> None:
        """Change the limits; nobody loses a permit or a place in the queue by it."""
        self._limit = limit
        self._queue_limit = queue_limit

    def enter(self, entry: Entry, now: float) -> Admitted | Waiting | Refused:
        """Take a request in.

        It is admitted if a permit is free and nobody waits; it passes nobody here,
        however important it is. A full queue makes room for it at the cost of the
        youngest of the least important, if that is less important than it: who came
        last has waited least in vain. A request whose wait has ended already is
        never admitted, and takes no place either.

        Raises:
            ValueError: Its key is at the gate already, or its priority is unknown.
        """
        if entry.key in self._held or entry.key in self._waiting:
            raise ValueError(f"{entry.key!r} is at the gate already.")
        if not 1 <= entry.priority <= LEVELS:
            raise ValueError(f"Priority {entry.priority}. Allowed: 1 to {LEVELS}.")
        self._lapse(now)
        if entry.expires <= now:
            return Waiting()
        if not self._waiting and self.held < self._limit:
            self._held.add(entry.key)
            return Admitted()
        displaced = None
        if self.queued >= self._queue_limit:
            displaced = self._less_important(entry.priority)
            if displaced is None:
                return Refused(self.queued, self._limit)
            self._drop(displaced)
        self._waiting[entry.key] = entry
        self._ends.push(entry.key, entry.expires)
        self._levels[entry.priority - 1].push(entry)
        return Waiting(displaced)

    def leave(self, key: Hashable, now: float) -> None:
        """Give a permit back, or wait no longer; again, it does nothing.

        A request that is cancelled between ``hand_out`` and its start has a permit,
        and gives it back here like any other.
        """
        self._held.discard(key)
        if (entry := self._waiting.get(key)) is not None:
            self._drop(entry)
        self._lapse(now)

    def hand_out(self, now: float) -> list[Entry]:
        """Give the free permits to those whose turn it is, in that order."""
        self._lapse(now)
        admitted = []
        while self._waiting and self.held < self._limit:
            entry = next(level for level in self._levels if len(level)).next()
            self._drop(entry)
            self._held.add(entry.key)
            admitted.append(entry)
        return admitted

    def position(self, key: Hashable) -> int | None:
        """How many go before it at most, of those who wait; ``None`` if it does not.

        Exact for one tenant whose requests do not leave before their turn. More
        important ones may still come, and go first.
        """
        entry = self._waiting.get(key)
        if entry is None:
            return None
        before = sum(len(level) for level in self._levels[: entry.priority - 1])
        return before + self._levels[entry.priority - 1].ahead(entry)

    def _lapse(self, now: float) -> None:
        """Drop those whose wait has ended: they count for nothing any more."""
        while self._ends and self._ends.rank(self._ends.first()) <= now:
            self._drop(self._waiting[self._ends.first()])

    def _less_important(self, priority: int) -> Entry | None:
        levels = reversed(self._levels[priority:])
        return next((level.youngest() for level in levels if len(level)), None)

    def _drop(self, entry: Entry) -> None:
        del self._waiting[entry.key]
        self._ends.discard(entry.key)
        self._levels[entry.priority - 1].discard(entry)


def expected_wait(ahead: int, limit: int, typical: float) -> float:
    """Seconds until a request gets a permit, when all are out.

    Args:
        ahead: Requests that wait before it.
        limit: Permits there are; without any the wait is infinite.
        typical: Seconds a request keeps one.
    """
    return (ahead + 1) * typical / limit if limit > 0 else math.inf


class _Shares:
    """Weights as whole numbers: the heaviest tenant has ``_TURN``, a turn a round."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        for tenant, weight in weights.items():
            if not 0 < weight < math.inf:
                raise ValueError(
                    f"Weight {weight} of {tenant!r}. Allowed: numbers above 0."
                )
        usual = weights.get(OTHERS, 1.0)
        heaviest = max(usual, *weights.values()) if weights else usual
        self._usual = _share(usual, heaviest)
        self._named = {name: _share(one, heaviest) for name, one in weights.items()}

    def of(self, tenant: str) -> int:
        return self._named.get(tenant, self._usual)


def _share(weight: float, heaviest: float) -> int:
    return max(1, round(_TURN * (weight / heaviest)))


class _Tenant:
    """Requests of one tenant and one priority that wait, in the order they came."""

    def __init__(self, share: int) -> None:
        self.share = share
        self.credit = 0
        self.entries: OrderedDict[Any, int] = OrderedDict()
        self._came = 0

    def push(self, entry: Entry) -> None:
        self.entries[entry.key] = self._came
        self._came += 1

    def ahead(self, entry: Entry) -> int:
        """Those before it, and those that left from between."""
        oldest = next(iter(self.entries.values()))
        return min(self.entries[entry.key] - oldest, len(self.entries) - 1)

    def rounds(self) -> int:
        """Rounds until its next turn; its credit becomes what is left after that."""
        rounds = -((self.credit - _TURN) // self.share)
        self.credit += rounds * self.share - _TURN
        return rounds


class _Level:
    """Requests of one priority that wait: tenants take turns."""

    def __init__(self, shares: _Shares) -> None:
        self._shares = shares
        self._arrivals: OrderedDict[Any, Entry] = OrderedDict()
        self._tenants: dict[str, _Tenant] = {}
        self._turns: _Heap[str] = _Heap()
        self._round = 0
        self._total = 0

    def __len__(self) -> int:
        return len(self._arrivals)

    def push(self, entry: Entry) -> None:
        self._arrivals[entry.key] = entry
        tenant = self._tenants.get(entry.tenant)
        if tenant is None:
            # Without credit, and behind all who wait: coming anew wins nothing.
            tenant = _Tenant(self._shares.of(entry.tenant))
            self._tenants[entry.tenant] = tenant
            self._turns.push(entry.tenant, self._round + tenant.rounds())
            self._total += tenant.share
        tenant.push(entry)

    def next(self) -> Entry:
        """The one whose turn it is; whoever takes it discards it too."""
        name = self._turns.first()
        tenant = self._tenants[name]
        self._round = int(self._turns.rank(name))
        self._turns.push(name, self._round + tenant.rounds())
        return self._arrivals[next(iter(tenant.entries))]

    def discard(self, entry: Entry) -> None:
        del self._arrivals[entry.key]
        tenant = self._tenants[entry.tenant]
        del tenant.entries[entry.key]
        if not tenant.entries:
            del self._tenants[entry.tenant]
            self._turns.discard(entry.tenant)
            self._total -= tenant.share

    def youngest(self) -> Entry:
        return self._arrivals[next(reversed(self._arrivals))]

    def ahead(self, entry: Entry) -> int:
        """At most so many go before it.

        Its own turn comes within so many rounds, and in those each other tenant has
        its share of turns, one that was due and one for its credit.
        """
        tenant = self._tenants[entry.tenant]
        own = tenant.ahead(entry)
        rounds = (own + 1) * -(-_TURN // tenant.share)
        turns = rounds * (self._total - tenant.share) // _TURN
        most = turns + 2 * (len(self._tenants) - 1)
        return own + min(len(self) - len(tenant.entries), most)


class _Heap(Generic[_Key]):
    """Keys by rank, equal ranks in the order they came; each can be taken out.

    What is taken out or ranked anew stays in the heap until it comes up, or until
    there is more of that than of the rest.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Key]] = []
        self._live: dict[_Key, tuple[float, int]] = {}
        self._came = 0

    def __len__(self) -> int:
        return len(self._live)

    def push(self, key: _Key, rank: float) -> None:
        self._came += 1
        self._live[key] = (rank, self._came)
        heappush(self._heap, (rank, self._came, key))
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = list(self._ranked())
            heapify(self._heap)

    def discard(self, key: _Key) -> None:
        self._live.pop(key, None)

    def first(self) -> _Key:
        """The key of least rank; there must be one."""
        while True:
            rank, came, key = self._heap[0]
            if self._live.get(key) == (rank, came):
                return key
            heappop(self._heap)

    def rank(self, key: _Key) -> float:
        return self._live[key][0]

    def _ranked(self) -> Iterator[tuple[float, int, _Key]]:
        return ((rank, came, key) for key, (rank, came) in self._live.items())
