"""Waiting for what the journal has of a request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dspex.bus.journal import Entry, Reader
from dspex.contracts.envelope import DoneEvent, FailedEvent

if TYPE_CHECKING:
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus


async def ended(bus: NatsBus, stack: Stack, request: str, tenant: str = "") -> None:
    """Wait until the end of a request is in the journal."""
    reader = Reader(bus, stack.subjects)
    async with asyncio.timeout(30):
        while True:
            async for one in reader.of_request(request, tenant):
                ends = isinstance(one, Entry) and isinstance(
                    one.said, DoneEvent | FailedEvent
                )
                if ends:
                    return
