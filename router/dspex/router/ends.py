"""Workers that ended, as their supervisors tell it within milliseconds."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from cachetools import LRUCache

from dspex.bus import logs
from dspex.contracts import encoding
from dspex.contracts.failures import Failure, ResourceCpu, ResourceMemory, WorkerLost
from dspex.contracts.pools import WorkerNotice

if TYPE_CHECKING:
    from dspex.bus.core import Bus, Message
    from dspex.contracts.subjects import Subjects
    from dspex.router.parts import Parts

_unread = logs.Seldom(logging.getLogger(__name__))

_KINDS: dict[str, type[Failure]] = {
    one.code: one for one in (ResourceCpu, ResourceMemory, WorkerLost)
}


KEPT = 1024
"""Workers whose end is remembered."""


class Ends:
    """Why workers ended, as far as their supervisors have said it.

    Pings may find that a worker is gone before its supervisor says why, so those it
    fails with that wait a little for the reason.
    """

    def __init__(self) -> None:
        self._why: LRUCache[str, Failure] = LRUCache(KEPT)
        self._told = asyncio.Event()

    def tell(self, worker: str, why: Failure) -> None:
        """Take a reason in."""
        self._why[worker] = why
        self._told.set()
        self._told = asyncio.Event()

    async def why(self, worker: str, within: float) -> Failure | None:
        """What ended a worker; ``None`` if nobody says so within some seconds."""
        try:
            async with asyncio.timeout(within):
                while worker not in self._why:
                    await self._told.wait()
        except TimeoutError:
            return None
        return self._why[worker]


async def listen(bus: Bus, subjects: Subjects, parts: Parts) -> None:
    """Take notices in from now on."""

    def hear(message: Message) -> None:
        if notice := read_end(message.data):
            why = failure_of(notice)
            parts.ends.tell(notice.worker, why)
            if notice.worker in parts.targets:
                parts.targets.lose(notice.worker, why)
                parts.places.heard_from(notice.pool)

    await bus.subscribe(subjects.notice("worker"), hear)


def read_end(data: bytes) -> WorkerNotice | None:
    """A notice of a worker that ended, whose requests can have no answer any more."""
    try:
        notice: WorkerNotice = encoding.decode(data, WorkerNotice)
    except Failure as failure:
        _unread.warning("notice not read: %s", failure.message)
        return None
    return notice if notice.state == "ended" else None


def failure_of(notice: WorkerNotice) -> Failure:
    """What the requests failed with that the worker had."""
    return _KINDS.get(notice.code, WorkerLost)(
        f"Worker {notice.worker!r} {notice.reason} before it had answered.",
        hint="Send it again, and look at the log of that worker.",
    )
