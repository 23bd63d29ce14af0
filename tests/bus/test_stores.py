"""Blobs, on a real server."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest
from tests.bus.objects import make_bucket

from dspex.bus.durable import api
from dspex.bus.stores import CHUNK, Blobs
from dspex.contracts.failures import NotFound

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus

pytestmark = pytest.mark.nats

LARGE = os.urandom(8 << 20)


@pytest.fixture(name="blobs")
async def _blobs(bus: NatsBus, root: str) -> Blobs:
    await make_bucket(bus, root)
    return Blobs(bus, root, ttl=60)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, len(LARGE)])
async def test_blobs(blobs: Blobs, bus: NatsBus, root: str, size: int) -> None:
    """What was put is got, whatever its size, and no consumer is left behind."""
    await blobs.put("a name.bin", LARGE[:size])

    assert await blobs.get("a name.bin") == LARGE[:size]
    info = await api(bus, f"STREAM.INFO.OBJ_{root}")
    assert info["state"]["consumer_count"] == 0
    assert info["config"]["max_age"] == 60_000_000_000


async def test_a_blob_put_again(blobs: Blobs) -> None:
    """A name stands for what was put last."""
    await blobs.put("x", b"old")
    await blobs.put("x", b"new")

    assert await blobs.get("x") == b"new"


async def test_no_blob(blobs: Blobs) -> None:
    """A name that nothing was put under is not found."""
    with pytest.raises(NotFound, match="no blob 'x'"):
        await blobs.get("x")


async def test_a_blob_without_its_chunks(blobs: Blobs, bus: NatsBus, root: str) -> None:
    """A blob whose chunks have ended is not found, never half a blob."""
    await blobs.put("x", LARGE[: 3 * CHUNK])

    await api(bus, f"STREAM.PURGE.OBJ_{root}", {"filter": f"$O.{root}.C.>", "keep": 1})

    with pytest.raises(NotFound, match="ended"):
        await blobs.get("x")


async def test_other_clients_read_blobs(blobs: Blobs, bus: NatsBus, root: str) -> None:
    """A blob is an object of an ordinary object store, and the other way round."""
    await blobs.put("x", LARGE[: 2 * CHUNK + 5])
    store = await bus._client.jetstream().object_store(root)
    into = io.BytesIO()

    await store.get("x", writeinto=into)
    await store.put("y", LARGE[:CHUNK])

    assert into.getvalue() == LARGE[: 2 * CHUNK + 5]
    assert await blobs.get("y") == LARGE[:CHUNK]
