"""A bucket of the object store, for tests that need no other stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.bus.durable import StreamConfig, ensure_stream

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus


async def make_bucket(bus: NatsBus, bucket: str) -> None:
    """Make a bucket whose objects end after a minute."""
    config = StreamConfig(
        name=f"OBJ_{bucket}",
        subjects=[f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        discard="new",
        max_age=60,
        allow_msg_ttl=True,
        allow_rollup_hdrs=True,
    )
    await ensure_stream(bus, config)
