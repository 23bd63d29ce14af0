"""The life of a request in the process that answers it, alike on both buses."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.bus.answering import BODY, DONE, Rig, event, word
from tests.bus.hearing import Heard, eventually

from dspex.bus.audiences import Audience
from dspex.bus.core import connection_lost
from dspex.bus.events import Events
from dspex.bus.running import Outcome
from dspex.bus.testing import MemoryBus, MemoryServer
from dspex.contracts import encoding
from dspex.contracts.envelope import Delta, Event, Reply
from dspex.contracts.failures import BusUnavailable, OutputInvalid
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from tests.bus.conftest import Connect


@pytest.fixture(name="rig")
async def _rig(connect: Connect, subjects: Subjects) -> Rig:
    rig = Rig(await connect(), await connect(), subjects)
    await rig.start()
    return rig


async def test_handshake(rig: Rig) -> None:
    """A dispatched request: accepted to the router, the answer to the client."""
    words, answer = await rig.client.replies(), await rig.client.replies()

    await rig.dispatch(words, answer, request="r1", attempt="2", reason="because")

    accepted = await word(words)
    assert type(accepted).__name__ == "AcceptedWord"
    reply = encoding.decode((await answer.next(10)).data, Reply)
    assert reply.outputs == {"answer": "42"}
    assert (reply.metadata.attempts, reply.metadata.reason) == (2, "because")
    assert (reply.metadata.worker, reply.metadata.lm) == ("w1", "m")
    finished = await word(words)
    assert (finished.request, finished.code) == ("r1", "done")
    await rig.events.count(2)
    assert rig.kinds("r1") == ["started", "done"]


async def test_events_are_numbered(rig: Rig) -> None:
    """Events count from 1 without gaps within an attempt."""

    async def tells(events: Events) -> Outcome:
        for text in ("4", "2"):
            await events.emit(Delta, field="answer", text=text)
        return DONE

    rig.program = tells
    await rig.ask(request="r1")
    await rig.events.count(5)

    told = [encoding.decode(body, Event) for body in rig.events.bodies]
    assert [(one.attempt, one.seq) for one in told] == [(1, n) for n in range(1, 6)]
    assert rig.kinds("r1") == ["requested", "started", "delta", "delta", "done"]


async def test_busy(rig: Rig) -> None:
    """With its slots and places taken, a dispatch is told so and not run."""
    rig.program = rig.waits
    words, answer = await rig.client.replies(), await rig.client.replies()
    for request in ("r1", "r2"):
        await rig.dispatch(words, answer, request=request)
        assert type(await word(words)).__name__ == "AcceptedWord"
    await rig.begun.wait()
    await eventually(lambda: rig.slots.full)

    await rig.dispatch(words, answer, request="r3")

    busy = await word(words)
    assert (type(busy).__name__, busy.request, busy.queued) == ("BusyWord", "r3", 1)
    rig.let_go.set()


async def test_overloaded(rig: Rig) -> None:
    """With its slots and places taken, a direct request is refused."""
    rig.program = rig.waits
    asked = [asyncio.ensure_future(rig.ask()) for _ in range(2)]
    await eventually(lambda: rig.slots.full)

    reply = await rig.ask()

    assert (reply.code, reply.retry_after_ms) == ("overloaded", 1000)
    rig.let_go.set()
    assert [one.outputs for one in await asyncio.gather(*asked)] == [DONE.outputs] * 2
    assert (rig.slots.in_flight, rig.slots.queued) == (0, 0)


async def test_deadline(rig: Rig) -> None:
    """The failure of a request that takes too long comes before its deadline."""
    rig.program = rig.waits
    deadline = time.time() + 0.5

    reply = await rig.ask(deadline=str(int(deadline * 1000)))

    assert reply.code == "deadline_exceeded"
    assert time.time() < deadline
    await eventually(lambda: rig.slots.in_flight == 0)


async def test_past_deadline(rig: Rig) -> None:
    """A request that comes after its deadline is not run."""
    rig.program = rig.waits

    reply = await rig.ask(deadline="1000")

    assert (reply.code, reply.field) == ("deadline_exceeded", "Dspex-Deadline")
    assert not rig.begun.is_set()


async def test_a_timeout_of_the_program(rig: Rig) -> None:
    """A timeout that the program itself raises is not a missed deadline."""

    async def times_out(events: Events) -> Outcome:
        raise TimeoutError("a socket")

    rig.program = times_out

    assert (await rig.ask()).code == "internal"


@pytest.mark.parametrize("tenant", ["default", "acme"])
async def test_cancel(rig: Rig, tenant: str) -> None:
    """A cancelled request ends with its event and reply, and frees its slot."""
    rig.program = rig.waits
    words, answer = await rig.client.replies(), await rig.client.replies()
    await rig.client.subscribe(rig.subjects.of(tenant).events("r1"), rig.events)
    await rig.dispatch(words, answer, request="r1", tenant=tenant)
    await rig.begun.wait()

    await rig.client.publish(rig.subjects.of(tenant).cancel("r1"))

    reply = encoding.decode((await answer.next(10)).data, Reply)
    assert (reply.code, reply.category) == ("cancelled", "deadline")
    await word(words)
    assert (await word(words)).code == "cancelled"
    await rig.events.until(lambda: "cancelled" in rig.kinds("r1"))
    assert rig.slots.in_flight == 0


async def test_cancel_of_another_tenant(rig: Rig) -> None:
    """A tenant cannot stop another tenant's request of the same id."""
    rig.program = rig.waits
    asked = asyncio.ensure_future(rig.ask(request="r1"))
    await rig.begun.wait()

    await rig.client.publish(rig.subjects.of("evil").cancel("r1"))
    await rig.client.request(rig.subjects.pool_run("light"), b"{", timeout=5)
    rig.let_go.set()

    assert (await asked).outputs == DONE.outputs


async def test_stream(rig: Rig) -> None:
    """A stream to the inbox has all events and ends with an empty message."""
    async with await rig.client.replies(dedicated=True) as replies:
        await rig.send(
            rig.subjects.pool_run("light"),
            replies.subject,
            request="r1",
            stream="inbox",
        )

        assert [(await event(replies)).seq for _ in range(3)] == [1, 2, 3]
        assert (await replies.next(10)).is_end()


async def test_client_gone(rig: Rig) -> None:
    """Work for a client that stopped listening to its stream is cancelled."""
    ended = asyncio.Event()

    async def talks(events: Events) -> Outcome:
        try:
            while True:
                await events.emit(Delta, field="answer", text="x")
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    rig.program = talks
    replies = await rig.client.replies(dedicated=True)
    await rig.send(
        rig.subjects.pool_run("light"), replies.subject, request="r1", stream="inbox"
    )
    await event(replies)

    await replies.close()

    async with asyncio.timeout(5):
        await ended.wait()
    await rig.events.until(lambda: "cancelled" in rig.kinds("r1"))


async def test_keep_alive(rig: Rig) -> None:
    """A silent stream says from time to time that it is alive."""
    async with await rig.client.replies(dedicated=True) as replies:
        audience = Audience(
            subjects=rig.subjects, request="r1", reply=replies.subject, stream="inbox"
        )
        events = Events(rig.client, audience, keep_alive=0.1)
        watch = asyncio.ensure_future(events.watch(lambda: None))

        told = [await event(replies) for _ in range(2)]

        watch.cancel()
    assert [type(one).__name__ for one in told] == ["Status", "Status"]
    assert [one.seq for one in told] == [1, 2]


class Cut(MemoryBus):
    """A connection that may be gone."""

    is_gone = False

    async def publish(self, subject: str, *given: Any, **more: Any) -> None:
        if self.is_gone:
            raise connection_lost()
        await super().publish(subject, *given, **more)


async def test_a_sign_of_life_that_cannot_be_given() -> None:
    """A stream lives on once messages pass; its program hears of those that did not."""
    bus = Cut(MemoryServer())
    async with await bus.replies() as replies:
        audience = Audience(
            subjects=Subjects("t"), request="r1", reply=replies.subject, stream="inbox"
        )
        events = Events(bus, audience, keep_alive=0.05)
        watch = asyncio.ensure_future(events.watch(lambda: None))
        await events.emit(Delta, field="answer", text="told at once")
        bus.is_gone = True
        await events.emit(Delta, field="answer", text="held back")
        await eventually(lambda: events._trouble is not None)
        await asyncio.sleep(0)
        bus.is_gone = False

        kinds = [type(await event(replies)).__name__ for _ in range(2)]

        with pytest.raises(BusUnavailable):
            await events.emit(Delta, field="answer", text="more")
        watch.cancel()
    assert kinds == ["Delta", "Status"]


async def test_silence_finds_the_client_gone(rig: Rig) -> None:
    """A stream that is silent learns from its sign of life that nobody listens."""
    gone = asyncio.Event()
    audience = Audience(
        subjects=rig.subjects, request="r1", reply="_INBOX.nobody", stream="inbox"
    )
    events = Events(rig.client, audience, keep_alive=0.05)

    watch = asyncio.ensure_future(events.watch(gone.set))

    async with asyncio.timeout(5):
        await gone.wait()
        await watch


async def test_messagepack(rig: Rig) -> None:
    """A MessagePack request is answered in MessagePack, its events in JSON."""
    async with await rig.client.replies() as replies:
        await rig.client.publish(
            rig.subjects.pool_run("light"),
            encoding.encode(BODY, encoding.MSGPACK),
            headers={
                "content-type": encoding.MSGPACK,
                "dspex-operation": "predict",
                "dspex-request": "r1",
            },
            reply=replies.subject,
        )
        answer = await replies.next(10)

    assert answer.headers["Content-Type"] == encoding.MSGPACK
    reply = encoding.decode(answer.data, Reply, encoding.MSGPACK)
    assert reply.outputs == DONE.outputs
    await rig.events.count(3)
    assert [type(encoding.decode(b, Event)).__name__ for b in rig.events.bodies] == [
        "Requested",
        "Started",
        "DoneEvent",
    ]


async def test_accept(rig: Rig) -> None:
    """A request says in which encoding it wants its reply."""
    async with await rig.client.replies() as replies:
        body = BODY | {"options": {"accept": encoding.MSGPACK}}
        await rig.send(rig.subjects.pool_run("light"), replies.subject, body)
        answer = await replies.next(10)

    assert encoding.decode(answer.data, Reply, encoding.MSGPACK).outputs == DONE.outputs


async def test_outputs_too_large(rig: Rig) -> None:
    """Outputs that the server would not take become a typed failure."""

    async def much(events: Events) -> Outcome:
        return Outcome(outputs={"answer": "x" * (rig.client.max_payload)})

    rig.program = much
    reply = await rig.ask(request="r1")

    assert (reply.code, reply.metadata.worker) == (OutputInvalid.code, "w1")
    assert "1048576 at most" in reply.message
    await rig.events.count(3)
    assert rig.kinds("r1") == ["requested", "started", "failed"]
    assert encoding.decode(rig.events.bodies[1], Event).seq == 2


async def test_a_router_s_headers_on_a_direct_subject(rig: Rig) -> None:
    """Who sends directly cannot speak for a router: its headers are ignored."""
    trap = Heard()
    await rig.client.subscribe("_INBOX.trap", trap)
    await rig.client.flush()

    reply = await rig.ask(
        request="r1", reply="_INBOX.trap", attempt="7", tenant="acme", reason="x"
    )

    assert (reply.metadata.attempts, reply.metadata.reason) == (1, "direct")
    await rig.events.count(3)
    assert rig.kinds("r1") == ["requested", "started", "done"]
    assert trap.messages == []


@pytest.mark.parametrize("reply", ["$JS.API.STREAM.PURGE.X", "{root}.trap", "_INBOX"])
async def test_replies_go_to_inboxes_only(rig: Rig, reply: str) -> None:
    """No reply subject can aim our rights at the server's API or at a service."""
    trap, root = Heard(), rig.subjects.prefix
    await rig.client.subscribe(f"{root}.trap", trap)
    reply = reply.format(root=root)

    await rig.send(rig.subjects.pool_run("light"), reply, request="r1")
    answer = await rig.client.request(
        rig.subjects.worker_run("w1"),
        encoding.encode(BODY),
        headers={"Dspex-Operation": "predict", "Dspex-Reply": reply},
    )
    await rig.events.until(lambda: "failed" in rig.kinds("r1"))

    said = encoding.decode(rig.events.bodies[0], Event)
    assert said.code == "bad_request"
    assert "is not an inbox" in said.message
    assert b"bad_request" in answer.data
    assert trap.messages == []


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"operation": "predct"}, "unknown_operation"),
        ({"operation": "signature.parse"}, "unsupported"),
        ({"stream": "all"}, "bad_request"),
        ({"request": "a.b"}, "bad_request"),
        ({"deadline": "soon"}, "bad_request"),
    ],
)
async def test_bad_requests(rig: Rig, headers: dict[str, str], code: str) -> None:
    """What cannot be run is refused with its code, and takes no slot."""
    reply = await rig.ask(**headers)

    assert reply.code == code
    assert rig.slots.in_flight == 0


async def test_a_bad_dispatch(rig: Rig) -> None:
    """A dispatch that cannot be read is refused to the router, who tells the client."""
    words, answer = await rig.client.replies(), await rig.client.replies()

    await rig.dispatch(words, answer, request="r1", attempt="many")

    refused = await word(words)
    assert (refused.request, refused.failure.code) == ("r1", "bad_request")
    assert refused.failure.field == "Dspex-Attempt"


async def test_stopping(rig: Rig) -> None:
    """What does not end within the grace is failed as worker_lost."""
    rig.program = rig.waits
    asked = asyncio.ensure_future(rig.ask())
    await rig.begun.wait()

    await rig.service.stop(grace=0.05)

    reply = await asked
    assert (reply.code, reply.retryable) == ("worker_lost", True)
    assert rig.slots.in_flight == 0


async def test_memory(rig: Rig) -> None:
    """A program that runs out of memory fails its request, not the process."""

    async def hungry(events: Events) -> Outcome:
        raise MemoryError

    rig.program = hungry

    assert (await rig.ask()).code == "resource_memory"


async def test_a_stream_that_waits_is_watched(rig: Rig) -> None:
    """A client that leaves while its stream is queued gives its place back."""
    rig.program = rig.waits
    first = asyncio.ensure_future(rig.ask())
    await rig.begun.wait()
    async with await rig.client.replies(dedicated=True) as replies:
        subject = rig.subjects.pool_run("light")
        await rig.send(subject, replies.subject, request="q1", stream="inbox")
        await eventually(lambda: rig.slots.queued == 1)
        attempt = rig.answerer._in_hand["default", "q1"]
        attempt.events._keep_alive_after = 0.05

    await eventually(lambda: rig.slots.queued == 0)
    rig.let_go.set()
    assert (await first).outputs == DONE.outputs
