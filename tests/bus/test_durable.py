"""Streams, consumers and appending, on a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.bus.hearing import Heard, eventually

from dspex.bus.durable import (
    Appender,
    ConsumerConfig,
    Entry,
    Stored,
    StreamConfig,
    api,
    ensure_consumer,
    ensure_stream,
)
from dspex.contracts.failures import (
    BadRequest,
    BusUnavailable,
    Conflict,
    NotFound,
    Overloaded,
)

if TYPE_CHECKING:
    from tests.bus.conftest import OwnServer

    from dspex.bus.connection import NatsBus

pytestmark = pytest.mark.nats


async def stream(bus: NatsBus, root: str, **options: Any) -> StreamConfig:
    config = StreamConfig(name=root, subjects=[f"{root}.>"], **options)
    await ensure_stream(bus, config)
    return config


async def test_ensure_stream(bus: NatsBus, root: str) -> None:
    """A stream is created, ensured again without change, and changed in place."""
    for max_age in (60.0, 60.0, 120.5):
        await stream(bus, root, max_age=max_age, duplicate_window=30)

    config = (await api(bus, f"STREAM.INFO.{root}"))["config"]
    assert config["max_age"] == 120_500_000_000
    assert config["duplicate_window"] == 30_000_000_000
    assert (config["retention"], config["allow_direct"]) == ("limits", True)


async def test_a_stream_that_cannot_change(bus: NatsBus, root: str) -> None:
    """A stream that differs in what cannot be changed is a conflict, with a reason."""
    await stream(bus, root)

    with pytest.raises(Conflict, match=f"{root}.*storage"):
        await stream(bus, root, storage="memory")


async def test_a_capturing_stream(bus: NatsBus, root: str) -> None:
    """The stream of a journal: no acknowledgement, no waiting for the disk."""
    await stream(bus, root, no_ack=True, persist_mode="async", max_age=60)

    await bus.publish(f"{root}.a", b"1")
    async with asyncio.timeout(5):
        while not (await api(bus, f"STREAM.INFO.{root}"))["state"]["messages"]:
            continue


async def test_ensure_consumer(bus: NatsBus, root: str) -> None:
    """A consumer is created, and changed in place."""
    await stream(bus, root)
    for ack_wait in (10.0, 20.0):
        config = ConsumerConfig(
            name="pool", filter_subjects=[f"{root}.a"], ack_wait=ack_wait
        )
        await ensure_consumer(bus, root, config)

    info = await api(bus, f"CONSUMER.INFO.{root}.pool")
    assert info["config"]["ack_wait"] == 20_000_000_000
    assert info["config"]["filter_subjects"] == [f"{root}.a"]


async def test_no_such_stream(bus: NatsBus, root: str) -> None:
    """A consumer of a stream that is not there is not found."""
    with pytest.raises(NotFound):
        await ensure_consumer(bus, root, ConsumerConfig(name="pool"))


async def test_a_bad_configuration(bus: NatsBus, root: str) -> None:
    """What the server finds wrong with a configuration is said."""
    await stream(bus, root)

    with pytest.raises(BadRequest, match="overlap"):
        await ensure_stream(bus, StreamConfig(name=f"{root}-2", subjects=[f"{root}.>"]))


async def test_append(bus: NatsBus, root: str) -> None:
    """Appended messages get sequences, and are stored with their headers."""
    await stream(bus, root)
    appender = Appender(bus)

    found = [
        await appender.append(
            Entry(subject=f"{root}.a", data=b"x", headers={"dspex-request": "r1"})
        )
        for _ in range(3)
    ]

    assert found == [1, 2, 3]
    stored = await bus.request(f"$JS.API.DIRECT.GET.{root}.{root}.a")
    assert (stored.data, stored.headers["Dspex-Request"]) == (b"x", "r1")


async def test_append_once(bus: NatsBus, root: str) -> None:
    """A message id is stored once; the second time its first place is told."""
    await stream(bus, root)
    appender = Appender(bus)
    entry = Entry(subject=f"{root}.a", message_id="m1")

    assert [await appender.append(entry) for _ in range(2)] == [1, 1]


async def test_append_compares(bus: NatsBus, root: str) -> None:
    """With an expected last sequence, the second of two writers conflicts."""
    await stream(bus, root)
    appender = Appender(bus)

    first = await appender.append(Entry(subject=f"{root}.a", expected_last=0))
    with pytest.raises(Conflict, match="wrong last sequence"):
        await appender.append(Entry(subject=f"{root}.a", expected_last=0))

    await appender.append(Entry(subject=f"{root}.b", expected_last=0))
    await appender.append(Entry(subject=f"{root}.a", expected_last=first))


async def test_append_knows_its_own(bus: NatsBus, root: str) -> None:
    """An append whose acknowledgement was lost is not its own conflict."""
    await stream(bus, root)
    entry = Entry(subject=f"{root}.a", message_id="m1", expected_last=0)
    await Appender(bus).append(entry)
    answer = await bus.request(
        f"{root}.a",
        headers={
            "Nats-Msg-Id": "m1",
            "Nats-Expected-Last-Subject-Sequence": "0",
        },
    )
    headers = {"Nats-Msg-Id": "m1"}

    assert b"wrong last sequence" in answer.data
    assert await Appender(bus)._stored(entry, headers, answer, tried=True) == Stored(1)
    with pytest.raises(Conflict):
        await Appender(bus)._stored(entry, headers, answer, tried=False)
    other = {"Nats-Msg-Id": "m2"}
    with pytest.raises(Conflict):
        await Appender(bus)._stored(entry, other, answer, tried=True)


async def test_append_conflicts_with_what_is_gone(bus: NatsBus, root: str) -> None:
    """Sent twice, behind a message that has ended since, it is a conflict as ever."""
    await stream(bus, root)
    entry = Entry(subject=f"{root}.a", message_id="m1", expected_last=7)
    sent = {"Nats-Expected-Last-Subject-Sequence": "7"}
    answer = await bus.request(f"{root}.a", headers=sent)

    with pytest.raises(Conflict):
        await Appender(bus)._stored(entry, {"Nats-Msg-Id": "m1"}, answer, tried=True)


async def test_append_knows_duplicates(bus: NatsBus, root: str) -> None:
    """What was there before, under the same id, is told from what is new."""
    await stream(bus, root)
    entry = Entry(subject=f"{root}.a", message_id="m1")

    first = await Appender(bus).store(entry)
    second = await Appender(bus).store(entry)

    assert (first, second) == (Stored(1), Stored(1, duplicate=True))


async def test_append_nowhere(bus: NatsBus, root: str) -> None:
    """A message that no stream takes fails at its timeout, and says so."""
    with pytest.raises(BusUnavailable, match=r"No stream acknowledged .* 0\.3 s"):
        await Appender(bus).append(Entry(subject=f"{root}.a"), timeout=0.3)


async def test_append_refused(bus: NatsBus, root: str) -> None:
    """A stream that is full and keeps what it has refuses at once."""
    await stream(bus, root, discard="new", max_bytes=200)
    appender = Appender(bus)
    await appender.append(Entry(subject=f"{root}.a"))

    async with asyncio.timeout(5):
        with pytest.raises(Overloaded, match="maximum bytes"):
            await appender.append(
                Entry(subject=f"{root}.a", data=b"x" * 500), timeout=60
            )


async def test_appends_are_bounded(own_server: OwnServer, root: str) -> None:
    """No more than the allowed number of appends are in flight; the rest wait."""
    _, bus = await own_server()
    heard = Heard()
    await bus.subscribe(f"{root}.a", heard)
    appender = Appender(bus, concurrency=4)
    waiting = [
        asyncio.ensure_future(appender.append(Entry(subject=f"{root}.a"), timeout=1))
        for _ in range(12)
    ]

    await heard.count(4)
    await bus.flush()
    assert len(heard.messages) == 4

    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(one) for one in found} == {BusUnavailable}


async def test_append_over_a_restart(own_server: OwnServer, root: str) -> None:
    """Appends wait out a restart of the server, and each is stored once."""
    server, bus = await own_server()
    await stream(bus, root)
    appender = Appender(bus)

    async def writer(number: int) -> None:
        for index in range(40):
            entry = Entry(subject=f"{root}.{number}", data=b"%d" % index)
            await appender.append(entry, timeout=20)

    writers = [asyncio.ensure_future(writer(number)) for number in range(8)]
    await eventually(lambda: bus._client.stats["out_msgs"] > 60)
    await server.restart()
    await asyncio.gather(*writers)

    state = (await api(bus, f"STREAM.INFO.{root}"))["state"]
    assert state["messages"] == 320


async def test_append_when_the_server_stays_away(
    own_server: OwnServer, root: str
) -> None:
    """Appends in flight when the server dies end within their timeout, all typed."""
    server, bus = await own_server()
    await stream(bus, root)
    appender = Appender(bus)
    server.pause()
    appends = [
        asyncio.ensure_future(appender.append(Entry(subject=f"{root}.a"), timeout=1))
        for _ in range(200)
    ]

    async with asyncio.timeout(4):
        await server.stop()
        found = await asyncio.gather(*appends, return_exceptions=True)

    assert {type(one) for one in found} <= {BusUnavailable, int}
    assert BusUnavailable in {type(one) for one in found}
    assert appender._slots._value == 64


async def test_append_after_close(own_server: OwnServer, root: str) -> None:
    """On a closed connection an append fails at once."""
    _, bus = await own_server()
    await bus.close()

    async with asyncio.timeout(2):
        with pytest.raises(BusUnavailable):
            await Appender(bus).append(Entry(subject=f"{root}.a"), timeout=60)


async def test_no_jetstream(own_server: OwnServer, root: str) -> None:
    """When nobody answers for JetStream, that is said."""
    _, bus = await own_server()

    with pytest.raises(BusUnavailable, match=r"JetStream does not answer NO\.SUCH"):
        await api(bus, "NO.SUCH", timeout=0.2)
