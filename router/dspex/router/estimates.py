"""What recent calls tell of the next ones: how many fail, how long they take. Pure.

Time comes in as an argument, in seconds of any steady clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque

MOST = 1000
"""Keys whose durations are kept."""

CALLS = 32
"""Last calls of a key that are kept one by one."""

ENOUGH = 8
"""With fewer than these the fastest is not known."""

RECENT = 60.0
"""Seconds after which a call says nothing of the fastest any more."""

FORGET = 600.0
"""Seconds without a call after which nothing is known."""

SHARE = 0.2
"""Of the newest call in what is typical."""

BUCKETS = 10
"""Parts of a window; the oldest is forgotten as a whole."""


class CallWindow:
    """How the calls of the last seconds went, in a few numbers however many there are.

    Args:
        seconds: How far back it reaches; up to a bucket less, never more.

    Attributes:
        calls: Those of the window.
        failures: Those of them that failed.
        slow: Those of them that took too long.
    """

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        # Of each: its number, and its calls, failures and slow calls.
        self._buckets: deque[list[int]] = deque()
        self.calls = self.failures = self.slow = 0

    def add(self, failed: bool, slow: bool, now: float) -> None:
        """Count a call that ended now."""
        number, buckets = int(now / self._width), self._buckets
        if not buckets or buckets[-1][0] < number:
            buckets.append([number, 0, 0, 0])
            while buckets[0][0] <= number - BUCKETS:
                self._forget(buckets.popleft())
        newest = buckets[-1]
        newest[1] += 1
        self.calls += 1
        if failed:
            newest[2] += 1
            self.failures += 1
        if slow:
            newest[3] += 1
            self.slow += 1

    def clear(self) -> None:
        """Forget all of them."""
        self._buckets.clear()
        self.calls = self.failures = self.slow = 0

    def _forget(self, bucket: list[int]) -> None:
        self.calls -= bucket[1]
        self.failures -= bucket[2]
        self.slow -= bucket[3]


class _Durations:
    """How long the calls of one key took."""

    def __init__(self, seconds: float) -> None:
        self._ends: deque[float] = deque(maxlen=CALLS)
        self._seconds: deque[float] = deque(maxlen=CALLS)
        self._typical = seconds
        self._last = 0.0

    def add(self, seconds: float, now: float) -> None:
        self._ends.append(now)
        self._seconds.append(seconds)
        self._typical += SHARE * (seconds - self._typical)
        self._last = now

    def fastest(self, now: float) -> float | None:
        while self._ends and now - self._ends[0] > RECENT:
            self._ends.popleft()
            self._seconds.popleft()
        return min(self._seconds) if len(self._seconds) >= ENOUGH else None

    def typical(self, now: float) -> float | None:
        return self._typical if now - self._last <= FORGET else None


class ServiceTimes:
    """How long calls take, by what takes alike long.

    Args:
        most: Keys that are kept; those without a call for the longest time leave.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[str, _Durations] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def record(self, key: str, seconds: float, now: float) -> None:
        """Count a call that succeeded.

        Args:
            key: What takes alike long, such as an operation and a language model.
            seconds: How long it took.
            now: Steady time, in seconds.
        """
        known = self._kept.get(key)
        if known is None:
            known = self._kept[key] = _Durations(seconds)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        known.add(seconds, now)

    def fastest(self, key: str, now: float) -> float | None:
        """Seconds that the fastest of the last calls took.

        Of the last 32 that are not older than 60 s; ``None`` if fewer than 8 are. Who
        refuses work by it sees no calls of that key any more, and so after 60 s
        knows nothing and lets work pass again.
        """
        known = self._kept.get(key)
        return None if known is None else known.fastest(now)

    def typical(self, key: str, now: float) -> float | None:
        """Seconds that such a call takes, of late.

        A moving average in which the last five calls weigh two thirds; ``None`` if
        there was no call for 10 minutes.
        """
        known = self._kept.get(key)
        return None if known is None else known.typical(now)
