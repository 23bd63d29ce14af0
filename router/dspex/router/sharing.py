"""Where routers share the answers they keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.bus.buckets import Bucket

if TYPE_CHECKING:
    from dspex.bus.program import Context
    from dspex.router.settings import Settings

SHARED_CACHE = "dspex_cache"
"""Bucket in which routers share kept answers."""


async def shared_cache(context: Context, settings: Settings) -> Bucket | None:
    """The bucket, if the configuration says that they share one."""
    # Kept answers are whole, so there are none where something must not be kept.
    if not context.configuration.router.shared_cache or context.bus.capture.redacts:
        return None
    bucket = Bucket(
        context.bus,
        SHARED_CACHE,
        ttl=settings.cache_ttl,
        size=max(1, settings.cache_size * 4),
    )
    await bucket.open()
    return bucket
