"""Tools in a language that is not ours: an agent uses one in Python and one in Node."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import node_client
from tests.support.asking import chat

from dspex.client import tools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


def act(tool: str, **arguments: Any) -> str:
    return chat(
        next_thought="So.",
        next_tool_name=tool,
        next_tool_args=json.dumps(arguments),
    )


def script(model: ScriptedModel, *steps: str) -> None:
    for text in (*steps, act("finish"), chat(reasoning="So.", answer="Yes")):
        model.reply_with(text, times=1)


async def test_example_offers_a_tool(
    stack: Stack, model: ScriptedModel, tmp_path: Path
) -> None:
    """The example prints what the agent did with its function, and the answer."""
    script(model, act("rain", city="Bergen"), act("rain", city="Oslo"))
    environ = {"DSPEX_NATS_URL": stack.url, "DSPEX_PREFIX": stack.prefix}

    said = await node_client.run(
        node_client.EXAMPLE / "tool.mjs", folder=tmp_path, environ=environ
    )

    assert said.splitlines() == [
        'rain {"city":"Bergen"} -> {"city":"Bergen","mm":12}',
        'rain {"city":"Oslo"} -> {"city":"Oslo","mm":8}',
        'finish {} -> "Completed."',
        "answer: Yes",
    ]


@asynccontextmanager
async def offering(
    script: str, subject: str, stack: Stack, folder: Path
) -> AsyncIterator[None]:
    """A process of Node that answers on a subject while the block lasts."""
    (folder / "node_modules").symlink_to(node_client.node_modules())
    copy = shutil.copy(node_client.SCRIPT.parent / script, folder)
    environ = {"DSPEX_NATS_URL": stack.url, "TOOL_SUBJECT": subject}
    node = await asyncio.create_subprocess_exec(
        "node",
        copy,
        env=os.environ | environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert node.stdin is not None
    assert node.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await node.stdout.readline() == b"ready\n"
        yield
    finally:
        node.stdin.close()
        await node.wait()


async def test_one_agent_two_languages(
    client: Client, stack: Stack, model: ScriptedModel, tmp_path: Path
) -> None:
    """A task of three steps: a tool in Node, one in Python on its result, the end."""

    def umbrella(mm: int) -> str:
        """Whether so much rain needs an umbrella."""
        return "yes" if mm > 3 else "no"

    script(model, act("rain", city="Bergen"), act("umbrella", mm=12))
    subject = stack.subjects.tool("rain-in-node")

    async with offering("tool.mjs", subject, stack, tmp_path):
        rain = {"name": "rain", "subject": subject}
        async with tools.serve(client, umbrella) as tool:
            found = await client.call(
                "react",
                {
                    "signature": "question -> answer",
                    "inputs": {"question": "Umbrella in Bergen?"},
                    "tools": [rain, tool],
                },
            )

    assert found.trajectory["observation_0"] == {"city": "Bergen", "mm": 12}
    assert found.trajectory["observation_1"] == "yes"
    assert found.trajectory["tool_name_2"] == "finish"
    assert found.answer == "Yes"


async def test_a_metric_and_a_reward(
    client: Client, stack: Stack, model: ScriptedModel, tmp_path: Path
) -> None:
    """A function in Node scores examples, and chooses the best of several answers."""
    subject = stack.subjects.tool("score-in-node")
    predict = {"module": "predict", "signature": "question, expected -> answer"}
    rows = [
        {"question": "Capital of Norway?", "expected": "", "answer": "Oslo"},
        {"question": "Capital of Italy?", "expected": "", "answer": "Rome"},
    ]
    best = {
        "module": "best_of_n",
        "program": predict,
        "attempts": 3,
        "threshold": 1.0,
        "reward": {"subject": subject},
    }

    async with offering("score.mjs", subject, stack, tmp_path):
        model.reply_with(chat(answer="Oslo"), times=2)
        evaluated = await client.call(
            "program.evaluate",
            {"program": predict, "dataset": rows, "metric": {"subject": subject}},
        )
        for said in ("Bonn", "Paris"):
            model.reply_with(chat(answer=said), times=1)
        inputs = {"question": "Capital of France?", "expected": "Paris"}
        chosen = await client.call("run", {"program": best, "inputs": inputs})

    assert evaluated.scores == [1, 0]
    assert chosen.answer == "Paris"
