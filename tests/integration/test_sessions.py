"""Sessions over the real programs: what they hold, and what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, chat
from tests.support.sessions import SIGNATURE, Conversations, numbered

from dspex.cli.__main__ import parse
from dspex.cli.call import main as call_command
from dspex.cli.session import main as session_command
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


@pytest.fixture(name="talk")
async def _talk(asker: Asker, model: ScriptedModel) -> Conversations:
    model.reply_with(numbered)
    return Conversations(asker)


async def test_conversation(talk: Conversations, model: ScriptedModel) -> None:
    """The turns of a session see those before them, as DSPy writes a history."""
    session = await talk.opened()

    answers = [await talk.turn(session, f"question-{n}") for n in range(3)]

    assert [one.body["outputs"]["answer"] for one in answers] == [
        "question-0/0",
        "question-1/1",
        "question-2/2",
    ]
    said = [one["content"] for one in model.requests[-1].body["messages"]]
    assert "question-0/0" in said[2]
    assert "question-1/1" in said[4]
    assert {one.body["metadata"]["worker"] for one in answers} == {
        answers[0].body["metadata"]["worker"]
    }
    assert answers[2].body["metadata"]["reason"] == "session_holder"


async def test_transcript(talk: Conversations) -> None:
    """What was asked and answered is in the session, with the tokens it took."""
    session = await talk.opened(values={"user": "Ada"})
    for number in range(3):
        await talk.turn(session, f"q{number}", dspex_request=f"{session}-{number}")

    found = await talk.seen(session)

    assert found["turn_count"] == 3
    assert [one["number"] for one in found["turns"]] == [1, 2, 3]
    assert found["turns"][1]["request"] == f"{session}-1"
    assert found["turns"][1]["inputs"] == {"question": "q1"}
    assert found["turns"][1]["outputs"] == {"answer": "q1/1"}
    assert found["usage"]["calls"] == 3
    assert found["usage"]["total_tokens"] > 0
    assert found["values"] == {"user": "Ada"}
    assert found["settings"]["signature"] == SIGNATURE


async def test_pages(talk: Conversations) -> None:
    """The turns of a session are shown from where one wants, as many as one wants."""
    session = await talk.opened()
    for number in range(3):
        await talk.turn(session, f"q{number}")

    first = await talk.done("session.get", {"session": session, "limit": 2})
    rest = await talk.done("session.get", {"session": session, "after": first["next"]})

    assert [one["number"] for one in first["turns"]] == [1, 2]
    assert [one["number"] for one in rest["turns"]] == [3]
    assert rest["next"] is None


async def test_without_history(talk: Conversations, model: ScriptedModel) -> None:
    """A signature without a history is asked alone, and logged all the same."""
    model.reply_with(chat(answer="yes"))
    session = await talk.opened(signature="question -> answer")

    for number in range(2):
        await talk.turn(session, f"q{number}")

    assert len(model.requests[-1].body["messages"]) == 2
    assert await talk.transcript(session) == [("q0", "yes"), ("q1", "yes")]


async def test_chain_of_thought(talk: Conversations, model: ScriptedModel) -> None:
    """A turn may be another operation, and its reasoning is part of the history."""
    model.reply_with(chat(reasoning="because of this", answer="yes"))
    session = await talk.opened()

    first = await talk.turn(session, "q0", operation="chain_of_thought")
    await talk.turn(session, "q1", operation="chain_of_thought")

    assert first.body["outputs"] == {"reasoning": "because of this", "answer": "yes"}
    said = [one["content"] for one in model.requests[-1].body["messages"]]
    assert "because of this" in said[2]


async def test_own_settings(talk: Conversations, model: ScriptedModel) -> None:
    """A turn has the session's settings, but for those it brings itself."""
    session = await talk.opened(
        config={"temperature": 0.25}, instructions="Be brief.", lm="default"
    )

    await talk.turn(session, "q0")
    body = {"inputs": {"question": "q1"}, "config": {"temperature": 0.75}}
    await talk.turn(session, "", body=body)

    asked = [one.body for one in list(model.requests)[-2:]]
    assert [one["temperature"] for one in asked] == [0.25, 0.75]
    assert all("Be brief." in one["messages"][0]["content"] for one in asked)


async def test_set(talk: Conversations) -> None:
    """Values are stored one by one; null takes one away; a turn leaves them be."""
    session = await talk.opened(values={"a": 1, "b": [1, 2]})

    await talk.turn(session, "q")
    body: dict[str, Any] = {"session": session, "values": {"a": None, "c": {"d": 3}}}
    changed = await talk.done("session.set", body)
    await talk.turn(session, "q")

    assert changed["values"] == {"b": [1, 2], "c": {"d": 3}}
    found = await talk.seen(session)
    assert found["values"] == changed["values"]
    assert found["turn_count"] == 2


async def test_fork(talk: Conversations) -> None:
    """A fork has the first turns of another session and goes its own way."""
    session = await talk.opened(values={"a": 1})
    for number in range(3):
        await talk.turn(session, f"q{number}", dspex_request=f"{session}-{number}")

    by_number = f"{session}-n"
    body = {"session": session, "after": 1, "as": by_number}
    forked = await talk.done("session.fork", body)
    by_request = await talk.done(
        "session.fork", {"session": session, "after": f"{session}-1"}
    )
    await talk.turn(by_number, "other")

    assert forked["session"] == by_number
    assert forked["parent"] == {"session": session, "after": 1}
    assert by_request["turn_count"] == 2
    assert await talk.transcript(by_number) == [("q0", "q0/0"), ("other", "other/1")]
    assert len(await talk.transcript(session)) == 3
    assert (await talk.seen(by_number))["values"] == {"a": 1}


async def test_close(talk: Conversations) -> None:
    """A closed session is gone for turns and for looking, and its id is free again."""
    session = await talk.opened()
    await talk.turn(session, "q")

    closed = await talk.done("session.close", {"session": session})

    assert closed["state"] == "closed"
    assert closed["turn_count"] == 1
    assert (await talk.turn(session, "q")).code == "not_found"
    assert (await talk.ask.ask("session.get", {"session": session})).code == "not_found"
    again = await talk.opened(session=session, signature="question -> answer: int")
    assert (await talk.seen(again))["turn_count"] == 0
    answer = await talk.turn(session, "", body={"inputs": {"question": "7"}})
    assert answer.code in ("done", "parse_failed")  # by the new signature
    assert (await talk.seen(again))["settings"]["signature"] == (
        "question -> answer: int"
    )


async def test_list(stack: Stack, asker: Asker, model: ScriptedModel) -> None:
    """The sessions of a tenant are listed in pages, without those of others."""
    subjects = Subjects(stack.prefix, f"t{uuid4().hex[:8]}")
    talk = Conversations(Asker(asker.bus, subjects))
    names = sorted([await talk.opened(signature=SIGNATURE) for _ in range(3)])

    first = await talk.done("session.list", {"limit": 2})
    rest = await talk.done("session.list", {"limit": 2, "after": first["next"]})

    assert [one["session"] for one in first["sessions"]] == names[:2]
    assert [one["session"] for one in rest["sessions"]] == names[2:]
    assert rest["next"] is None


async def test_tenants(stack: Stack, talk: Conversations) -> None:
    """A tenant neither sees nor uses the session of another, of whatever name."""
    session = await talk.opened()
    await talk.turn(session, "mine")
    other = Conversations(Asker(talk.ask.bus, Subjects(stack.prefix, "other")))

    assert (await other.turn(session, "q")).code == "not_found"
    assert (
        await other.ask.ask("session.get", {"session": session})
    ).code == "not_found"
    await other.opened(session=session)
    await other.turn(session, "theirs")

    assert await talk.transcript(session) == [("mine", "mine/0")]
    assert await other.transcript(session) == [("theirs", "theirs/0")]


async def test_ends(talk: Conversations) -> None:
    """A session ends when nothing changed for as long as it was opened for."""
    session = await talk.opened(ttl_s=1)
    await talk.turn(session, "q")

    async with asyncio.timeout(20):
        while (await talk.ask.ask("session.get", {"session": session})).code == "done":
            pass

    assert (await talk.turn(session, "q")).code == "not_found"
    again = await talk.opened(session=session)
    answer = await talk.turn(again, "q")
    assert answer.body["outputs"] == {"answer": "q/0"}
    assert len(await talk.transcript(again)) == 1


async def test_lives_on_while_used(talk: Conversations) -> None:
    """A session that is used outlives the entries it began with, and keeps all."""
    session = await talk.opened(ttl_s=2)
    loop = asyncio.get_running_loop()
    until, count = loop.time() + 6, 0  # three times what the first entry lives
    while loop.time() < until:
        assert (await talk.turn(session, f"q{count}")).code == "done"
        count += 1

    found = await talk.done("session.get", {"session": session, "limit": 1000})
    assert found["turn_count"] == count
    assert [one["inputs"]["question"] for one in found["turns"]] == [
        f"q{number}" for number in range(min(count, 1000))
    ]


async def test_same_request(talk: Conversations, model: ScriptedModel) -> None:
    """The same turn sent again is answered from the log and applied once."""
    session = await talk.opened()
    before = len(model.requests)

    first = await talk.turn(session, "q", dspex_request=f"{session}-r")
    again = await talk.turn(session, "q", dspex_request=f"{session}-r")
    other = await talk.turn(session, "another", dspex_request=f"{session}-r")

    assert first.body["outputs"] == again.body["outputs"]
    assert other.code == "conflict"
    assert len(model.requests) - before == 1
    assert len(await talk.transcript(session)) == 1


async def test_open_again(talk: Conversations) -> None:
    """The same opening sent again finds its session; another one is a conflict."""
    request = uuid4().hex
    body = {"signature": SIGNATURE}

    first = await talk.ask.ask("session.open", body, dspex_request=request)
    again = await talk.ask.ask("session.open", body, dspex_request=request)
    taken = await talk.ask.ask("session.open", body | {"session": request})

    assert first.body["outputs"]["session"] == request
    assert again.body["outputs"] == first.body["outputs"]
    assert taken.code == "conflict"


async def test_stream(talk: Conversations) -> None:
    """A turn streams like any request, and its events are the session's."""
    session = await talk.opened()
    heard: list[str] = []
    subject = talk.ask.subjects.session_event(session, "*", "*")
    subscription = await talk.ask.bus.subscribe(
        subject, lambda message: heard.append(message.subject.split(".")[-1])
    )
    await talk.ask.bus.flush()

    found = await talk.ask.stream(
        "predict",
        {"inputs": {"question": "q"}},
        subject=talk.ask.subjects.session_call(session, "predict"),
    )
    await talk.ask.bus.flush()
    await subscription.unsubscribe()

    assert found.text("answer") == "q/0"
    assert found.last["kind"] == "done"
    assert {"requested", "accepted", "started", "delta", "done"} <= set(heard)
    assert await talk.transcript(session) == [("q", "q/0")]


async def test_failed_turn(talk: Conversations, model: ScriptedModel) -> None:
    """A turn that fails leaves no trace in the session."""
    session = await talk.opened()
    await talk.turn(session, "q0")
    model.reply_with(chat(nothing="useful"))
    failed = await talk.turn(session, "q1")
    model.reply_with(numbered)

    await talk.turn(session, "q2")

    assert failed.body["category"] == "program"
    assert await talk.transcript(session) == [("q0", "q0/0"), ("q2", "q2/1")]


async def test_long(talk: Conversations) -> None:
    """Snapshots take the place of entries, and nothing is lost by that."""
    session = await talk.opened()
    questions = [f"q{number}" for number in range(70)]
    for question in questions:
        assert (await talk.turn(session, question)).code == "done"

    found = await talk.seen(session)

    assert [one["inputs"]["question"] for one in found["turns"]] == questions
    assert found["usage"]["calls"] == 70


async def test_large(talk: Conversations, model: ScriptedModel) -> None:
    """Turns whose text is larger than a message together are kept in parts."""
    session = await talk.opened(signature="history: dspy.History, question -> answer")
    model.reply_with(chat(answer="a" * 300_000))
    for number in range(4):
        answer = await talk.turn(session, f"q{number}" + "q" * 200_000)
        assert answer.code == "done", answer.body

    body = {"session": session, "after": 3}
    found = await talk.done("session.get", body)

    assert found["turn_count"] == 4
    assert len(found["turns"][0]["outputs"]["answer"]) == 300_000


@pytest.mark.parametrize(
    ("operation", "body", "code", "field"),
    [
        ("session.open", {"session": "a.b"}, "bad_request", "session"),
        ("session.open", {"signature": "question ->"}, "invalid_signature", None),
        ("session.open", {"ttl_s": 0}, "bad_request", "ttl_s"),
        ("session.open", {"affinity": "loose"}, "bad_request", "affinity"),
        ("session.open", {"on_busy": "wait"}, "bad_request", "on_busy"),
        ("session.open", {"values": {"a": "x" * 300_000}}, "quota", "values"),
        ("session.open", {"max_turns": 0}, "bad_request", "max_turns"),
        ("session.open", {"nonsense": 1}, "bad_request", "nonsense"),
        ("session.get", {}, "bad_request", None),
        ("session.get", {"session": "none"}, "not_found", "session"),
        ("session.set", {"session": "none", "values": {}}, "not_found", "session"),
        ("session.close", {"session": "none"}, "not_found", "session"),
        ("session.fork", {"session": "none"}, "not_found", "session"),
        ("session.list", {"limit": 0}, "bad_request", "limit"),
    ],
)
async def test_bad_requests(
    talk: Conversations, operation: str, body: Any, code: str, field: str | None
) -> None:
    """What cannot be done is refused by what is wrong with it."""
    answer = await talk.ask.ask(operation, body)

    assert answer.code == code, answer.body
    if field is not None:
        assert answer.body["field"] == field


@pytest.mark.parametrize(
    ("operation", "body", "code", "field"),
    [
        ("predict", {}, "bad_request", None),
        ("predict", {"inputs": {}}, "invalid_inputs", "inputs.question"),
        ("predict", {"inputs": {"question": 3}}, "invalid_inputs", "inputs.question"),
        ("predict", {"inputs": {}, "nonsense": 1}, "bad_request", "nonsense"),
        ("signature.parse", {"inputs": {}}, "unsupported", None),
        ("nonsense", {"inputs": {}}, "unknown_operation", None),
        ("predict", b"{", "bad_request", None),
    ],
)
async def test_bad_turns(
    talk: Conversations, operation: str, body: Any, code: str, field: str | None
) -> None:
    """A turn that cannot be one is refused, and the session goes on."""
    session = await talk.opened()

    answer = await talk.turn(session, "", operation=operation, body=body)

    assert answer.code == code, answer.body
    if field is not None:
        assert answer.body["field"] == field
    assert (await talk.turn(session, "q")).code == "done"


async def test_bad_fork(talk: Conversations) -> None:
    """A fork behind a turn that is not there is refused."""
    session = await talk.opened()

    for after in (1, "unknown"):
        body = {"session": session, "after": after}
        assert (await talk.ask.ask("session.fork", body)).code == "not_found"


async def test_most_turns(talk: Conversations) -> None:
    """A session takes no more turns than it was opened for."""
    session = await talk.opened(max_turns=1)

    codes = [(await talk.turn(session, f"q{number}")).code for number in range(2)]

    assert codes == ["done", "quota"]


async def test_no_signature(talk: Conversations) -> None:
    """A session without a signature takes one with each turn."""
    session = await talk.opened(signature=None)

    without = await talk.turn(session, "q")
    body = {"signature": SIGNATURE, "inputs": {"question": "q"}}
    brought = await talk.turn(session, "", body=body)

    assert without.code == "bad_request"
    assert without.body["field"] == "signature"
    assert brought.body["outputs"] == {"answer": "q/0"}


async def test_no_such_session(talk: Conversations) -> None:
    """A turn of a session that was never opened says so, and how to open one."""
    answer = await talk.turn("never-opened", "q")

    assert answer.code == "not_found"
    assert "session.open" in answer.body["hint"]


async def test_command_line(
    stack: Stack, talk: Conversations, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sessions can be listed, shown and ended from the command line."""
    session = f"s{uuid4().hex[:8]}"

    async def run(*words: str, command: str = "session") -> tuple[int, str]:
        arguments = parse([command, *words, "--url", stack.url])
        does = {"session": session_command, "call": call_command}[command]
        status = await asyncio.to_thread(does, arguments)
        return status, capsys.readouterr().out

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_PREFIX", stack.prefix)
        given = ["--signature", SIGNATURE, "--body", json.dumps({"session": session})]
        opened = await run("session.open", *given, command="call")
        turn = ["predict", "--session", session, "question=why"]
        asked = await run(*turn, command="call")
        listed = await run("ls")
        shown = await run("show", session)
        as_json = await run("show", session, "--json")
        closed = await run("close", session)
        gone, _ = await run("show", session)

    each = (opened, asked, listed, shown, as_json, closed)
    assert [status for status, _ in each] == [0] * 6
    assert "why/0" in asked[1]
    assert session in listed[1]
    assert "answer: why/0" in shown[1]
    assert json.loads(as_json[1])["turn_count"] == 1
    assert "is closed, after 1 turn" in closed[1]
    assert gone == 1
