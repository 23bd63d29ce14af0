"""Functions that others offer on subjects, called by programs over NATS."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, chat
from tests.support.programs import act, answering, react

from dspex.client import tools
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def script(model: ScriptedModel, *steps: str) -> None:
    """Let the agent take these steps, then answer."""
    for text in (*steps, act("finish"), chat(reasoning="So.", answer="Yes")):
        model.reply_with(text, times=1)


async def test_agent_with_two_python_tools(
    client: Client, model: ScriptedModel
) -> None:
    """An agent solves a task of three steps with functions of the client's."""

    def rain(city: str) -> dict[str, Any]:
        """Millimetres of rain in a city."""
        return {"city": city, "mm": 12}

    async def double(number: int) -> int:
        """Twice a number."""
        return 2 * number

    script(model, act("rain", city="Bergen"), act("double", number=12))

    async with tools.serve(client, rain) as first, tools.serve(client, double) as last:
        found = await client.call("react", react(first, last))

    assert found.answer == "Yes"
    assert found.trajectory["observation_0"] == {"city": "Bergen", "mm": 12}
    assert found.trajectory["observation_1"] == 24
    assert found.trajectory["tool_name_2"] == "finish"
    assert found.metadata.usage is not None
    assert found.metadata.usage.calls == 4


async def test_calls_are_events(
    asker: Asker, client: Client, model: ScriptedModel
) -> None:
    """A stream tells each call and what came of it, then the answer as it grows."""

    def rain(city: str) -> int:
        return len(city)

    script(model, act("rain", city="Bergen"), act("rain", town="Bergen"))

    async with tools.serve(client, rain) as tool:
        events = await asker.stream("react", react(tool))

    [call] = events.of("tool_call")
    [result] = events.of("tool_result")
    assert (call["tool"], call["arguments"]) == ("rain", {"city": "Bergen"})
    assert (result["call"], result["result"], result["error"]) == (1, 6, "")
    # What does not fit the schema is told to the model, and never sent.
    trajectory = events.last["outputs"]["trajectory"]
    assert "The arguments do not fit" in trajectory["observation_1"]
    assert events.text("answer") == "Yes"
    assert events.text("reasoning") == "So."
    seqs = [one["seq"] for one in events.all if one["attempt"] == 1]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_deadline_and_trace_reach_the_tool(
    asker: Asker, bus: NatsBus, stack: Stack, model: ScriptedModel
) -> None:
    """A tool learns the request's id, its deadline and its trace."""
    seen: list[Message] = []
    subject = stack.subjects.tool(f"seen-{uuid4().hex[:8]}")

    async def answer(message: Message) -> None:
        seen.append(message)
        await bus.publish(message.reply, b'"ok"')

    subscription = await answering(bus, subject, answer)
    script(model, act("look"))
    tool = {"name": "look", "subject": subject, "timeout_s": 5}

    trace: dict[str, Any] = {"traceparent": TRACE, "tracestate": "vendor=1"}
    found = await asker.ask("react", react(tool), dspex_request="r7", **trace)

    await subscription.unsubscribe()
    assert found.code == "done"
    headers = seen[0].headers
    assert headers["Dspex-Request"] == "r7"
    assert headers["traceparent"].split("-")[1] == TRACE.split("-")[1]
    assert headers["tracestate"] == "vendor=1"
    assert float(headers["Dspex-Deadline"]) > 0
    assert json.loads(seen[0].data) == {}


ERROR = {"Nats-Service-Error-Code": "503", "Nats-Service-Error": "out of order"}
BAD: dict[str, tuple[bytes | None, dict[str, str], str]] = {
    "error-headers": (b"", ERROR, "503 out of order"),
    "no-json": (b"{", {}, "cannot be read"),
    "too-long": (b'"' + b"x" * 300_000 + b'"', {}, "at most 262144 are taken"),
    "silent": (None, {}, "No answer came from"),
}


@pytest.mark.parametrize("name", BAD)
async def test_failures_are_observations(
    asker: Asker, bus: NatsBus, stack: Stack, model: ScriptedModel, name: str
) -> None:
    """What goes wrong with a tool is told to the agent, which goes on."""
    reply, headers, said = BAD[name]
    subject = stack.subjects.tool(f"bad-{uuid4().hex[:8]}")

    async def answer(message: Message) -> None:
        if reply is not None:
            await bus.publish(message.reply, reply, headers=headers)

    subscription = await answering(bus, subject, answer)
    script(model, act("bad"))
    tool = {"name": "bad", "subject": subject, "timeout_s": 0.5}

    found = await asker.ask("react", react(tool))

    await subscription.unsubscribe()
    observation = found.body["outputs"]["trajectory"]["observation_0"]
    assert observation.startswith("Execution error in bad: ")
    assert said in observation
    assert "Traceback" not in observation


async def test_nobody_offers_it(
    asker: Asker, stack: Stack, model: ScriptedModel
) -> None:
    """A tool that is gone is an observation at once."""
    script(model, act("gone"))
    tool = {"name": "gone", "subject": stack.subjects.tool("gone")}

    found = await asker.ask("react", react(tool))

    observation = found.body["outputs"]["trajectory"]["observation_0"]
    assert "Nobody listens on" in observation


@pytest.mark.parametrize(
    "subject",
    [
        "$JS.API.STREAM.DELETE.x",
        "dspex.v1.call.predict",
        "{prefix}.v1.call.predict",
        "{prefix}.v1.tenant.acme.tool.x",
        "_INBOX.a.b",
    ],
)
async def test_only_tools_can_be_called(
    asker: Asker, stack: Stack, model: ScriptedModel, subject: str
) -> None:
    """A subject that is no tool of the tenant's is refused, and no model is asked."""
    tool = {"name": "bad", "subject": subject.format(prefix=stack.prefix)}

    found = await asker.ask("react", react(tool))

    assert found.code in ("forbidden", "bad_request")
    assert found.body["field"] == "tools[0].subject"
    assert not model.requests


async def test_a_tenant_has_tools_of_its_own(
    stack: Stack, bus: NatsBus, model: ScriptedModel
) -> None:
    """A tenant's program calls that tenant's tools, and no others."""
    acme = Subjects(stack.prefix, "acme")
    subject = acme.tool("own")

    async def answer(message: Message) -> None:
        await bus.publish(message.reply, b"1")

    subscription = await answering(bus, subject, answer)
    script(model, act("own"))
    body = react({"name": "own", "subject": subject})

    ours = await Asker(bus, acme).ask("react", body)
    others = await Asker(bus, Subjects(stack.prefix)).ask("react", body)

    await subscription.unsubscribe()
    assert ours.body["outputs"]["trajectory"]["observation_0"] == 1
    assert others.code == "forbidden"


async def test_cancel_stops_the_agent(
    asker: Asker, bus: NatsBus, stack: Stack, model: ScriptedModel
) -> None:
    """A request that is cancelled while a tool works ends at once."""
    called = asyncio.Event()
    subject = stack.subjects.tool(f"slow-{uuid4().hex[:8]}")

    async def answer(message: Message) -> None:
        called.set()

    subscription = await answering(bus, subject, answer)
    script(model, act("slow"))
    body = react({"name": "slow", "subject": subject})

    asking = asyncio.ensure_future(asker.ask("react", body, dspex_request="c-1"))
    await called.wait()
    await bus.publish(stack.subjects.cancel("c-1"))
    found = await asking

    await subscription.unsubscribe()
    assert found.code == "cancelled"
    assert len(model.requests) == 1


async def test_tools_are_discovered(client: Client, asker: Asker) -> None:
    """``tool.list`` tells what is offered now, with schema and subject."""

    def rain(city: str, days: int = 1) -> int:
        """Millimetres of rain."""
        return len(city) * days

    async with tools.serve(client, rain, shared=True) as tool:
        offered = await asker.ask("tool.list", {"wait_s": 0.5})
    later = await asker.ask("tool.list", {"wait_s": 0.3})

    [found] = [one for one in offered.body["outputs"]["tools"] if one["name"] == "rain"]
    assert found["subject"] == tool["subject"]
    assert found["description"] == "Millimetres of rain."
    assert found["schema"]["properties"]["city"] == {"type": "string"}
    assert found["schema"]["required"] == ["city"]
    assert found["instances"] == 1
    assert not [one for one in later.body["outputs"]["tools"] if one["name"] == "rain"]


async def test_a_tool_that_raises_answers(client: Client) -> None:
    """A function that raises answers with the error headers of NATS services."""

    def broken(number: int) -> int:
        raise ValueError(f"not {number}")

    async with tools.serve(client, broken) as tool:
        raised = await client.bus.request(tool["subject"], b'{"number": 3}')
        misfit = await client.bus.request(tool["subject"], b'{"number": "3"}')

    assert raised.headers["Nats-Service-Error-Code"] == "500"
    assert raised.headers["Nats-Service-Error"] == "ValueError: not 3"
    assert misfit.headers["Nats-Service-Error-Code"] == "400"
    assert "number" in misfit.headers["Nats-Service-Error"]
