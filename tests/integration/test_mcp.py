"""Tools of MCP servers, named by programs and called by workers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support import mcp_http, mcp_server
from tests.support.asking import Asker, chat
from tests.support.programs import act, react
from tests.support.stack import READY_WITHIN, Program, Stack, worker_environ

from dspex.bus.connection import BusSettings, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus

pytest.importorskip("mcp", reason="the extra dspex[mcp] is not installed")
pytestmark = [pytest.mark.nats, pytest.mark.dspy]

TOKEN = "token-not-a-secret"
CONFIGURATION = """
[mcp.files]
command = {python}
args = [{server}, {notes}]
env = {{ NAMED = "yes" }}
tools = ["read", "number.add", "fail", "crash", "environ"]

[mcp.slow]
command = {python}
args = [{server}, "/dev/null"]
tools = ["sleep"]
timeout_s = 1.0

[mcp.elsewhere]
url = {url}
token_env = "TOKEN_OF_ELSEWHERE"

[mcp.nowhere]
command = "/nowhere/at-all"
start_s = 1.0
"""


@pytest.fixture(scope="module", name="notes")
def _notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mcp") / "notes"


@pytest.fixture(scope="module", name="served")
async def _served() -> AsyncIterator[str]:
    """The address of an MCP server over HTTP, made with the protocol's own package."""
    async with mcp_http.serving(TOKEN) as url:
        yield url


@pytest.fixture(scope="module", name="holding")
async def _holding(
    nats_url: str,
    scripted: ScriptedModel,
    notes: Path,
    served: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stack]:
    """A router, a state program, and one worker with MCP servers."""
    folder = tmp_path_factory.mktemp("holding")
    config = folder / "dspex.toml"
    values = {"python": sys.executable, "server": mcp_server.__file__, "notes": notes}
    values["url"] = served
    quoted = {name: f"'{value}'" for name, value in values.items()}
    config.write_text(CONFIGURATION.format(**quoted))
    environ = worker_environ(scripted.url) | {"DSPEX_CONFIG": str(config)}
    environ |= {"SECRET_OF_THE_WORKER": "x", "TOKEN_OF_ELSEWHERE": TOKEN}
    prefix = f"m{uuid4().hex[:8]}"
    bus = await connect(BusSettings(url=nats_url, name="test-mcp"))
    async with Stack(nats_url, folder, prefix, environ) as stack:
        await stack.start(Program("dspex.router"), Program("dspex.services.state"))
        await stack.start(Program("dspex.services.worker", "--pool", "light"))
        await stack.ready(workers=1, native=0, state=1)
        async with asyncio.timeout(READY_WITHIN):
            while "number_add" not in await listed(Asker(bus, stack.subjects)):
                pass
        await bus.close()
        yield stack


async def listed(ask: Asker) -> dict[str, Any]:
    """The tools under a stack's prefix, by name; asking takes a moment."""
    found = await ask.ask("tool.list", {"wait_s": 0.5})
    return {
        one["name"]: one
        for one in found.body["outputs"]["tools"]
        if one["subject"].startswith(f"{ask.subjects.prefix}.")
    }


@pytest.fixture(name="ask")
async def _ask(holding: Stack, bus: NatsBus) -> Asker:
    return Asker(bus, holding.subjects)


def script(model: ScriptedModel, *steps: str) -> None:
    for text in (*steps, act("finish"), chat(reasoning="So.", answer="Yes")):
        model.reply_with(text, times=1)


def named(*tools: str) -> dict[str, Any]:
    return react(*(f"mcp:files/{one}" for one in tools))


def starts(notes: Path) -> list[str]:
    return [one for one in notes.read_text().splitlines() if "started" in one]


async def test_an_agent_uses_them(ask: Asker, model: ScriptedModel) -> None:
    """An agent calls tools by their names; texts and objects are what they answer."""
    script(model, act("read", path="a.txt"), act("number_add", a=2, b=3))

    events = await ask.stream("react", named("read", "number_add"))

    trajectory = events.last["outputs"]["trajectory"]
    assert trajectory["observation_0"] == "the file a.txt"
    assert trajectory["observation_1"] == {"sum": 5}
    assert [one["tool"] for one in events.of("tool_call")] == ["read", "number_add"]
    # The model is told what the server says of its tools.
    assert "Reads a file." in model.requests[0].text("system")


async def test_over_http(ask: Asker, model: ScriptedModel) -> None:
    """A server that runs elsewhere is asked over HTTP, with its token."""
    script(model, act("shout", text="bergen"))

    found = await ask.ask("react", react("mcp:elsewhere/shout"))

    trajectory = found.body["outputs"]["trajectory"]
    assert trajectory["observation_0"] == {"result": "BERGEN"}


async def test_failures_are_observations(ask: Asker, model: ScriptedModel) -> None:
    """The agent is told of what fails, is too slow, or gets the wrong arguments."""
    script(model, act("fail"), act("sleep"), act("read", path=3))

    asked = react("mcp:files/fail", "mcp:slow/sleep", "mcp:files/read")
    found = await ask.ask("react", asked)

    trajectory = found.body["outputs"]["trajectory"]
    assert "not today" in trajectory["observation_0"]
    assert "within" in trajectory["observation_1"]
    assert "The arguments do not fit" in trajectory["observation_2"]


async def test_a_server_that_ends_is_started_again(
    ask: Asker, model: ScriptedModel, notes: Path
) -> None:
    """What ends a server is an observation; the next call finds a new one."""
    before = len(starts(notes))
    script(model, act("crash"), act("read", path="b.txt"))

    found = await ask.ask("react", named("crash", "read"))

    trajectory = found.body["outputs"]["trajectory"]
    assert trajectory["observation_0"].startswith("Execution error in crash: ")
    assert "Traceback" not in trajectory["observation_0"]
    assert trajectory["observation_1"] == "the file b.txt"
    assert len(starts(notes)) == before + 1


async def test_one_that_was_killed_is_noticed(
    ask: Asker, model: ScriptedModel, notes: Path
) -> None:
    """A server that ends while nobody calls it is started again as well."""
    pid = int(starts(notes)[-1].split()[1])
    os.kill(pid, signal.SIGKILL)
    script(model, act("read", path="c.txt"), act("read", path="d.txt"))

    found = await ask.ask("react", named("read"))

    trajectory = found.body["outputs"]["trajectory"]
    # The first call may have reached the one that was just ending.
    assert trajectory["observation_1"] == "the file d.txt"
    assert int(starts(notes)[-1].split()[1]) != pid


async def test_a_stored_program_names_them(ask: Asker, model: ScriptedModel) -> None:
    """A stored program names tools, says so, and runs with them."""
    specification = {
        "module": "react",
        "signature": "question -> answer",
        "tools": ["mcp:files/read"],
    }
    put = {"name": "reader", "specification": specification}
    assert (await ask.ask("program.put", put)).code == "done"
    script(model, act("read", path="e.txt"))

    described = await ask.ask("program.describe", {"program": "reader"})
    body = {"program": "reader", "inputs": {"question": "What is in it?"}}
    found = await ask.ask("run", body)

    assert described.body["outputs"]["tools"] == ["mcp:files/read"]
    assert described.body["outputs"]["needs"] == ["mcp:files"]
    trajectory = found.body["outputs"]["trajectory"]
    assert trajectory["observation_0"] == "the file e.txt"


async def test_they_are_listed(ask: Asker) -> None:
    """``tool.list`` says how programs name them; only those that may be called."""
    tools = await listed(ask)

    assert tools["number_add"]["mcp"] == "mcp:files/number_add"
    assert tools["number_add"]["schema"]["required"] == ["a", "b"]
    assert "secret" not in tools


BAD: dict[str, tuple[Any, str, str]] = {
    "server": ("mcp:else/read", "not_found", "tools[0]"),
    "tool": ("mcp:files/nothing", "not_found", "tools[0]"),
    "not-allowed": ("mcp:files/secret", "not_found", "tools[0]"),
    "down": ("mcp:nowhere/read", "tool_failed", "tools[0]"),
    "command": ({"command": "/bin/sh"}, "bad_request", "tools[0].command"),
    "url": ("mcp:http://127.0.0.1/read", "bad_request", "tools[0]"),
    "subject": (
        {"name": "read", "subject": "{prefix}.v1.mcp.files.read"},
        "forbidden",
        "tools[0].subject",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_only_what_is_configured(
    ask: Asker, holding: Stack, model: ScriptedModel, name: str
) -> None:
    """What the settings do not name is refused by its path, and nothing is started."""
    tool, code, field = BAD[name]
    if isinstance(tool, dict) and "subject" in tool:
        tool = tool | {"subject": tool["subject"].format(prefix=holding.prefix)}

    found = await ask.ask("react", react(tool))

    assert (found.code, found.body["field"]) == (code, field)
    assert not model.requests


async def test_it_has_variables_of_its_own(ask: Asker, model: ScriptedModel) -> None:
    """A server gets the variables of its section, and none of the worker's."""
    script(model, act("environ"))

    found = await ask.ask("react", named("environ"))

    names = found.body["outputs"]["trajectory"]["observation_0"].split(",")
    assert {"NAMED", "PATH"} <= set(names)
    assert not [one for one in names if "SECRET" in one or "DSPEX" in one]


async def test_they_end_with_the_worker(holding: Stack, notes: Path) -> None:
    """When the worker is told to stop, its servers end."""
    pid = int(starts(notes)[-1].split()[1])
    worker = holding.programs[-1]

    await worker.stop()

    assert worker.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
