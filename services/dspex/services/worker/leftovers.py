"""Threads whose request has ended and that go on all the same.

Nothing can end a thread from outside. Most end by themselves, where they would ask a
language model next; one that computes takes from the requests of its whole process
what they need, until that is replaced.
"""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import Future
from typing import Any

_lock = threading.Lock()
_since: weakref.WeakKeyDictionary[threading.Thread | Future[Any], float] = (
    weakref.WeakKeyDictionary()
)


def note(work: threading.Thread | Future[Any]) -> None:
    """The request of a thread, or of a thread's piece of work, has ended."""
    if _goes_on(work):
        with _lock:  # requests end in threads too
            _since[work] = time.monotonic()


def longest() -> float:
    """Seconds since the request ended of which something goes on longest; 0: none."""
    with _lock:
        known = list(_since.items())
    now = time.monotonic()
    return max((now - since for work, since in known if _goes_on(work)), default=0.0)


def _goes_on(work: threading.Thread | Future[Any]) -> bool:
    return not work.done() if isinstance(work, Future) else work.is_alive()
