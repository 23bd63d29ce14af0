"""Bounds on the work that one request may ask for.

Checks run between other people's requests, on the same loop. Time itself is no
bound: a request that is refused on a busy day would pass on a quiet one. Steps are.
"""

from __future__ import annotations

CHECK_LIMIT = 2_000_000
"""The most steps of one check; a step takes about twenty nanoseconds."""
MATCH_LIMIT = 60_000
"""The most steps of matching patterns in one check, together: about twenty
milliseconds, for a step of matching takes longer."""


class TooMuch(Exception):
    """The work is more than one request may ask for."""


class Work:
    """What may still be done.

    Args:
        steps: How many steps.

    Attributes:
        left: How many of them are left.
    """

    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take steps from what is left.

        Raises:
            TooMuch: There were not so many.
        """
        self.left -= steps
        if self.left < 0:
            raise TooMuch
