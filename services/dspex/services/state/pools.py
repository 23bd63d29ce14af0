"""Which pool does a job: known from the configuration and from heartbeats."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dspex.bus.health import read_beat
from dspex.contracts import catalog
from dspex.contracts.failures import Failure, NotFound, NoWorker, Unsupported, nearest
from dspex.contracts.subjects import NATIVE_QUEUE, STATE_POOL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.bus.core import Message
    from dspex.contracts.catalog import Operation
    from dspex.contracts.subjects import Subjects

SILENT = 5.0
"""Seconds without a heartbeat after which a pool counts as empty."""


class Pools:
    """The pools that are configured, and those that are heard of.

    Args:
        subjects: Under the configured prefix.
        configured: Names of the configured pools.
    """

    def __init__(self, subjects: Subjects, configured: Iterable[str]) -> None:
        self._subjects = subjects
        self._configured = sorted(configured)
        self._heard: dict[str, tuple[float, frozenset[str]]] = {}

    def hear(self, message: Message) -> None:
        """Take in a heartbeat."""
        try:
            beat = read_beat(self._subjects, message)
        except Failure:
            return
        if beat.pool != STATE_POOL and beat.implementation in ("python", "native"):
            does = frozenset((*beat.operations, *beat.spare))
            self._heard[beat.pool] = (time.monotonic(), does)

    def choose(self, operation: Operation, wanted: str | None) -> str:
        """The pool that does a job.

        Args:
            operation: What is to be done.
            wanted: The pool asked for, if one was.

        Raises:
            NotFound: There is no such pool.
            Unsupported: It does not do that.
            NoWorker: No pool was asked for, and none is known.
        """
        if wanted is not None:
            return self._wanted(operation, wanted)
        if operation.implementation == "native":
            return NATIVE_QUEUE
        since = time.monotonic() - SILENT
        alive = sorted(
            pool
            for pool, (at, does) in self._heard.items()
            if at >= since and operation.name in does
        )
        for pool in (*alive, *self._configured):
            return pool
        raise NoWorker(
            f"No pool is known that does {operation.name!r}.",
            hint="Start a worker, or name the pool that will do it.",
        )

    def _wanted(self, operation: Operation, wanted: str) -> str:
        known = {*self._configured, *self._heard, NATIVE_QUEUE}
        if wanted not in known:
            raise NotFound(
                f"Unknown pool {wanted!r}. {nearest(wanted, known)}",
                field="pool",
                hint="Leave it out for the first pool that does the operation.",
            )
        _, does = self._heard.get(wanted, (0.0, _by_default(wanted)))
        if operation.name not in does:
            raise Unsupported(
                f"Pool {wanted!r} does not do {operation.name!r}.",
                field="pool",
                hint="Leave it out for the first pool that does the operation.",
            )
        return wanted


def _by_default(pool: str) -> frozenset[str]:
    """What a pool does that nobody has heard of yet."""
    native = catalog.served_by("native")
    python = [] if pool == NATIVE_QUEUE else catalog.served_by("python")
    return frozenset((*native, *python))
