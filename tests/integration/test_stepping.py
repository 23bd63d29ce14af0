"""A request walked call by call: what is seen, and what a change does."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, chat, question
from tests.support.commands import begin
from tests.support.journals import ended
from tests.support.programs import answering
from tests.support.walking import WITHIN, Walking

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(300)]

CHAIN = {
    "module": "chain",
    "steps": [
        {"program": {"module": "predict", "signature": "question -> summary"}},
        {"program": {"module": "predict", "signature": "summary -> answer"}},
    ],
}


EDITOR = """
import pathlib, sys
file = pathlib.Path(sys.argv[1])
text = file.read_text().replace("Rain.", "Snow.").replace("a coat", "a sledge")
file.write_text(text)
"""


@pytest.fixture(name="chain")
async def _chain(asker: Asker, model: ScriptedModel, bus: NatsBus, stack: Stack) -> str:
    """A recorded request of two calls."""
    model.reply_with(chat(summary="Rain."), times=1)
    model.reply_with(chat(answer="Take a coat."), times=1)
    run = {"program": CHAIN, "inputs": {"question": "What now?"}}
    name = f"chain-{uuid4().hex[:8]}"
    assert (await asker.ask("run", run, dspex_request=name)).code == "done"
    await ended(bus, stack, name)
    return name


def text(step: dict[str, Any]) -> str:
    return str(step["messages"][-1]["content"])


async def test_a_changed_reply_is_what_follows_from(
    chain: str, stack: Stack, model: ScriptedModel
) -> None:
    """The next prompt has the new reply, differs from the record, and says where."""
    asked = len(model.requests)
    async with Walking(stack, "--step", chain) as walk:
        first = await walk.line()
        second = await walk.tell(do="reply", text=chat(summary="Snow."))
        stuck = await walk.tell(do="next")
        end = await walk.tell(do="reply", text=chat(answer="Take a sledge."))

        assert await walk.status() == 0
    assert (first["step"], first["call"], first["found"]) == (1, 1, True)
    assert "What now?" in text(first)
    assert first["recorded"] == [chat(summary="Rain.")]
    assert (second["step"], second["call"]) == (2, 2)
    assert "found" not in second
    assert "Snow." in text(second)
    assert any(line.startswith("+") and "Snow." in line for line in second["diff"])
    assert second["recorded"] == [chat(answer="Take a coat.")]
    assert stuck["step"] == 2
    assert "no answer to this prompt" in stuck["problem"]
    assert end["walked"]["outputs"] == {"answer": "Take a sledge."}
    assert end["walked"]["replayed"]["status"] == "changed"
    assert len(model.requests) == asked


async def test_a_changed_prompt_of_a_turn_is_asked_for_real(
    asker: Asker, stack: Stack, model: ScriptedModel, bus: NatsBus
) -> None:
    """Its session is made again up to it; what is asked is the prompt as it is now."""
    name = f"walk-{uuid4().hex[:8]}"
    subject = stack.subjects.session_call(name, "predict")
    opening = {"session": name, "signature": "history: dspy.History, q -> answer"}
    await asker.ask("session.open", opening, dspex_request=f"{name}-open")
    for number in range(3):
        model.reply_with(chat(answer=f"Reply {number}."), times=1)
        turn = {"inputs": {"q": f"Turn {number}?"}}
        request = f"{name}-{number}"
        await asker.ask("", turn, subject=subject, dspex_request=request)
        await ended(bus, stack, request)
    model.reply_with(chat(answer="Another one."), times=1)

    async with Walking(stack, "live", "--step", f"{name}-1") as walk:
        before = [await walk.line(), await walk.line()]
        step = await walk.line()
        changed = [*step["messages"]]
        changed[-1] = changed[-1] | {"content": f"{text(step)}\nBe brief."}
        again = await walk.tell(do="prompt", messages=changed)
        answered = await walk.tell(do="next")
        end = await walk.line()

        assert await walk.status() == 0
    assert [one["before"]["request"] for one in before] == [f"{name}-open", f"{name}-0"]
    assert {one["before"]["status"] for one in before} == {"identical"}
    assert "Turn 0?" in str(step["messages"])
    assert "Turn 2?" not in str(step["messages"])
    assert step["found"]
    assert text(again).endswith("Be brief.")
    assert "+Be brief." in again["diff"]
    assert model.requests[-1].messages == changed
    assert answered["answered"] == {"call": 1, "outputs": [chat(answer="Another one.")]}
    assert end["walked"]["outputs"] == {"answer": "Another one."}


async def test_a_person_walks_with_keys(
    chain: str, stack: Stack, tmp_path: Path
) -> None:
    """Enter goes on with the record; p and r open an editor, where there is one."""
    script = tmp_path / "editor.py"
    script.write_text(EDITOR)
    terminal, end = pty.openpty()
    editor = {"VISUAL": f"{sys.executable} {script}"}
    process = await begin(
        stack, "replay", "--step", chain, stdin=end, environ=stack.environ | editor
    )
    os.close(end)
    os.write(terminal, b"\nx\np\nr\n")
    async with asyncio.timeout(WITHIN):
        out, err = await process.communicate()
    os.close(terminal)

    said = out.decode()
    assert process.returncode == 0, err.decode()
    assert "the record answers\n" + chat(summary="Rain.") in said
    assert "[[ ## summary ## ]]\nSnow.\n" in said
    assert "-Rain." in said
    assert "+Snow." in said
    assert "the end: changed" in said
    assert '"answer": "Take a sledge."' in said


async def test_without_an_editor_texts_are_typed(chain: str, stack: Stack) -> None:
    """Up to a line with a dot; what cannot be is said, and q leaves it there."""
    typed = ["", "p", "no role", ".", "p", "[user]", "Say hello.", ".", "", "q"]
    process = await begin(
        stack, "replay", "--step", chain, stdin=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WITHIN):
        out, err = await process.communicate("\n".join([*typed, ""]).encode())

    said = out.decode()
    assert process.returncode == 1, err.decode()
    assert "A prompt begins with a role" in said
    assert "[user]\nSay hello.\n" in said
    assert "The record has no answer to this prompt" in said
    assert said.endswith("stopped\n")


async def test_tools_are_walked_too_and_a_walk_can_be_left(
    asker: Asker, stack: Stack, model: ScriptedModel, bus: NatsBus
) -> None:
    """A tool is called again where it may be; then nothing is done after a stop."""
    looked: list[Message] = []

    async def look(message: Message) -> None:
        looked.append(message)
        await bus.publish(message.reply, b'"Here."')

    name = f"agent-{uuid4().hex[:8]}"
    tool = stack.subjects.tool(name)
    await answering(bus, tool, look)
    schema = {"type": "object"}
    body = question() | {"tools": [{"name": "look", "subject": tool, "schema": schema}]}
    for step in ("look", "finish"):
        said = {"next_thought": "Hm.", "next_tool_name": step, "next_tool_args": "{}"}
        model.reply_with(chat(**said), times=1)
    await asker.ask("react", body, dspex_request=name)
    await ended(bus, stack, name)

    async with Walking(stack, "--step", name, "--allow-tools") as walk:
        first = await walk.line()
        called = await walk.tell(do="next")
        answered = await walk.tell(do="ask")
        after = await walk.line()
        changed = await walk.tell(do="reply", text=after["recorded"][0])
        end = await walk.tell(do="stop")

        assert await walk.status() == 1
    assert first["call"] == 1
    assert (called["subject"], called["recorded"]) == (tool, "Here.")
    assert answered == {"answered": {"call": 0, "result": "Here."}}
    assert "Here." in str(after["messages"])
    assert after["found"]
    assert changed["step"] == 4
    assert end == {"walked": {}}
    assert len(looked) == 2
