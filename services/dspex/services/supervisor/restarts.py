"""When a pool whose workers end starts new ones: pure, the clock passed in."""

from __future__ import annotations

import math

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
HEALTHY_AFTER = 30.0
"""Seconds of life after which an end says nothing about the next start."""


class Restarts:
    """The pauses before the starts of one pool: 0.5 s, doubled each time, to 30 s.

    Attributes:
        trouble: Why there is a pause; empty when all is well.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._ends = 0
        self._not_before = -math.inf

    def ended(self, lifetime: float, now: float, trouble: str) -> float:
        """A worker ended that nobody asked to.

        Args:
            lifetime: Seconds it lived.
            now: The time.
            trouble: How it ended.

        Returns:
            Seconds until the next start.
        """
        self.trouble = trouble
        if lifetime >= HEALTHY_AFTER:
            self._ends = 0
            return 0.0
        # Many that end together are one trouble, not many.
        if now >= self._not_before:
            self._ends += 1
            self._not_before = now + _delay(self._ends)
        return self._not_before - now

    def healthy(self) -> None:
        """A worker has been well for long enough: earlier ends are forgotten."""
        self._ends = 0
        self.trouble = ""

    def pause(self, now: float) -> float:
        """Seconds until something may be started; 0: at once."""
        return max(0.0, self._not_before - now)


def _delay(ends: int) -> float:
    return min(math.ldexp(FIRST_DELAY, min(ends, 16) - 1), LONGEST_DELAY)
