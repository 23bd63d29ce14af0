"""Who is there and how busy, folded from heartbeats."""

from __future__ import annotations

import pytest
from tests.unit.router.scene import beat_of

from dspex.router.targets import Target, Targets


def test_load_counts_this_request() -> None:
    """Load is what a process would have per slot with one more request."""
    target = Target(beat_of("a", concurrency=4, in_flight=2, queued=1), now=0.0)

    assert target.load == (2 + 1 + 1) / 4


def test_own_requests_are_counted_at_once() -> None:
    """What we sent since the last heartbeat counts before the next one says so."""
    target = Target(beat_of("a", concurrency=4), now=0.0)

    target.own += 2

    assert target.load == 3 / 4


def test_own_requests_are_not_counted_twice() -> None:
    """A heartbeat that counts what we sent does not add to our own count."""
    target = Target(beat_of("a", concurrency=4), now=0.0, router="me")
    target.own += 2

    target.hear(
        beat_of("a", concurrency=4, in_flight=3, routers={"me": 2, "it": 1}, seq=2), 1.0
    )

    assert (target.own, target.others) == (2, 1)
    assert target.load == 4 / 4


def test_a_heartbeat_older_than_a_send() -> None:
    """A heartbeat that left before our request arrived takes nothing off our count."""
    target = Target(beat_of("a", concurrency=4), now=0.0)
    target.own += 2

    target.hear(beat_of("a", concurrency=4, in_flight=0, seq=2), now=1.0)

    assert target.load == 3 / 4


def test_a_heartbeat_clears_suspicion() -> None:
    """A process that speaks is not suspect any more."""
    targets = Targets()
    targets.hear(beat_of("a"), 0.0)
    target = targets.get("a")
    assert target is not None
    target.suspect = True

    targets.hear(beat_of("a", seq=2), 1.0)

    assert not target.suspect


def test_known_from_its_first_heartbeat() -> None:
    """A process is known once it has spoken, in whatever state."""
    targets = Targets()

    targets.hear(beat_of("a", state="starting"), 0.0)

    assert "a" in targets
    assert len(targets) == 1
    assert [one.beat.worker for one in targets.all()] == ["a"]


def test_leaving_is_the_last_word() -> None:
    """A process that leaves is gone at once; leaving twice is harmless."""
    targets = Targets()
    targets.hear(beat_of("a"), 0.0)

    for seq in (2, 3):
        targets.hear(beat_of("a", state="leaving", seq=seq), 0.1)

    assert targets.get("a") is None
    assert len(targets) == 0


@pytest.mark.parametrize("seq", [4, 5])
def test_old_heartbeats_are_ignored(seq: int) -> None:
    """A heartbeat that is not newer than the latest changes nothing."""
    targets = Targets()
    targets.hear(beat_of("a", seq=5, in_flight=1), 1.0)

    targets.hear(beat_of("a", seq=seq, in_flight=3, state="draining"), 2.0)

    target = targets.get("a")
    assert target is not None
    assert (target.beat.in_flight, target.beat.state, target.seen) == (1, "ready", 1.0)


def test_silence() -> None:
    """A process is dropped after three seconds without a heartbeat, not before."""
    targets = Targets()
    targets.hear(beat_of("a"), 10.0)
    targets.hear(beat_of("b"), 12.0)

    assert targets.expire(13.0) == []
    assert targets.expire(13.001) == ["a"]
    assert "a" not in targets
    assert "b" in targets


def test_silence_can_be_set() -> None:
    """How long a silence is too long is a setting."""
    targets = Targets(silence=1.0)
    targets.hear(beat_of("a"), 0.0)

    assert targets.expire(1.5) == ["a"]


def test_unreachable_until_heard_again() -> None:
    """A process that nobody reached is known still; its next word clears it."""
    targets = Targets()
    targets.hear(beat_of("a"), 0.0)
    found = targets.get("a")
    assert found is not None

    found.unreachable = True
    targets.hear(beat_of("a", seq=2), 0.1)

    assert "a" in targets
    assert not found.unreachable


def test_forgiven_silence() -> None:
    """Who was silent while nobody could be heard gets the whole time again."""
    targets = Targets(silence=3.0)
    targets.hear(beat_of("a"), 0.0)

    targets.forgive(10.0)

    assert targets.expire(12.9) == []
    assert targets.expire(13.1) == ["a"]
