"""Workers that are replaced while they work."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.chaos.sizes import SIZES

if TYPE_CHECKING:
    from tests.chaos.system import System

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(300)]


async def test_rolling_restart(system: System) -> None:
    """All workers are replaced one by one, and no request notices."""
    async with system.load() as load:
        for old in list(system.workers):
            await load.more(SIZES.clients)
            old.signal(signal.SIGTERM)
            new = await system.replaced(old)
            assert await old.wait() == 0, old.log
            await system.stack.serving(new)
        await load.more(SIZES.clients)

    assert load.failures == [], load.table()
    assert load.open == {}
