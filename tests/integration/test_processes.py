"""Processes that come, go, freeze and die under requests."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.asking import Asker, question
from tests.support.nats_server import NatsServer
from tests.support.stack import Program, Stack, worker_environ

from dspex.bus.connection import BusSettings, NatsBus, connect
from dspex.bus.core import NoResponders
from dspex.contracts import catalog
from dspex.contracts.failures import BusUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel


pytestmark = [pytest.mark.nats, pytest.mark.dspy]

WORKER = ("dspex.services.worker", "--pool", "light")


async def test_worker_killed(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A killed worker's requests go to another one, and all are answered at once."""
    await own.start(Program("dspex.router"), Program("dspex.native"))
    workers = [Program(*WORKER), Program(*WORKER)]
    await own.start(*workers)
    await own.ready(workers=2)
    model.hang(times=1)
    asked = asyncio.ensure_future(ask.ask("predict", question()))
    await asyncio.wait_for(model.received(1), 10)
    await own.until(lambda: any(beat.in_flight for beat in own.beats()))
    held = next(beat.pid for beat in own.beats() if beat.in_flight)

    next(worker for worker in workers if worker.pid == held).signal(signal.SIGKILL)
    others = [await ask.ask("predict", question()) for _ in range(8)]
    lost = await asked

    assert {answer.code for answer in others} == {"done"}
    assert lost.code == "done"
    assert lost.body["metadata"]["attempts"] == 2
    assert lost.body["metadata"]["reason"] == "only_candidate_after_worker_lost"


async def test_worker_frozen(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A frozen worker is noticed by its silence; its request does not hang."""
    frozen = Program(*WORKER)
    await own.start(Program("dspex.router"), Program("dspex.native"), frozen)
    await own.ready(workers=1)

    frozen.signal(signal.SIGSTOP)
    found = await ask.ask("predict", question())
    frozen.signal(signal.SIGCONT)

    assert found.code == "worker_lost"


async def test_drain(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A worker told to stop answers what it has in hand, then leaves with status 0."""
    worker = Program(*WORKER)
    await own.start(Program("dspex.router"), Program("dspex.native"), worker)
    await own.ready(workers=1)
    model.latency = 1.0
    asked = [asyncio.ensure_future(ask.ask("predict", question())) for _ in range(4)]
    await asyncio.wait_for(model.received(4), 10)

    worker.signal(signal.SIGTERM)
    answers = await asyncio.gather(*asked)

    assert [answer.code for answer in answers] == ["done"] * 4
    assert await worker.wait() == 0
    refused = await ask.ask("predict", question())
    assert refused.code == "no_worker"


async def test_router_drains(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A router told to stop follows its requests to their end."""
    router = Program("dspex.router")
    await own.start(router, Program("dspex.native"), Program(*WORKER))
    await own.ready(workers=1)
    model.latency = 1.0
    asked = asyncio.ensure_future(ask.ask("predict", question()))
    await asyncio.wait_for(model.received(1), 10)

    router.signal(signal.SIGTERM)

    assert (await asked).code == "done"
    assert await router.wait() == 0


async def test_two_routers(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """Two routers share the requests; with one killed the other takes all."""
    first, second = Program("dspex.router"), Program("dspex.router")
    await own.start(first, second, Program("dspex.native"), Program(*WORKER))
    await own.ready(workers=1, routers=2)

    both = [await ask.ask("predict", question()) for _ in range(20)]
    async with asyncio.timeout(10):  # the last one is counted after its answer
        while sum(counts := await _requests_per_router(ask, 2)) < 20:
            pass
    first.signal(signal.SIGKILL)
    await first.wait()
    one = [await ask.ask("predict", question()) for _ in range(10)]

    assert {answer.code for answer in both + one} == {"done"}
    assert sum(counts) == 20
    assert all(counts)


async def test_full(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """Past slots and queue requests are refused at once, with when to come back."""
    own.environ["DSPEX_ROUTER_QUEUE"] = "2"
    await own.start(Program("dspex.router"), Program("dspex.native"), Program(*WORKER))
    await own.ready(workers=1)
    model.latency = 1.0

    answers = await asyncio.gather(*(ask.ask("predict", question()) for _ in range(10)))

    codes = [answer.code for answer in answers]
    assert codes.count("done") == 6
    assert codes.count("overloaded") == 4
    refused = next(answer for answer in answers if answer.code == "overloaded")
    assert refused.body["retry_after_ms"] > 0


async def test_workers_come_later(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """Without workers the failure says what to start; a new one serves right away."""
    await own.start(Program("dspex.router"), Program("dspex.native"))
    await own.ready(workers=0)
    early = await ask.ask("predict", question())

    await own.start(Program(*WORKER))
    await own.ready(workers=1)
    late = await ask.ask("predict", question())

    assert early.code == "no_worker"
    assert "dspex-worker" in early.body["hint"]
    assert late.code == "done"


async def test_children_end_with_their_parent(own: Stack) -> None:
    """A program whose parent is gone drains and ends by itself."""
    programs = [Program("dspex.router"), Program("dspex.native"), Program(*WORKER)]
    await own.start(*programs)
    await own.ready(workers=1)

    for program in programs:
        program.close_stdin()

    assert [await program.wait() for program in programs] == [0, 0, 0]


async def test_discovery(asker: Asker) -> None:
    """Any NATS tool's service discovery lists who is there, with versions."""
    expected = {"dspex-router", "dspex-native", "dspex-worker-light", "dspex-state"}
    found: list[dict[str, Any]] = []
    async with await asker.bus.replies() as replies:
        await asker.bus.publish("$SRV.INFO", reply=replies.subject)
        while not expected <= {one["name"] for one in found}:
            found.append(json.loads((await replies.next(5)).data))

    assert all(one["type"] == "io.nats.micro.v1.info_response" for one in found)
    assert all(one["version"] for one in found)


async def test_heartbeat_says_what_a_worker_can_do(stack: Stack) -> None:
    """Capacity, operations, models and versions are in every heartbeat."""
    beat = stack.beats()[0]

    assert beat.operations == catalog.served_by("python")
    assert beat.concurrency == 16
    assert beat.lms == ["default"]
    assert beat.dspy
    assert beat.python
    assert beat.rss > 10_000_000


async def _requests_per_router(ask: Asker, routers: int) -> list[int]:
    prefix = ask.subjects.prefix
    counts: dict[str, int] = {}
    async with await ask.bus.replies() as replies:
        await ask.bus.publish("$SRV.STATS.dspex-router", reply=replies.subject)
        while len(counts) < routers:
            stats = json.loads((await replies.next(5)).data)
            for endpoint in stats["endpoints"]:
                if endpoint["subject"] == f"{prefix}.v1.call.>":
                    counts[stats["id"]] = endpoint["num_requests"]
    return list(counts.values())


async def test_nats_restarts(
    scripted: ScriptedModel, tmp_path: Path, model: ScriptedModel
) -> None:
    """After an outage longer than a heartbeat's silence the first request works."""
    async with NatsServer(tmp_path / "nats") as server:
        environ = worker_environ(scripted.url)
        async with Stack(server.url, tmp_path, "restarted", environ) as stack:
            await stack.start(Program("dspex.router"), Program("dspex.native"))
            await stack.start(Program(*WORKER))
            await stack.ready(workers=1)
            bus = await connect(BusSettings(url=server.url))
            await server.stop()
            await stack.silence(4.0)
            await server.start()

            codes = [
                await _code_when_back(bus, stack),
                (await Asker(bus, stack.subjects).ask("predict", question())).code,
            ]
            await bus.close()

    assert codes == ["done", "done"]


async def _code_when_back(bus: NatsBus, stack: Stack) -> str:
    """Ask until the connection stands and a router listens; the first answer's code."""
    while True:
        try:
            return (await Asker(bus, stack.subjects).ask("predict", question())).code
        except (BusUnavailable, NoResponders, TimeoutError):
            continue
