"""Who answered which request, for when the same one comes again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from dspex.bus.recent import digest_of, other_request

if TYPE_CHECKING:
    from dspex.bus.incoming import Request

MOST = 20_000
"""Requests that are remembered; the oldest leave."""


class Known:
    """The requests of the last minutes and who answered them.

    Args:
        seconds: How long a request is remembered.
        most: Requests remembered.
    """

    def __init__(self, seconds: float, most: int = MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._kept: OrderedDict[tuple[str, str], tuple[bytes, str, float]]
        self._kept = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._kept

    def find(self, request: Request, now: float) -> str:
        """The process that answered a request; empty if that is not known.

        Raises:
            Conflict: It answered another request of that id.
        """
        digest, worker, until = self._kept.get(
            (request.tenant, request.id), (b"", "", 0.0)
        )
        if not worker or until <= now:
            return ""
        if digest and digest != digest_of(request):
            raise other_request(request)
        return worker

    def keep(self, request: Request, worker: str, now: float) -> None:
        """Remember who answered a request."""
        self._put((request.tenant, request.id), digest_of(request), worker, now)

    def note(self, key: tuple[str, str], worker: str, now: float) -> None:
        """Remember who has a request that another router dispatched.

        Args:
            key: Its tenant and its id.
            worker: Whom the other router chose.
            now: Steady time, in seconds.
        """
        digest, known, _ = self._kept.get(key, (b"", "", 0.0))
        self._put(key, digest if known == worker else b"", worker, now)

    def _put(
        self, key: tuple[str, str], digest: bytes, worker: str, now: float
    ) -> None:
        self._kept[key] = (digest, worker, now + self._seconds)
        self._kept.move_to_end(key)
        while self._kept:
            oldest = next(iter(self._kept))
            if len(self._kept) <= self._most and self._kept[oldest][2] > now:
                return
            del self._kept[oldest]
