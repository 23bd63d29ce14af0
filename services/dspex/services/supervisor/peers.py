"""Everybody's latest heartbeat: the other supervisors, and the load of the pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex.contracts.heartbeats import Heartbeat

SILENCE = 3.0
"""Seconds without a heartbeat after which somebody counts as gone."""

SETTLED = 5.0
"""Seconds after which supervisors that came or went are taken to stay so."""


class Peers:
    """Heartbeats by incarnation; the silent ones are forgotten.

    Args:
        me: Incarnation of this supervisor, which is always there.
        host: What its host is called.
    """

    def __init__(self, me: str, host: str) -> None:
        self.me = f"{host} {me}"
        self._beats: dict[str, tuple[Heartbeat, float]] = {}
        self._shared: dict[str, tuple[list[str], float]] = {}

    def hear(self, beat: Heartbeat, now: float) -> None:
        """Take a heartbeat in; ``leaving`` is the last one."""
        if beat.state == "leaving":
            self._beats.pop(beat.worker, None)
        else:
            self._beats[beat.worker] = (beat, now)

    def beats(self, now: float) -> list[Heartbeat]:
        """Of those that are there."""
        self._beats = {
            name: kept for name, kept in self._beats.items() if now - kept[1] <= SILENCE
        }
        return [beat for beat, _ in self._beats.values()]

    def supervisors(self, now: float) -> list[str]:
        """All of them, this one included."""
        return sorted({self.me, *map(_name, self._others(now))})

    def sharing(self, pool: str, now: float) -> list[str]:
        """The supervisors that keep a pool, this one too; the first in order leads."""
        others = (_name(one) for one in self._others(now) if pool in one.pools)
        return sorted({self.me, *others})

    def settled(self, pool: str, now: float) -> bool:
        """Whether those that share a pool have been the same for a while."""
        found = self.sharing(pool, now)
        before, since = self._shared.get(pool, ([], now))
        if found != before:
            self._shared[pool] = (found, now)
            return False
        return now - since >= SETTLED

    def _others(self, now: float) -> list[Heartbeat]:
        return [one for one in self.beats(now) if one.implementation == "supervisor"]


def _name(beat: Heartbeat) -> str:
    return f"{beat.host} {beat.worker}"
