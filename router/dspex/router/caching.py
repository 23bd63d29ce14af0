"""Answers that are kept: the same question of the same tenant, asked of the same thing.

The key is exact: tenant, operation, the meaning of the signature, inputs, demos,
language model and its settings, and what the process that would answer says of its
versions. The first level is this router's memory, bounded in bytes; the second, if
configured, is a NATS key-value bucket that the routers share.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from cachetools import TLRUCache
from msgspec import Struct

from dspex.bus import logs
from dspex.contracts import encoding
from dspex.contracts.envelope import Metadata
from dspex.contracts.failures import Failure
from dspex.contracts.words import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.incoming import Request
    from dspex.contracts.heartbeats import Heartbeat
    from dspex.contracts.requests import Body

_log = logging.getLogger(__name__)

OVERHEAD = 200
"""Bytes a kept answer takes beside its own: its key and its place."""

SHARED_WITHIN = 0.25
"""Seconds that are spent on what routers share: it helps, or it is done without."""


class Answer(Struct, frozen=True, kw_only=True):
    """What is kept of an answer.

    Attributes:
        outputs: A value per output field.
        metadata: Who gave it.
        deltas: What a stream of it told.
        at: When it was given, unix seconds.
    """

    outputs: dict[str, Any]
    metadata: Metadata
    deltas: list[Text]
    at: float


class _Kept(Struct, frozen=True):
    """An answer as it is kept: in MessagePack, for so many seconds."""

    data: bytes
    seconds: float


class Shared(Protocol):
    """What routers share; ``dspex.bus.buckets.Bucket`` is one."""

    async def get(self, key: str) -> bytes | None:
        """The value of a key, if it has one."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Keep a value."""
        ...


class Cache:
    """Answers by key, for a while.

    Args:
        size: Bytes of the answers kept here, as they would be sent; 0 keeps none.
        ttl: Seconds an answer is kept.
        clock: Steady, in seconds.
        shared: Where routers share answers; ``None``: nowhere.
        wall: Unix time, in seconds.
    """

    def __init__(
        self,
        size: int,
        ttl: float,
        clock: Callable[[], float],
        shared: Shared | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._shared = shared
        self._wall = wall
        self._unshared = logs.Seldom(_log)
        self._ttl = ttl
        self._kept: TLRUCache[str, _Kept] = TLRUCache(
            maxsize=size,
            ttu=lambda key, kept, now: now + kept.seconds,
            timer=clock,
            getsizeof=lambda kept: len(kept.data) + OVERHEAD,
        )

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of the answers kept here."""
        return int(self._kept.currsize)

    async def find(self, key: str) -> Answer | None:
        """The answer kept under a key, if there is one."""
        found = self._kept.get(key)
        if found is not None:
            # Decoded anew for each: as bytes they take what they are counted for.
            answer: Answer = encoding.decode(found.data, Answer, encoding.MSGPACK)
            return answer
        return await self._find_shared(key) if self._shared else None

    async def keep(self, key: str, answer: Answer) -> None:
        """Keep an answer, unless it is larger than all that may be kept."""
        data = encoding.encode(answer, encoding.MSGPACK)
        self._keep_here(key, _Kept(data, self._ttl))
        if self._shared is not None:
            try:
                async with asyncio.timeout(SHARED_WITHIN):
                    await self._shared.put(key, data)
            except (Failure, TimeoutError) as problem:
                why = str(problem) or f"not done within {SHARED_WITHIN} s"
                self._unshared.warning("an answer is not shared: %s", why)

    def _keep_here(self, key: str, kept: _Kept) -> None:
        if len(kept.data) + OVERHEAD <= self._kept.maxsize:
            self._kept[key] = kept

    async def _find_shared(self, key: str) -> Answer | None:
        assert self._shared is not None
        try:
            data = await self._shared.get(key)
            if data is None:
                return None
            answer: Answer = encoding.decode(data, Answer, encoding.MSGPACK)
        except Failure as failure:
            self._unshared.warning("shared answers: %s", failure.message)
            return None
        # It ends when it would have ended where it came from.
        age = max(0.0, self._wall() - answer.at)
        if age >= self._ttl:
            return None
        self._keep_here(key, _Kept(data, self._ttl - age))
        return answer


def key_of(request: Request, body: Body, digest: str, beat: Heartbeat) -> str:
    """What an answer is kept under.

    Args:
        request: Whose tenant and operation count.
        body: What is asked.
        digest: Of the signature's meaning; empty where there is none.
        beat: Of a process that would answer.
    """
    said = msgspec.structs.asdict(body)
    said.pop("options")
    if digest:
        said.pop("signature")
        said.pop("instructions", None)
    if "lm" in said:
        said["lm"] = said["lm"] or beat.lm
    about = (request.tenant, request.operation, digest, beat.versions, said)
    encoded = msgspec.msgpack.encode(about, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()
