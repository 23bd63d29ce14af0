"""The logs of sessions and their holders, on a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from dspex.bus.clock import now_ms
from dspex.bus.durable import Appender, Entry, api
from dspex.bus.provisioning import Names, provision
from dspex.bus.session_holders import NOBODY, Holders
from dspex.bus.session_log import (
    NOTHING,
    PART,
    PART_SIZE,
    SNAPSHOT_EVERY,
    Found,
    SessionLogs,
)
from dspex.contracts.configuration import Configuration
from dspex.contracts.failures import BusUnavailable, Conflict, NotFound
from dspex.contracts.sessions import (
    ClosedEntry,
    HeldEntry,
    Opened,
    SessionSettings,
    SessionState,
    SetEntry,
    TurnEntry,
)
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus

pytestmark = pytest.mark.nats

TENANT = "default"


@pytest.fixture(name="subjects")
async def _subjects(bus: NatsBus) -> Subjects:
    subjects = Subjects(f"l{uuid4().hex[:8]}")
    await provision(bus, Configuration(prefix=subjects.prefix))
    return subjects


@pytest.fixture(name="logs")
async def _logs(bus: NatsBus, subjects: Subjects) -> SessionLogs:
    return SessionLogs(bus, subjects)


@pytest.fixture(name="holders")
async def _holders(bus: NatsBus, subjects: Subjects) -> Holders:
    return Holders(bus, subjects.prefix)


async def begun(logs: SessionLogs, **given: Any) -> Found:
    """The log of session ``s``, opened and held with fence 1."""
    opened = Opened(at=now_ms(), request="r", settings=SessionSettings(**given))
    found = await logs.append(TENANT, "s", NOTHING, opened)
    held = HeldEntry(at=now_ms(), worker="w", fence=1)
    return await logs.append(TENANT, "s", found, held)


def turn(number: int, size: int = 1) -> TurnEntry:
    return TurnEntry(
        at=now_ms(),
        fence=1,
        request=f"r{number}",
        operation="predict",
        inputs={"question": "q" * size},
        outputs={"answer": number},
    )


def numbers(state: SessionState | None) -> list[int]:
    """What was answered, turn by turn."""
    assert state is not None
    return [one.outputs["answer"] for one in state.turns]


async def test_what_was_added_is_read(logs: SessionLogs) -> None:
    """Who adds knows what a reader finds."""
    found = await begun(logs)
    for number in range(70):  # more than one batch of messages
        found = await logs.append(TENANT, "s", found, turn(number))

    read = await logs.read(TENANT, "s")

    assert read == found
    assert numbers(read.state) == list(range(70))


async def test_reading_on(logs: SessionLogs) -> None:
    """A reader that knows a part reads what came since."""
    first = await begun(logs)
    last = await logs.append(TENANT, "s", first, turn(1))

    assert await logs.read(TENANT, "s", first) == last
    assert await logs.read(TENANT, "s", last) == last


async def test_nothing_there(logs: SessionLogs) -> None:
    """A log that nobody wrote has no session."""
    found = await logs.read(TENANT, "none")

    assert found == NOTHING
    with pytest.raises(NotFound, match="'none'"):
        found.live("none", now_ms())


async def test_one_of_two_succeeds(logs: SessionLogs) -> None:
    """Of two that add behind the same entry one does, and the other is told."""
    found = await begun(logs)

    ends = await asyncio.gather(
        *(logs.append(TENANT, "s", found, turn(number)) for number in range(2)),
        return_exceptions=True,
    )

    assert [type(one) for one in ends if isinstance(one, Exception)] == [Conflict]
    assert len(numbers((await logs.read(TENANT, "s")).state)) == 1


async def test_large_entries(bus: NatsBus, logs: SessionLogs) -> None:
    """What is too large for a message is written in parts and read as one."""
    found = await begun(logs)

    found = await logs.append(TENANT, "s", found, turn(1, 3 * PART_SIZE))
    found = await logs.append(TENANT, "s", found, turn(2))

    read = await logs.read(TENANT, "s")
    assert read == found
    assert read.state is not None
    assert len(read.state.turns[0].inputs["question"]) == 3 * PART_SIZE
    assert found.last == 7


async def test_unfinished_parts(
    bus: NatsBus, subjects: Subjects, logs: SessionLogs
) -> None:
    """An entry whose writer died in the middle is none, and what follows counts."""
    found = await begun(logs)
    await Appender(bus).append(
        Entry(subject=subjects.session_log("s"), data=b"{", headers={PART: "1/2"})
    )

    seen = await logs.read(TENANT, "s", found)
    after = await logs.append(TENANT, "s", seen, turn(1))

    assert seen.state == found.state
    assert seen.last == found.last + 1
    assert (await logs.read(TENANT, "s")) == after
    assert (await logs.read(TENANT, "s", found)) == after


async def test_reading_between_parts(logs: SessionLogs) -> None:
    """Who reads while an entry is being written finds it whole the next time."""
    found = await begun(logs)
    writing = asyncio.ensure_future(
        logs.append(TENANT, "s", found, turn(1, 16 * PART_SIZE))
    )
    seen = found
    while not writing.done():
        seen = await logs.read(TENANT, "s", seen)

    assert await logs.read(TENANT, "s", seen) == await writing


async def test_snapshot(bus: NatsBus, subjects: Subjects, logs: SessionLogs) -> None:
    """A snapshot takes the place of everything before it."""
    found = await begun(logs)
    wanted = []
    for number in range(SNAPSHOT_EVERY):
        wanted.append(found.wants_snapshot(now_ms()))
        found = await logs.append(TENANT, "s", found, turn(number))

    after = await logs.compact(TENANT, "s", found)

    assert found.wants_snapshot(now_ms())
    assert not any(wanted[:-1])
    assert not after.wants_snapshot(now_ms())
    assert after.state == found.state
    assert await logs.read(TENANT, "s") == after
    assert await logs.read(TENANT, "s", found) == after
    said = await api(bus, f"STREAM.INFO.{Names(subjects.prefix).sessions}")
    assert said["state"]["messages"] == 1


async def test_old_beginning(logs: SessionLogs) -> None:
    """A beginning that may go soon is replaced, however few entries there are."""
    found = await begun(logs, ttl_s=10)

    assert not found.wants_snapshot(found.base_at + 9_000)
    assert found.wants_snapshot(found.base_at + 11_000)


async def test_it_ends(logs: SessionLogs) -> None:
    """What nobody uses is removed by the server itself."""
    await begun(logs, ttl_s=1)

    async with asyncio.timeout(20):
        while await logs.names(TENANT):
            pass

    assert await logs.read(TENANT, "s") == NOTHING


async def test_closed(logs: SessionLogs) -> None:
    """A closed session says so until it is forgotten, and wants no snapshot."""
    found = await begun(logs)

    found = await logs.append(TENANT, "s", found, ClosedEntry(at=now_ms(), request="c"))

    with pytest.raises(NotFound):
        found.live("s", now_ms())
    assert not found.wants_snapshot(now_ms() + 1e12)


async def test_names(bus: NatsBus, logs: SessionLogs) -> None:
    """The sessions of a tenant are listed in order, without those of others."""
    opened = Opened(at=now_ms(), request="r", settings=SessionSettings())
    for tenant, name in (("acme", "b"), ("acme", "a"), ("other", "c")):
        await logs.append(tenant, name, NOTHING, opened)

    assert await logs.names("acme") == ["a", "b"]
    assert await logs.names("other") == ["c"]
    assert await logs.names("nobody") == []


async def test_no_stream(bus: NatsBus) -> None:
    """Where no stream is, it says what to start."""
    logs = SessionLogs(bus, Subjects("nothing-here"))

    with pytest.raises(BusUnavailable, match="NOTHING-HERE_SESSIONS") as refused:
        await logs.read(TENANT, "s")

    assert "dspex-state" in refused.value.hint


async def test_values_and_turns(logs: SessionLogs) -> None:
    """Whoever lost to another reads what that one added, and adds again."""
    holder = state = await begun(logs)
    stored = SetEntry(at=now_ms(), request="set", values={"a": 1})
    await logs.append(TENANT, "s", state, stored)

    with pytest.raises(Conflict):
        await logs.append(TENANT, "s", holder, turn(1))
    found = await logs.read(TENANT, "s", holder)
    found = await logs.append(TENANT, "s", found, turn(1))

    assert found.state is not None
    assert found.state.values == {"a": 1}
    assert numbers(found.state) == [1]


async def test_holders(holders: Holders) -> None:
    """One holder at a time: who knows an older one is refused."""
    nobody = await holders.find(TENANT, "s")
    first = await holders.bind(TENANT, "s", "w1", nobody, 60)
    second = await holders.bind(TENANT, "s", "w2", first, 60)

    assert nobody == NOBODY
    assert second.fence > first.fence > 0
    for stale in (nobody, first):
        with pytest.raises(Conflict):
            await holders.bind(TENANT, "s", "w3", stale, 60)
    with pytest.raises(Conflict):
        await holders.release(TENANT, "s", first.fence)
    assert await holders.find(TENANT, "s") == second
    assert await holders.find("acme", "s") == NOBODY


async def test_released(holders: Holders) -> None:
    """A session that was released has nobody, and its next holder a greater fence."""
    first = await holders.bind(TENANT, "s", "w1", NOBODY, 60)
    await holders.release(TENANT, "s", first.fence)

    found = await holders.find(TENANT, "s")
    second = await holders.bind(TENANT, "s", "w2", found, 60)

    assert found == replace(found, worker="")
    assert second.fence > found.fence > first.fence


async def test_holder_ends(holders: Holders) -> None:
    """A holder is forgotten after its time."""
    await holders.bind(TENANT, "s", "w", NOBODY, 1)

    async with asyncio.timeout(20):
        while await holders.find(TENANT, "s") != NOBODY:
            pass
