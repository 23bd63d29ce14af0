"""How many retries there may be at a time, and how long each waits. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

SHARE = 0.2
"""Retries in flight, of the requests in flight."""

LEAST = 3
"""Retries in flight that there may be always."""

FIRST = 0.1
"""Seconds before the first retry; twice as many before each further one."""

LONGEST = 5.0
"""Most seconds before a retry for which nobody asked for a pause."""

LONGEST_ASKED = 3600.0
"""Most seconds that a pause asked for may be."""


class RetryBudget:
    """Retries in flight, held to a share of the requests in flight.

    What fails under load must not be sent again so often that the retries are the
    load; when little goes on, a few retries harm nobody.

    Attributes:
        requests: Those in flight, the retried ones included.
        retries: Those in flight.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.retries = 0

    @property
    def allowed(self) -> int:
        """Retries that may be in flight now."""
        return max(LEAST, int(SHARE * self.requests))

    def begin_request(self) -> None:
        """Count a request; it has to ``end_request``."""
        self.requests += 1

    def end_request(self) -> None:
        """A request is over."""
        self.requests -= 1

    def try_retry(self) -> bool:
        """Count a retry, if there may be one more; it has to ``end_retry`` then."""
        if self.retries >= self.allowed:
            return False
        self.retries += 1
        return True

    def end_retry(self) -> None:
        """A retry that was allowed is over."""
        self.retries -= 1


def backoff(attempt: int, retry_after_ms: int | None, random: Random) -> float:
    """How long to wait before a retry.

    Args:
        attempt: Attempts that failed so far, 1 or more.
        retry_after_ms: The pause that who failed asked for, if it did: that is it
            then, up to an hour.
        random: Source of the jitter.

    Returns:
        Seconds: between half and all of 100 ms, 200 ms, 400 ms, …, 5 s, so that what
        failed together does not come back together.
    """
    if retry_after_ms is not None:
        # As integers first: a hostile one may be too large for a float.
        return min(max(retry_after_ms, 0), int(LONGEST_ASKED * 1000)) / 1000
    doublings = min(max(attempt - 1, 0), 16)
    pause = min(FIRST * (1 << doublings), LONGEST)
    return pause * (1 - random.random() / 2)
