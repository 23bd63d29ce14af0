"""How many workers a pool needs, and which host has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.router.scene import beat_of

from dspex.contracts.pooling import Pool
from dspex.services.supervisor.scaling import (
    Desired,
    Load,
    Scaler,
    load_of,
    needed,
    share,
)


def need(workers: int) -> Desired:
    return Desired(workers=workers, reason="because")


def test_load_is_what_heartbeats_say() -> None:
    """In workers, and in routers for want of a place; other pools' is not counted."""
    beats = [
        beat_of("a", pool="light", concurrency=4, in_flight=3, queued=1),
        beat_of("b", pool="light", concurrency=4, in_flight=2, state="draining"),
        beat_of("c", pool="gpu", in_flight=9),
        beat_of("r", pool="router", implementation="router", waiting={"light": 7}),
    ]

    found = load_of("light", beats, 16)

    assert found == Load(in_flight=6, waiting=7, ready=1, concurrency=4)
    assert load_of("new", beats, 16).concurrency == 16


def test_need_is_told_with_its_reason() -> None:
    """Everything there is to do, over the share of places that shall be used."""
    load = Load(in_flight=8, waiting=5, lag=3, ready=2, concurrency=4)

    found = needed(load, 0.8)

    assert found.workers == 5
    assert found.reason == (
        "8 in flight, 5 waiting, 3 jobs behind, for 8 places of 2 workers"
    )
    assert needed(Load(concurrency=4), 0.8).workers == 0


def test_up_at_once_down_after_a_while() -> None:
    """The most that was needed lately is what is wanted."""
    scaler, pool = Scaler(10.0, 1, 0.0), Pool()

    wanted = [
        scaler.follow(now, need(workers), pool).workers
        for now, workers in ((1, 5), (2, 1), (10.9, 3), (11.1, 1), (20, 1), (21, 1))
    ]

    assert wanted == [5, 5, 5, 3, 3, 1]


def test_limits() -> None:
    """Never fewer than min nor more than max, and it is said."""
    pool = Pool(min=2, max=3)

    low = Scaler(0.0, 2, 0.0).follow(1.0, need(0), pool)
    high = Scaler(0.0, 2, 0.0).follow(1.0, need(9), pool)

    assert (low.workers, high.workers) == (2, 3)
    assert low.reason.endswith("never fewer than 2")
    assert high.reason.endswith("never more than 3")


@given(st.lists(st.tuples(st.floats(0.1, 5), st.integers(0, 9)), min_size=1))
def test_never_fewer_than_needed(steps: list[tuple[float, int]]) -> None:
    """What is wanted is the most of the last while, neither more nor less."""
    scaler, now, seen = Scaler(7.0, 0, -100.0), 0.0, list[tuple[float, int]]()
    for pause, workers in steps:
        now += pause
        seen.append((now, workers))

        found = scaler.follow(now, need(workers), Pool()).workers

        assert found == max(count for at, count in seen if at > now - 7.0)


@given(
    st.integers(0, 1000),
    st.lists(st.text("abc", min_size=1), min_size=1, unique=True),
)
def test_hosts_agree_on_their_shares(total: int, hosts: list[str]) -> None:
    """Together they have all, each one nearly the same, in whatever order they ask."""
    shares = [share(total, hosts[::-1], host) for host in hosts]

    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
