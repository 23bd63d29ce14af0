"""Workers that die."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.chaos.sizes import SIZES

if TYPE_CHECKING:
    from tests.chaos.system import System

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(900)]


async def test_workers_are_killed(system: System) -> None:
    """However many workers are killed one after the other, no request fails."""
    async with system.load() as load:
        await load.more(SIZES.clients)
        for _ in range(SIZES.kills):
            oldest, *others = system.workers
            await oldest.kill()
            await system.replaced(oldest)
            # All but the newest: the next one dies while that one still starts.
            await system.stack.serving(*others)
            await load.more(1)
        await load.until(lambda: len(load.outcomes) >= SIZES.requests)

    assert load.failures == [], load.table()
    assert load.open == {}
    assert load.rerouted, load.table()
