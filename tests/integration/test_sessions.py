"""Sessions over the real programs: conversations that outlive the workers."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Answer, Asker, chat
from tests.support.stack import Program

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

WORKER = ("dspex.services.worker", "--pool", "light")
SIGNATURE = "history: dspy.History, question -> answer"


async def opened(ask: Asker, **given: Any) -> str:
    """Open a session and return its id."""
    body = {"session": uuid4().hex[:12], "signature": SIGNATURE} | given
    answer = await ask.ask("session.open", body)
    assert answer.code == "done", answer.body
    found: str = answer.body["outputs"]["session"]
    return found


async def turn(
    ask: Asker, session: str, question: str, operation: str = "predict", **sent: Any
) -> Answer:
    """Ask inside a session."""
    subject = ask.subjects.session_call(session, operation)
    body = sent.pop("body", {"inputs": {"question": question}})
    return await ask.ask(operation, body, subject=subject, **sent)


async def seen(ask: Asker, session: str) -> dict[str, Any]:
    """A session with its turns."""
    answer = await ask.ask("session.get", {"session": session})
    assert answer.code == "done", answer.body
    found: dict[str, Any] = answer.body["outputs"]
    return found


async def test_conversation(asker: Asker, model: ScriptedModel) -> None:
    """The turns of a session see those before them, as DSPy writes a history."""
    session = await opened(asker)
    answers = []
    for number in range(3):
        model.reply_with(chat(answer=f"answer-{number}"))
        answers.append(await turn(asker, session, f"question-{number}"))

    assert [one.code for one in answers] == ["done"] * 3, answers
    said = [one["content"] for one in model.requests[-1].body["messages"]]
    text = "\n".join(said)
    assert [text.count(f"question-{n}") for n in range(3)] == [1, 1, 1]
    assert "answer-0" in text
    assert "answer-1" in text
    found = await seen(asker, session)
    assert [one["inputs"] for one in found["turns"]] == [
        {"question": f"question-{n}"} for n in range(3)
    ]
    assert [one["outputs"] for one in found["turns"]] == [
        {"answer": f"answer-{n}"} for n in range(3)
    ]
