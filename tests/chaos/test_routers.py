"""Routers that die."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.chaos.sizes import SIZES
from tests.support.stack import Program

if TYPE_CHECKING:
    from tests.chaos.system import System

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(300)]


async def test_router_is_killed(system: System) -> None:
    """No request fails when one of two routers is killed: clients send it again."""
    await system.start(Program("dspex.router"))
    await system.serving()
    # More than there are slots, so that some wait in the router and die with it.
    async with system.load(clients=SIZES.slots * 2) as load:
        for _ in range(SIZES.rounds):
            await load.more(SIZES.clients)
            oldest = system.routers[0]
            await oldest.kill()
            await system.replaced(oldest)
            await load.held()
            await system.serving()

    assert load.failures == [], load.table()
    assert load.open == {}
