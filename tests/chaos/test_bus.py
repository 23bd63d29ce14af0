"""A bus that goes away and comes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.chaos.sizes import SIZES

if TYPE_CHECKING:
    from tests.chaos.system import System

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(300)]

RECOVERED = 5.0
"""Seconds until a new request is answered once the server is back."""

SETTLED = 15.0
"""Seconds until all that was in hand has ended: well before its deadline."""


async def test_server_restarts(system: System) -> None:
    """A restart costs at most retryable failures, and is over within seconds."""
    # More than there are slots, so that some are on their way and some wait.
    async with system.load(clients=SIZES.slots * 2) as load:
        for _ in range(SIZES.rounds + 1):
            await load.more(SIZES.clients)
            await system.server.restart()
            back = time.monotonic()
            await load.answered(back, within=RECOVERED)
            await load.held(within=SETTLED)

    assert [one for one in load.failures if not one.retryable] == [], load.table()
    assert load.open == {}
    assert {program.returncode for program in system.programs} == {None}
