"""Real inference over NATS, with the built-in model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.support.asking import Asker, question, read
from tests.support.builtin import KEY, end, start, weights_folder
from tests.support.commands import dspex
from tests.support.journals import ended
from tests.support.stack import Program, Stack

from dspex.services.model.weights import WeightsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.model]


@pytest.fixture(scope="module", name="toy_stack")
async def _toy_stack(
    nats_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    try:
        running = start(weights_folder())
    except WeightsError as error:
        pytest.skip(f"The weights of the built-in model cannot be fetched: {error}")
    environ = {
        "DSPEX_LM": "builtin",
        "DSPEX_MODEL_URL": running.ready["url"],
        "DSPEX_MODEL_KEY": KEY,
    }
    folder = tmp_path_factory.mktemp("toy")
    async with Stack(nats_url, folder, f"b{uuid4().hex[:8]}", environ) as stack:
        await stack.start(Program("dspex.router"), Program("dspex.native"))
        await stack.start(Program("dspex.services.state"))
        await stack.start(Program("dspex.services.worker"))
        await stack.ready(workers=1, state=1)
        yield stack
    end(running.process)


@pytest.fixture(name="toy")
async def _toy(toy_stack: Stack, bus: NatsBus) -> Asker:
    return Asker(bus, toy_stack.subjects)


async def test_extraction(toy: Asker) -> None:
    """A real model's JSON answer validates, and the answer says that it is a toy."""
    found = await toy.ask(
        "predict",
        question("text -> name: str, age: int", text="John Smith is 31 years old."),
        timeout=60,
    )

    assert found.body["outputs"] == {"name": "John Smith", "age": 31}
    assert found.body["metadata"]["lm"] == "built-in toy model, 135M parameters"
    assert found.body["metadata"]["usage"]["completion_tokens"] > 0


async def test_replays_ask_it_too(toy: Asker, toy_stack: Stack, bus: NatsBus) -> None:
    """`dspex replay live` starts the built-in model where that is to answer."""
    await toy.ask("predict", question(question="Hi"), dspex_request="toy-1", timeout=60)
    await ended(bus, toy_stack, "toy-1")
    models = {"DSPEX_MODELS": str(weights_folder())}
    known = {name: toy_stack.environ[name] for name in ("DSPEX_LM",)}
    other = Stack(toy_stack.url, toy_stack.folder, toy_stack.prefix, known | models)

    status, out, err = await dspex(
        other, "replay", "live", "--request", "toy-1", "--json"
    )

    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["summary"]["replayed"] == 1


async def test_stream(toy: Asker) -> None:
    """Deltas of a real model's answer arrive one by one and join to the answer."""
    events = await toy.stream("predict", question(question="What is rain?"), timeout=60)

    assert events.last["kind"] == "done"
    assert len(events.of("delta")) > 5
    assert events.text("answer") == events.last["outputs"]["answer"]


async def test_cancel_frees_the_model(toy: Asker) -> None:
    """Leaving a stream stops the inference: the next question need not wait for it."""
    body = question(question="Tell me everything about the sea.")
    body["config"] = {"max_tokens": 2000}
    async with await toy.bus.replies(dedicated=True) as replies:
        await toy.bus.publish(
            toy.subjects.call("predict"),
            json.dumps(body).encode(),
            headers={"Dspex-Stream": "inbox", "Dspex-Request": "sea"},
            reply=replies.subject,
        )
        while b'"delta"' not in (await replies.next(60)).data:
            continue
        await toy.bus.publish(toy.subjects.cancel("sea"))
        last = {}
        while not (message := await replies.next(5)).is_end():
            last = read(message)

    assert last["kind"] == "cancelled"
    assert (await toy.ask("predict", question(), timeout=60)).code == "done"
