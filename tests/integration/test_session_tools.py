"""Agents in sessions, with tools that clients offer as long as a session lasts."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import chat
from tests.support.programs import act, answering
from tests.support.sessions import SIGNATURE, Conversations

from dspex.client.sync import connect

if TYPE_CHECKING:
    from tests.support.asking import Asker
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.core import Message
    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


@pytest.fixture(name="talk")
async def _talk(asker: Asker) -> Conversations:
    return Conversations(asker)


def script(model: ScriptedModel, tool: str, answer: str, **arguments: Any) -> None:
    """One turn: a call, the end, the answer."""
    for text in (
        act(tool, **arguments),
        act("finish"),
        chat(reasoning="So.", answer=answer),
    ):
        model.reply_with(text, times=1)


async def test_tools_of_a_session(client: Client, model: ScriptedModel) -> None:
    """Functions are offered while the session lasts, and every turn may call them."""
    heard: list[str] = []

    def rain(city: str) -> int:
        """Millimetres of rain in a city."""
        heard.append(city)
        return 12

    script(model, "rain", "Yes", city="Bergen")
    script(model, "rain", "No", city="Oslo")

    async with client.session(SIGNATURE, tools=[rain]) as chatting:
        first = await chatting.react(question="Umbrella in Bergen?")
        second = await chatting.react(question="And in Oslo?")
        [tool] = (await chatting.get()).settings.tools
        conversation = json.dumps(model.requests[3].messages)

    assert heard == ["Bergen", "Oslo"]
    assert [first.answer, second.answer] == ["Yes", "No"]
    assert second.trajectory["observation_0"] == 12
    # The agent sees what was asked and answered before, and not how.
    assert "Umbrella in Bergen?" in conversation
    assert "observation_0" not in conversation
    script(model, "rain", "Gone", city="Rome")
    later = await client.call(
        "react",
        {
            "signature": "question -> answer",
            "inputs": {"question": "And in Rome?"},
            "tools": [{"name": "rain", "subject": getattr(tool, "subject", "")}],
        },
    )
    assert "Nobody listens on" in later.trajectory["observation_0"]


async def test_without_asyncio(stack: Stack, model: ScriptedModel) -> None:
    """The twin for notebooks offers functions in the same way."""
    script(model, "double", "Four", number=2)

    def double(number: int) -> int:
        return 2 * number

    def talking() -> Any:
        with (
            connect(stack.url, prefix=stack.prefix) as client,
            client.session("question -> answer", tools=[double]) as chatting,
        ):
            return chatting.react(question="Twice two?")

    found = await asyncio.to_thread(talking)

    assert found.answer == "Four"
    assert found.trajectory["observation_0"] == 4


async def test_turns_and_forks(
    talk: Conversations, asker: Asker, model: ScriptedModel
) -> None:
    """A turn may bring tools of its own; a fork has those of the session."""

    async def answer(message: Message) -> None:
        await asker.bus.publish(message.reply, b'"seen"')

    subject = asker.subjects.tool(f"look-{uuid4().hex[:8]}")
    subscription = await answering(asker.bus, subject, answer)
    session = await talk.opened(tools=[{"name": "look", "subject": subject}])
    own = {"name": "peek", "subject": subject}
    body = {"inputs": {"question": "q0"}, "tools": [own], "max_iters": 3}
    script(model, "peek", "a0")
    first = await talk.turn(session, "", operation="react", body=body)
    forked = (await talk.done("session.fork", {"session": session}))["session"]
    script(model, "look", "a1")

    second = await talk.turn(forked, "q1", operation="react")

    await subscription.unsubscribe()
    said = [one.body["outputs"] for one in (first, second)]
    assert [one["trajectory"]["observation_0"] for one in said] == ["seen", "seen"]
    assert [one["answer"] for one in said] == ["a0", "a1"]
    assert await talk.transcript(forked) == [("q0", "a0"), ("q1", "a1")]


OPENINGS: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"tools": [{"name": "finish", "subject": "a.b"}]}, "tools[0].name"),
    "subject": ({"tools": [{"name": "t", "subject": "a.>"}]}, "tools[0].subject"),
    "program": (
        {
            "program": {"module": "predict", "signature": "question -> answer"},
            "signature": None,
            "tools": [{"name": "t", "subject": "a.b"}],
        },
        "tools",
    ),
}


@pytest.mark.parametrize("name", OPENINGS)
async def test_bad_openings(asker: Asker, name: str) -> None:
    """Tools that no turn could call are refused at the opening."""
    body, field = OPENINGS[name]

    found = await asker.ask("session.open", {"signature": SIGNATURE} | body)

    assert (found.code, found.body["field"]) == ("bad_request", field)


TURNS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "tools": ("predict", {"tools": []}, "bad_request", "tools"),
    "demos": ("react", {"demos": []}, "bad_request", "demos"),
    "subject": (
        "react",
        {"tools": [{"name": "t", "subject": "acme.t"}]},
        "forbidden",
        "tools[0].subject",
    ),
}


@pytest.mark.parametrize("name", TURNS)
async def test_bad_turns(talk: Conversations, model: ScriptedModel, name: str) -> None:
    """A turn that brings what it may not is refused by name, and nobody is asked."""
    operation, more, code, field = TURNS[name]
    session = await talk.opened()
    body = {"inputs": {"question": "?"}} | more

    found = await talk.turn(session, "", operation=operation, body=body)

    assert (found.code, found.body["field"]) == (code, field)
    assert not model.requests
