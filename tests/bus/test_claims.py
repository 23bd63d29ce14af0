"""Bodies too large for a message, on a real server."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from tests.bus.objects import make_bucket

from dspex.bus.claims import Claims, Room, packed, unpacked
from dspex.bus.core import Message
from dspex.bus.provisioning import Names
from dspex.contracts.bodies import ACCEPT, Bodies
from dspex.contracts.failures import BadRequest, DeadlineExceeded, NotFound
from dspex.contracts.headers import BODY

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus

pytestmark = pytest.mark.nats

MIB = 1024 * 1024
SMALL = Bodies(inline_kib=1, max_mib=2, held_mib=3)
LARGE = os.urandom(2 * MIB)


@pytest.fixture(name="claims")
async def _claims(bus: NatsBus, root: str) -> Claims:
    await make_bucket(bus, Names(root).blobs)
    return Claims(bus, root, SMALL)


async def test_there_and_back(claims: Claims) -> None:
    """What is put away is had again by a name that begins with its tenant."""
    name = await claims.put("acme", LARGE)

    assert name.startswith("acme.")
    assert await claims.get(name) == LARGE
    async with claims.held(name, 30) as data:
        assert data == LARGE


async def test_an_end(claims: Claims) -> None:
    """A body ends by itself, long before its bucket says."""
    name = await claims.put("acme", LARGE, ttl=1)

    async with asyncio.timeout(30):
        while await _is_there(claims, name):
            continue

    with pytest.raises(NotFound):
        await claims.get(name)


async def _is_there(claims: Claims, name: str) -> bool:
    try:
        return await claims.get(name) == LARGE
    except NotFound:
        return False


async def test_too_large(claims: Claims) -> None:
    """A body over the limit is neither stored nor read."""
    with pytest.raises(BadRequest, match="at most 2097152"):
        await claims.put("acme", LARGE + b"x")
    await claims._blobs.put("acme.large", LARGE + b"x")
    with pytest.raises(BadRequest, match="at most 2097152") as caught:
        async with claims.held("acme.large", 30):
            pass

    assert caught.value.field == BODY


async def test_memory_is_bounded(claims: Claims) -> None:
    """Bodies that have no room beside others wait for it, at most as long as told."""
    first, second = [await claims.put("acme", LARGE) for _ in range(2)]

    async with claims.held(first, 30):
        with pytest.raises(DeadlineExceeded, match="took the room"):
            async with claims.held(second, 0.2):
                pass
    async with claims.held(second, 30) as data:
        assert data == LARGE


async def test_first_come() -> None:
    """A large body is not overtaken by small ones that come after it."""
    room, got = Room(10), list[str]()

    async def take(name: str, size: int) -> None:
        async with room.taken(size):
            got.append(name)

    async with room.taken(8):
        waiting = [asyncio.create_task(take(*one)) for one in (("a", 9), ("b", 1))]
        gives_up = asyncio.create_task(take("c", 9))
        await asyncio.sleep(0)
        gives_up.cancel()
        assert got == []
    await asyncio.gather(*waiting)

    assert got == ["a", "b"]


async def test_packed(claims: Claims) -> None:
    """A large body travels by its name, a small one as it is; both say what is read."""
    data, sent = await packed(claims, "acme", LARGE, {"a": "b"})
    small = await packed(claims, "acme", b"small", {})

    assert (data, sent["a"]) == (b"", "b")
    assert await unpacked(claims, Message("x", data, headers=sent)) == LARGE
    assert small == (b"small", {BODY: ACCEPT})
    assert await packed(None, "acme", LARGE, {}) == (LARGE, {})


async def test_without_a_store(bus: NatsBus, root: str) -> None:
    """Where nobody made the object store, a body goes as it is, if it can."""
    claims = Claims(bus, root, SMALL)

    assert await packed(claims, "acme", LARGE, {}) == (LARGE, {BODY: ACCEPT})
    with pytest.raises(NotFound, match="no object store"):
        await claims.put("acme", LARGE)
