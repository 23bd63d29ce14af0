"""The journal: what it keeps of every request, and how it is looked at."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.asking import Asker, chat, question
from tests.support.commands import begin, dspex
from tests.support.programs import act, react
from tests.support.stack import Program, Stack

from dspex.bus.durable import api
from dspex.bus.journal import Damaged, Entry, Reader
from dspex.cli.journal_show import life_of
from dspex.client import tools
from dspex.contracts import encoding
from dspex.contracts.envelope import Delta, DoneEvent, Requested
from dspex.contracts.records import LmCall, ToolCall

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus
    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

LARGE = "x" * 1_047_800


async def kept(
    bus: NatsBus, stack: Stack, request: str, *kinds: str, tenant: str = ""
) -> list[Entry]:
    """What the journal has of a request, once it has all of these kinds."""
    reader = Reader(bus, stack.subjects)
    async with asyncio.timeout(20):
        while True:
            found = [one async for one in reader.of_request(request, tenant)]
            entries = [one for one in found if isinstance(one, Entry)]
            if {*kinds} <= {one.subject.rpartition(".")[2] for one in entries}:
                return entries


def calls(entries: list[Entry]) -> list[LmCall]:
    return [one.said for one in entries if isinstance(one.said, LmCall)]


async def start(own: Stack) -> None:
    worker = Program("dspex.services.worker", "--pool", "light")
    await own.start(Program("dspex.router"), worker, Program("dspex.services.state"))
    await own.ready(workers=1, native=0, state=1)


async def test_a_call_is_recorded(
    asker: Asker, stack: Stack, bus: NatsBus, model: ScriptedModel
) -> None:
    """A record has what the model was asked, what it answered, and what that cost."""
    model.reply_with(chat(answer="Because."))
    body = question() | {"config": {"temperature": 0.5, "max_tokens": 33}}
    await asker.ask("predict", body, dspex_request="rec-1")

    (call,) = calls(await kept(bus, stack, "rec-1", "lm_call", "done"))

    (sent,) = model.requests
    assert call.messages == sent.messages
    assert call.parameters == {"temperature": 0.5, "max_tokens": 33}
    assert call.outputs == [chat(answer="Because.")]
    assert call.usage["total_tokens"] > 0
    assert (call.attempt, call.call, call.lm) == (1, 1, "default")
    assert (call.model, call.failure, call.cut) == ("openai/scripted", None, None)
    assert call.dspy
    assert "test-key-not-a-secret" not in str(call)


async def ask_an_agent(
    client: Client, model: ScriptedModel, request: str
) -> dict[str, Any]:
    """It asks a function for rain in two cities, one of which is unknown; the tool."""

    def rain(city: str) -> int:
        if city == "Atlantis":
            raise ValueError("no such city")
        return 12

    for city in ("Bergen", "Atlantis"):
        model.reply_with(act("rain", city=city), times=1)
    model.reply_with(act("finish"), times=1)
    model.reply_with(chat(reasoning="So.", answer="Yes"), times=1)
    async with tools.serve(client, rain) as offered:
        await client.with_options(request=request).call("react", react(offered))
    return offered


async def test_a_tool_call_is_recorded(
    client: Client, stack: Stack, bus: NatsBus, model: ScriptedModel
) -> None:
    """Calls of tools are records too, numbered among those of models."""
    offered = await ask_an_agent(client, model, "rec-tool")

    entries = await kept(bus, stack, "rec-tool", "tool_call", "done")

    told = [one.said for one in entries if isinstance(one.said, LmCall | ToolCall)]
    assert sorted(one.call for one in told) == list(range(1, 7))
    called = [one for one in told if isinstance(one, ToolCall)]
    assert [one.arguments for one in called] == [
        {"city": "Bergen"},
        {"city": "Atlantis"},
    ]
    assert (called[0].name, called[0].result, called[0].failure) == ("rain", 12, None)
    assert called[0].subject == offered["subject"]
    assert called[1].failure is not None
    assert called[1].failure.code == "tool_failed"


async def test_a_streamed_call_is_recorded(
    asker: Asker, stack: Stack, bus: NatsBus, model: ScriptedModel
) -> None:
    """Of a streamed answer the record has the whole, and the size of its pieces."""
    text = chat(answer="one two three").strip()
    model.reply_with(text)
    events = await asker.stream("predict", question(), dspex_request="rec-2")

    entries = await kept(bus, stack, "rec-2", "lm_call", "done")

    (call,) = calls(entries)
    assert call.outputs == [text]
    assert sum(size for _, size in call.pieces) == len(text)
    assert len(call.pieces) > 1
    told = [one.said for one in entries if isinstance(one.said, Delta)]
    assert "".join(one.text for one in told) == events.text("answer")


async def test_a_failed_call_is_recorded(
    asker: Asker, stack: Stack, bus: NatsBus, model: ScriptedModel
) -> None:
    """Every attempt's calls are there, also those that gave nothing."""
    model.fail_with(500, times=1)
    await asker.ask("predict", question(), dspex_request="rec-3")

    entries = await kept(bus, stack, "rec-3", "lm_call", "done")

    first, second = calls(entries)
    assert first.failure is not None
    assert (first.failure.code, first.outputs) == ("lm_unavailable", None)
    assert (first.attempt, second.attempt, second.failure) == (1, 2, None)
    life = life_of(entries)
    assert (life.end, life.attempts, life.lm_calls) == ("done", 2, 2)
    assert (life.missing, life.cut) == (0, 0)


async def test_direct_requests_are_journaled(
    asker: Asker, stack: Stack, bus: NatsBus, model: ScriptedModel
) -> None:
    """Who is asked without a router tells the request itself, for any tenant."""
    acme = stack.subjects.of("acme")
    await asker.ask("", question(), subject=acme.pool_run("light"), dspex_request="d-1")
    body = {"signature": "q -> a"}
    native = stack.subjects.native("signature.parse")
    await asker.ask("", body, subject=native, dspex_request="d-2")

    entries = await kept(bus, stack, "d-1", "requested", "lm_call", "done")
    others = await kept(bus, stack, "d-2", "requested", "done")

    assert {one.tenant for one in entries} == {"acme"}
    first, second = entries[0].said, others[0].said
    assert isinstance(first, Requested)
    assert (first.body, first.operation) == (question(), "predict")
    assert isinstance(second, Requested)
    assert (second.body, second.operation) == (body, "signature.parse")
    assert life_of(entries).missing == life_of(others).missing == 0


async def test_what_is_too_large_is_stored_apart(
    own: Stack, ask: Asker, bus: NatsBus, model: ScriptedModel, tmp_path: Path
) -> None:
    """A prompt larger than a message is whole again when it is looked at or shared."""
    await start(own)
    body = question(question=LARGE)
    await ask.ask("chain_of_thought", body, dspex_request="big-1")
    reader = Reader(bus, own.subjects)
    entries = await kept(bus, own, "big-1", "requested", "lm_call", "done")
    assert life_of(entries).cut == 2

    whole = await whole_of(reader, entries)
    file = str(tmp_path / "all.parquet")
    assert (await dspex(own, "journal", "export", file))[0] == 0

    assert LARGE in str(whole["lm_call"].messages)
    assert whole["requested"].body == body
    other = Stack(own.url, own.folder, f"{own.prefix}x", own.environ)
    async with other:
        await other.start(Program("dspex.services.state"))
        await other.ready(workers=0, native=0, routers=0, state=1)
        status, _, err = await dspex(other, "journal", "import", file)
        assert (status, err) == (0, "")
        taken = await kept(bus, other, "big-1", "requested", "lm_call", "done")
        again = await whole_of(Reader(bus, other.subjects), taken)
    assert again == whole


async def whole_of(reader: Reader, entries: list[Entry]) -> dict[str, Any]:
    """What entries say when all is put back in, by their kinds; waits until it is."""
    found: dict[str, Any] = {}
    async with asyncio.timeout(20):
        for entry in entries:
            while isinstance(one := await reader.whole(entry), Damaged):
                continue
            found[entry.subject.rpartition(".")[2]] = one.said
    return found


async def test_switching(own: Stack, ask: Asker, bus: NatsBus) -> None:
    """What is switched off is not kept, and told to who listens all the same."""
    own.environ["DSPEX_JOURNAL_MAX_PER_SUBJECT"] = "2"
    await start(own)
    heard: list[str] = []
    await bus.subscribe(
        own.subjects.all_events("done"), lambda message: heard.append(message.subject)
    )
    await ask.ask("predict", question(), dspex_request="kept-1")
    status, said, _ = await dspex(own, "journal", "set", "--operation", "predict=off")
    assert status == 0
    assert said.count("predict off") == 3  # router, worker, state
    await ask.ask("predict", question(), dspex_request="left-out")
    await ask.ask("chain_of_thought", question(), dspex_request="kept-2")
    await dspex(own, "journal", "set", "--sample", "0", "--operation", "predict=on")
    await ask.ask("predict", question(), dspex_request="sampled-out")
    await dspex(own, "journal", "set", "--sample", "1", "--tenant", "acme=off")
    acme = Asker(bus, own.subjects.of("acme"))
    await acme.ask("predict", question(), dspex_request="of-acme")
    await ask.ask("predict", question(), dspex_request="kept-3")
    await kept(bus, own, "kept-3", "lm_call", "done")

    _, out, _ = await dspex(own, "journal", "ls", "--json")

    lives = [json.loads(line) for line in out.splitlines()]
    assert [life["request"] for life in lives] == ["kept-1", "kept-2", "kept-3"]
    assert [life["missing"] for life in lives] == [0, 0, 0]
    assert own.subjects.event("left-out", "done") in heard
    assert own.subjects.event("sampled-out", "done") in heard
    assert await last_kept(bus, own, 5) == [4, 5]


async def last_kept(bus: NatsBus, own: Stack, count: int) -> list[int]:
    """Which of so many copies of one kind about one request are kept."""
    for number in range(1, count + 1):
        delta = Delta(
            request="many", attempt=1, seq=number, at=0.0, field="answer", text="x"
        )
        subject = own.subjects.event("many", "delta")
        await bus.publish(subject, encoding.encode(delta))

    async def numbers() -> list[int]:
        entries = await kept(bus, own, "many", "delta")
        return [one.said.seq for one in entries if isinstance(one.said, Delta)]

    async with asyncio.timeout(20):
        while count not in await numbers():
            pass
    # What was read while the last ones came had some that were on their way out.
    return await numbers()


async def test_listing(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """Requests are listed by what they were, how they ended and what they said."""
    await start(own)
    model.reply_with(chat(answer="a needle"), times=1)
    await ask.ask("predict", question(), dspex_request="good")
    model.fail_with(429, times=1)
    once = question() | {"options": {"idempotent": False}}
    await ask.ask("predict", once, dspex_request="bad")
    acme = Asker(ask.bus, own.subjects.of("acme"))
    await acme.ask("signature.parse", {"signature": "q -> a"}, dspex_request="other")
    await kept_end(ask, own)

    async def listed(*words: str) -> list[str]:
        status, out, err = await dspex(own, "journal", "ls", "--json", *words)
        assert status == 0, err
        found = [json.loads(line)["request"] for line in out.splitlines()]
        return [one for one in found if one != "z"]

    assert await listed() == ["good", "bad", "other"]
    assert await listed("--failed") == ["bad"]
    assert await listed("--text", "a needle") == ["good"]
    assert await listed("--tenant", "acme") == ["other"]
    assert await listed("--operation", "predict", "--limit", "1") == ["bad"]
    assert await listed("--worker", "light", "--since", "1h") == [
        "good",
        "bad",
        "other",
    ]
    assert await listed("--until", "1h") == []
    assert await listed("--slow", "3600") == []
    table = (await dspex(own, "journal", "ls"))[1].splitlines()
    assert table[0].split()[:3] == ["at", "request", "operation"]
    assert "lm_rate_limit" in table[2]


async def kept_end(ask: Asker, own: Stack) -> None:
    """Wait until the last request of a test is whole in the journal."""
    await ask.ask("predict", {"signature": 3}, dspex_request="z")
    bus: Any = ask.bus
    await kept(bus, own, "z", "failed")


async def test_showing(asker: Asker, stack: Stack, model: ScriptedModel) -> None:
    """The whole life of a request is one tree, or JSON line by line."""
    model.reply_with(chat(answer="Because it is."))
    await asker.stream("predict", question(), dspex_request="shown-1")
    bus: Any = asker.bus
    await kept(bus, stack, "shown-1", "lm_call", "done")

    status, out, err = await dspex(stack, "journal", "show", "shown-1")
    _, lines, _ = await dspex(stack, "journal", "show", "shown-1", "--json")
    missing = await dspex(stack, "journal", "show", "shown-2")

    assert (status, err) == (0, "")
    parts = ["shown-1  predict  done", "asked +0.0 ms", "inputs: ", "decided +"]
    parts += ["attempt 1", "started +", "model call 1", "Because it is.", "done +"]
    found = [out.find(part) for part in parts]
    assert -1 not in found
    kinds = [json.loads(line)["kind"] for line in lines.splitlines()]
    assert kinds[:3] == ["requested", "accepted", "started"]
    assert {"lm_call", "delta", "done"} <= {*kinds}
    assert missing[0] == 1
    assert "has nothing of request 'shown-2'" in missing[2]


async def test_showing_an_agent(
    client: Client, stack: Stack, bus: NatsBus, model: ScriptedModel
) -> None:
    """Calls of tools stand in the tree where they were made, once, with what came."""
    await ask_an_agent(client, model, "shown-3")
    await kept(bus, stack, "shown-3", "tool_call", "tool_result", "done")

    status, out, err = await dspex(stack, "journal", "show", "shown-3")

    assert (status, err) == (0, "")
    parts = ["tool call 2", "Bergen", "result: 12"]
    parts += ["tool call 4", "Atlantis", "failed: tool_failed", "done +"]
    for part in parts:
        assert part in out
        out = out[out.index(part) + len(part) :]


async def test_tailing(asker: Asker, stack: Stack, model: ScriptedModel) -> None:
    """Requests are shown as they end."""
    process = await begin(stack, "journal", "tail", "--json", "--operation", "predict")
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(30):
        assert await process.stderr.readline() == b"listening\n"
        body = {"signature": "q -> a"}
        await asker.ask("signature.parse", body, dspex_request="tail-0")
        await asker.ask("predict", question(), dspex_request="tail-1")
        life = json.loads(await process.stdout.readline())
    process.terminate()
    await process.communicate()

    assert (life["request"], life["end"], life["lm_calls"]) == ("tail-1", "done", 1)


async def test_damage_is_passed_over(
    own: Stack, ask: Asker, bus: NatsBus, model: ScriptedModel, tmp_path: Path
) -> None:
    """What cannot be read or is missing is reported, and the rest is shown.

    What is taken in where it came from is there already.
    """
    await start(own)
    await ask.ask("predict", question(), dspex_request="hurt-1")
    entries = await kept(bus, own, "hurt-1", "lm_call", "done")
    await bus.publish(own.subjects.event("hurt-1", "delta"), b"{not JSON")
    (record,) = [one for one in entries if isinstance(one.said, LmCall)]
    await delete(bus, own, record.sequence)
    await ask.ask("predict", question(), dspex_request="hurt-2")
    await kept(bus, own, "hurt-2", "lm_call", "done")

    status, out, err = await dspex(own, "journal", "ls", "--json")
    shown = await dspex(own, "journal", "show", "hurt-1")
    file = tmp_path / "all.jsonl"
    exported = await dspex(own, "journal", "export", str(file), "--json")
    file.write_text(file.read_text() + "no row\n")
    taken = await dspex(own, "journal", "import", str(file), "--json")

    lives = [json.loads(line) for line in out.splitlines()]
    assert [(one["request"], one["missing"]) for one in lives] == [
        ("hurt-1", 1),
        ("hurt-2", 0),
    ]
    assert status == 0
    assert "1 missing" in err
    assert "not application/json" in err
    assert (shown[0], "1 missing" in shown[1]) == (1, True)
    assert "passed over" in shown[2]
    written = json.loads(exported[1])["entries"]
    assert json.loads(exported[1])["damaged"] == 2
    assert json.loads(taken[1]) == {"entries": 0, "known": written, "damaged": 1}
    assert await lost(bus, own, ask) >= 1


async def lost(bus: NatsBus, own: Stack, ask: Asker) -> int:
    """What a worker counts that has nowhere to put a large prompt."""
    await api(bus, f"STREAM.DELETE.OBJ_{own.prefix}_journal")
    await ask.ask("predict", question(question=LARGE), dspex_request="lost-1")
    async with asyncio.timeout(30):
        await own.until(lambda: any(one.lost_records for one in own.beats("python")))
    _, said, _ = await dspex(own, "journal", "set")
    worker = next(line for line in said.splitlines() if "dspex-worker" in line)
    assert " cut " in worker
    return sum(one.lost_records for one in own.beats("python"))


async def delete(bus: NatsBus, own: Stack, sequence: int) -> None:
    """Take one message out of the journal."""
    name = f"{own.prefix.upper()}_JOURNAL"
    await api(bus, f"STREAM.MSG.DELETE.{name}", {"seq": sequence})


async def test_the_end_is_told_once(
    asker: Asker, stack: Stack, bus: NatsBus, model: ScriptedModel
) -> None:
    """However often a request is sent, the journal has its life once."""
    for _ in range(3):
        await asker.ask("predict", question(), dspex_request="thrice")

    entries = await kept(bus, stack, "thrice", "lm_call", "done")

    assert len([one for one in entries if isinstance(one.said, DoneEvent)]) == 1
    assert len(calls(entries)) == 1
