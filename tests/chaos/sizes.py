"""How much is broken: ``DSPEX_CHAOS=full`` for ``make chaos``, else a short form."""

from __future__ import annotations

import os

from msgspec import Struct

CONCURRENCY = 4
"""Requests a worker runs at a time."""

LATENCY = 0.2
"""Seconds a language model takes."""

LM_TIMEOUT = 2.0
"""Seconds after which a language model that does not answer is given up."""


class Sizes(Struct, frozen=True, kw_only=True):
    """How much of everything.

    Attributes:
        workers: Worker processes.
        kills: Workers killed.
        requests: The least number of requests sent meanwhile.
        rounds: How often other scenarios are repeated.
        troubles: What goes wrong with a language model.
        sessions: Conversations that are held at a time.
        turns: Turns of each.
    """

    workers: int
    kills: int
    requests: int
    rounds: int
    troubles: tuple[str, ...]
    sessions: int
    turns: int

    @property
    def slots(self) -> int:
        return self.workers * CONCURRENCY

    @property
    def clients(self) -> int:
        """Clients that leave room for what a lost worker held."""
        return self.slots * 2 // 3


FULL = Sizes(
    workers=8,
    kills=60,
    requests=200,
    rounds=3,
    troubles=("refuses", "hangs"),
    sessions=20,
    turns=30,
)
SHORT = Sizes(
    workers=3,
    kills=6,
    requests=40,
    rounds=1,
    troubles=("refuses",),
    sessions=4,
    turns=6,
)
SIZES = FULL if os.environ.get("DSPEX_CHAOS") == "full" else SHORT
