"""Leases and blobs, on a real server."""

from __future__ import annotations

import asyncio
import io
import os
from typing import TYPE_CHECKING

import pytest

from dspex.bus.durable import api
from dspex.bus.stores import CHUNK, Blobs, Leases
from dspex.contracts.failures import BadRequest, BusUnavailable, Conflict, NotFound

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus

pytestmark = pytest.mark.nats

LARGE = os.urandom(8 << 20)


@pytest.fixture(name="leases")
async def _leases(bus: NatsBus, root: str) -> Leases:
    leases = Leases(bus, root)
    await leases.open()
    return leases


@pytest.fixture(name="blobs")
async def _blobs(bus: NatsBus, root: str) -> Blobs:
    blobs = Blobs(bus, root, ttl=60)
    await blobs.open()
    return blobs


async def test_a_lease_has_one_holder(leases: Leases) -> None:
    """Of many who want a key at once, one gets it."""
    found = await asyncio.gather(
        *(leases.acquire("s1", b"w%d" % number, ttl=60) for number in range(8)),
        return_exceptions=True,
    )

    held = [one for one in found if not isinstance(one, BaseException)]
    refused = [one for one in found if isinstance(one, Conflict)]
    assert (len(held), len(refused)) == (1, 7)
    assert await leases.get("s1") == held[0]


async def test_no_lease(leases: Leases) -> None:
    """Nobody holds a key that nobody asked for."""
    assert await leases.get("s1") is None


async def test_release(leases: Leases) -> None:
    """A released key can be held by the next one at once."""
    first = await leases.acquire("s1", b"w1", ttl=60)

    await leases.release(first)

    assert await leases.get("s1") is None
    second = await leases.acquire("s1", b"w2", ttl=60)
    assert second.revision > first.revision
    with pytest.raises(Conflict):
        await leases.renew(first, ttl=60)
    with pytest.raises(Conflict):
        await leases.release(first)


async def test_renew(leases: Leases) -> None:
    """A renewed lease has a new revision; with the old one nobody gets further."""
    first = await leases.acquire("s1", b"w1", ttl=60)

    second = await leases.renew(first, ttl=60)

    assert await leases.get("s1") == second
    with pytest.raises(Conflict):
        await leases.renew(first, ttl=60)


async def test_a_lease_ends(leases: Leases) -> None:
    """A lease that is not renewed ends by itself, and leaves no marker behind."""
    first = await leases.acquire("s1", b"w1", ttl=1)

    async with asyncio.timeout(10):
        while await leases.get("s1"):
            continue

    with pytest.raises(Conflict):
        await leases.renew(first, ttl=60)
    assert (await leases.acquire("s1", b"w2", ttl=60)).value == b"w2"


async def test_bad_leases(leases: Leases, bus: NatsBus) -> None:
    """A key that is no token and a time too short are refused."""
    with pytest.raises(BadRequest):
        await leases.acquire("a.b", b"", ttl=1)
    with pytest.raises(BadRequest, match="1 s is the shortest"):
        await leases.acquire("a", b"", ttl=0)
    with pytest.raises(BusUnavailable, match="does not answer"):
        await Leases(bus, "never-opened").get("a")


async def test_other_clients_read_leases(
    leases: Leases, bus: NatsBus, root: str
) -> None:
    """A lease is a key of an ordinary key-value bucket."""
    lease = await leases.acquire("s1", b"w1", ttl=60)

    bucket = await bus._client.jetstream().key_value(root)
    entry = await bucket.get("s1")

    assert (entry.value, entry.revision) == (b"w1", lease.revision)


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
