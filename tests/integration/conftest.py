"""A stack of a test's own, to be configured and broken."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.support.asking import Asker
from tests.support.stack import Stack, worker_environ

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
