"""Bodies too large for a message, over NATS: in, out, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest
from tests.support.asking import Asker, chat, question

import dspex.client.sync
from dspex.bus.provisioning import Names
from dspex.bus.stores import Blobs
from dspex.contracts.bodies import ACCEPT
from dspex.contracts.envelope import Delta, DoneEvent, Event
from dspex.contracts.headers import BODY
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

MIB = 1024 * 1024
LONG = "".join(f"Line {number} of a very long text.\n" for number in range(170_000))
"""More than 5 MiB."""
LARGE = LONG[: 5 * MIB]
ANSWER = LARGE.upper().strip()
ECHO: dict[str, Any] = {
    "signature": "text -> answer",
    "values": {"text": LARGE},
    "side": "inputs",
}
"""A ``signature.validate``, which answers with the values."""


def _store(bus: NatsBus, stack: Stack) -> Blobs:
    return Blobs(bus, Names(stack.prefix).blobs)


@pytest.fixture(name="large")
def _large(model: ScriptedModel) -> ScriptedModel:
    """A model that answers with 5 MiB."""
    model.reply_with(chat(answer=ANSWER))
    model.chunk = MIB // 32
    return model


async def test_both_ways(client: Client, large: ScriptedModel, bus: NatsBus) -> None:
    """5 MiB in and 5 MiB out; no message on the way is larger than the server takes."""
    run = client.subjects.worker_run("*")
    sent: list[Message] = []
    listening = await bus.subscribe(run, sent.append)

    found = await client.predict("question -> answer", question=LARGE)

    assert found.answer == ANSWER
    assert LARGE.strip()[-80:] in large.requests[0].text("user")
    assert [(one.data, one.headers[BODY].split(".")[0]) for one in sent] == [
        (b"", "default")
    ]
    await listening.unsubscribe()


async def test_a_stream(client: Client, large: ScriptedModel) -> None:
    """The deltas of a stream join to the answer, and its last event has it whole."""
    body = client.options.body("question -> answer", {"question": LARGE})

    events = [event async for event in client.stream("predict", body)]

    deltas = [event.text for event in events if isinstance(event, Delta)]
    assert "".join(deltas) == ANSWER
    assert isinstance(events[-1], DoneEvent)
    assert events[-1].outputs == {"answer": ANSWER}


async def test_who_watches(client: Client, large: ScriptedModel, bus: NatsBus) -> None:
    """Who watches events is told that the answer had no room in one."""
    heard: list[Message] = []
    done = client.subjects.event("*", "done")
    listening = await bus.subscribe(done, heard.append)

    await client.predict("question -> answer", question="Why?")
    await bus.flush()

    said = json.loads(heard[0].data)
    assert said["outputs"] == {}
    assert said["cut"]["bytes"] > 5 * MIB
    await listening.unsubscribe()


async def test_a_job(client: Client, large: ScriptedModel) -> None:
    """A job with a large body is done, and gives its large result."""
    body = client.options.body("question -> answer", {"question": LARGE})

    job = await client.submit("predict", body)

    assert (await job.result(60)).answer == ANSWER
    assert LARGE.strip()[-80:] in large.requests[0].text("user")


async def test_a_session(client: Client, large: ScriptedModel) -> None:
    """A turn may be large, and the next one sees it in the history."""
    signature = "history: dspy.History, question -> answer"
    async with client.session(signature) as chat_:
        first = await chat_.predict(question=LARGE)
        large.reply_with(chat(answer="Short."))
        second = await chat_.predict(question="And?")

    assert (first.answer, second.answer) == (ANSWER, "Short.")
    assert ANSWER[-80:] in large.requests[-1].text("assistant")


async def test_without_a_router(client: Client, large: ScriptedModel) -> None:
    """A worker of a pool takes and gives large bodies itself."""
    found = await client.with_options(pool="light").predict(
        "question -> answer", question=LARGE
    )

    assert found.answer == ANSWER


async def test_any_client(asker: Asker, bus: NatsBus, stack: Stack) -> None:
    """A body put by NATS's own object store is claimed on any subject, and so is a
    reply got."""
    store = await bus._client.jetstream().object_store(Names(stack.prefix).blobs)
    name = f"default.{uuid4().hex}"
    await store.put(name, json.dumps(ECHO).encode())

    for subject in (
        asker.subjects.native("signature.validate"),
        asker.subjects.call("signature.validate"),
    ):
        reply = await bus.request(subject, headers={BODY: name}, timeout=30)
        assert reply.data == b"{}"
        found = await store.get(reply.headers[BODY])
        assert found.data is not None
        assert json.loads(found.data)["outputs"]["values"] == ECHO["values"]


async def test_msgpack(bus: NatsBus, stack: Stack, asker: Asker) -> None:
    """A large body may be in any encoding; its reply has the same."""
    name = f"default.{uuid4().hex}"
    await _store(bus, stack).put(name, msgspec.msgpack.encode(ECHO))
    media = {"Content-Type": "application/msgpack"}

    reply = await bus.request(
        asker.subjects.call("signature.validate"),
        headers={BODY: name} | media,
        timeout=30,
    )

    assert reply.headers["Content-Type"] == media["Content-Type"]
    data = await _store(bus, stack).get(reply.headers[BODY])
    assert msgspec.msgpack.decode(data)["outputs"]["values"] == ECHO["values"]


async def test_the_sync_twin(stack: Stack, large: ScriptedModel) -> None:
    """The same without ``await``."""
    body = {"signature": "question -> answer", "inputs": {"question": LARGE}}

    def ask() -> tuple[str, Event]:
        with dspex.client.sync.connect(stack.url, prefix=stack.prefix) as client:
            found = client.predict("question -> answer", question=LARGE)
            *_, last = client.stream("predict", body)
            return found.answer, last

    answer, last = await asyncio.to_thread(ask)

    assert answer == ANSWER
    assert isinstance(last, DoneEvent)
    assert last.outputs == {"answer": ANSWER}


async def test_who_does_not_say_so(asker: Asker, model: ScriptedModel) -> None:
    """A client that does not read objects has its reply in the message while that
    fits; else it learns what to do."""
    model.reply_with(chat(answer=ANSWER[: MIB // 2]), times=1)
    fits = await asker.ask("predict", question())
    model.reply_with(chat(answer=ANSWER), times=1)
    refused = await asker.ask("predict", question())
    model.reply_with(chat(answer=ANSWER), times=1)
    model.chunk = MIB // 32
    stream = await asker.stream("predict", question())

    assert len(fits.body["outputs"]["answer"]) > MIB // 2 - 100
    for said in (refused.body, stream.last):
        assert said["code"] == "output_invalid"
        assert f"{BODY}: accept" in said["hint"]


async def test_small_replies_stay(asker: Asker, model: ScriptedModel) -> None:
    """A small reply is in its message, whatever the client reads."""
    model.reply_with(chat(answer="Short."))

    found = await asker.ask("predict", question(), dspex_body=ACCEPT)

    assert found.body["outputs"] == {"answer": "Short."}
    assert BODY.lower() not in found.headers


NAMED = "default.1b9d6bcd"
NOT_THERE = [
    ("default.never-stored", "not_found"),
    ("acme.1b9d6bcd", "forbidden"),
    ("../../etc/passwd", "bad_request"),
    ("default", "bad_request"),
    ("job.default.x.100", "bad_request"),
]


@pytest.mark.parametrize(("name", "code"), NOT_THERE)
async def test_what_is_not_there(asker: Asker, name: str, code: str) -> None:
    """A body that is not there, another tenant's or no body's name is refused."""
    found = await asker.ask("predict", b"", dspex_body=name)
    direct = await asker.ask(
        "predict", b"", subject=asker.subjects.pool_run("light"), dspex_body=name
    )

    for one in (found, direct):
        assert (one.code, one.body["field"]) == (code, BODY)
        assert one.body["hint"]


async def test_two_bodies(asker: Asker) -> None:
    """A body here and another elsewhere are one too many."""
    found = await asker.ask("predict", question(), dspex_body=NAMED)

    assert (found.code, found.body["field"]) == ("bad_request", BODY)


async def test_tenants(bus: NatsBus, stack: Stack) -> None:
    """A tenant claims its own bodies and no other's, and its replies are its own."""
    name = f"acme.{uuid4().hex}"
    await _store(bus, stack).put(name, json.dumps(ECHO).encode())
    acme = Asker(bus, Subjects(stack.prefix, "acme"))
    other = Asker(bus, Subjects(stack.prefix, "other"))

    call = acme.subjects.call("signature.validate")
    reply = await bus.request(call, headers={BODY: name}, timeout=30)
    refused = await other.ask("signature.validate", b"", dspex_body=name)

    assert reply.headers[BODY].startswith("acme.")
    assert refused.code == "forbidden"


FORGERIES: list[tuple[dict[str, Any], str]] = [
    ({"nuid": "*"}, "not what its description says"),
    ({"nuid": ">"}, "not what its description says"),
    ({"digest": "SHA-256=AAAA"}, "not what its description says"),
    ({"size": 10}, "not what its description says"),
    ({"size": 1 << 50}, "at most"),
    ({"chunks": 1 << 40}, "ended"),
    ({"deleted": True}, "no blob"),
    ({"size": "large"}, "size"),
]


@pytest.mark.parametrize(("forged", "said"), FORGERIES)
async def test_forgeries(
    asker: Asker, bus: NatsBus, stack: Stack, forged: dict[str, Any], said: str
) -> None:
    """A description that lies reads nothing else, takes no memory, and is refused."""
    store, name = _store(bus, stack), f"default.{uuid4().hex}"
    await store.put(name, os.urandom(4096))
    about = msgspec.to_builtins(await store.find(name)) | forged
    js = bus._client.jetstream()
    await js.publish(
        store._about(name), json.dumps(about).encode(), headers={"Nats-Rollup": "sub"}
    )

    found = await asker.ask("predict", b"", dspex_body=name)

    assert found.code in ("bad_request", "not_found")
    assert found.body["field"] == BODY
    assert said in found.body["message"]
