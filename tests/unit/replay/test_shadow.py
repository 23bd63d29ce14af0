"""The processes of a replay that cannot be started."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.bus.testing import MemoryServer
from dspex.contracts.failures import NoWorker
from dspex.contracts.pooling import Pool
from dspex.services.replay.shadow import Wish, shadow


async def test_an_interpreter_that_is_not_there() -> None:
    """The failure names it; what was started is ended."""
    bus: Any = MemoryServer().connect()
    pools = {"light": Pool(python="/nowhere/python")}
    wish = Wish(url="nats://127.0.0.1:1", prefix="r", pools=pools, from_record="lm")

    with pytest.raises(NoWorker, match="/nowhere/python"):
        async with shadow(bus, wish, lambda _: None):
            pytest.fail("it was started")
