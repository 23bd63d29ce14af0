"""What recent calls tell: shares of a window, the fastest, the typical."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dspex.router.estimates import BUCKETS, CALLS, CallWindow, ServiceTimes


class TimesMachine(RuleBasedStateMachine):
    """Durations beside a list of all that were ever told."""

    keys = st.sampled_from("abc")

    def __init__(self) -> None:
        super().__init__()
        self.times = ServiceTimes()
        self.now = 0.0
        self.told: dict[str, list[tuple[float, float]]] = {"a": [], "b": [], "c": []}

    @rule(seconds=st.floats(0.0, 25.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=keys, durations=st.lists(st.floats(0.001, 100.0), max_size=20))
    def record(self, key: str, durations: list[float]) -> None:
        for seconds in durations:
            self.times.record(key, seconds, self.now)
            self.told[key].append((self.now, seconds))

    @invariant()
    def the_fastest_is_among_the_recent(self) -> None:
        for key, told in self.told.items():
            recent = [took for at, took in told[-32:] if self.now - at <= 60.0]
            expected = min(recent) if len(recent) >= 8 else None
            assert self.times.fastest(key, self.now) == expected

    @invariant()
    def the_typical_lies_between(self) -> None:
        for key, told in self.told.items():
            typical = self.times.typical(key, self.now)
            took = [seconds for _, seconds in told]
            assert typical is None or (
                min(took) * 0.999 <= typical <= max(took) * 1.001
            )


TestTimes = TimesMachine.TestCase
TestTimes.settings = settings(max_examples=80, deadline=None)


def test_nothing_is_known_at_first() -> None:
    """Of an unknown key nothing is said, and asking does not make it known."""
    times = ServiceTimes()

    assert times.fastest("k", 0.0) is None
    assert times.typical("k", 0.0) is None
    assert len(times) == 0


def test_the_fastest_needs_eight_calls() -> None:
    """Seven calls are no proof that none is faster."""
    times = ServiceTimes()
    for number in range(7):
        times.record("k", 2.0 + number, 0.0)
    assert times.fastest("k", 0.0) is None

    times.record("k", 9.0, 0.0)

    assert times.fastest("k", 0.0) == 2.0


def test_refusing_heals() -> None:
    """Who refuses by the fastest learns nothing more, and lets work pass again."""
    times = ServiceTimes()
    for _ in range(8):
        times.record("k", 30.0, 0.0)

    assert times.fastest("k", 60.0) == 30.0
    assert times.fastest("k", 60.1) is None


def test_the_typical_follows_of_late() -> None:
    """After a change of pace a few calls are enough, and one outlier is not."""
    times = ServiceTimes()
    for _ in range(50):
        times.record("k", 1.0, 0.0)
    times.record("k", 2.0, 0.0)
    assert times.typical("k", 0.0) == pytest.approx(1.2)

    for _ in range(20):
        times.record("k", 4.0, 0.0)

    assert times.typical("k", 0.0) == pytest.approx(4.0, rel=0.02)


def test_the_typical_is_forgotten() -> None:
    """What took how long ten minutes ago says nothing of now."""
    times = ServiceTimes()
    times.record("k", 1.0, 0.0)

    assert times.typical("k", 600.0) == 1.0
    assert times.typical("k", 600.1) is None


def test_memory_is_bounded() -> None:
    """Few calls of each key are kept, and few keys: those used of late."""
    times = ServiceTimes(most=2)
    for name in ("used", "old", *["used"] * 100, "new"):
        times.record(name, 1.0, 0.0)

    assert list(times._kept) == ["used", "new"]
    assert len(times._kept["used"]._seconds) == CALLS


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.booleans(), st.booleans()),
        min_size=1,
        max_size=80,
    )
)
def test_a_window_is_a_list_of_the_last_calls(
    steps: list[tuple[int, bool, bool]],
) -> None:
    """A window says what a list of the calls of its last ten buckets would."""
    window, now, told = CallWindow(2.5), 0.0, []
    for quarters, failed, slow in steps:
        now += quarters / 4
        window.add(failed, slow, now)
        told.append((now, failed, slow))

    last = [one for one in told if one[0] > now - 2.5]
    assert window.calls == len(last)
    assert window.failures == sum(failed for _, failed, _ in last)
    assert window.slow == sum(slow for _, _, slow in last)
    assert len(window._buckets) <= BUCKETS
