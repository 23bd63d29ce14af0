"""Answers of a moment ago, for requests that are sent twice.

A client that lost its connection, or whose router died, sends the same request again
under the same id. It gets the answer there is, and nothing runs a second time.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.contracts import encoding, headers
from dspex.contracts.envelope import Reply
from dspex.contracts.failures import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.incoming import Request

SECONDS = 120.0
"""How long an answer is kept."""

MOST = 4096
"""Answers kept."""

SIZE = 32 * 1024 * 1024
"""Bytes of all answers kept, as JSON."""


class Known(Struct, frozen=True):
    """One answer.

    Attributes:
        digest: Of what was asked.
        reply: What was answered.
        size: Bytes of it.
        until: When it is forgotten.
    """

    digest: bytes
    reply: Reply
    size: int
    until: float


class Recent:
    """The answers of the last two minutes; the oldest leave first.

    Args:
        clock: Steady, in seconds.
        most: Answers kept.
        size: Bytes of all of them.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST,
        size: int = SIZE,
    ) -> None:
        self._clock = clock
        self._most = most
        self._size = size
        self._used = 0
        self._kept: OrderedDict[tuple[str, str], Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, request: Request) -> Reply | None:
        """The answer to a request that was answered a moment ago.

        Raises:
            Conflict: Another request had that id.
        """
        self._forget()
        known = self._kept.get((request.tenant, request.id))
        if known is None:
            return None
        if known.digest != digest_of(request):
            raise other_request(request)
        return known.reply

    def keep(self, request: Request, reply: Reply) -> None:
        """Remember an answer."""
        size = len(encoding.encode(reply))
        if size > self._size // 4:
            return
        known = Known(digest_of(request), reply, size, self._clock() + SECONDS)
        self._drop((request.tenant, request.id))
        self._kept[request.tenant, request.id] = known
        self._used += size
        self._forget()

    def _forget(self) -> None:
        now = self._clock()
        while self._kept:
            key = next(iter(self._kept))
            over = len(self._kept) > self._most or self._used > self._size
            if not over and self._kept[key].until > now:
                return
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        known = self._kept.pop(key, None)
        if known is not None:
            self._used -= known.size


def digest_of(request: Request) -> bytes:
    """What a request asks, so that two can be told apart.

    A body that is elsewhere is known by its name: who sends it again names it again.
    """
    said = f"{request.operation} {request.media} {request.claim} ".encode()
    return hashlib.sha256(said + request.body).digest()


def other_request(request: Request) -> Conflict:
    """The failure of a request whose id belongs to another."""
    return Conflict(
        f"Another request has the id {request.id!r}: the same id means the same "
        "request, which is answered once.",
        field=headers.REQUEST,
        hint="Use a new id for every request, such as a UUID.",
    )
