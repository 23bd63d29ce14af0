"""When a child that ended is started again."""

from dspex.cli.restarts import HEALTHY_AFTER, LIMIT, Backoff


def test_delays_double_up_to_a_limit() -> None:
    """Half a second, doubled each time to ten seconds, then no more."""
    backoff = Backoff()

    delays = [backoff.delay(1.0) for _ in range(LIMIT + 1)]

    assert delays == [0.5, 1, 2, 4, 8, 10, None]


def test_healthy_life_forgives() -> None:
    """A child that lived long enough starts at the first delay again."""
    backoff = Backoff()
    for _ in range(LIMIT):
        backoff.delay(1.0)

    assert backoff.delay(HEALTHY_AFTER) == 0.5
