"""Deltas that come faster than anybody reads are told together.

The first one is told at once, so nobody waits for it; those that follow it within the
window are joined. A pure state machine: the clock is passed in.
"""

from __future__ import annotations

import math

from dspex.contracts.words import Text

WINDOW = 0.03
"""Seconds in which deltas are joined."""

MOST = 8192
"""Characters that are told at once, however short a time they took."""

LARGEST = 65_536
"""Characters of one delta at most: escaped, too, a message has room for them. A model
that answers in one piece writes more."""


class Coalescer:
    """Joins the deltas of one stream.

    Args:
        most: Characters that are not held back.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._told = -math.inf
        self._field = ""
        self._texts: list[str] = []
        self._size = 0

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return bool(self._texts)

    def add(self, field: str, text: str, now: float) -> list[Text]:
        """Take a delta in; returns what is to be told at once."""
        due: list[Text] = []
        if self._texts and field != self._field:
            due += self.take(now)
        self._field = field
        self._texts.append(text)
        self._size += len(text)
        if now - self._told >= WINDOW or self._size >= self._most or due:
            due += self.take(now)
        return due

    def take(self, now: float) -> list[Text]:
        """What is held back, to be told now: one delta, several if it is long."""
        joined, field = "".join(self._texts), self._field
        if self._texts:
            self._told = now
        self._texts, self._size = [], 0
        starts = range(0, len(joined), LARGEST)
        return [Text(field=field, text=joined[at : at + LARGEST]) for at in starts]

    def wait(self, now: float) -> float:
        """Seconds until what is held back is to be told."""
        return min(WINDOW, max(0.0, self._told + WINDOW - now))
