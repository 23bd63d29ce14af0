"""The service protocol (ADR-32), alike on both buses."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.bus.hearing import Heard, eventually

from dspex.bus import serving
from dspex.bus.core import Bus, Message, NoResponders
from dspex.bus.serving import Endpoint, Service, ServiceInfo
from dspex.contracts.failures import BadRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.bus.conftest import Connect

    from dspex.contracts.subjects import Subjects

SECRET = "/home/someone/key.pem"


class Rig:
    """A service with endpoints that echo, fail, break and wait."""

    def __init__(
        self, bus: Bus, subjects: Subjects, backlog: int = serving.BACKLOG
    ) -> None:
        self.bus = bus
        self.root = subjects.prefix
        self.let_go = asyncio.Event()
        self.waiting = 0
        self.info = ServiceInfo(
            name=f"svc-{uuid4().hex[:8]}",
            version="1.2.3",
            description="For tests.",
            metadata={"pool": "light"},
        )
        handlers: dict[str, Callable[[Message], Awaitable[None]]] = {
            "echo": self.echo,
            "fail": self.fail,
            "break": self.breaks,
            "wait": self.wait,
        }
        endpoints = [
            Endpoint(
                name=name, subject=f"{self.root}.{name}", handler=handler, queue="rig"
            )
            for name, handler in handlers.items()
        ]
        self.service = Service(bus, subjects, self.info, endpoints, backlog)

    async def echo(self, message: Message) -> None:
        await self.bus.publish(message.reply, message.data)

    async def fail(self, message: Message) -> None:
        raise BadRequest("Not like\r\nthat.", hint="Like this.", field="inputs.x")

    async def breaks(self, message: Message) -> None:
        raise RuntimeError(f"cannot open {SECRET}")

    async def wait(self, message: Message) -> None:
        self.waiting += 1
        await self.let_go.wait()
        await self.bus.publish(message.reply, message.data)

    async def ask(self, bus: Bus, verb: str) -> dict[str, Any]:
        answer = await bus.request(f"$SRV.{verb}.{self.info.name}", timeout=5)
        found: dict[str, Any] = json.loads(answer.data)
        return found


@pytest.fixture(name="rig")
async def _rig(connect: Connect, subjects: Subjects) -> Rig:
    rig = Rig(await connect(), subjects)
    await rig.service.start()
    return rig


def common(rig: Rig, verb: str) -> dict[str, Any]:
    return {
        "type": f"io.nats.micro.v1.{verb}_response",
        "name": rig.info.name,
        "id": rig.info.id,
        "version": "1.2.3",
        "metadata": {"pool": "light"},
    }


async def test_ping(rig: Rig, connect: Connect) -> None:
    """PING answers for all services, those of a name, and one instance."""
    client = await connect()
    name, instance = rig.info.name, rig.info.id

    for subject in (f"$SRV.PING.{name}", f"$SRV.PING.{name}.{instance}"):
        answer = await client.request(subject, timeout=5)
        assert json.loads(answer.data) == common(rig, "ping")
    async with await client.replies() as replies:
        await client.publish("$SRV.PING", reply=replies.subject)
        while json.loads((await replies.next(5)).data)["name"] != name:
            continue


async def test_info(rig: Rig, connect: Connect) -> None:
    """INFO names the endpoints, exactly as NATS tools read them."""
    info = await rig.ask(await connect(), "INFO")

    endpoints: list[dict[str, Any]] = [
        {
            "name": name,
            "subject": f"{rig.root}.{name}",
            "queue_group": "rig",
            "metadata": {},
        }
        for name in ("echo", "fail", "break", "wait")
    ]
    assert info == common(rig, "info") | {
        "description": "For tests.",
        "endpoints": endpoints,
    }


async def test_stats(rig: Rig, connect: Connect) -> None:
    """STATS counts requests and errors per endpoint, times in nanoseconds."""
    client = await connect()
    for name in ("echo", "echo", "fail", "break"):
        await client.request(f"{rig.root}.{name}", timeout=5)

    stats = await rig.ask(client, "STATS")

    started = stats.pop("started")
    assert datetime.fromisoformat(started).utcoffset() is not None
    assert started.endswith("Z")
    counted = {one["name"]: one for one in stats.pop("endpoints")}
    assert stats == common(rig, "stats")
    assert [counted[n]["num_requests"] for n in ("echo", "fail", "wait")] == [2, 1, 0]
    assert [counted[n]["num_errors"] for n in ("echo", "fail", "break")] == [0, 1, 1]
    assert counted["fail"]["last_error"] == "bad_request"
    echo = counted["echo"]
    assert echo["average_processing_time"] == echo["processing_time"] // 2 > 0


async def test_control_answers_only_inboxes(rig: Rig, connect: Connect) -> None:
    """A PING whose reply is not an inbox is not answered."""
    client, heard = await connect(), Heard()
    await client.subscribe(f"{rig.root}.trap", heard)

    await client.publish(f"$SRV.PING.{rig.info.name}", reply=f"{rig.root}.trap")
    await rig.ask(client, "PING")

    assert heard.messages == []


async def test_side_by_side(rig: Rig, connect: Connect) -> None:
    """Requests to one endpoint run side by side: all wait for one event."""
    client = await connect()
    asked = [
        asyncio.ensure_future(client.request(f"{rig.root}.wait", b"%d" % number))
        for number in range(64)
    ]

    await eventually(lambda: rig.waiting == 64)
    rig.let_go.set()

    assert [one.data for one in await asyncio.gather(*asked)] == [
        b"%d" % number for number in range(64)
    ]


async def test_a_failure_is_told(rig: Rig, connect: Connect) -> None:
    """A failure comes as a typed body and in the protocol's error headers."""
    client = await connect()

    answer = await client.request(
        f"{rig.root}.fail", headers={"Dspex-Request": "r1"}, timeout=5
    )

    assert answer.headers["Nats-Service-Error-Code"] == "400"
    assert answer.headers["Nats-Service-Error"] == "bad_request: Not like that."
    said = json.loads(answer.data)
    assert (said["type"], said["request"]) == ("failed", "r1")
    assert (said["code"], said["category"]) == ("bad_request", "caller")
    assert (said["field"], said["hint"]) == ("inputs.x", "Like this.")


async def test_an_exception_is_kept_in(rig: Rig, connect: Connect) -> None:
    """Nothing of an unexpected exception goes over the wire."""
    client, events = await connect(), Heard()
    await client.subscribe(f"{rig.root}.v1.event.>", events)

    answer = await client.request(f"{rig.root}.break", timeout=5)
    await events.count(1)

    assert answer.headers["Nats-Service-Error-Code"] == "500"
    for message in [answer, *events.messages]:
        said = message.data.decode() + str(dict(message.headers))
        assert '"code":"internal"' in said
        assert SECRET not in said
        assert "RuntimeError" not in said


async def test_stop_answers_what_is_in_hand(rig: Rig, connect: Connect) -> None:
    """Ten requests in flight when a service stops get ten answers."""
    client = await connect()
    asked = [
        asyncio.ensure_future(client.request(f"{rig.root}.wait", b"%d" % number))
        for number in range(10)
    ]
    await eventually(lambda: rig.waiting == 10)

    stopping = asyncio.ensure_future(rig.service.stop(grace=10))
    await client.flush()
    rig.let_go.set()
    await stopping

    answers = await asyncio.gather(*asked)
    assert [one.data for one in answers] == [b"%d" % number for number in range(10)]


async def test_stop_takes_nothing_new(rig: Rig, connect: Connect) -> None:
    """A stopped service is nobody, also to its control subjects."""
    client = await connect()

    await rig.service.stop()

    for subject in (f"{rig.root}.echo", f"$SRV.PING.{rig.info.name}"):
        with pytest.raises(NoResponders):
            await client.request(subject, timeout=5)


async def test_stop_twice(rig: Rig) -> None:
    """Stopping twice is harmless."""
    await rig.service.stop()
    await rig.service.stop()

    assert rig.waiting == 0


async def test_stop_without_end(rig: Rig, connect: Connect) -> None:
    """What does not end within the grace is cancelled."""
    client = await connect()
    await client.publish(f"{rig.root}.wait")
    await eventually(lambda: rig.waiting == 1)

    async with asyncio.timeout(5):
        await rig.service.stop(grace=0.05)

    stats = rig.service._stats()["endpoints"]
    assert [one["num_requests"] for one in stats if one["name"] == "wait"] == [1]


async def test_backlog(connect: Connect, subjects: Subjects) -> None:
    """Beyond its backlog a service refuses, with a time to come again."""
    rig, client = Rig(await connect(), subjects, backlog=3), await connect()
    await rig.service.start()
    for _ in range(3):
        await client.publish(f"{rig.root}.wait")
    await eventually(lambda: rig.waiting == 3)

    answer = await client.request(f"{rig.root}.echo", timeout=5)

    said = json.loads(answer.data)
    assert (said["code"], said["retry_after_ms"]) == ("overloaded", 1000)
    assert answer.headers["Nats-Service-Error-Code"] == "503"
    stats = (await rig.ask(client, "STATS"))["endpoints"]
    [refused] = [one for one in stats if one["name"] == "echo"]
    assert (refused["num_requests"], refused["num_errors"]) == (1, 1)
    assert refused["last_error"] == "overloaded"
    rig.let_go.set()
    await rig.service.stop()


async def test_queue_groups(connect: Connect, subjects: Subjects) -> None:
    """Of two instances in one queue group, each request gets one answer."""
    handled: list[str] = []

    def service(bus: Bus, name: str) -> Service:
        async def handler(message: Message) -> None:
            handled.append(name)
            await bus.publish(message.reply, name.encode())

        endpoint = Endpoint(
            name="q", subject=f"{subjects.prefix}.q", handler=handler, queue="q"
        )
        return Service(
            bus, subjects, ServiceInfo(name=name, version="1.0.0"), [endpoint]
        )

    client = await connect()
    for name in ("one", "two"):
        await service(await connect(), name).start()

    for _ in range(40):
        await client.request(f"{subjects.prefix}.q", timeout=5)

    assert len(handled) == 40
    assert set(handled) == {"one", "two"}


async def test_cancels_pass_a_full_backlog(
    connect: Connect, subjects: Subjects
) -> None:
    """What has no queue group is heard however much is in hand."""
    bus, client = await connect(), await connect()
    heard, let_go = asyncio.Event(), asyncio.Event()

    async def wait(message: Message) -> None:
        await let_go.wait()

    async def cancel(message: Message) -> None:
        heard.set()

    root = subjects.prefix
    endpoints = [
        Endpoint(name="run", subject=f"{root}.run", handler=wait, queue="q"),
        Endpoint(name="cancel", subject=f"{root}.cancel", handler=cancel),
    ]
    info = ServiceInfo(name="full", version="1.0.0")
    service = Service(bus, subjects, info, endpoints, backlog=1)
    await service.start()

    for subject in ("run", "run", "cancel"):
        await client.publish(f"{root}.{subject}")

    await asyncio.wait_for(heard.wait(), 5)
    let_go.set()
    await service.stop()


async def test_cancels_are_heard_while_it_stops(
    connect: Connect, subjects: Subjects
) -> None:
    """A service that stops takes no request, and hears to the end who cancels one."""
    bus, client = await connect(), await connect()
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def wait(message: Message) -> None:
        begun.set()
        await let_go.wait()

    async def cancel(message: Message) -> None:
        let_go.set()

    root = subjects.prefix
    info = ServiceInfo(name="stopping", version="1.0.0")
    endpoints = [
        Endpoint(name="run", subject=f"{root}.run", handler=wait),
        Endpoint(
            name="cancel", subject=f"{root}.cancel", handler=cancel, to_the_end=True
        ),
    ]
    service = Service(bus, subjects, info, endpoints)
    await service.start()
    await client.publish(f"{root}.run")
    await asyncio.wait_for(begun.wait(), 5)

    stopping = asyncio.ensure_future(service.stop(grace=60))
    await eventually(lambda: not service._taking)
    with pytest.raises(NoResponders):
        await client.request(f"{root}.run", timeout=5)
    await client.publish(f"{root}.cancel")

    async with asyncio.timeout(5):
        await stopping
