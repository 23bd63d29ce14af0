"""Workers that ended, as their supervisors tell it within milliseconds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dspex.bus import logs
from dspex.contracts import encoding
from dspex.contracts.failures import Failure, ResourceCpu, ResourceMemory, WorkerLost
from dspex.contracts.pools import WorkerNotice

if TYPE_CHECKING:
    from dspex.bus.core import Bus, Message
    from dspex.contracts.subjects import Subjects
    from dspex.router.parts import Parts
    from dspex.router.targets import Targets

_unread = logs.Seldom(logging.getLogger(__name__))

_KINDS: dict[str, type[Failure]] = {
    one.code: one for one in (ResourceCpu, ResourceMemory, WorkerLost)
}


async def listen(bus: Bus, subjects: Subjects, parts: Parts) -> None:
    """Take notices in from now on."""

    def hear(message: Message) -> None:
        if pool := lose_ended(message.data, parts.targets):
            parts.places.heard_from(pool)

    await bus.subscribe(subjects.notice("worker"), hear)


def lose_ended(data: bytes, targets: Targets) -> str:
    """Take a notice in: the requests of a worker that ended can have no answer.

    Returns:
        The pool of the worker, if that was one of ours; else nothing.
    """
    try:
        notice: WorkerNotice = encoding.decode(data, WorkerNotice)
    except Failure as failure:
        _unread.warning("notice not read: %s", failure.message)
        return ""
    if notice.state != "ended" or notice.worker not in targets:
        return ""
    targets.lose(notice.worker, failure_of(notice))
    return notice.pool


def failure_of(notice: WorkerNotice) -> Failure:
    """What the requests failed with that the worker had."""
    return _KINDS.get(notice.code, WorkerLost)(
        f"Worker {notice.worker!r} {notice.reason} before it had answered.",
        hint="Send it again, and look at the log of that worker.",
    )
