"""Sessions whose turns run a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.sessions import SIGNATURE, Conversations, numbered

if TYPE_CHECKING:
    from tests.support.asking import Asker
    from tests.support.scripted_model import ScriptedModel

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


@pytest.fixture(name="talk")
async def _talk(asker: Asker, model: ScriptedModel) -> Conversations:
    model.reply_with(numbered)
    return Conversations(asker)


def specification(instructions: str) -> dict[str, Any]:
    """A program of one module, with a signature that takes the conversation."""
    return {
        "module": "predict",
        "signature": SIGNATURE,
        "instructions": instructions,
    }


async def test_turns_run_the_program(talk: Conversations, model: ScriptedModel) -> None:
    """Turns run a stored program with the conversation, as it was at the opening."""
    name = f"p{uuid4().hex[:8]}"
    put = {"name": name, "specification": specification("Be brief.")}
    await talk.done("program.put", put)
    session = await talk.opened(signature=None, program=name)
    answers = [await talk.turn(session, "q0", operation="run")]
    await talk.done(
        "program.put", {"name": name, "specification": specification("Be long.")}
    )

    answers.append(await talk.turn(session, "q1", operation="run"))

    said = [one.body.get("outputs") for one in answers]
    assert said == [{"answer": "q0/0"}, {"answer": "q1/1"}]
    assert all("Be brief." in one.text("system") for one in model.requests)
    assert await talk.transcript(session) == [("q0", "q0/0"), ("q1", "q1/1")]


async def test_a_fork_has_the_program(talk: Conversations) -> None:
    """A fork runs what the session it comes from runs."""
    session = await talk.opened(signature=None, program=specification("Be brief."))
    await talk.turn(session, "q0", operation="run")

    forked = (await talk.done("session.fork", {"session": session}))["session"]

    answer = await talk.turn(forked, "q1", operation="run")
    assert answer.body["outputs"] == {"answer": "q1/1"}


@pytest.mark.parametrize(
    ("opened", "operation", "turn", "field"),
    [
        ({}, "run", {"inputs": {"question": "?"}}, "program"),
        ({"program": True}, "predict", {"inputs": {"question": "?"}}, "signature"),
        (
            {"program": True},
            "run",
            {"inputs": {"question": "?"}, "instructions": "No."},
            "instructions",
        ),
        ({"program": True}, "run", {"inputs": {"question": 3}}, "inputs.question"),
    ],
)
async def test_bad_turns(
    talk: Conversations, opened: dict[str, Any], operation: str, turn: Any, field: str
) -> None:
    """A turn that does not fit what the session runs is refused, and says why."""
    if opened:
        opened = {"program": specification("Be brief."), "signature": None}
    session = await talk.opened(**opened)

    answer = await talk.turn(session, "", operation=operation, body=turn)

    assert answer.body["category"] == "caller"
    assert answer.body["field"] == field


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"program": "nobody-has-this"}, "not_found", "name"),
        ({"program": {"module": "nonsense"}}, "bad_request", "program.module"),
        (
            {"program": specification("."), "signature": "a -> b"},
            "bad_request",
            "signature",
        ),
    ],
)
async def test_bad_openings(
    talk: Conversations, body: dict[str, Any], code: str, field: str
) -> None:
    """A program that is not there, or does not fit, is refused at the opening."""
    answer = await talk.ask.ask("session.open", body)

    assert (answer.code, answer.body["field"]) == (code, field)
