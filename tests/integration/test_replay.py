"""Replays: yesterday's requests again, with nothing but the journal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, chat, question
from tests.support.commands import begin
from tests.support.programs import answering
from tests.support.releases import INSTALLED, python_of
from tests.support.scripted_model import ScriptedModel
from tests.support.stack import Program, Stack, worker_environ

from dspex.bus.durable import api
from dspex.bus.journal import Entry, Reader
from dspex.bus.provisioning import Names
from dspex.contracts.envelope import DoneEvent, FailedEvent, Requested
from dspex.contracts.records import LmCall
from dspex.contracts.replays import own

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

SIGNATURE = "question -> answer"
CHAIN = {
    "module": "chain",
    "steps": [
        {"program": {"module": "predict", "signature": "question -> summary"}},
        {"program": {"module": "predict", "signature": "summary -> answer"}},
    ],
}
SHORT, LONG = 5, 38
"""Rounds of the mixed run: 37 requests, 202 requests."""
ROUNDS = LONG if os.environ.get("DSPEX_CHAOS") == "full" else SHORT
FAILURES = 5
RECORDED_WITH = (INSTALLED, "3.0.4")
OLDER = {
    # It asked again in another format when a provider had failed.
    "recovers": ("changed", "code"),
    # It asked for JSON objects, where the newer one knows that the model has none.
    "no field": ("diverged", "parameters.response_format"),
    # Its prompts did not ask for the fields again in the turns of then.
    "turn 2": ("diverged", "messages[1].content"),
    "turn 3": ("diverged", "messages[1].content"),
}
"""How 3.0.4 differs from the installed release: requests, and what is found."""


@pytest.fixture(name="gone")
async def _gone() -> AsyncIterator[ScriptedModel]:
    """A model server that a test stops."""
    async with ScriptedModel() as model:
        yield model


@pytest.fixture(name="recorded")
async def _recorded(
    nats_url: str, gone: ScriptedModel, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Stack]:
    """A stack of this test's own, whose model is one that stops.

    Its worker has the release of DSPy that the test names as the fixture's parameter.
    """
    release = getattr(request, "param", INSTALLED)
    python = python_of(release)
    environ = worker_environ(gone.url) | {"DSPEX_ROUTER_RETRIES": "1"}
    prefix = f"r{uuid4().hex[:8]}"
    async with Stack(nats_url, tmp_path / "own", prefix, environ) as stack:
        names = ("router", "native", "services.state")
        await stack.start(*(Program(f"dspex.{name}") for name in names))
        worker = ("dspex.services.worker", "--pool", "light")
        await stack.start(Program(*worker, python=python))
        await stack.ready(workers=1, state=1)
        yield stack


async def replay(
    stack: Stack, *words: str, seconds: float = 120
) -> tuple[int | None, dict[str, Any], Any, str]:
    """Exit status, lines by request, summary, and what standard error said.

    The command knows no language model, key or address, unless it is to call one.
    """
    live = words[0] == "live"
    known = {k: v for k, v in stack.environ.items() if live or "_LMS_" not in k}
    if live:
        named = {k: v for k, v in known.items() if "_LMS_DEFAULT_" in k}
        known |= {k.replace("DEFAULT", "OTHER"): v for k, v in named.items()}
        known["DSPEX_LMS_OTHER_MODEL"] = "openai/another"
    process = await begin(stack, "replay", *words, "--json", environ=known)
    async with asyncio.timeout(seconds):
        out, err = await process.communicate()
    lines = [json.loads(line) for line in out.decode().splitlines()]
    assert lines, err.decode()
    assert "summary" in lines[-1], (lines, err.decode())
    by_request = {line["request"]: line for line in lines[:-1]}
    return process.returncode, by_request, lines[-1]["summary"], err.decode()


async def kept(bus: NatsBus, stack: Stack, *requests: str) -> list[Entry]:
    """All that the journal has, once it has the end of each of these."""
    reader = Reader(bus, stack.subjects)
    async with asyncio.timeout(30):
        while True:
            found = [one async for one in reader.entries() if isinstance(one, Entry)]
            jobs = {
                one.said.request
                for one in found
                if isinstance(one.said, Requested)
                and one.said.operation == "job.submit"
            }
            ended = {
                one.said.request
                for one in found
                if isinstance(one.said, DoneEvent | FailedEvent)
                and (own([one.said]) or one.said.request not in jobs)
            }
            if {*requests} <= ended:
                return found


class Mixed:
    """Sends a bit of everything."""

    def __init__(self, stack: Stack, model: ScriptedModel, bus: NatsBus) -> None:
        self.sent: list[str] = []
        self.called: dict[str, str] = {}
        self.looked: list[str] = []
        self._stack = stack
        self._model = model
        self._bus = bus
        self._ask = Asker(bus, stack.subjects)

    async def ordinary(self, rounds: int) -> None:
        ask, model = self._ask, self._model
        for number in range(rounds):
            asked = question(question=f"What is {number}?")
            model.reply_with(chat(answer=f"It is {number}."), times=1)
            await ask.ask("predict", asked, dspex_request=self._new())
            model.reply_with(chat(reasoning="Hm.", answer=f"{number}!"), times=1)
            await ask.ask("chain_of_thought", asked, dspex_request=self._new())
            model.reply_with(chat(answer=f"One two {number}.", n="3"), times=1)
            many = question("question -> answer, n: int", question="Count.")
            await ask.stream("predict", many, dspex_request=self._new())
            body = {"signature": f"q{number} -> a"}
            await ask.ask("signature.parse", body, dspex_request=self._new())
            job = {"operation": "predict", "body": question(question=f"Job {number}?")}
            await ask.ask("job.submit", job, dspex_request=self._new())

    async def failures(self) -> None:
        """Five of the provider, the program and the caller, and one that recovers."""
        ask, model = self._ask, self._model
        model.fail_with(500, times=1)
        await ask.ask("predict", question(), dspex_request=self._new("recovers"))
        model.fail_with(500)
        await ask.ask("predict", question(), dspex_request=self._new())
        model.fail_with(400, code="context_length_exceeded")
        await ask.ask("predict", question(), dspex_request=self._new())
        model.reply_with("no field at all")
        number = question("question -> n: int")
        await ask.ask("predict", number, dspex_request=self._new("no field"))
        model.reset()
        empty = {"signature": SIGNATURE, "inputs": {}}
        await ask.ask("predict", empty, dspex_request=self._new())
        wrong = {"signature": "->"}
        await ask.ask("signature.parse", wrong, dspex_request=self._new())

    async def session(self) -> None:
        subject = self._stack.subjects.session_call("chat", "predict")
        body = {"signature": "history: dspy.History, question -> answer"}
        body |= {"session": "chat"}
        await self._ask.ask("session.open", body, dspex_request=self._new())
        for number, text in enumerate(("Who?", "When?", "Why?"), 1):
            self._model.reply_with(chat(answer=f"{text}!"), times=1)
            turn = {"inputs": {"question": text}}
            name = self._new(f"turn {number}")
            await self._ask.ask("", turn, subject=subject, dspex_request=name)

    async def others(self) -> None:
        """A stored program, and an agent with a tool."""
        stored = {"name": "two", "specification": CHAIN}
        await self._ask.ask("program.put", stored, dspex_request="stored")
        run = {"program": "two", "inputs": {"question": "Why?"}}
        await self._ask.ask("run", run, dspex_request=self._new())
        tool = self._stack.subjects.tool("look")
        await answering(self._bus, tool, self._look)
        agent = {
            "signature": SIGNATURE,
            "inputs": {"question": "Where?"},
            "tools": [{"name": "look", "subject": tool, "schema": {"type": "object"}}],
        }
        for step in ("look", "finish"):
            said = {"next_thought": "Hm.", "next_tool_name": step}
            said["next_tool_args"] = "{}"
            self._model.reply_with(chat(**said), times=1)
        await self._ask.ask("react", agent, dspex_request=self._new())

    def _new(self, called: str = "") -> str:
        self.sent.append(f"mix-{len(self.sent)}")
        if called:
            self.called[self.sent[-1]] = called
        return self.sent[-1]

    async def _look(self, message: Message) -> None:
        self.looked.append("look")
        await self._bus.publish(message.reply, b'"Here."')


@pytest.mark.timeout(900)
@pytest.mark.parametrize("recorded", RECORDED_WITH, indirect=True)
async def test_a_mixed_run_is_identical_without_its_model(
    recorded: Stack,
    gone: ScriptedModel,
    bus: NatsBus,
    request: pytest.FixtureRequest,
) -> None:
    """All of it again; of an older release, all but what DSPy does otherwise now."""
    run = Mixed(recorded, gone, bus)
    looked, sent = run.looked, run.sent
    await run.ordinary(ROUNDS)
    await kept(bus, recorded, *sent)  # jobs too, before the model fails
    await run.failures()
    await run.session()
    await run.others()
    entries = await kept(bus, recorded, *sent)
    failed = {e.said.request for e in entries if isinstance(e.said, FailedEvent)}
    assert len(failed) == FAILURES
    assert looked == ["look"]
    calls = len(gone.requests)
    await gone.__aexit__(None, None, None)

    status, lines, summary, _ = await replay(recorded, "exact", seconds=600)

    differing = {
        run.called.get(name, name): (one["status"], one["first_difference"]["path"])
        for name, one in lines.items()
        if one["status"] != "identical"
    }
    older = request.node.callspec.params["recorded"] != INSTALLED
    assert differing == (OLDER if older else {})
    assert set(lines) == set(sent)
    assert summary["identical"] == len(sent) - len(differing)
    assert status == int(older)
    for name, called in run.called.items():
        if older and called in ("turn 2", "turn 3"):  # with the history of then
            diff = lines[name]["first_difference"]["diff"][2:]
            assert not [one for one in diff if one.startswith("-")]
    assert len(gone.requests) == calls
    assert looked == ["look"]
    info = await api(bus, "STREAM.NAMES")
    assert not [one for one in info["streams"] or () if one.startswith("REPLAY")]


async def test_a_changed_instruction_is_found(
    stack: Stack, asker: Asker, model: ScriptedModel, bus: NatsBus
) -> None:
    """``diff`` names the requests that ask otherwise now, and where they do."""
    brief, polite = names("brief", "polite")
    one = {"module": "predict", "signature": SIGNATURE, "instructions": "Be brief."}
    other = {"module": "predict", "signature": SIGNATURE, "instructions": "Be polite."}
    for name, specification in ((brief, one), (polite, other)):
        body = {"name": name, "specification": specification}
        assert (await asker.ask("program.put", body)).code == "done"
        run = {"program": name, "inputs": {"question": "Why?"}}
        assert (await asker.ask("run", run, dspex_request=name)).code == "done"
    changed = one | {"instructions": "Be very brief."}
    await asker.ask("program.put", {"name": brief, "specification": changed})
    await kept(bus, stack, brief, polite)
    asked = len(model.requests)
    these = ("--request", brief, polite)

    prefix = f"kept{uuid4().hex[:8]}"

    was, before, _, _ = await replay(stack, "exact", *these, "--into", prefix)
    looked = await look(stack, prefix, before[brief]["replayed_as"])
    await remove(bus, prefix)
    status, lines, summary, _ = await replay(
        stack, "diff", *these, "--metric", "exact_match"
    )

    assert (was, {one["status"] for one in before.values()}) == (0, {"identical"})
    assert "Be brief." in looked
    assert status == 1
    assert {name: one["status"] for name, one in lines.items()} == {
        brief: "diverged",
        polite: "identical",
    }
    difference = lines[brief]["first_difference"]
    assert (difference["call"], difference["path"]) == (1, "messages[0].content")
    text = "\n".join(difference["diff"])
    assert "Be very brief." in text
    assert summary == {"replayed": 2, "diverged": 1, "identical": 1, "score": 1.0}
    assert len(model.requests) == asked


async def test_what_is_missing_is_reported_and_passed_over(
    recorded: Stack, gone: ScriptedModel, bus: NatsBus
) -> None:
    """A record that is gone, and one that cannot be read, stop nobody else."""
    ask = Asker(bus, recorded.subjects)
    for name in ("whole", "callless", "unasked"):
        assert (await ask.ask("predict", question(), dspex_request=name)).code == "done"
    stream = Names(recorded.prefix).journal
    for entry in await kept(bus, recorded, "whole", "callless", "unasked"):
        lost = {"callless": LmCall, "unasked": Requested}.get(entry.said.request)
        if lost is not None and isinstance(entry.said, lost):
            body = {"seq": entry.sequence, "no_erase": True}
            await api(bus, f"STREAM.MSG.DELETE.{stream}", body)
    await bus.publish(recorded.subjects.event("torn", "requested"), b"{")
    await bus.flush()

    status, lines, _, err = await replay(recorded, "exact")

    assert status == 1
    assert {name: one["status"] for name, one in lines.items()} == {
        "whole": "identical",
        "callless": "diverged",
        "unasked": "failed",
    }
    assert "calls missing in the journal: 1" in lines["callless"]["why"]
    assert lines["unasked"]["replayed_as"] is None
    assert "passed over" in err


async def test_live_asks_the_model_again(
    stack: Stack, asker: Asker, model: ScriptedModel, bus: NatsBus, tmp_path: Path
) -> None:
    """With real answers outputs differ, a metric says how much, and it can go on."""
    model.reply_with(chat(answer="x y"))
    one, two = names("one", "two")
    for name in (one, two):
        await asker.ask("predict", question(), dspex_request=name)
    await kept(bus, stack, one, two)
    model.reply_with(chat(answer="x z"))
    state = tmp_path / "replay.jsonl"
    words = ("live", "--metric", "f1", "--resume", str(state), "--request", one, two)

    status, lines, summary, _ = await replay(stack, *words, "--lm", "other")
    calls = len(model.requests)
    again, said, bar = await shown(stack, *words)

    assert (status, again) == (0, 0)
    assert summary == {"replayed": 2, "changed": 2, "score": 0.5}
    assert lines[one]["first_difference"]["path"] == "outputs.answer"
    assert calls == 4  # two recorded, two replayed
    models = [sent.body["model"] for sent in model.requests]
    assert models == ["scripted", "scripted", "another", "another"]
    assert len(model.requests) == calls
    assert said[0].split() == ["request", "status", "first", "difference"]
    assert said[1].split(None, 2) == [one, "changed", 'outputs.answer: "x y" -> "x z"']
    assert said[-1] == "replayed 2, changed 2, score 0.5"
    assert "1/2" in bar
    assert "[##############################] 2/2" in bar


async def test_load_measures(
    stack: Stack, asker: Asker, model: ScriptedModel, bus: NatsBus
) -> None:
    """The same arrivals, faster, and how long answers took."""
    these = names("one", "two", "three")
    for name in these:
        await asker.ask("predict", question(), dspex_request=name)
    await kept(bus, stack, *these)
    words = ("load", "--speed", "100", "--request", *these)

    status, _, summary, _ = await replay(stack, *words, "--latency", "0.25")
    there, _, other, _ = await replay(stack, *words, "--into", stack.prefix)

    assert (status, summary["answered"], summary["identical"]) == (0, 3, 3)
    assert 250 <= summary["p50_ms"] <= summary["p99_ms"]
    assert summary["per_second"] > 0
    assert (there, other["answered"]) == (0, 3)
    assert len(model.requests) == 6


async def look(stack: Stack, prefix: str, request: str) -> str:
    """What the journal of a replay shows of a request."""
    environ = stack.environ | {"DSPEX_PREFIX": prefix}
    process = await begin(stack, "journal", "show", request, environ=environ)
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return out.decode()


async def remove(bus: NatsBus, prefix: str) -> None:
    """Remove what a replay was to leave there."""
    found = await api(bus, "STREAM.NAMES")
    for name in found["streams"] or ():
        if prefix.upper() in name.upper():
            await api(bus, f"STREAM.DELETE.{name}")


def names(*words: str) -> list[str]:
    """Ids that no other test has."""
    apart = uuid4().hex[:8]
    return [f"{word}-{apart}" for word in words]


async def shown(stack: Stack, *words: str) -> tuple[int | None, list[str], str]:
    """Exit status, lines of output and the progress that a terminal shows."""
    terminal, end = pty.openpty()
    process = await begin(stack, "replay", *words, stderr=end)
    os.close(end)
    async with asyncio.timeout(120):
        out, _ = await process.communicate()
    try:
        progress = os.read(terminal, 65_536).decode()
    finally:
        os.close(terminal)
    return process.returncode, out.decode().splitlines(), progress
