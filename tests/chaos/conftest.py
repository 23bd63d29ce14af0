"""One system for all scenarios; each finds it whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.chaos.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="package", name="started")
async def _started(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("chaos")) as system:
        yield system


@pytest.fixture(name="system")
async def _system(started: System) -> System:
    """Everything well, whatever the scenario before left behind."""
    await started.whole()
    return started
