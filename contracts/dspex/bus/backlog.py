"""How many jobs wait that nobody has taken: what JetStream says of the lanes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dspex.bus import logs
from dspex.bus.durable import api
from dspex.bus.provisioning import PRIORITIES, Names, lane
from dspex.contracts.failures import Failure, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.bus.connection import NatsBus

ANSWER = 2.0
"""Seconds that JetStream has for one answer."""


class Backlog:
    """Jobs that wait, by pool, as they were when JetStream was asked last.

    Args:
        bus: Where.
        prefix: First token of every subject.
    """

    def __init__(self, bus: NatsBus, prefix: str) -> None:
        self._bus = bus
        self._stream = Names(prefix).jobs
        self._waiting: dict[str, int] = {}
        self._unread = logs.Seldom(logging.getLogger(__name__))

    def of(self, pool: str) -> int:
        """How many wait for a pool; 0 where that was never known."""
        return self._waiting.get(pool, 0)

    async def look(self, pools: Iterable[str]) -> None:
        """Ask for these pools, one lane after another.

        When JetStream does not answer, what it said last stays, and nothing more is
        asked this time.
        """
        for pool in pools:
            try:
                self._waiting[pool] = await self._ask(pool)
            except Failure as failure:
                self._unread.warning("jobs not counted: %s", failure.message)
                return

    def forget(self) -> None:
        """Somebody else counts: what was known here grows old."""
        self._waiting.clear()

    async def _ask(self, pool: str) -> int:
        waiting = 0
        for priority in PRIORITIES:
            verb = f"CONSUMER.INFO.{self._stream}.{lane(pool, priority)}"
            try:
                info = await api(self._bus, verb, timeout=ANSWER)
            except NotFound:
                continue  # nobody has ever served, or submitted to, this lane
            waiting += int(info["num_pending"])
        return waiting
