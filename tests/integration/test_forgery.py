"""What a client without permissions could forge, and what comes of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.asking import Asker, question

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


def beat(**said: Any) -> dict[str, Any]:
    """A heartbeat of a worker that does not exist."""
    return {
        "type": "heartbeat",
        "worker": "fake",
        "pool": "light",
        "implementation": "python",
        "state": "ready",
        "seq": 1,
        "at": 0,
        "operations": ["predict"],
        "concurrency": 1000,
        "lms": ["default"],
    } | said


@pytest.mark.parametrize(
    "said",
    [
        {"in_flight": 10**400},
        {"in_flight": -5},
        {"concurrency": 0},
        {"worker": "*"},
        {"worker": "x y"},
        {"worker": "", "pool": ">"},
        {"worker": "another"},
        {"seq": 1 << 62},
        {"state": "leaving", "worker": "another"},
        {"operations": "predict"},
    ],
)
async def test_forged_heartbeats(
    asker: Asker, stack: Stack, model: ScriptedModel, said: dict[str, Any]
) -> None:
    """A heartbeat that cannot be true, or is not its subject's, changes nothing."""
    if said.get("worker") == "another":
        said = said | {"worker": stack.beats()[0].worker}
    subject = asker.subjects.heartbeat("light", "fake")

    workers = {one.worker for one in stack.beats()}

    await asker.bus.publish(subject, json.dumps(beat(**said)).encode())
    answers = [await asker.ask("predict", question()) for _ in range(6)]
    # Asked for by name: whom chance picks depends on who was busy a moment ago.
    answers += [
        await asker.ask("predict", question(), dspex_route=f"worker:{worker}")
        for worker in sorted(workers)
    ]

    assert {answer.code for answer in answers} == {"done"}
    assert {a.body["metadata"]["attempts"] for a in answers} == {1}
    assert {a.body["metadata"]["worker"] for a in answers} == workers
    assert len(workers) == 2


async def test_workers_that_are_not_there(asker: Asker, model: ScriptedModel) -> None:
    """Heartbeats of many that nobody hears cost a request its time, not its answer."""
    await _ghosts(asker, state="ready", seq=1)

    found = await asker.ask("predict", question())

    await _ghosts(asker, state="leaving", seq=2)
    assert found.code == "done"
    assert found.body["metadata"]["attempts"] > 1
    assert found.body["metadata"]["reason"].endswith("_after_no_responders")


async def _ghosts(asker: Asker, **said: Any) -> None:
    for number in range(20):
        name = f"ghost-{number}"
        ghost = beat(worker=name, concurrency=1 << 20, **said)
        subject = asker.subjects.heartbeat("light", name)
        await asker.bus.publish(subject, json.dumps(ghost).encode())


@pytest.mark.parametrize("reply", ["$JS.API.STREAM.CREATE.pwn", "victim.a"])
async def test_words_go_to_inboxes_only(
    asker: Asker, stack: Stack, model: ScriptedModel, reply: str
) -> None:
    """A dispatch that names another subject for its words gets none there."""
    worker = stack.beats()[0].worker
    async with await asker.bus.replies(dedicated=True) as seen:
        aimed = await asker.bus.subscribe(reply, seen.put)
        await asker.bus.publish(
            asker.subjects.worker_run(worker),
            json.dumps(question()).encode(),
            headers={"Dspex-Reply": reply, "Dspex-Operation": "predict"},
            reply=reply,
        )
        assert (await asker.ask("predict", question())).code == "done"
        with pytest.raises(TimeoutError):
            await seen.next(0.2)
        await aimed.unsubscribe()


async def test_a_router_s_headers_from_a_client(
    asker: Asker, model: ScriptedModel
) -> None:
    """What only a router may say is ignored when a client says it."""
    async with await asker.bus.replies(dedicated=True) as elsewhere:
        found = await asker.ask(
            "predict",
            question(),
            dspex_reply=elsewhere.subject,
            dspex_attempt="9",
            dspex_tenant="acme",
            dspex_elapsed="99999",
        )
        with pytest.raises(TimeoutError):
            await elsewhere.next(0.2)

    assert found.code == "done"
    assert found.body["metadata"]["attempts"] == 1
    assert found.body["metadata"]["total_ms"] < 9999


async def test_a_body_as_large_as_it_may_be(asker: Asker, model: ScriptedModel) -> None:
    """A body that leaves no room for its copy in an event is answered all the same."""
    body = question(question="x" * 1_048_000)

    found = await asker.ask("predict", body)

    assert found.code == "done"


HEAVY: dict[str, dict[str, Any]] = {
    "a pattern made to backtrack": {
        "signature": {
            "fields": [
                {
                    "name": "q",
                    "kind": "input",
                    "constraints": {"pattern": "(a*)*(a|b)*c(a|b){12}$"},
                },
                {"name": "a", "kind": "output"},
            ]
        },
        "inputs": {"q": "ab" * 100_000},
    },
    "a large value of another type": {
        "signature": "q: list[dict[str,int|str|None]] -> a",
        "inputs": {"q": [{"x": 1.5}] * 85_000},
    },
    "a value nested without end": {
        "signature": "q: dict -> a",
        "inputs": {"q": json.loads('{"x":' * 900 + "1" + "}" * 900)},
    },
}


@pytest.mark.parametrize("name", HEAVY)
async def test_heavy_checks(asker: Asker, model: ScriptedModel, name: str) -> None:
    """A request made to keep the router busy is refused; nobody is lost for it."""
    others = [asyncio.ensure_future(asker.ask("predict", question())) for _ in range(4)]

    heavy = await asyncio.gather(*(asker.ask("predict", HEAVY[name]) for _ in range(4)))

    assert {answer.code for answer in heavy} == {"invalid_inputs"}
    assert {(await other).code for other in others} == {"done"}
