"""The Python client and its twin for notebooks, against the real programs."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.asking import chat, question
from tests.support.sessions import SIGNATURE, numbered

import dspex.client
import dspex.client.sync
from dspex.client import Session
from dspex.contracts.envelope import Accepted, Delta, DoneEvent
from dspex.contracts.failures import (
    BadRequest,
    BusUnavailable,
    DeadlineExceeded,
    InvalidInputs,
    LmRateLimit,
    NotFound,
)

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


async def test_outputs_are_attributes(client: Client, model: ScriptedModel) -> None:
    """An answer's outputs can be read by name, and a wrong name says which exist."""
    model.reply_with(chat(answer="Paris"))

    found = await client.predict("question -> answer", question="Capital?")

    assert found.answer == found["answer"] == "Paris"
    with pytest.raises(AttributeError, match="Outputs: answer"):
        _ = found.anwser


async def test_connect_by_environment(
    stack: Stack, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without arguments the environment says which server and prefix."""
    monkeypatch.setenv("DSPEX_NATS_URL", stack.url)
    monkeypatch.setenv("DSPEX_PREFIX", stack.prefix)

    async with dspex.client.connect() as client:
        found = await client.chain_of_thought("question -> answer", question="?")

    assert list(found.outputs) == ["reasoning", "answer"]


async def test_failures_are_typed(client: Client, model: ScriptedModel) -> None:
    """What the reply calls a code is an exception class here, with its facts."""
    model.fail_with(429, retry_after=3, times=1)

    once = client.with_options(more={"idempotent": False})
    with pytest.raises(LmRateLimit) as limited:
        await once.predict("q -> a", q="x")
    with pytest.raises(InvalidInputs, match=r"inputs\.q"):
        await client.predict("q -> a", p="x")

    assert limited.value.retry_after_ms == 3000
    assert limited.value.retryable


async def test_run(client: Client, model: ScriptedModel) -> None:
    """A program runs with its inputs by name, and with the options of the client."""
    model.reply_with(chat(answer="Oslo"), times=2)
    program = {"module": "predict", "signature": "question -> answer"}

    found = await client.with_options(lm="default").run(program, question="?")
    async with client.session(program=program) as chat_:
        turn = await chat_.run(question="?")

    assert (found.answer, turn.answer) == ("Oslo", "Oslo")


async def test_stream(client: Client, model: ScriptedModel) -> None:
    """Events come typed, the outputs last."""
    model.reply_with(chat(answer="one two"))

    events = [event async for event in client.stream("predict", question())]

    assert any(isinstance(event, Accepted) for event in events)
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text == "one two"
    assert isinstance(events[-1], DoneEvent)
    assert events[-1].outputs == {"answer": "one two"}


async def test_stream_raises_its_failure(client: Client, model: ScriptedModel) -> None:
    """A stream that fails raises what failed it."""
    with pytest.raises(BadRequest, match="signture"):
        async for _ in client.stream("predict", {"signture": "q -> a"}):
            pass


async def test_leaving_a_stream_stops_it(client: Client, model: ScriptedModel) -> None:
    """Breaking out of the loop ends the model's call."""
    model.reply_with(chat(answer="word " * 4000))
    model.chunk, model.chunk_delay = 5, 0.01
    events = client.stream("predict", question())

    async for event in events:
        if isinstance(event, Delta):
            break
    await events.aclose()

    await asyncio.wait_for(model.disconnected(1), 10)


async def test_timeout_is_a_deadline(client: Client, model: ScriptedModel) -> None:
    """The timeout travels as the deadline, so the failure says where time went."""
    model.hang()

    with pytest.raises(DeadlineExceeded, match="in the queue"):
        await client.with_options(timeout=2.0).predict("q -> a", q="x")


async def test_direct_to_a_pool(client: Client, model: ScriptedModel) -> None:
    """A pool can be asked without a router."""
    found = await client.with_options(pool="light").predict("q -> a", q="x")

    assert found.metadata.reason == "direct"


async def test_no_server() -> None:
    """A wrong address fails with the address and what to do."""
    settings = dspex.client.connect("nats://127.0.0.1:1", connect_timeout=0.3)

    with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:1") as caught:
        await settings.__aenter__()

    assert "dspex up" in caught.value.hint


async def test_sync_twin(stack: Stack, model: ScriptedModel) -> None:
    """The twin answers, streams and fails the same, while a loop already runs."""
    model.reply_with(chat(answer="one two"), times=2)

    def asked() -> tuple[str, str, str]:
        with dspex.client.sync.connect(stack.url, prefix=stack.prefix) as client:
            answer = client.predict("question -> answer", question="?").answer
            events = list(client.stream("predict", question()))
            text = "".join(e.text for e in events if isinstance(e, Delta))
            with pytest.raises(InvalidInputs) as caught:
                client.predict("q -> a")
            parsed = client.call("signature.parse", {"signature": "a -> b"})
            thought = client.chain_of_thought("a -> b", a="x")
            assert list(thought.outputs) == ["reasoning", "b"]
            program = {"module": "predict", "signature": "a -> b"}
            assert list(client.run(program, a="x").outputs) == ["b"]
            with client.session(program=program) as session:
                assert list(session.run(a="x").outputs) == ["b"]
            client.cancel("nothing")
            assert parsed.metadata.implementation == "native"
            return answer, text, caught.value.code

    assert await asyncio.to_thread(asked) == ("one two", "one two", "invalid_inputs")


async def test_options(client: Client, model: ScriptedModel) -> None:
    """Options go with every request of a client that has them, and with no other."""
    careful = client.with_options(
        instructions="Think twice.", config={"temperature": 0.5}, adapter="json"
    )
    model.reply_with('{"a": "x"}')

    await careful.predict("q -> a", q="x")

    sent = model.requests[-1].body
    assert sent["temperature"] == 0.5
    assert "Think twice." in model.requests[-1].text("system")
    assert client.options.instructions is None
    with pytest.raises(TypeError, match="timeoout"):
        client.with_options(timeoout=3)


async def test_interrupted_twin_ends_its_request(
    stack: Stack, model: ScriptedModel
) -> None:
    """Ctrl-C in a notebook's cell ends the request too, and raises what it raised."""
    model.hang()
    code = (
        # A shell that started the tests in the background has it ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import dspex.client.sync as d\n"
        f"with d.connect({stack.url!r}, prefix={stack.prefix!r}) as c:\n"
        "    body = {'signature': 'q -> a', 'inputs': {'q': 'x'}}\n"
        "    for event in c.stream('predict', body): print(event, flush=True)\n"
    )
    cell = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await asyncio.wait_for(model.received(1), 20)

    cell.send_signal(signal.SIGINT)
    _, said = await asyncio.wait_for(cell.communicate(), 10)

    assert said.decode().strip().splitlines()[-1] == "KeyboardInterrupt"
    await asyncio.wait_for(model.disconnected(1), 10)


async def test_session(client: Client, model: ScriptedModel) -> None:
    """A session is opened, asked, forked and closed with the client."""
    model.reply_with(numbered)
    async with client.session(SIGNATURE, values={"a": 1}) as chat:
        first = await chat.predict(question="q0")
        texts = [
            event.text
            async for event in chat.stream("predict", {"question": "q1"})
            if isinstance(event, Delta)
        ]
        await chat.set(b=2)
        fork = await chat.fork(after=1)
        other = await fork.predict(question="other")
        found = await Session(client, chat.id).get()
        await fork.close()

    assert first.answer == "q0/0"
    assert "".join(texts) == "q1/1"
    assert other.answer == "other/1"
    assert [turn.inputs["question"] for turn in found.turns] == ["q0", "q1"]
    assert found.values == {"a": 1, "b": 2}
    with pytest.raises(NotFound):
        await chat.predict(question="q2")


async def test_session_without_await(
    stack: Stack, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin for notebooks has sessions too."""
    model.reply_with(numbered)
    monkeypatch.setenv("DSPEX_PREFIX", stack.prefix)

    def converse() -> tuple[list[str], int]:
        with (
            dspex.client.sync.connect(stack.url) as client,
            client.session(SIGNATURE) as chat,
        ):
            answers = [chat.predict(question=f"q{number}").answer for number in (0, 1)]
            chat.set(a=1)
            fork = chat.fork(after=1)
            answers.append(fork.predict(question="other").answer)
            fork.close()
            return answers, chat.get().turn_count

    answers, turns = await asyncio.to_thread(converse)

    assert answers == ["q0/0", "q1/1", "other/1"]
    assert turns == 2
