"""Replays that are asked for on the bus, and from Python."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.support.asking import Asker, chat, question
from tests.support.journals import ended
from tests.support.stack import Program, Stack

import dspex.client.sync
from dspex.bus.durable import api
from dspex.contracts.failures import BadRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus
    from dspex.client import Client
    from dspex.contracts.replay_requests import ReplaySummary

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(300)]

MOST = "3"


@pytest.fixture(name="served", scope="module")
async def _served(stack: Stack) -> AsyncIterator[None]:
    """A replay program beside the stack that all tests share."""
    program = Program("dspex.services.replay", environ={"DSPEX_REPLAY_REQUESTS": MOST})
    await stack.start(program)
    await stack.serving(program)
    yield
    await program.stop()
    stack.programs.remove(program)


@pytest.fixture(name="recorded")
async def _recorded(
    asker: Asker, model: ScriptedModel, bus: NatsBus, stack: Stack, served: None
) -> list[str]:
    """Two answers in the journal."""
    del served
    model.reply_with(chat(answer="x y"))
    names = [f"op-{uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        await asker.ask("predict", question(), dspex_request=name)
        await ended(bus, stack, name)
    return names


async def shadows(bus: NatsBus) -> list[str]:
    """The streams of replays that there are."""
    found = await api(bus, "STREAM.NAMES")
    return [one for one in found["streams"] or () if one.startswith("REPLAY")]


async def test_python_reads_each_result(
    recorded: list[str], model: ScriptedModel, bus: NatsBus, stack: Stack
) -> None:
    """Results come one by one, then the summary; no model is asked."""
    asked = len(model.requests)

    def read() -> tuple[dict[str, str], ReplaySummary, list[str]]:
        url, prefix = bus.settings.url, stack.prefix
        with dspex.client.sync.connect(url, prefix=prefix) as waiting:
            replay = waiting.replay("exact", requests=recorded)
            with pytest.raises(BadRequest, match="not ended"):
                _ = replay.summary
            found = {one.request: str(one.status) for one in replay}
            return found, replay.summary, replay.passed_over

    found, summary, passed_over = await asyncio.to_thread(read)

    assert found == dict.fromkeys(recorded, "identical")
    assert (summary.replayed, summary.identical) == (2, 2)
    assert passed_over == []
    assert len(model.requests) == asked
    assert await shadows(bus) == []


async def test_any_client_has_what_differs_in_one_reply(
    asker: Asker, recorded: list[str], model: ScriptedModel
) -> None:
    """A request has the summary and the first differences; a metric scores them."""
    model.reply_with(chat(answer="x z"))
    body = {"mode": "live", "requests": recorded, "metric": "f1"}

    reply = await asker.ask("replay.run", body, timeout=120)

    assert reply.body["metadata"]["pool"] == "replay"
    outputs = reply.body["outputs"]
    assert outputs["summary"] == {"replayed": 2, "changed": 2, "score": 0.5}
    assert {one["request"] for one in outputs["results"]} == {*recorded}
    difference = outputs["results"][0]["first_difference"]
    assert difference["path"] == "outputs.answer"
    assert (difference["recorded"], difference["replayed"]) == ("x y", "x z")


async def test_what_may_not_be_replayed_is_refused(
    asker: Asker, recorded: list[str], stack: Stack, bus: NatsBus
) -> None:
    """Something selects, it is the tenant's own, and there is an end to how much."""
    everything = await asker.ask("replay.run", {"mode": "exact"})
    other = Asker(bus, stack.subjects.of("acme"))
    foreign = await other.ask("replay.run", {"requests": recorded})
    for number in range(int(MOST) + 1):
        name, body = f"many-{uuid4().hex[:8]}", {"signature": f"q -> many{number}"}
        await asker.ask("signature.parse", body, dspex_request=name)
        await ended(bus, stack, name)
    many = {"operation": "signature.parse", "text": "q -> many"}
    too_many = await asker.ask("replay.run", many)
    job = {"operation": "replay.run", "body": {"requests": recorded}}
    as_job = await asker.ask("job.submit", job)

    assert (everything.code, everything.body["field"]) == ("bad_request", "requests")
    assert foreign.code == "bad_request"
    assert "No request in the journal" in foreign.body["message"]
    assert too_many.code == "bad_request"
    assert f"at most {MOST}" in too_many.body["message"]
    assert as_job.code == "unsupported"
    assert await shadows(bus) == []


async def test_a_replay_that_nobody_reads_ends_with_its_processes(
    client: Client, recorded: list[str], model: ScriptedModel, bus: NatsBus
) -> None:
    """Leaving the loop is enough; what it had made is removed."""
    model.hang()
    asked = len(model.requests)
    removed: asyncio.Queue[str] = asyncio.Queue()
    await bus.subscribe(
        "$JS.EVENT.ADVISORY.STREAM.DELETED.*",
        lambda one: removed.put_nowait(one.subject),
    )

    reading = asyncio.ensure_future(
        anext(client.replay("live", requests=recorded).results())
    )
    await model.received(asked + 1)
    assert await shadows(bus) != []
    reading.cancel()

    async with asyncio.timeout(60):
        while await shadows(bus):
            await removed.get()
