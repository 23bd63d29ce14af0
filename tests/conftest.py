"""Fixtures: one nats-server, one scripted model, one stack per test session."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import settings
from tests.support.asking import Asker
from tests.support.forkserver import ForkServer
from tests.support.nats_server import shared_server
from tests.support.scripted_model import ScriptedModel
from tests.support.stack import Program, Stack, worker_environ

from dspex.bus.connection import BusSettings, NatsBus, connect
from dspex.client import Client
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# A shell has what it starts in the background ignore Ctrl-C, and so would the programs
# that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# As workers have it: LiteLLM and DSPy would fetch a price list from the internet.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# No test asserts an absolute time: machines are as fast as they are.
settings.register_profile("dspex", deadline=None)
settings.load_profile("dspex")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what their module or package starts share a process, too.

    In another process of pytest-xdist it would be started a second time. First, for
    pytest-xdist reads the groups in the same hook.
    """
    for item in items:
        named = item.get_closest_marker("xdist_group")
        if isinstance(item, pytest.Function) and not named:
            for name in _shared_in(item):
                item.add_marker(pytest.mark.xdist_group(name))


def _shared_in(item: pytest.Function) -> set[str]:
    fixtures = filter(None, item._fixtureinfo.name2fixturedefs.values())
    return {
        fixture[-1].baseid
        for fixture in fixtures
        if fixture[-1].scope in ("module", "package")
    }


@pytest.fixture(scope="session", autouse=True)
async def _forks() -> AsyncIterator[None]:
    async with ForkServer():
        yield


@pytest.fixture(scope="session", name="nats_url")
async def _nats_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with shared_server(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@pytest.fixture(name="bus")
async def _bus(nats_url: str) -> AsyncIterator[NatsBus]:
    bus = await connect(BusSettings(url=nats_url, name="test"))
    yield bus
    await bus.close()


@pytest.fixture(scope="session", name="scripted")
async def _scripted() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


@pytest.fixture(name="model")
async def _model(scripted: ScriptedModel) -> AsyncIterator[ScriptedModel]:
    """The session's scripted model, forgetful of other tests."""
    scripted.reset()
    yield scripted
    scripted.reset()


@pytest.fixture(scope="session", name="stack")
async def _stack(
    nats_url: str, scripted: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """Router, native-ops and two workers, under a prefix of their own."""
    folder = tmp_path_factory.mktemp("stack")
    prefix = f"t{uuid4().hex[:8]}"
    async with Stack(nats_url, folder, prefix, worker_environ(scripted.url)) as stack:
        worker = ("dspex.services.worker", "--pool", "light")
        await stack.start(Program("dspex.native"), Program("dspex.router"))
        await stack.start(Program("dspex.services.state"))
        await stack.start(Program(*worker), Program(*worker))
        await stack.ready(workers=2, state=1)
        yield stack


@pytest.fixture(name="client")
async def _client(stack: Stack, bus: NatsBus) -> Client:
    return Client(bus, Subjects(stack.prefix))


@pytest.fixture(name="asker")
async def _asker(stack: Stack, bus: NatsBus) -> Asker:
    """A plain NATS client of the stack."""
    return Asker(bus, Subjects(stack.prefix))
