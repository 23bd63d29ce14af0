"""Who is there: what services say of themselves by the NATS service protocol."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus.core import NoResponders
from dspex.bus.serving import CONTROL

if TYPE_CHECKING:
    from dspex.bus.core import Bus

MOST = 4096
"""Services that are heard at most."""


async def services(bus: Bus, wait: float) -> list[dict[str, Any]]:
    """What every service says of itself.

    Args:
        bus: Where.
        wait: Seconds to listen.
    """
    until = time.monotonic() + wait
    found: list[dict[str, Any]] = []
    async with await bus.replies() as replies:
        await bus.publish(f"{CONTROL}.INFO", reply=replies.subject)
        while len(found) < MOST:
            try:
                message = await replies.next(max(0.001, until - time.monotonic()))
            except (TimeoutError, NoResponders):
                break
            try:
                said = msgspec.json.decode(message.data)
            except msgspec.DecodeError:
                continue
            if isinstance(said, dict):
                found.append(said)
    return found
