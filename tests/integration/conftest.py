"""A stack of a test's own, to be broken; and one with every release of DSPy."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.support import deno
from tests.support.asking import Asker
from tests.support.releases import RELEASES, environ, python_of
from tests.support.stack import Program, Stack, worker_environ

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus


@pytest.fixture(name="own")
async def _own(
    nats_url: str, scripted: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """A stack of this test's own, to be broken; nothing is started yet."""
    environ = worker_environ(scripted.url) | {
        "DSPEX_POOLS_LIGHT_CONCURRENCY": "4",
        "DSPEX_POOLS_LIGHT_QUEUE": "2",
    }
    folder = tmp_path_factory.mktemp("own")
    async with Stack(nats_url, folder, f"o{uuid4().hex[:8]}", environ) as stack:
        yield stack


@pytest.fixture(name="ask")
async def _ask(own: Stack, bus: NatsBus) -> Asker:
    return Asker(bus, own.subjects)


@pytest.fixture(scope="session", name="releases")
async def _releases(
    nats_url: str, scripted: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """One router, and a worker of every release; code runs in a stand-in for Deno."""
    folder, prefix = tmp_path_factory.mktemp("releases"), f"v{uuid4().hex[:8]}"
    configured = worker_environ(scripted.url) | environ(scripted.url)
    configured |= deno.environ(folder / "bin") | {deno.CONFINED: "1"}
    async with Stack(nats_url, folder, prefix, configured) as stack:
        await stack.start(Program("dspex.native"), Program("dspex.router"))
        await stack.start(Program("dspex.services.state"))
        for release in RELEASES:
            worker = ("dspex.services.worker", "--pool", "light")
            await stack.start(Program(*worker, python=python_of(release)))
        await stack.ready(workers=len(RELEASES), state=1)
        yield stack
