"""Workers on every supported release of DSPy: same wire, each with its own prompts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, question
from tests.support.releases import INSTALLED, MANY, RELEASES, key_of, on
from tests.support.scripted_wire import digest_of_key

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.scripted_wire import Received
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.xdist_group("releases")]

MIXED: dict[str, Any] = {
    "signature": "text, limits: dict[str, int] -> label: Literal['a', 'b'], "
    "score: float, names: list[str]",
    "inputs": {"text": "Ein Wort,\nnoch eins.", "limits": {"least": 2}},
    "instructions": "Judge the text.",
    "demos": [
        {
            "text": "So.",
            "limits": {},
            "label": "a",
            "score": 0.5,
            "names": ["Ada"],
        }
    ],
}


@pytest.fixture(name="ask")
async def _ask(releases: Stack, bus: NatsBus) -> Asker:
    return Asker(bus, releases.subjects)


def content(request: Received) -> list[tuple[str, str]]:
    return [(one["role"], _text(one["content"])) for one in request.messages]


def _text(said: Any) -> str:
    if isinstance(said, list):
        return "".join(part.get("text", "") for part in said)
    return str(said)


async def test_heartbeats_say_their_release(releases: Stack) -> None:
    """Every worker says which release it runs, and the router chooses by it."""
    assert {beat.dspy for beat in releases.beats()} == set(RELEASES)


async def test_what_some_lack_goes_to_the_others(
    ask: Asker, model: ScriptedModel
) -> None:
    """A request that needs what one release lacks is answered by another."""
    body = question() | {"adapter": "xml"}

    found = await asyncio.gather(*(ask.ask("predict", body) for _ in range(24)))

    assert {one.code for one in found} == {"done"}
    assert {one.body["metadata"]["dspy"] for one in found} == set(RELEASES[1:])


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("operation", ["predict", "chain_of_thought"])
@pytest.mark.parametrize("adapter", ["chat", "json"])
async def test_answers(
    ask: Asker, model: ScriptedModel, release: str, operation: str, adapter: str
) -> None:
    """Types, demos and both adapters work on every release."""
    body = on(release, MIXED | {"adapter": adapter})

    answer = await ask.ask(operation, body)

    assert answer.code == "done", answer.body
    assert answer.body["metadata"]["dspy"] == release
    outputs = answer.body["outputs"]
    assert outputs["label"] in ("a", "b")
    assert isinstance(outputs["score"], float)
    assert isinstance(outputs["names"], list)
    assert answer.body["metadata"]["usage"]["calls"] == 1


@pytest.mark.parametrize("release", RELEASES)
async def test_prompts_are_those_of_the_release(
    ask: Asker, model: ScriptedModel, release: str
) -> None:
    """``prompt.render`` in the dialect of a release writes what its worker sends."""
    await ask.ask("predict", on(release, MIXED | {"adapter": "chat"}))
    [sent] = model.requests

    rendered = await ask.ask(
        "prompt.render", MIXED | {"adapter": "chat", "dialect": release}
    )

    messages = rendered.body["outputs"]["messages"]
    assert content(sent) == [(one["role"], _text(one["content"])) for one in messages]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("adapter", ["chat", "json"])
async def test_streams(
    ask: Asker, model: ScriptedModel, release: str, adapter: str
) -> None:
    """Deltas join to the outputs on every release."""
    body = on(release, question() | {"adapter": adapter})

    events = await ask.stream("predict", body)

    assert events.last["kind"] == "done", events.last
    assert events.text("answer") == events.last["outputs"]["answer"]
    assert len(events.of("delta")) >= 1


@pytest.mark.parametrize("release", RELEASES)
async def test_isolation(ask: Asker, model: ScriptedModel, release: str) -> None:
    """Fifty requests at once see nothing of each other's model, key or temperature."""
    model.reply_with(
        lambda request: (
            "[[ ## answer ## ]]\n"
            f"{request.body['model']} {request.body['temperature']} "
            f"{request.headers['key-digest']}\n\n[[ ## completed ## ]]"
        )
    )
    model.latency = 0.3

    async def one(number: int) -> str:
        body = on(release, question() | {"lm": f"m{number}", "adapter": "chat"})
        answer = await ask.ask("predict", body, timeout=60)
        assert answer.code == "done", answer.body
        assert answer.body["metadata"]["lm"] == f"openai/model-{number}"
        return str(answer.body["outputs"]["answer"])

    said = await asyncio.gather(*(one(number) for number in range(MANY)))

    assert said == [
        f"model-{number} {number / 100} {digest_of_key(key_of(number))}"
        for number in range(MANY)
    ]
    assert model.most_active > 10


@pytest.mark.parametrize("release", RELEASES)
async def test_cancel_reaches_the_model(
    ask: Asker, model: ScriptedModel, release: str
) -> None:
    """A request that is stopped closes the model's HTTP request on every release."""
    model.hang(times=1)
    request = uuid4().hex
    asked = asyncio.ensure_future(
        ask.ask("predict", on(release, question()), dspex_request=request)
    )
    await model.received(1)

    await ask.bus.publish(ask.subjects.cancel(request))

    assert (await asked).code == "cancelled"
    await model.disconnected(1)


@pytest.mark.parametrize(
    ("release", "code"), [("2.6.27", "unsupported"), (INSTALLED, "done")]
)
async def test_what_a_release_lacks(
    ask: Asker, model: ScriptedModel, release: str, code: str
) -> None:
    """What a release does not have is refused with a hint, and nothing is asked."""
    answer = await ask.ask("predict", on(release, question() | {"adapter": "xml"}))

    assert answer.code == code
    assert len(model.requests) == (code == "done")
