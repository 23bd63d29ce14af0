"""When a child that ended is started again: pure, the clock passed in."""

from __future__ import annotations

import math

FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
HEALTHY_AFTER = 30.0
"""Seconds of life after which earlier ends are forgotten."""

LIMIT = 6
"""Ends in a row, each soon after its start, that are answered by a new start."""


class Backoff:
    """The delays before the starts of one child: 0.5 s, doubled each time, to 10 s."""

    def __init__(self) -> None:
        self._ends = 0

    def delay(self, lifetime: float) -> float | None:
        """Seconds to wait before the next start.

        Args:
            lifetime: Seconds the child lived.

        Returns:
            The delay; ``None`` when it ended too often to be started again.
        """
        if lifetime >= HEALTHY_AFTER:
            self._ends = 0
        if self._ends >= LIMIT:
            return None
        self._ends += 1
        return min(math.ldexp(FIRST_DELAY, self._ends - 1), LONGEST_DELAY)
