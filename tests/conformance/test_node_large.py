"""Bodies too large for a message, from Node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.conformance import node_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stack import Stack

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


@pytest.mark.parametrize("size", [1000, 5_000_000])
async def test_there_and_back(stack: Stack, tmp_path: Path, size: int) -> None:
    """The example sends what has no room in a message, and gets the same back."""
    environ = {"DSPEX_NATS_URL": stack.url, "DSPEX_PREFIX": stack.prefix}

    said = await node_client.run(
        node_client.EXAMPLE / "large.mjs", str(size), folder=tmp_path, environ=environ
    )

    assert said.splitlines() == [f"{size} characters came back", "the same"]
