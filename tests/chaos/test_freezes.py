"""Workers that live and say nothing: frozen, or cut off from the bus."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.chaos.sizes import SIZES
from tests.chaos.system import WORKER
from tests.support.fault_proxy import FaultProxy
from tests.support.stack import Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.chaos.system import System

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(300)]

NOTICED = 5.0
"""Seconds after which what a silent worker held is answered by another."""

CUT_OFF = 4.0
"""Seconds without a network: more than the silence after which one is given up."""


async def test_worker_freezes(system: System) -> None:
    """What a frozen worker held is answered by others; thawed, it does no harm."""
    system.model.latency = 0.5  # so that it holds requests at any moment
    async with system.wiretap() as wire, system.load() as load:
        for frozen in system.workers[: SIZES.rounds]:
            await load.more(SIZES.clients)
            frozen.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            held = await load.held()
            frozen.signal(signal.SIGCONT)
            thawed = time.monotonic()
            await load.answered(thawed, system.incarnation(frozen))
            assert max(one.ended for one in held) - stopped < NOTICED, load.table()
            assert any(one.attempts > 1 for one in held), load.table()

    assert load.failures == [], load.table()
    assert wire.contradictions == {}


@pytest.fixture(name="proxy")
async def _proxy(system: System) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", system.server.port) as proxy:
        yield proxy


@pytest.fixture(name="far")
async def _far(system: System, proxy: FaultProxy) -> AsyncIterator[Program]:
    """One more worker, that reaches the bus through the proxy."""
    far = Program(*WORKER, environ={"DSPEX_NATS_URL": proxy.url})
    await system.start(far)
    await system.serving()
    yield far
    proxy.heal()
    await far.stop()


async def test_worker_is_cut_off(
    system: System, proxy: FaultProxy, far: Program
) -> None:
    """What a worker held that nobody reaches is answered by others; it serves again."""
    system.model.latency = 0.5
    async with system.wiretap() as wire, system.load() as load:
        await load.more(SIZES.clients)
        stopped = time.monotonic()
        held, _ = await asyncio.gather(load.held(), _cut_off(proxy))
        await load.answered(time.monotonic(), system.incarnation(far))

    assert load.failures == [], load.table()
    assert max(one.ended for one in held) - stopped < NOTICED, load.table()
    assert any(one.attempts > 1 for one in held), load.table()
    assert wire.contradictions == {}


async def _cut_off(proxy: FaultProxy) -> None:
    proxy.blackhole()
    await asyncio.sleep(CUT_OFF)
    proxy.heal()
