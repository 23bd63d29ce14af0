"""Breakers: what opens them, for how long, what closes them, and which are kept."""

from __future__ import annotations

from random import Random
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from dspex.contracts.failures import BY_CODE
from dspex.router.breakers import (
    LM,
    WORKER,
    Breaker,
    Breakers,
    BreakerSettings,
    Call,
    Change,
    Key,
    Outcome,
    Scope,
    outcome_of,
)
from dspex.router.estimates import BUCKETS

PLAIN = BreakerSettings(jitter=0.0)
SLOW = BreakerSettings(jitter=0.0, slow_after=10.0)
# Small and exact in binary, so that a plain list can say what must happen.
SMALL = BreakerSettings(
    consecutive=4,
    minimum=6,
    window=2.5,
    slow_after=1.0,
    slow_ratio=0.75,
    open_for=2.0,
    longest=5.0,
    probes=2,
)
OUTCOMES = st.sampled_from(get_args(Outcome))
MIXED: list[Outcome] = ["success", "failure"] * 9
FOUR: list[Outcome] = ["failure"] * 4
W: Key = ("worker", "w")


def breaker_of(wanted: BreakerSettings = PLAIN) -> Breaker:
    return Breaker(wanted, Random(0))


def call(
    breaker: Breaker, outcome: Outcome, now: float = 0.0, seconds: float = 0.1
) -> None:
    breaker.end(breaker.begin(now), outcome, seconds, now)


def opened(wanted: BreakerSettings = PLAIN) -> Breaker:
    breaker = breaker_of(wanted)
    for _ in range(wanted.consecutive):
        call(breaker, "failure")
    return breaker


def fail(breakers: Breakers, key: Key, now: float = 0.0) -> Change | None:
    change = None
    for _ in range(5):
        change = breakers.end(breakers.begin(key, now), "failure", 0.1, now) or change
    return change


def test_failures_in_a_row_open_it() -> None:
    """The fifth failure in a row opens it, and says so."""
    breaker = breaker_of()
    for _ in range(4):
        call(breaker, "failure")
    assert breaker.state(0.0) == "closed"

    call(breaker, "failure")

    assert breaker.state(0.0) == "open"
    assert breaker.reason == "5 failures in a row"


def test_a_success_breaks_the_row() -> None:
    """Four failures, a success and four failures leave it closed."""
    breaker = breaker_of()

    for outcome in (*FOUR, "success", *FOUR):
        call(breaker, outcome)

    assert breaker.state(0.0) == "closed"


def test_a_share_of_failures_opens_it() -> None:
    """Half of the calls of the window open it, once there are enough of them."""
    breaker = breaker_of()
    for number, outcome in enumerate(MIXED):
        call(breaker, outcome, now=number)
    call(breaker, "success", now=18.0)
    assert breaker.state(18.0) == "closed"

    call(breaker, "failure", now=19.0)

    assert breaker.reason == "10 of 20 calls failed within 30 s"


def test_old_calls_leave_the_window() -> None:
    """What happened before the window does not count."""
    breaker = breaker_of()
    for outcome in MIXED:
        call(breaker, outcome, now=0.0)

    for outcome in MIXED:
        call(breaker, outcome, now=30.0)

    assert breaker.state(30.0) == "closed"


def test_slow_calls_open_it() -> None:
    """If all calls of the window took too long, they open it; one quick one helps."""
    slow, quick = breaker_of(SLOW), breaker_of(SLOW)
    call(quick, "success", seconds=10.0)
    for _ in range(20):
        call(slow, "success", seconds=10.1)
        call(quick, "success", seconds=10.1)

    assert slow.reason == "all of 20 calls took longer than 10 s"
    assert quick.state(0.0) == "closed"


def test_probes_close_it() -> None:
    """As many successes as there are probes close it, and not one less."""
    breaker = opened()
    for _ in range(2):
        call(breaker, "success", now=5.0)
    assert breaker.state(5.0) == "half_open"

    call(breaker, "success", now=5.0)

    assert breaker.state(5.0) == "closed"


def test_slow_probes_open_it_again() -> None:
    """A breaker is not closed by probes that are all as slow as what opened it."""
    breaker = opened(SLOW)

    for _ in range(3):
        call(breaker, "success", now=5.0, seconds=11.0)

    assert breaker.state(5.0) == "open"
    assert breaker.reason == "all of 3 probes took longer than 10 s"


def test_it_stays_open_longer_each_time() -> None:
    """Each opening in a row lasts one more time as long, up to the longest."""
    breaker, now = opened(), 0.0
    lasted = []

    for _ in range(14):
        assert breaker.opens_until is not None
        lasted.append(breaker.opens_until - now)
        now = breaker.opens_until
        call(breaker, "failure", now)

    assert lasted == [5.0 * n for n in range(1, 13)] + [60.0, 60.0]


def test_closing_forgets_the_openings() -> None:
    """After it was closed, the next opening is as short as the first."""
    breaker = opened()
    call(breaker, "failure", now=5.0)
    for _ in range(3):
        call(breaker, "success", now=15.0)

    for _ in range(5):
        call(breaker, "failure", now=16.0)

    assert breaker.opens_until == 21.0


def test_closing_forgets_the_calls() -> None:
    """What opened it does not open it again once it is closed, within the window."""
    breaker = breaker_of()
    for outcome in (*MIXED, *MIXED[:2]):
        call(breaker, outcome)
    for _ in range(3):
        call(breaker, "success", now=5.0)

    call(breaker, "failure", now=6.0)

    assert breaker.state(6.0) == "closed"


@given(st.integers())
def test_jitter_only_shortens(seed: int) -> None:
    """Chance takes at most its share off the time a breaker is open."""
    breaker = Breaker(WORKER, Random(seed))
    for _ in range(5):
        call(breaker, "failure")

    assert breaker.opens_until is not None
    assert 4.0 <= breaker.opens_until <= 5.0


def test_a_call_from_before_does_not_count() -> None:
    """A call begun before it opened takes no probe's place back, nor judges."""
    breaker = breaker_of()
    early = [breaker.begin(0.0) for _ in range(2)]
    for _ in range(5):
        call(breaker, "failure")
    for _ in range(3):
        breaker.begin(5.0)

    assert breaker.end(early[0], "failure", 5.0, 5.0) is None
    assert breaker.end(early[1], "success", 5.0, 5.0) is None

    assert breaker.state(5.0) == "half_open"
    assert not breaker.admits(5.0)


def test_a_call_sent_though_it_is_open_does_not_count() -> None:
    """The last worker gets calls in spite of its breaker; only probes judge it."""
    breaker = opened()
    forced = breaker.begin(1.0)

    assert breaker.end(forced, "failure", 5.0, 6.0) is None

    assert breaker.state(6.0) == "half_open"


def test_memory_does_not_grow_with_calls() -> None:
    """However many calls there are, few numbers are kept."""
    breaker = breaker_of(LM)

    for number in range(5000):
        call(breaker, "success", now=number / 10)

    assert len(breaker._window._buckets) == BUCKETS
    assert breaker._window.calls <= 600


Begun = tuple[int, int, int, bool]
"""A token, the call's number, the life it began in, whether it was admitted."""


class BreakerMachine(RuleBasedStateMachine):
    """A breaker beside a list of everything that happened."""

    tokens: Bundle[Begun] = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(SMALL, Random(0))
        self.now = 0.0
        self.life = 0
        self.probes: set[int] = set()
        self.begun = 0
        self.ended: list[tuple[float, Outcome, bool]] = []

    @rule(quarters=st.integers(1, 12))
    def wait(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(target=tokens)
    def begin(self) -> Begun:
        admitted = self.breaker.admits(self.now)
        self.begun += 1
        if admitted and self.breaker.state(self.now) == "half_open":
            self.probes.add(self.begun)
        return self.breaker.begin(self.now), self.begun, self.life, admitted

    @rule(token=consumes(tokens), outcome=OUTCOMES, slow=st.booleans())
    def end(self, token: Begun, outcome: Outcome, slow: bool) -> None:
        ticket, number, life, admitted = token
        expected = None
        self.probes.discard(number)
        if admitted and life == self.life and outcome != "ignored":
            self.ended.append((self.now, outcome, slow))
            expected = self.expected()

        state = self.breaker.end(ticket, outcome, 2.0 if slow else 0.5, self.now)

        assert state == expected
        if state is not None:
            self.life += 1
            self.probes.clear()
            self.ended.clear()

    def expected(self) -> str | None:
        """What the calls of this life lead to, all of them looked at anew."""
        failed = [outcome == "failure" for _, outcome, _ in self.ended]
        slow = [slow for _, _, slow in self.ended]
        if self.breaker.state(self.now) == "half_open":
            if failed[-1]:
                return "open"
            if len(failed) < 2:
                return None
            return "open" if sum(slow) >= 1.5 else "closed"
        # Quarters of a second are the window's buckets: the last ten of them count.
        first = sum(at <= self.now - 2.5 for at, _, _ in self.ended)
        failed_now, slow_now = failed[first:], slow[first:]
        is_bad = (len(failed) >= 4 and all(failed[-4:])) or (
            len(failed_now) >= 6
            and (
                sum(failed_now) >= len(failed_now) / 2
                or sum(slow_now) >= len(slow_now) * 0.75
            )
        )
        return "open" if is_bad else None

    @invariant()
    def admits_whom_it_should(self) -> None:
        until = self.breaker.opens_until
        if until is None:
            assert self.breaker.admits(self.now)
        elif self.now < until:
            assert not self.breaker.admits(self.now)
        else:
            assert self.breaker.admits(self.now) == (len(self.probes) < 2)

    @invariant()
    def opens_in_time(self) -> None:
        until = self.breaker.opens_until
        assert until is None or until - self.now <= 5.0


class BreakersMachine(RuleBasedStateMachine):
    """A registry too small for its keys."""

    keys = st.sampled_from([("worker", name) for name in "abcdef"])

    def __init__(self) -> None:
        super().__init__()
        self.breakers = Breakers(Random(0), {"worker": SMALL, "lm": SMALL}, most=3)
        self.now = 0.0
        self.until: dict[Key, float] = {}
        self.calls: list[Call] = []

    @rule(seconds=st.floats(0.1, 6.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.breakers.half_opened(self.now)

    @rule(key=keys)
    def begin(self, key: Key) -> None:
        self.calls.append(self.breakers.begin(key, self.now))

    @rule(key=keys)
    def fail_often(self, key: Key) -> None:
        for _ in range(4):
            self.calls.append(self.breakers.begin(key, self.now))
            self.end(-1, "failure")

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 99), outcome=OUTCOMES)
    def end(self, which: int, outcome: Outcome) -> None:
        call = self.calls.pop(which % len(self.calls))
        change = self.breakers.end(call, outcome, 0.5, self.now)
        if change is None:
            return
        key = (change.scope, change.name)
        self.until.pop(key, None)
        if change.state == "open":
            assert 0 < change.open_for <= 5.0
            self.until[key] = self.now + change.open_for

    @rule(key=keys)
    def forget(self, key: Key) -> None:
        self.breakers.forget(key)
        self.until.pop(key, None)

    @invariant()
    def few_are_kept(self) -> None:
        assert len(self.breakers) <= 3
        assert self.breakers._opened <= self.breakers._kept.keys()

    @invariant()
    def open_ones_stay(self) -> None:
        """Nobody who is told to be open admits calls before its time."""
        closed = {key for key, until in self.until.items() if self.now < until - 1e-9}
        assert not [key for key in closed if self.breakers.admits(key, self.now)]
        assert closed <= {
            (one.scope, one.name)
            for one in self.breakers.open(self.now)
            if one.state == "open"
        }

    def teardown(self) -> None:
        """When nothing is under way any more, everybody admits calls in time."""
        while self.calls:
            self.end(0, "ignored")

        due = self.now + 5.0
        assert all(self.breakers.admits(("worker", name), due) for name in "abcdef")


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestBreakers = BreakersMachine.TestCase
TestBreakers.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


def test_changes_are_told_once() -> None:
    """Opening, becoming half-open and closing are told, each once, with the reason."""
    breakers = Breakers(Random(0), {"worker": PLAIN})
    told = [fail(breakers, W), *breakers.half_opened(4.9), *breakers.half_opened(5.0)]
    told += breakers.half_opened(6.0)
    for _ in range(3):
        told.append(breakers.end(breakers.begin(W, 6.0), "success", 0.1, 6.0))

    assert [
        (one.state, one.reason, one.at, one.open_for) for one in told if one is not None
    ] == [
        ("open", "5 failures in a row", 0.0, 5.0),
        ("half_open", "probes may pass", 5.0, 0.0),
        ("closed", "3 probes succeeded", 6.0, 0.0),
    ]


def test_people_see_what_is_not_closed() -> None:
    """A snapshot names the breakers that are not closed, and for how long."""
    breakers = Breakers(Random(0), {"worker": PLAIN})
    breakers.begin(("worker", "well"), 0.0)
    fail(breakers, W)

    (then,) = breakers.open(2.0)
    (later,) = breakers.open(7.0)

    assert (then.name, then.state, then.for_ms) == ("w", "open", 3000.0)
    assert (later.reason, later.state) == ("5 failures in a row", "half_open")
    assert later.for_ms == 0.0


def test_who_left_is_forgotten() -> None:
    """A call that ends after its worker left changes nothing, and is not told."""
    breakers = Breakers(Random(0))
    late = [breakers.begin(W, 0.0) for _ in range(5)]
    breakers.forget(W)

    assert [breakers.end(one, "failure", 1.0, 1.0) for one in late] == [None] * 5
    assert len(breakers) == 0


def test_the_least_recently_used_leaves() -> None:
    """Past the limit the one longest without a call leaves, unless it is open."""
    breakers = Breakers(Random(0), most=3)
    fail(breakers, ("lm", "open"))
    for name in ("used", "idle", "used"):
        breakers.begin(("lm", name), 1.0)

    breakers.begin(("lm", "new"), 1.0)

    assert {name for _, name in breakers._kept} == {"open", "used", "new"}


def test_where_all_are_open_newcomers_are_not_kept() -> None:
    """Memory stays bounded, and no breaker closes early, when all are open."""
    breakers = Breakers(Random(0), most=50)
    for number in range(60):
        fail(breakers, ("worker", str(number)))

    assert {one.name for one in breakers.open(0.0)} == set(map(str, range(50)))
    assert breakers.admits(("worker", "59"), 0.0)


@given(
    codes=st.lists(
        st.sampled_from([c for c, one in BY_CODE.items() if one.category == "caller"])
    ),
    scope=st.sampled_from(get_args(Scope)),
)
def test_caller_errors_never_open_it(codes: list[str], scope: Scope) -> None:
    """However many bad requests there are, and after whatever failures."""
    breakers = Breakers(Random(0))
    key = (scope, "x")
    for _ in range(4):
        breakers.end(breakers.begin(key, 0.0), "failure", 0.1, 0.0)

    for code in codes * 10:
        breakers.end(breakers.begin(key, 0.0), outcome_of(code, scope), 99.0, 0.0)

    assert breakers.open(0.0) == []


@pytest.mark.parametrize(
    ("code", "worker", "lm"),
    [
        ("done", "success", "success"),
        ("worker_lost", "failure", "ignored"),
        ("resource_memory", "failure", "ignored"),
        ("internal", "failure", "ignored"),
        ("bus_unavailable", "ignored", "ignored"),
        ("lm_timeout", "success", "failure"),
        ("lm_auth", "success", "failure"),
        ("lm_refused", "success", "ignored"),
        ("parse_failed", "success", "success"),
        ("tool_failed", "success", "ignored"),
        ("overloaded", "ignored", "ignored"),
        ("deadline_exceeded", "ignored", "ignored"),
        ("cancelled", "ignored", "ignored"),
        ("no such code", "ignored", "ignored"),
        ("", "ignored", "ignored"),
    ],
)
def test_outcomes(code: str, worker: Outcome, lm: Outcome) -> None:
    """What the end of a call says of the worker, and of the language model."""
    assert outcome_of(code, "worker") == worker
    assert outcome_of(code, "lm") == lm
