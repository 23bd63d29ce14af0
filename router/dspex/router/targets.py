"""Who is there and how busy, folded from heartbeats and from what we sent ourselves.

Pure: time comes in as an argument, in seconds of any steady clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.router.settings import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.contracts.heartbeats import Heartbeat


MOST = 10_000
"""Processes that are kept track of."""


class Target:
    """One process that answers requests.

    Attributes:
        beat: Its latest heartbeat.
        seen: When that came.
        others: Requests it has from others than this router, as of that heartbeat.
        own: Requests this router sent and has no end of yet.
        suspect: It left a dispatch unanswered since its last heartbeat.
        unreachable: Nobody listened where it takes requests, since its last
            heartbeat; it may still be finishing what it has.
    """

    def __init__(self, beat: Heartbeat, now: float) -> None:
        self.beat = beat
        self.seen = now
        self.own = 0
        self.suspect = False
        self.unreachable = False
        self.others = beat.in_flight + beat.queued

    @property
    def load(self) -> float:
        """``(in flight + queued + 1) / slots``, with what we sent since it spoke."""
        return (self.others + self.own + 1) / self.beat.concurrency

    def hear(self, beat: Heartbeat, now: float) -> None:
        """Take a newer heartbeat in."""
        self.others = max(0, beat.in_flight + beat.queued - self.own)
        self.beat, self.seen = beat, now
        self.suspect = self.unreachable = False


class Targets:
    """All processes that answer requests.

    Args:
        silence: Seconds without a heartbeat after which one counts as lost.
    """

    def __init__(self, silence: float = DEFAULTS.silence) -> None:
        self._silence = silence
        self._known: dict[str, Target] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, worker: str) -> bool:
        return worker in self._known

    def all(self) -> Iterable[Target]:
        """Every process that has not left."""
        return self._known.values()

    def get(self, worker: str) -> Target | None:
        """The process with that incarnation, unless it has left."""
        return self._known.get(worker)

    def hear(self, beat: Heartbeat, now: float) -> None:
        """Take a heartbeat in; ``leaving`` is the last one a process sends."""
        target = self._known.get(beat.worker)
        if beat.state == "leaving":
            self._known.pop(beat.worker, None)
        elif target is None:
            if len(self._known) < MOST:
                self._known[beat.worker] = Target(beat, now)
        elif beat.seq > target.beat.seq:
            target.hear(beat, now)

    def forgive(self, now: float) -> None:
        """Count everybody as just heard: while we were deaf, silence said nothing."""
        for target in self._known.values():
            target.seen = now

    def expire(self, now: float) -> list[str]:
        """Drop the silent ones and return their names."""
        silent = [
            worker
            for worker, target in self._known.items()
            if now - target.seen > self._silence
        ]
        for worker in silent:
            del self._known[worker]
        return silent
