"""The gate of a pool: who goes at once, who waits, who goes first, who is refused."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from dspex.router.admission import (
    LEVELS,
    Admitted,
    Entry,
    Gate,
    Refused,
    Waiting,
    expected_wait,
)

WEIGHTS = {"a": 1.0, "b": 3.0, "c": 0.3, "*": 2.0}
TENANTS = st.sampled_from("abcde")
BACKLOG = 200


def entry(key: object, tenant: str = "a", priority: int = 3, **said: float) -> Entry:
    return Entry(key=key, tenant=tenant, priority=priority, **said)


def full(*waiting: Entry, queue_limit: int = 10) -> Gate:
    """A gate whose only permit is out, under the key ``held``."""
    gate = Gate(1, queue_limit)
    assert isinstance(gate.enter(entry("held"), 0.0), Admitted)
    for one in waiting:
        assert isinstance(gate.enter(one, 0.0), Waiting)
    return gate


def turn(gate: Gate) -> Entry:
    """Who goes when one more permit is there."""
    gate.resize(gate.held + 1, 100)
    [one] = gate.hand_out(0.0)
    return one


def keys(gate: Gate, count: int) -> list[object]:
    """Who goes, one at a time."""
    return [turn(gate).key for _ in range(count)]


def backlog(tenants: str, each: int, weights: dict[str, float]) -> Gate:
    """A gate where each tenant has so many requests that wait."""
    gate = Gate(0, each * len(tenants), weights)
    for number in range(each):
        for tenant in tenants:
            gate.enter(entry((tenant, number), tenant), 0.0)
    return gate


def test_nobody_passes_those_who_wait() -> None:
    """A free permit is not for one that comes, however important, while others wait."""
    gate = full(entry("first", priority=5))

    gate.leave("held", 0.0)

    assert gate.enter(entry("second", priority=1), 0.0) == Waiting()
    assert [one.key for one in gate.hand_out(0.0)] == ["second"]


def test_a_full_queue_refuses() -> None:
    """A full queue refuses what is no more important, and says how full it is."""
    gate = full(entry(1), entry(2), queue_limit=2)

    assert gate.enter(entry(3), 0.0) == Refused(queued=2, limit=1)
    assert gate.enter(entry(4, priority=5), 0.0) == Refused(queued=2, limit=1)


def test_the_least_important_youngest_makes_room() -> None:
    """Into a full queue comes the more important, at the cost of the least so."""
    older, younger = entry("older", "b", 5), entry("younger", "a", 5)
    gate = full(entry("four", "a", 4), older, younger, queue_limit=3)

    outcomes = [gate.enter(entry(key, priority=3), 0.0) for key in range(4)]

    assert outcomes[:2] == [Waiting(younger), Waiting(older)]
    assert outcomes[2:] == [Waiting(entry("four", "a", 4)), Refused(3, 1)]


def test_priorities_are_strict() -> None:
    """More important requests go first, whoever's they are and whenever they came."""
    waiting = [entry(priority, "ab"[priority % 2], priority) for priority in (5, 3, 1)]
    gate = full(*waiting, entry(4, "c", 4), entry(2, "c", 2))

    assert keys(gate, 5) == [1, 2, 3, 4, 5]


def test_tenants_take_turns() -> None:
    """One tenant's many requests do not hold up another's few."""
    many = [entry(number, "a") for number in range(6)]
    gate = full(*many, entry("b1", "b"), entry("b2", "b"))

    assert keys(gate, 8) == [0, "b1", 1, "b2", 2, 3, 4, 5]


def test_coming_back_wins_nothing() -> None:
    """A tenant that has one request at a time gets no more turns than one with many."""
    gate = full(*(entry(number, "a") for number in range(5)), entry("b", "b"))
    turns = []

    for number in range(8):
        turns.append(turn(gate).tenant)
        if turns[-1] == "b":
            gate.enter(entry(("b", number), "b"), 0.0)

    assert "".join(turns) == "abababab"


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ({"a": 2.0}, "abaabaaba"),
        ({"b": 0.5}, "abaabaaba"),
        ({"*": 7.0}, "ababababa"),
        ({"*": 4.0, "a": 8.0}, "abaabaaba"),
    ],
)
def test_weights(weights: dict[str, float], order: str) -> None:
    """A tenant of twice the weight has two turns for one of the other."""
    gate = backlog("ab", 9, weights)
    gate.resize(9, 100)

    assert "".join(one.tenant for one in gate.hand_out(0.0)) == order


@settings(max_examples=50)
@given(st.lists(st.floats(0.01, 100.0), min_size=2, max_size=4))
def test_shares_follow_weights(weights: list[float]) -> None:
    """In any stretch in which all wait, shares are off by one turn of each at most."""
    named = dict(zip("abcd", weights, strict=False))
    gate = backlog("".join(named), BACKLOG, named)
    gate.resize(BACKLOG, 0)
    counts: Counter[str] = Counter()
    history = [dict.fromkeys(named, 0)]

    for one in gate.hand_out(0.0):
        counts[one.tenant] += 1
        history.append({tenant: counts[tenant] for tenant in named})

    round_ = 1 / max(1.0, *weights)
    for a, b in combinations(named, 2):
        leads = [now[a] / named[a] - now[b] / named[b] for now in history]
        bound = 1 / named[a] + 1 / named[b] + round_
        # Weights are kept in millionths of the heaviest.
        assert max(leads) - min(leads) <= bound * 1.001 + 0.02


@given(st.permutations(range(12)), st.data())
def test_everybody_gets_a_turn(order: list[int], data: st.DataObject) -> None:
    """Of equals that always wait, nobody waits longer than for one turn of each."""
    gate = Gate(0, 100)
    for tenant in order:
        gate.enter(entry(tenant, str(tenant)), 0.0)
    last: dict[str, int] = dict.fromkeys(map(str, order), 0)

    for number in range(1, 60):
        one = turn(gate)
        assert number - last[one.tenant] <= len(order)
        last[one.tenant] = number
        for again in range(data.draw(st.integers(1, 2))):
            gate.enter(entry((number, again), one.tenant), 0.0)


def test_ended_waits_are_not_admitted() -> None:
    """Whose wait has ended gets no permit and takes no place, left or not."""
    gate = full(entry("late", expires=5.0), entry("later", expires=9.0), queue_limit=2)

    gate.leave("held", 5.0)

    assert gate.queued == 1
    assert [one.key for one in gate.hand_out(5.0)] == ["later"]
    gate.leave("late", 5.0)
    assert (gate.held, gate.queued) == (1, 0)


def test_an_ended_wait_makes_room() -> None:
    """A full queue has a place for who comes when another's wait has ended."""
    gate = full(entry("late", expires=5.0), queue_limit=1)

    assert gate.enter(entry("early"), 4.0) == Refused(1, 1)
    assert gate.enter(entry("next"), 5.0) == Waiting()


def test_ended_before_it_came() -> None:
    """A request whose wait has ended when it comes is not admitted either."""
    gate = Gate(1, 1)

    assert gate.enter(entry("late", expires=5.0), 5.0) == Waiting()
    assert (gate.held, gate.queued) == (0, 0)
    assert gate.hand_out(6.0) == []


def test_no_permit_is_revoked() -> None:
    """A gate that shrinks lets nobody in until enough have left."""
    gate = Gate(3, 10)
    for key in range(4):
        gate.enter(entry(key), 0.0)

    gate.resize(1, 10)

    assert gate.held == 3
    for key, waits in enumerate([1, 1, 0]):
        gate.leave(key, 0.0)
        gate.hand_out(0.0)
        assert gate.queued == waits


def test_cancelled_after_its_turn_came() -> None:
    """Who is cancelled between its turn and its start gives the permit back, once."""
    gate = full(entry(1), entry(2), entry(3))
    gate.leave("held", 0.0)
    gate.hand_out(0.0)

    gate.leave(1, 0.0)
    gate.leave(1, 0.0)

    assert [one.key for one in gate.hand_out(0.0)] == [2]


def test_position() -> None:
    """Exact for one tenant, and no more than others can have turns before it."""
    gate = full(*(entry(number, "a") for number in range(8)), entry("b", "b"))

    assert [gate.position(number) for number in range(8)] == [*range(1, 8), 8]
    assert gate.position("b") == 3
    assert gate.position("held") is None

    turned = keys(gate, 3)

    assert turned == [0, "b", 1]
    assert [gate.position(number) for number in range(2, 8)] == [*range(6)]


def test_position_when_others_left() -> None:
    """Tenants that have left take no turns."""
    gate = full(*(entry(number, str(number)) for number in range(9)))
    for number in range(1, 9):
        gate.leave(number, 0.0)
    for number in range(10, 19):
        gate.enter(entry(number, "a"), 0.0)

    assert gate.position(0) == 3


@pytest.mark.parametrize("priority", [0, LEVELS + 1])
def test_unknown_priority(priority: int) -> None:
    """A priority out of range is a defect of the caller."""
    with pytest.raises(ValueError, match="Allowed: 1 to 5"):
        Gate(1, 1).enter(entry("x", priority=priority), 0.0)


def test_keys_are_unique() -> None:
    """A key that is at the gate cannot come again, whether it has a permit or waits."""
    gate = full(entry("waits"))

    for key in ("held", "waits"):
        with pytest.raises(ValueError, match="already"):
            gate.enter(entry(key), 0.0)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_weights_are_positive(weight: float) -> None:
    """A weight that gives no share, or all, is refused."""
    with pytest.raises(ValueError, match="above 0"):
        Gate(1, 1, {"a": weight})


def test_tiny_weights() -> None:
    """A weight that is next to nothing still gets a turn."""
    gate = backlog("ab", 2, {"a": 5e-324, "b": 1e300})
    gate.resize(4, 4)

    assert "".join(one.tenant for one in gate.hand_out(0.0)) == "bbaa"


def test_what_left_takes_no_memory() -> None:
    """Requests that come and leave while others wait leave nothing behind."""
    gate = full(entry("stays", "s", expires=1e9))

    for number in range(5000):
        gate.enter(entry(number, str(number), expires=1e6 + number), 0.0)
        gate.leave(number, 0.0)

    level = gate._levels[2]
    assert gate.queued == 1
    assert len(gate._ends._heap) + len(level._turns._heap) < 200


def test_expected_wait() -> None:
    """Permits come back one by one, evenly; without any the wait has no end."""
    assert expected_wait(0, 1, 2.0) == 2.0
    assert expected_wait(3, 2, 1.0) == 2.0
    assert expected_wait(0, 0, 1.0) == math.inf


class Gates(RuleBasedStateMachine):
    """A gate against a list of those who wait, in the order they came."""

    @initialize(limit=st.integers(0, 4), queue_limit=st.integers(0, 8))
    def begin(self, limit: int, queue_limit: int) -> None:
        self.gate = Gate(limit, queue_limit, WEIGHTS)
        self.limit, self.queue_limit = limit, queue_limit
        self.most = queue_limit
        self.now = 0.0
        self.came = 0
        self.held: set[int] = set()
        self.waiting: list[Entry] = []

    @rule(
        tenant=TENANTS,
        priority=st.integers(1, LEVELS),
        patience=st.integers(0, 9),
    )
    def enter(self, tenant: str, priority: int, patience: int) -> None:
        self._lapse()
        one = entry(self.came, tenant, priority, expires=self.now + patience)
        self.came += 1

        outcome = self.gate.enter(one, self.now)

        if not patience:
            assert outcome == Waiting()
        elif not self.waiting and len(self.held) < self.limit:
            assert outcome == Admitted()
            self.held.add(one.key)
        elif len(self.waiting) < self.queue_limit:
            assert outcome == Waiting()
            self.waiting.append(one)
        else:
            self._full(one, outcome)

    def _full(self, one: Entry, outcome: Admitted | Waiting | Refused) -> None:
        worst = max((each.priority for each in self.waiting), default=0)
        if worst <= one.priority:
            assert outcome == Refused(len(self.waiting), self.limit)
            return
        loser = [each for each in self.waiting if each.priority == worst][-1]
        assert outcome == Waiting(loser)
        self.waiting.remove(loser)
        self.waiting.append(one)

    @precondition(lambda self: self.came)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Anybody, in whatever state it is, and however often."""
        key = data.draw(st.integers(0, self.came))
        self._lapse()

        self.gate.leave(key, self.now)

        self.held.discard(key)
        self.waiting = [one for one in self.waiting if one.key != key]

    @rule()
    def hand_out(self) -> None:
        self._lapse()
        before = {one.key: self.gate.position(one.key) for one in self.waiting}
        free = max(0, self.limit - len(self.held))

        admitted = self.gate.hand_out(self.now)

        assert len(admitted) == min(free, len(self.waiting))
        for one in admitted:
            assert one.priority == min(each.priority for each in self.waiting)
            same = [e for e in self.waiting if _line(e) == _line(one)]
            assert same[0] == one
            self.waiting.remove(one)
            self.held.add(one.key)
        order = [one.key for one in admitted]
        for key, position in before.items():
            assert position is not None
            assert (order.index(key) if key in order else len(order)) <= position

    @rule(limit=st.integers(0, 4), queue_limit=st.integers(0, 8))
    def resize(self, limit: int, queue_limit: int) -> None:
        self.gate.resize(limit, queue_limit)
        self.limit, self.queue_limit = limit, queue_limit
        self.most = max(queue_limit, self.gate.queued)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    def _lapse(self) -> None:
        self.waiting = [one for one in self.waiting if one.expires > self.now]

    @invariant()
    def counts_are_true(self) -> None:
        gate = self.gate
        assert gate.held == len(self.held)
        assert gate.queued == len(self.waiting) <= self.most


def _line(one: Entry) -> tuple[int, str]:
    return one.priority, one.tenant


TestGates = Gates.TestCase
TestGates.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
