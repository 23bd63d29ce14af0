"""The pull loop, on a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.bus.hearing import Heard, eventually
from tests.bus.pulling import Rig

from dspex.bus.durable import StreamConfig, api, ensure_stream
from dspex.contracts.failures import ProgramError

if TYPE_CHECKING:
    from tests.bus.conftest import OwnServer

    from dspex.bus.connection import NatsBus
    from dspex.bus.pulling import Delivery

pytestmark = pytest.mark.nats


@pytest.fixture(name="rig")
async def _rig(bus: NatsBus, root: str) -> Any:
    rig = Rig(bus, root)
    yield rig
    rig.let_go.set()
    if rig.loop is not None:
        await rig.loop.stop()


async def test_all_is_handled(rig: Rig) -> None:
    """Every message is handled once and acknowledged, those that come later too."""
    await rig.make()
    await rig.add(100)
    loop = await rig.pull(concurrency=16)
    await rig.add(100)

    await eventually(lambda: len(rig.done) == 200)
    await loop.stop()

    info = await rig.settled()
    assert info["ack_floor"]["stream_seq"] == 200
    assert info["num_redelivered"] == 0
    assert sorted(rig.done) == sorted([b"%d" % number for number in range(100)] * 2)


async def test_concurrency(rig: Rig) -> None:
    """No more messages are in hand than there is room for; the rest stay there."""
    await rig.make()
    await rig.add(20)
    rig.let_go.clear()

    await rig.pull(concurrency=3)
    await eventually(lambda: rig.running == 3)

    info = await rig.info()
    assert (info["num_ack_pending"], info["num_pending"]) == (3, 17)
    rig.let_go.set()
    await eventually(lambda: len(rig.done) == 20)
    assert rig.most == 3


async def test_a_free_slot_is_used(rig: Rig) -> None:
    """One long piece of work does not keep the other slots empty."""
    await rig.make()
    await rig.add(9)

    async def first_waits(delivery: Delivery) -> None:
        if delivery.stream_sequence == 1:
            await asyncio.Event().wait()

    rig.settle = first_waits
    loop = await rig.pull(concurrency=2)

    await eventually(lambda: len(rig.done) == 8)
    await loop.stop(grace=0)


async def test_requests_are_renewed(rig: Rig) -> None:
    """A request that ran out is followed by another."""
    await rig.make()
    await rig.pull(expires=0.2, heartbeat=0.1)
    asked = rig.bus._client.stats["out_msgs"]

    await eventually(lambda: rig.bus._client.stats["out_msgs"] >= asked + 3)
    await rig.add(1)

    await eventually(lambda: len(rig.done) == 1)


async def test_what_a_delivery_knows(rig: Rig) -> None:
    """A delivery knows its place, how often it came, and how many are behind it."""
    await rig.make()
    await rig.add(3)
    await rig.pull(concurrency=1)

    await eventually(lambda: len(rig.done) == 3)

    seen = [(one.stream_sequence, one.delivered) for one in rig.deliveries]
    assert seen == [(1, 1), (2, 1), (3, 1)]
    assert rig.deliveries[0].message.subject == f"{rig.root}.a"
    assert rig.deliveries[0].message.headers["nats-msg-id"]


async def test_a_failing_handler(rig: Rig) -> None:
    """A message whose handler fails comes again, until it was delivered enough."""
    await rig.make(max_deliver=3)
    await rig.add(1)

    async def fails(delivery: Delivery) -> None:
        raise ProgramError("not this time")

    rig.settle = fails
    await rig.pull(retry_delay=0.01)

    await eventually(lambda: len(rig.deliveries) == 3)
    assert [one.delivered for one in rig.deliveries] == [1, 2, 3]


async def test_nak(rig: Rig) -> None:
    """A message given back with a delay comes again after it."""
    await rig.make()
    await rig.add(1)
    at: list[float] = []

    async def back_once(delivery: Delivery) -> None:
        at.append(asyncio.get_running_loop().time())
        if delivery.delivered == 1:
            await delivery.nak(0.3)

    rig.settle = back_once
    await rig.pull()
    await eventually(lambda: len(at) == 2)

    assert at[1] - at[0] >= 0.28


async def test_term(rig: Rig) -> None:
    """A message given up is not delivered again; the advisory has the reason."""
    await rig.make()
    await rig.add(1)
    advisories = Heard()
    await rig.bus.subscribe(
        f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{rig.root}.>", advisories
    )
    rig.settle = lambda delivery: delivery.term("cannot be\r\nread")

    await rig.pull()

    [body] = await advisories.count(1)
    assert b'"reason":"cannot be read"' in body
    await rig.settled()


async def test_confirmed_ack(rig: Rig) -> None:
    """A confirmed acknowledgement returns when the server knows it."""
    await rig.make()
    await rig.add(1)
    confirmed: list[int] = []

    async def confirm(delivery: Delivery) -> None:
        await delivery.ack(confirm=5)
        confirmed.append((await rig.info())["ack_floor"]["stream_seq"])

    rig.settle = confirm
    await rig.pull()
    await eventually(lambda: bool(rig.done))

    assert confirmed == [1]
    assert rig.deliveries[0].settled


async def test_in_progress(rig: Rig) -> None:
    """Work that takes longer than ``ack_wait`` is not given to somebody else."""
    await rig.make(ack_wait=1.0)
    await rig.add(1)
    rig.let_go.clear()
    await rig.pull(heartbeat=0.2, expires=1, progress_every=0.3)
    told = Heard()
    await rig.bus.subscribe(f"$JS.ACK.{rig.root}.>", told)

    await told.count(8)  # 0.3 s apart at least
    rig.let_go.set()
    await eventually(lambda: bool(rig.done))

    assert told.bodies[0] == b"+WPI"
    assert [one.delivered for one in rig.deliveries] == [1]


async def test_stop_gives_back(rig: Rig) -> None:
    """What cannot be finished in time goes to somebody else at once."""
    await rig.make(ack_wait=60)
    await rig.add(5)
    rig.let_go.clear()
    loop = await rig.pull(concurrency=5)
    await eventually(lambda: rig.running == 5)

    await loop.stop(grace=0.01)
    await loop.stop()
    rig.let_go.set()
    await rig.pull()

    await eventually(lambda: len(rig.done) == 5)
    assert {one.delivered for one in rig.deliveries[5:]} == {2}


async def test_stop_finishes(rig: Rig) -> None:
    """What is in hand is finished and acknowledged before stop returns."""
    await rig.make()
    await rig.add(5)
    rig.let_go.clear()
    loop = await rig.pull(concurrency=5)
    await eventually(lambda: rig.running == 5)

    stopping = asyncio.ensure_future(loop.stop())
    await rig.bus.flush()
    rig.let_go.set()
    await stopping

    assert len(rig.done) == 5
    await rig.settled()


async def test_nothing_is_left_behind(rig: Rig) -> None:
    """A stopped loop leaves no consumer, no request and no subscription."""
    await rig.make()
    await rig.bus.request(f"$JS.API.STREAM.INFO.{rig.root}")
    before = set(rig.bus._client._subs)

    for _ in range(3):
        rig.done.clear()
        loop = await rig.pull()
        await rig.add(1)
        await eventually(lambda: len(rig.done) == 1)
        await loop.stop()

    consumers = await api(rig.bus, f"CONSUMER.LIST.{rig.root}")
    assert [one["name"] for one in consumers["consumers"]] == ["pool"]
    assert (await rig.info())["num_waiting"] == 0
    assert set(rig.bus._client._subs) == before


async def test_no_consumer_yet(rig: Rig) -> None:
    """A loop whose consumer is not there yet works once it is."""
    await ensure_stream(
        rig.bus, StreamConfig(name=rig.root, subjects=[f"{rig.root}.>"])
    )
    await rig.pull(heartbeat=0.1, expires=1)
    await rig.add(1)

    await rig.make()

    await eventually(lambda: len(rig.done) == 1)


async def test_two_loops_share(rig: Rig, nats_url: str) -> None:
    """Two loops on one consumer share its messages, each message once."""
    await rig.make()
    one = await rig.pull(concurrency=2)
    other = await rig.pull(concurrency=2)

    await rig.add(60)
    await eventually(lambda: len(rig.done) == 60)

    assert len({delivery.stream_sequence for delivery in rig.deliveries}) == 60
    await one.stop()
    await other.stop()


@pytest.mark.parametrize("js_ack_fc_v2", [False, True])
async def test_both_ack_formats(
    own_server: OwnServer, root: str, js_ack_fc_v2: bool
) -> None:
    """The loop works with the older and the newer form of acknowledgements."""
    _, bus = await own_server(js_ack_fc_v2=js_ack_fc_v2)
    rig = Rig(bus, root)
    await rig.make()
    await rig.add(20)

    loop = await rig.pull(concurrency=4)
    await eventually(lambda: len(rig.done) == 20)
    await loop.stop()

    sequences = sorted(one.stream_sequence for one in rig.deliveries)
    assert sequences == list(range(1, 21))
    assert {one.delivered for one in rig.deliveries} == {1}
    await rig.settled()
    assert bus.reconnects == 0


async def test_a_restarted_server(own_server: OwnServer, root: str) -> None:
    """A loop that was waiting when the server went gets work soon after it is back."""
    server, bus = await own_server()
    rig = Rig(bus, root)
    await rig.make()
    loop = await rig.pull(expires=30)
    await rig.add(1)
    await eventually(lambda: len(rig.done) == 1)

    await server.restart()
    await eventually(lambda: bus.reconnects == 1)
    async with asyncio.timeout(5):
        await rig.add(10)
        await eventually(lambda: len(rig.done) >= 11)

    await loop.stop()


async def test_a_lost_request(own_server: OwnServer, root: str) -> None:
    """A request that the server lost without a word is noticed by its silence."""
    _, bus = await own_server()
    rig = Rig(bus, root)
    await rig.make()
    loop = await rig.pull(expires=30, heartbeat=0.1)
    await eventually(lambda: loop._asked == 8)

    loop._inbox, lost = f"{loop._inbox}x", loop._inbox  # as if it never arrived
    loop._asked = 8
    await api(bus, f"CONSUMER.DELETE.{root}.pool")
    loop._inbox = lost
    await rig.make()
    await rig.add(3)

    await eventually(lambda: len(rig.done) == 3)
    await loop.stop()


async def test_stopping_while_offline(own_server: OwnServer, root: str) -> None:
    """A loop can be stopped although its server is gone."""
    server, bus = await own_server()
    rig = Rig(bus, root)
    await rig.make()
    loop = await rig.pull()
    await server.stop()

    async with asyncio.timeout(8):
        await loop.stop(grace=1)
