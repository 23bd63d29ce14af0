"""Streams that go on after their reader, the router or the connection was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, chat, question
from tests.support.fault_proxy import FaultProxy
from tests.support.stack import Program

from dspex.bus.connection import BusSettings, connect
from dspex.client import Client
from dspex.contracts.envelope import Delta, DoneEvent, Event
from dspex.contracts.failures import LmUnavailable, NotFound

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

STORY = " ".join(f"word{number}" for number in range(400))
STAYS = question() | {"options": {"on_disconnect": "continue"}}


def slow(model: ScriptedModel) -> None:
    """A story that takes a while to be told."""
    model.reply_with(chat(answer=STORY))
    model.chunk, model.chunk_delay = 20, 0.005


def known(events: list[Event]) -> list[tuple[int, int]]:
    return [(event.attempt, event.seq) for event in events]


def check_whole(events: list[Event]) -> None:
    """The text is the whole, every event came once, and the end once."""
    told = known(events)
    assert len(set(told)) == len(told)
    newest = max(event.attempt for event in events)
    numbers = sorted(event.seq for event in events if event.attempt == newest)
    assert numbers == list(range(1, len(numbers) + 1))
    text = [e.text for e in events if isinstance(e, Delta) and e.attempt == newest]
    assert "".join(text) == STORY
    assert len([event for event in events if isinstance(event, DoneEvent)]) == 1
    assert isinstance(events[-1], DoneEvent)


async def some(client: Client, body: dict[str, Any], deltas: int) -> list[Event]:
    """The first events of a stream, whose reader then leaves."""
    found: list[Event] = []
    events = client.stream("predict", body)
    async for event in events:
        found.append(event)
        if sum(isinstance(one, Delta) for one in found) == deltas:
            break
    await events.aclose()
    return found


@pytest.mark.parametrize("tenant", ["default", "acme"])
async def test_a_reader_that_left_comes_back(
    stack: Stack, bus: NatsBus, model: ScriptedModel, tenant: str
) -> None:
    """Behind the last event come all others, first those of the past, then live."""
    slow(model)
    client = Client(bus, stack.subjects.of(tenant))
    before = await some(client, STAYS, 3)
    request, last = before[-1].request, before[-1]

    after = [
        event
        async for event in client.resume(request, attempt=last.attempt, after=last.seq)
    ]

    check_whole(before + after)
    assert len([event for event in after if isinstance(event, Delta)]) > 3


async def test_a_whole_stream_again(client: Client, model: ScriptedModel) -> None:
    """A stream that is over can be had again from its beginning, or from its middle."""
    model.reply_with(chat(answer=STORY))
    first = [event async for event in client.stream("predict", STAYS)]

    again = [event async for event in client.resume(first[0].request)]
    rest = [event async for event in client.resume(first[0].request, after=2)]

    assert again == first
    check_whole(again)
    assert known(rest) == [(1, n) for n in range(3, len(first) - 1)]


async def test_a_stream_begins_behind_an_event(
    client: Client, model: ScriptedModel
) -> None:
    """``stream(…, after=…)`` goes on with a request instead of asking anew."""
    client = client.with_options(request="behind-1")
    first = [event async for event in client.stream("predict", question())]

    rest = [event async for event in client.stream("predict", question(), after=2)]

    assert [(one.attempt, one.seq) for one in rest] == [
        (one.attempt, one.seq) for one in first if one.attempt and one.seq > 2
    ]
    assert len(model.requests) == 1


async def test_events_are_resumed_too(asker: Asker, model: ScriptedModel) -> None:
    """Who asks without a stream gets a page of events, and where to go on."""
    model.reply_with(chat(answer="one two"))
    await asker.ask("predict", question(), dspex_request="paged-1")

    first = await asker.ask("stream.resume", {"request": "paged-1"})
    outputs = first.body["outputs"]
    rest = await asker.ask(
        "stream.resume", {"request": "paged-1", "attempt": 1, "after": 1}
    )

    assert [one["kind"] for one in outputs["events"]] == [
        *("requested", "accepted", "started", "done")
    ]
    assert (outputs["attempt"], outputs["after"], outputs["ended"]) == (1, 2, True)
    assert [one["kind"] for one in rest.body["outputs"]["events"]] == ["done"]


async def test_a_failure_is_resumed(client: Client, model: ScriptedModel) -> None:
    """The one end of a request that failed is its failure, then too."""
    model.fail_with(500, times=50)
    once = client.with_options(request="failing-1", more={"idempotent": False})
    with pytest.raises(LmUnavailable):
        await once.predict("q -> a", q="x")

    with pytest.raises(LmUnavailable):
        async for _ in client.resume("failing-1"):
            pass


async def test_nothing_to_resume(client: Client, model: ScriptedModel) -> None:
    """What the journal does not have is not waited for."""
    with pytest.raises(NotFound, match="not in the journal"):
        async for _ in client.resume("never-asked"):
            pass


async def test_the_router_is_killed(own: Stack, model: ScriptedModel) -> None:
    """With its router killed in the middle, a stream is told on and can be resumed."""
    slow(model)
    router = Program("dspex.router")
    worker = Program("dspex.services.worker", "--pool", "light")
    await own.start(router, worker, Program("dspex.services.state"))
    await own.ready(workers=1, native=0, state=1)
    bus = await connect(BusSettings(url=own.url, name="reader"))
    client = Client(bus, own.subjects)
    before = await some(client, STAYS, 2)
    last = before[-1]

    await router.kill()
    await own.start(router.another())
    await own.ready(workers=1, native=0, state=1)
    after = [
        event
        async for event in client.resume(
            last.request, attempt=last.attempt, after=last.seq
        )
    ]

    check_whole(before + after)
    await bus.close()


async def test_the_connection_breaks(
    stack: Stack, nats_url: str, model: ScriptedModel
) -> None:
    """A client whose connection breaks goes on where it was, unasked."""
    slow(model)
    host, _, port = nats_url.removeprefix("nats://").partition(":")
    async with FaultProxy(host, int(port)) as proxy:
        bus = await connect(BusSettings(url=proxy.url, name="reader"))
        events: list[Event] = []
        async for event in Client(bus, stack.subjects).stream("predict", STAYS):
            events.append(event)
            if len(events) == 6:
                proxy.cut()
        await bus.close()

    check_whole(events)
    assert bus.reconnects == 1


async def test_a_large_end(client: Client, model: ScriptedModel) -> None:
    """An answer that had no room in an event is whole when it is resumed."""
    answer = "long " * 300_000 + "end"
    model.reply_with(chat(answer=answer))
    asked = client.with_options(request=uuid4().hex)

    await asked.predict("question -> answer", question="Why?")
    events = [event async for event in client.resume(asked.options.request)]

    assert isinstance(events[-1], DoneEvent)
    assert events[-1].outputs == {"answer": answer}
