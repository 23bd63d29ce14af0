"""Programs on every supported release of DSPy: apart, streamed, stopped, handed on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, chat, question
from tests.support.learning import EXACT, EXAMPLES, PREDICT, SIGNATURE, pupil
from tests.support.releases import CONCURRENCY, MANY, RELEASES, key_of, on
from tests.support.scripted_wire import digest_of_key

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.scripted_wire import Received
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.xdist_group("releases")]

each_release = pytest.mark.parametrize("release", RELEASES)


@pytest.fixture(name="ask")
async def _ask(releases: Stack, bus: NatsBus) -> Asker:
    return Asker(bus, releases.subjects)


def step(signature: str, **said: Any) -> dict[str, Any]:
    return {"program": {"module": "predict", "signature": signature, **said}}


def program(number: int) -> dict[str, Any]:
    """Parts in turn, in a thread, and side by side: with the request's model, and
    some with another."""
    chosen = {
        "module": "best_of_n",
        "attempts": 1,
        "threshold": 0.0,
        "program": {"module": "predict", "signature": "answer -> final"},
        "reward": {"metric": "exact_match", "field": "final", "answers": ["x"]},
    }
    apart = {
        "module": "parallel",
        "steps": [
            step("final -> left", lm=f"m{(number + 1) % MANY}"),
            step("final -> right"),
        ],
    }
    return {
        "module": "chain",
        "steps": [step(SIGNATURE), {"program": chosen}, {"program": apart}],
        "outputs": ["answer", "final", "left", "right"],
    }


def echo(request: Received) -> str:
    """Say what was seen."""
    said = request.text("user").split("## ]]\n", 1)[1].split("\n\nRespond", 1)[0]
    seen = {
        "model": request.body["model"],
        "temperature": request.body["temperature"],
        "key": request.headers["key-digest"],
        "said": said[:40],
    }
    text = json.dumps(seen)
    return chat(answer=text, final=text, left=text, right=text)


@each_release
async def test_isolation(ask: Asker, model: ScriptedModel, release: str) -> None:
    """Of fifty at once none sees another's model, temperature, key or inputs."""
    model.reply_with(echo)
    model.latency = 0.2

    async def one(number: int) -> dict[str, dict[str, Any]]:
        body = {
            "program": program(number),
            "inputs": {"question": f"q{number}"},
            "lm": f"m{number}",
            "config": {"temperature": number / 100},
        }
        answer = await ask.ask("run", on(release, body), timeout=60)
        assert answer.code == "done", answer.body
        return {k: json.loads(v) for k, v in answer.body["outputs"].items()}

    found = await asyncio.gather(*(one(number) for number in range(MANY)))

    for number, seen in enumerate(found):
        other = (number + 1) % MANY
        assert seen["answer"]["said"] == f"q{number}"
        assert f'"model-{number}"' in seen["final"]["said"]
        assert seen["answer"]["temperature"] == number / 100
        assert seen["right"]["temperature"] == number / 100
        for name, lm in ("answer", number), ("final", number), ("right", number):
            assert seen[name]["model"] == f"model-{lm}"
            assert seen[name]["key"] == digest_of_key(key_of(lm))
        assert seen["left"]["model"] == f"model-{other}"
        assert seen["left"]["key"] == digest_of_key(key_of(other))


@each_release
async def test_many_at_once(ask: Asker, model: ScriptedModel, release: str) -> None:
    """One process has as many requests with its model as its pool says."""
    model.hold_chunks()
    asked = [
        asyncio.ensure_future(
            ask.stream("predict", on(release, question()), timeout=120)
        )
        for _ in range(CONCURRENCY)
    ]

    await model.received(CONCURRENCY)
    model.let_chunks_flow()
    found = await asyncio.gather(*asked)

    assert model.most_active == CONCURRENCY
    assert {one.last["kind"] for one in found} == {"done"}
    assert len({one.last["metadata"]["worker"] for one in found}) == 1


@each_release
async def test_the_last_part_streams(
    ask: Asker, model: ScriptedModel, release: str
) -> None:
    """Deltas of a chain are those of its last part, and join to its outputs."""
    spec = {
        "module": "chain",
        "steps": [
            step("text -> summary"),
            {
                "program": {
                    "module": "chain_of_thought",
                    "signature": "summary -> title",
                },
                "outputs": {"title": "headline"},
            },
        ],
    }
    body = on(release, {"program": spec, "inputs": {"text": "Long."}})

    events = await ask.stream("run", body)

    assert events.last["kind"] == "done", events.last
    assert events.last["outputs"].keys() == {"reasoning", "headline"}
    for name, text in events.last["outputs"].items():
        assert events.text(name) == text
    assert len(events.of("delta")) > 2


@each_release
async def test_cancel_reaches_all_parts(
    ask: Asker, model: ScriptedModel, release: str
) -> None:
    """A run that is stopped closes the requests of all its parts."""
    model.hang(times=2)
    spec = {"module": "parallel", "steps": [step("q -> a"), step("q -> b")]}
    body = on(release, {"program": spec, "inputs": {"q": "Why?"}})
    request = uuid4().hex
    asked = asyncio.ensure_future(ask.ask("run", body, dspex_request=request))
    await model.received(2)

    await ask.bus.publish(ask.subjects.cancel(request))

    assert (await asked).code == "cancelled"
    await model.disconnected(2)


async def test_from_one_release_to_the_others(ask: Asker, model: ScriptedModel) -> None:
    """What the oldest learns is stored, run by all, and rolled back."""
    model.reply_with(pupil)
    name = f"p{uuid4().hex[:8]}"
    await ask.ask("program.put", {"name": name, "specification": PREDICT})
    body = {
        "program": name,
        "optimizer": {"name": "LabeledFewShot", "k": 2},
        "trainset": EXAMPLES[:5],
        "metric": EXACT,
        "put_as": name,
        "expected_version": 1,
    }

    async def prompts() -> list[int]:
        model.requests.clear()
        run = {"program": name, "inputs": {"question": EXAMPLES[0]["question"]}}
        found = [await ask.ask("run", on(release, run)) for release in RELEASES]
        assert [one.body["metadata"]["dspy"] for one in found] == list(RELEASES)
        return [len(one.messages) for one in model.requests]

    before = await prompts()
    learned = await ask.ask("program.optimize", on(RELEASES[0], body), timeout=60)
    after = await prompts()
    first = await ask.ask("program.get", {"name": name, "version": 1})
    specification = first.body["outputs"]["specification"]
    await ask.ask("program.put", {"name": name, "specification": specification})

    assert learned.body["outputs"]["version"] == 2
    assert before == [2] * len(RELEASES)
    assert after == [6] * len(RELEASES)  # two demos, each a question and an answer
    assert await prompts() == before
