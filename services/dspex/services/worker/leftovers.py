"""Threads whose request has ended and that go on all the same.

Nothing can end a thread from outside. Most end by themselves, where they would ask a
language model next; one that computes takes from the requests of its whole process
what they need, until that is replaced.
"""

from __future__ import annotations

import time
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import threading

_since: weakref.WeakKeyDictionary[threading.Thread | Future[Any], float] = (
    weakref.WeakKeyDictionary()
)


def note(work: threading.Thread | Future[Any]) -> None:
    """The request of a thread, or of a thread's piece of work, has ended."""
    if _goes_on(work):
        _since[work] = time.monotonic()


def longest() -> float:
    """Seconds since the request ended of which something goes on longest; 0: none."""
    now = time.monotonic()
    ages = [now - since for work, since in list(_since.items()) if _goes_on(work)]
    return max(ages, default=0.0)


def _goes_on(work: threading.Thread | Future[Any]) -> bool:
    return not work.done() if isinstance(work, Future) else work.is_alive()
