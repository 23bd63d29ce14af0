"""What workers leave behind where no process group reaches it: found and ended.

A process that leaves its session, and whose parent ends, would become a child of the
system's first process. Here it becomes the supervisor's, which knows its own children.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Be the parent, from now on, of what workers leave behind; Linux only."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def sweep(ours: Collection[int]) -> list[int]:
    """End the children of this process that it has not started; returns who was ended.

    One that is still in the session of a worker is left until that worker has ended.

    Args:
        ours: Those it has started, which also are the sessions that they lead.
    """
    found = []
    for pid in _children() - set(ours):
        with contextlib.suppress(OSError):  # it is gone
            has_ended, _ = os.waitpid(pid, os.WNOHANG)
            if not has_ended and os.getsid(pid) not in ours:
                os.kill(pid, signal.SIGKILL)
                found.append(pid)
    return found


def _children() -> set[int]:
    """Children of all threads of this process; none where /proc does not say."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, path.read_text().split()))
    return found
