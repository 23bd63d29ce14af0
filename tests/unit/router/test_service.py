"""The router's door: what it lets in, what it tells, and what it refuses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.bus.hearing import eventually
from tests.unit.router.scene import (
    BODY,
    PATIENCE,
    Inbox,
    Question,
    Scene,
    beat_of,
    kind_of,
)

from dspex.bus.clock import now_ms
from dspex.bus.testing import MemoryBus
from dspex.contracts import encoding
from dspex.contracts.envelope import Done, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(name="scene")
async def _scene() -> AsyncIterator[Scene]:
    async with Scene() as scene:
        yield scene


def predict(signature: Any = "question -> answer", **inputs: Any) -> dict[str, Any]:
    return {"signature": signature, "inputs": inputs or {"question": "?"}}


async def test_what_the_worker_gets(scene: Scene) -> None:
    """The worker gets the body as it came, and the request's headers."""
    worker = await scene.worker("a")
    data = b'{ "signature":"question -> answer",  "inputs":{"question":"?"} }'
    deadline = f"{now_ms() + 60_000:.0f}"
    sent = {"Dspex-Deadline": deadline, "Dspex-Stream": "inbox"}
    question = await scene.ask(data, operation="chain_of_thought", headers=sent)

    run = await worker.runs.next()

    assert run.data == data
    assert run.headers["Dspex-Operation"] == "chain_of_thought"
    assert run.headers["Dspex-Request"] == question.name
    assert run.headers["Dspex-Deadline"] == deadline
    assert run.headers["Dspex-Stream"] == "inbox"
    assert run.headers["Dspex-Attempt"] == "1"
    assert float(run.headers["Dspex-Elapsed"]) >= 0
    assert "Dspex-Tenant" not in run.headers


async def test_events(scene: Scene) -> None:
    """The router tells what was asked and whom it chose, in order, without gaps."""
    worker = await scene.worker("a")
    question = await scene.ask()
    await worker.finish(await worker.runs.next())

    requested, accepted = await question.events("accepted")

    assert (requested.operation, requested.tenant) == ("predict", "default")
    assert requested.body == BODY
    assert accepted.decision.worker == "a"
    assert accepted.decision.candidates[0].score == 0.25
    assert [(one.attempt, one.seq) for one in (requested, accepted)] == [(0, 1), (0, 2)]
    assert accepted.at >= requested.at


async def test_request_without_an_id(scene: Scene) -> None:
    """A request that brings no id gets one, and the reply says it."""
    worker = await scene.worker("a")
    replies, call = await scene.bus.replies(), scene.subjects.call("predict")
    await scene.bus.publish(call, encoding.encode(BODY), reply=replies.subject)

    run = await worker.runs.next()
    await worker.finish(run)

    reply = encoding.decode((await replies.next(PATIENCE)).data, Reply)
    assert reply.request == run.headers["Dspex-Request"] != ""


async def test_tenant(scene: Scene) -> None:
    """A tenant's events go to its own subjects, and the worker knows whose they are."""
    worker = await scene.worker("a")
    others = Inbox()
    await scene.bus.subscribe(scene.subjects.event("*", "*"), others.put)
    question = await scene.ask(tenant="acme")

    run = await worker.runs.next()
    await worker.finish(run)

    requested, _ = await question.events("accepted")
    assert requested.tenant == "acme"
    assert run.headers["Dspex-Tenant"] == "acme"
    assert isinstance(await question.reply(), Done)
    assert len(others) == 0


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"{", {}),
        (BODY, {"Dspex-Stream": "nowhere"}),
        (BODY, {"Dspex-Deadline": "1"}),
    ],
)
async def test_failures_of_a_tenant(
    scene: Scene, body: Any, sent: dict[str, str]
) -> None:
    """A tenant's failures are told to it alone, even when its headers are wrong."""
    others = Inbox()
    await scene.bus.subscribe(scene.subjects.event("*", "*"), others.put)
    question = await scene.ask(body, tenant="acme", headers=sent)

    await question.reply()

    assert (await question.events("failed"))[-1].seq == 1
    assert len(others) == 0


async def test_router_headers_of_a_client(scene: Scene) -> None:
    """Headers that are between router and worker count for nothing from a client."""
    worker = await scene.worker("a")
    stray = Inbox()
    await scene.bus.subscribe("_INBOX.stray", stray.put)
    question = await scene.ask(
        headers={
            "Dspex-Reply": "_INBOX.stray",
            "Dspex-Attempt": "7",
            "Dspex-Tenant": "acme",
            "Dspex-Reason": "because",
            "Dspex-Operation": "signature.parse",
        }
    )

    run = await worker.runs.next()
    await worker.finish(run)

    assert run.headers["Dspex-Reply"] == question.replies.subject
    assert run.headers["Dspex-Attempt"] == "1"
    assert run.headers["Dspex-Reason"] == "only_candidate"
    assert run.headers["Dspex-Operation"] == "predict"
    assert "Dspex-Tenant" not in run.headers
    assert isinstance(await question.reply(), Done)
    assert len(stray) == 0


@pytest.mark.parametrize("reply", ["$JS.API.STREAM.DELETE.KV", "dspex.v1.call.predict"])
async def test_replies_that_are_no_inbox(scene: Scene, reply: str) -> None:
    """Nothing is ever sent to a reply subject that is no inbox."""
    worker = await scene.worker("a")
    aimed_at = Inbox()
    await scene.bus.subscribe(reply, aimed_at.put)
    events = Inbox()
    await scene.bus.subscribe(scene.subjects.event("r-1", "*"), events.put)

    await scene.bus.publish(
        scene.subjects.call("predict"),
        encoding.encode(BODY),
        headers={"Dspex-Request": "r-1", "Dspex-Stream": "inbox"},
        reply=reply,
    )

    told = encoding.decode((await events.next()).data, dict[str, Any])
    assert (told["kind"], told["code"]) == ("failed", "bad_request")
    assert "is not an inbox" in told["message"]
    assert len(worker.runs) == 0
    # What a client itself publishes on a call subject is the only thing there.
    asked_itself = reply == scene.subjects.call("predict")
    assert len(aimed_at) == (1 if asked_itself else 0)


async def test_without_a_reply_subject(scene: Scene) -> None:
    """A request nobody waits for is run all the same, and told in events."""
    worker = await scene.worker("a")

    await scene.bus.publish(scene.subjects.call("predict"), encoding.encode(BODY))

    run = await worker.runs.next()
    assert "Dspex-Reply" not in run.headers


async def test_messagepack(scene: Scene) -> None:
    """A MessagePack request goes on as it is; its event shows it as JSON."""
    worker = await scene.worker("a")
    data = encoding.encode(BODY, encoding.MSGPACK)
    question = await scene.ask(data, headers={"Content-Type": "application/msgpack"})

    run = await worker.runs.next()

    assert run.data == data
    assert run.headers["Content-Type"] == "application/msgpack"
    requested = await question.event()
    assert requested.body["inputs"] == BODY["inputs"]


async def test_failures_in_messagepack(scene: Scene) -> None:
    """Who asks in MessagePack is refused in MessagePack."""
    question = await scene.ask(b"\xc1", headers={"Content-Type": "application/msgpack"})

    message = await question.replies.next(PATIENCE)

    assert message.headers["Content-Type"] == "application/msgpack"
    reply = encoding.decode(message.data, Reply, encoding.MSGPACK)
    assert reply.code == "bad_request"


@pytest.mark.parametrize(
    ("body", "code", "field", "said"),
    [
        (b"{", "bad_request", None, "is not application/json"),
        (b"", "bad_request", None, "is not application/json"),
        (b"[]", "bad_request", None, "Expected `object`"),
        ({"inputs": {}}, "bad_request", None, "missing required field `signature`"),
        (predict() | {"lmm": "x"}, "bad_request", "lmm", "Did you mean 'lm'?"),
        (predict("question"), "invalid_signature", None, "->"),
        (predict("a, a -> b"), "invalid_signature", None, "a"),
        (predict("q -> a: os.system"), "invalid_signature", None, "os.system"),
        (predict("q: int -> a"), "invalid_inputs", "inputs.q", "inputs.q"),
        (predict("q: int -> a", q="x"), "invalid_inputs", "inputs.q", "int"),
        (predict("q -> a", q="x", z=1), "invalid_inputs", "inputs.z", "inputs.z"),
        (predict() | {"lm": "defualt"}, "bad_request", "lm", "'default'"),
    ],
)
async def test_bad_bodies(
    scene: Scene, body: Any, code: str, field: str | None, said: str
) -> None:
    """A bad body is refused with what is wrong, before any worker sees it."""
    worker = await scene.worker("a")

    reply = await (await scene.ask(body)).reply()

    assert (reply.code, reply.category, reply.retryable) == (code, "caller", False)
    assert field is None or reply.field == field
    assert said in reply.message
    assert reply.hint
    assert len(worker.runs) == 0


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"Content-Type": "text/plain"}, "Content-Type"),
        ({"Dspex-Stream": "inboxes"}, "Dspex-Stream"),
        ({"Dspex-Deadline": "tomorrow"}, "Dspex-Deadline"),
        ({"Dspex-Deadline": "99999999999999"}, "Dspex-Deadline"),
        ({"Dspex-Deadline": "nan"}, "Dspex-Deadline"),
        ({"Dspex-Request": "a.b"}, "Dspex-Request"),
        ({"Dspex-Route": "pol:light"}, "Dspex-Route"),
        ({"Dspex-Route": "pool:gpu"}, "Dspex-Route"),
        ({"dspex-route": "worker:zz"}, "Dspex-Route"),
    ],
)
async def test_bad_headers(scene: Scene, sent: dict[str, str], field: str) -> None:
    """A bad header is refused by its name."""
    worker = await scene.worker("a")

    reply = await (await scene.ask(headers=sent)).reply()

    assert reply.field == field
    assert reply.hint
    assert len(worker.runs) == 0


@pytest.mark.parametrize("name", ["predikt", "signature.pars", "x" * 300, "a.b.c.d"])
async def test_unknown_operation(scene: Scene, name: str) -> None:
    """An unknown operation is answered with those there are."""
    reply = await (await scene.ask(operation=name)).reply()

    assert reply.code == "unknown_operation"
    assert "Allowed: chain_of_thought, " in reply.message


async def test_failures_carry_the_service_error_headers(scene: Scene) -> None:
    """NATS tools see a failure by the headers of their own protocol."""
    question = await scene.ask(b"{")

    message = await question.replies.next(PATIENCE)

    assert message.headers["Nats-Service-Error-Code"] == "400"
    assert message.headers["Nats-Service-Error"].startswith("bad_request: ")


async def test_failures_of_a_stream(scene: Scene) -> None:
    """A stream that fails at the door gets its last event and its end."""
    question = await scene.ask(b"{", headers={"Dspex-Stream": "inbox"})

    last = await question.replies.next(PATIENCE)
    end = await question.replies.next(PATIENCE)

    assert msgspec.json.decode(last.data)["kind"] == "failed"
    assert end.is_end()


async def test_the_next_request_works(scene: Scene) -> None:
    """After anything bad the next request is answered as if nothing had been."""
    worker = await scene.worker("a")
    for body in (b"{", b"\xff\xfe", b"null", predict("x")):
        await (await scene.ask(body)).reply()

    question = await scene.ask()
    await worker.finish(await worker.runs.next())

    assert isinstance(await question.reply(), Done)


async def test_bad_heartbeats(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A heartbeat that cannot be read is logged and counts for nothing."""
    beat = encoding.encode(beat_of("a")).replace(b'"concurrency":4', b'"concurrency":0')
    for data in (b"{", beat):
        await scene.bus.publish(scene.subjects.heartbeat("light", "a"), data)
    await scene.bus.flush()

    assert len(scene.router.targets) == 0
    assert caplog.text.count("heartbeat not read") == 2


async def test_native_operations(scene: Scene) -> None:
    """A native operation goes to native-ops, over the same handshake."""
    await scene.worker("light-1")
    native = await scene.worker(
        "native-1",
        pool="native",
        implementation="native",
        operations=["signature.parse"],
        lms=[],
    )
    question = await scene.ask({"signature": "a -> b"}, operation="signature.parse")

    await native.finish(await native.runs.next())

    assert isinstance(await question.reply(), Done)


async def test_same_id_twice(scene: Scene) -> None:
    """Two requests under one id are both answered, and the router forgets both."""
    worker = await scene.worker("a")
    questions: list[Question] = [
        await scene.ask(headers={"Dspex-Request": "twice"}) for _ in range(2)
    ]

    for _ in questions:
        await worker.finish(await worker.runs.next())

    assert [kind_of(await one.event()) for one in questions] == ["requested"] * 2
    for question in questions:
        assert isinstance(await question.reply(), Done)


class BrokenBus(MemoryBus):
    """A bus with a defect: it breaks whoever publishes to a worker."""

    async def publish(self, subject: str, data: bytes = b"", **more: Any) -> None:
        if ".worker." in subject:
            raise RuntimeError("secret detail")
        await super().publish(subject, data, **more)


async def test_defects(caplog: pytest.LogCaptureFixture) -> None:
    """A defect is told as one, without details, which are in the log."""
    async with Scene(BrokenBus) as scene:
        await scene.worker("a")

        reply = await (await scene.ask()).reply()

    assert reply.code == "internal"
    assert "secret" not in reply.message + reply.hint
    assert "secret detail" in caplog.text


async def test_stop_with_a_request_in_hand() -> None:
    """A router told to stop at once answers what nobody has taken on."""
    async with Scene() as scene:
        worker = await scene.worker("a")
        question = await scene.ask()
        await worker.runs.next()

        await scene.router.stop(grace=0)

        reply = await question.reply()
        assert (reply.code, reply.retryable) == ("worker_lost", True)
        assert "router was stopped" in reply.message


async def test_stop_with_a_request_that_a_worker_has() -> None:
    """What a worker took on is answered by it, and by nobody else."""
    async with Scene() as scene:
        worker = await scene.worker("a")
        question = await scene.ask()
        run = await worker.runs.next()
        await worker.accept(run)
        await scene.until(lambda: scene.ticket(question).accepted)

        await scene.router.stop(grace=0)
        await worker.finish(run)

        assert (await question.reply()).outputs == {"answer": "!"}


async def test_new_routers_learn_who_is_there() -> None:
    """A new router asks everybody to beat, and takes requests once one has."""
    scene = Scene()
    asked = Inbox()
    await scene.bus.subscribe(scene.subjects.discover(), asked.put)
    async with scene:
        assert len(asked) <= 1
        assert (await asked.next()).subject == "dspex.v1.discover"


async def test_a_stalled_router_blames_nobody() -> None:
    """Silence while the router itself stood still says nothing of the workers."""
    async with Scene() as scene:
        await scene.worker("a")

        scene.seconds = 10.0
        until = time.perf_counter() + 0.2
        while time.perf_counter() < until:
            continue  # the event loop stands still
        await eventually(lambda: seen(scene, "a") == 10.0)

        scene.seconds = 14.0
        await eventually(lambda: seen(scene, "a") is None)


def seen(scene: Scene, worker: str) -> float | None:
    """When a worker was last heard; none once it counts as lost."""
    target = scene.router.targets.get(worker)
    return target.seen if target else None
