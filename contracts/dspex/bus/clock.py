"""The time as messages say it."""

from __future__ import annotations

import time


def now_ms() -> float:
    """Unix milliseconds, to the microsecond."""
    return round(time.time() * 1000, 3)
