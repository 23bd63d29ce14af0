"""GPU memory, seen and shared out by the real NVML binding and a stand-in library."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, question
from tests.support.hosts import supervisor
from tests.support.nvml import build_fake_nvml
from tests.support.stack import Program, Stack, worker_environ

from dspex.bus.connection import BusSettings, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.asking import Answer
    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus
    from dspex.contracts.heartbeats import Heartbeat

pytestmark = [
    pytest.mark.nats,
    pytest.mark.dspy,
    pytest.mark.skipif(sys.platform != "linux", reason="LD_LIBRARY_PATH is Linux's"),
]

GIB = 1 << 30
_MACHINE = f"big:{24 * GIB}:{{}};small:{8 * GIB}:{8 * GIB}"
BIG: dict[str, Any] = {
    "module": "predict",
    "signature": "question -> answer",
    "gpu_memory_mib": 20 * 1024,
}
RUN: dict[str, Any] = {"program": "outer", "inputs": {"question": "Why?"}}
"""Runs a stored program that says by another one that it needs 20 GiB."""


async def test_heartbeats_advertise_gpu_memory(
    nats_url: str, scripted: ScriptedModel, tmp_path: Path
) -> None:
    """Each GPU that can be read is there with its free memory, the broken one not."""
    gpus = {"FAKE_GPUS": f"NVIDIA L4:{24 * GIB}:{20 * GIB};broken:1:1;B:{GIB}:0"}
    environ = worker_environ(scripted.url) | build_fake_nvml(tmp_path) | gpus
    async with Stack(nats_url, tmp_path, f"g{uuid4().hex[:8]}", environ) as stack:
        await stack.start(Program("dspex.services.worker", "--pool", "light"))
        await stack.until(lambda: len(stack.beats()) == 1)

        found = [(gpu.name, gpu.total, gpu.free) for gpu in stack.beats()[0].gpus]

    assert found == [("NVIDIA L4", 24 * GIB, 20 * GIB), ("B", GIB, 0)]


async def test_no_gpu(stack: Stack) -> None:
    """A machine without the library is a machine without GPUs."""
    assert [beat.gpus for beat in stack.beats()] == [[], []]


def _body(mib: int) -> dict[str, Any]:
    return question() | {"options": {"gpu_memory_mib": mib}}


class Cards:
    """Two workers, each with a GPU of its own: ``big`` and ``small``.

    Attributes:
        stack: What they belong to.
        ask: Its client.
    """

    def __init__(self, stack: Stack, bus: NatsBus) -> None:
        self.stack = stack
        self.ask = Asker(bus, stack.subjects)

    async def start(self) -> None:
        """Start them, with a router and what stores programs."""
        stack, file = self.stack, self.stack.folder / "gpus"
        stack.environ |= build_fake_nvml(stack.folder) | {"FAKE_GPUS_FILE": str(file)}
        stack.environ |= {"DSPEX_POOLS_GPU_GPUS": '["all"]'}
        stack.environ |= {"DSPEX_POOLS_GPU_PROCESSES": "2"}
        stack.environ["DSPEX_POOLS_LIGHT_PROCESSES"] = "0"
        file.write_text(_MACHINE.format(22 * GIB))
        await stack.start(Program("dspex.router"), Program("dspex.native"))
        await stack.start(Program("dspex.services.state"), supervisor(stack.folder))
        await stack.ready(workers=2, state=1)

    async def free(self, size: int) -> None:
        """Let so much be free on the big one, and hear that of its worker twice."""
        (self.stack.folder / "gpus").write_text(_MACHINE.format(size))
        first = self["big"].seq
        await self.stack.until(lambda: self["big"].seq >= first + 2)

    def __getitem__(self, name: str) -> Heartbeat:
        [found] = [one for one in self.stack.beats() if one.gpus[0].name == name]
        assert len(found.gpus) == 1
        return found


@pytest.fixture(scope="module", name="cards")
async def _cards(
    nats_url: str, scripted: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cards]:
    folder, prefix = tmp_path_factory.mktemp("cards"), f"g{uuid4().hex[:8]}"
    bus = await connect(BusSettings(url=nats_url, name="test"))
    async with Stack(nats_url, folder, prefix, worker_environ(scripted.url)) as stack:
        cards = Cards(stack, bus)
        await cards.start()
        yield cards
    await bus.close()


async def _put_outer(ask: Asker, mib: int) -> None:
    chain = {"module": "chain", "steps": [{"program": "big"}]}
    for name, one in (("big", BIG | {"gpu_memory_mib": mib}), ("outer", chain)):
        put = await ask.ask("program.put", {"name": name, "specification": one})
        assert put.code == "done", put.body


async def test_requests_go_where_there_is_memory(
    cards: Cards, model: ScriptedModel
) -> None:
    """A worker has one GPU; what needs much memory never lands on the small one."""
    ask, big = cards.ask, cards["big"].worker
    await cards.free(22 * GIB)
    model.latency = 0.1

    large = await asyncio.gather(
        *(ask.ask("predict", _body(20 * 1024)) for _ in range(5))
    )
    one_at_a_time, model.most_active = model.most_active, 0
    halves = await asyncio.gather(
        *(ask.ask("predict", _body(10 * 1024)) for _ in range(6))
    )
    two_at_a_time = model.most_active
    await cards.free(GIB)
    seen = cards["big"].gpus[0].free
    refused = await ask.ask("predict", _body(20 * 1024))

    for answer in large + halves:
        assert answer.code == "done", answer.body
        assert answer.body["metadata"]["worker"] == big
    assert one_at_a_time == 1
    assert 1 <= two_at_a_time <= 2
    assert seen == GIB
    assert refused.code == "no_worker"
    assert "The most there is: 8192 MiB" in refused.body["message"]


async def test_programs_go_where_there_is_memory(
    cards: Cards, model: ScriptedModel
) -> None:
    """What a program declares counts, though it is known only once it was looked up."""
    ask, small = cards.ask, cards["small"].worker
    await cards.free(22 * GIB)
    await _put_outer(ask, 20 * 1024)
    model.latency = 0.1

    described = await ask.ask("program.describe", {"program": "outer"})
    given = RUN | {"program": BIG}
    answers = await asyncio.gather(
        *(ask.ask("run", body) for body in (RUN, RUN, RUN, RUN, given))
    )
    refused = await ask.ask("run", RUN, dspex_route=f"worker:{small}")

    assert described.body["outputs"]["gpu_memory_mib"] == 20 * 1024
    _require_big(cards, *answers)
    reasons = [answer.body["metadata"]["reason"] for answer in answers]
    assert any(reason.endswith("_after_short") for reason in reasons)
    assert model.most_active == 1
    assert (refused.code, refused.body["field"]) == ("no_worker", "program")


async def test_programs_without_a_router(cards: Cards, model: ScriptedModel) -> None:
    """Sent straight to a pool, a program waits for its card, or is told it is small."""
    await cards.free(22 * GIB)
    await _put_outer(cards.ask, 20 * 1024)
    model.latency = 0.1
    to = cards.stack.subjects.pool_run("gpu")

    answers = await asyncio.gather(
        *(
            cards.ask.ask("run", RUN, subject=to, timeout=60, dspex_operation="run")
            for _ in range(8)
        )
    )

    small = [one for one in answers if one.code != "done"]
    _require_big(cards, *(one for one in answers if one.code == "done"))
    assert {one.code for one in small} <= {"no_worker"}
    assert all("has 8192 MiB" in one.body["message"] for one in small)
    assert model.most_active <= 1


async def test_programs_in_sessions_and_on_examples(cards: Cards) -> None:
    """A turn, an evaluation and its threads need what their program does."""
    ask = cards.ask
    await cards.free(22 * GIB)
    await _put_outer(ask, 20 * 1024)
    session = {"program": "outer", "signature": None}
    evaluate = {
        "program": "outer",
        "dataset": [{"question": "Why?", "answer": "?"}],
        "metric": {"name": "exact_match"},
    }

    opened = await ask.ask("session.open", session)
    turn = cards.stack.subjects.session_call(opened.body["outputs"]["session"], "run")
    turned = await ask.ask("run", {"inputs": RUN["inputs"]}, subject=turn)
    alone = await ask.ask("program.evaluate", evaluate | {"threads": 1})
    wide = await ask.ask("program.evaluate", evaluate | {"threads": 2})

    _require_big(cards, turned, alone)
    assert wide.code == "no_worker"
    assert "No worker has 40960 MiB" in wide.body["message"]


def _require_big(cards: Cards, *answers: Answer) -> None:
    for answer in answers:
        assert answer.code == "done", answer.body
        assert answer.body["metadata"]["worker"] == cards["big"].worker


async def test_a_shared_gpu_is_not_promised_twice(
    own: Stack, ask: Asker, model: ScriptedModel, tmp_path: Path
) -> None:
    """Two workers on one card, asked at a time, never declare more than it has."""
    own.environ |= build_fake_nvml(tmp_path) | {"FAKE_GPUS": f"a:{24 * GIB}:{24 * GIB}"}
    own.environ |= {"DSPEX_POOLS_GPU_GPUS": '["0"]', "DSPEX_POOLS_GPU_PROCESSES": "2"}
    own.environ["DSPEX_POOLS_LIGHT_PROCESSES"] = "0"
    await own.start(Program("dspex.router"), Program("dspex.native"))
    await own.start(supervisor(own.folder))
    await own.ready(workers=2)
    model.latency = 0.2

    answers = await asyncio.gather(
        *(ask.ask("predict", _body(10 * 1024)) for _ in range(8))
    )

    assert {answer.code for answer in answers} == {"done"}
    assert {gpu.uuid for beat in own.beats() for gpu in beat.gpus} == {"GPU-0000"}
    assert model.most_active <= 2


async def test_a_shared_gpu_with_two_routers_and_without(
    own: Stack, ask: Asker, model: ScriptedModel, tmp_path: Path
) -> None:
    """Whoever sends requests to the workers of a card, it is never promised twice."""
    own.environ |= build_fake_nvml(tmp_path) | {"FAKE_GPUS": f"a:{24 * GIB}:{24 * GIB}"}
    own.environ |= {"DSPEX_POOLS_GPU_GPUS": '["0"]', "DSPEX_POOLS_GPU_PROCESSES": "2"}
    own.environ["DSPEX_POOLS_LIGHT_PROCESSES"] = "0"
    routers = [Program("dspex.router") for _ in range(2)]
    await own.start(*routers, Program("dspex.native"), supervisor(own.folder))
    await own.start(Program("dspex.services.state"))
    await own.ready(workers=2, state=1)
    await _put_outer(ask, 14 * 1024)
    model.latency = 0.2
    direct = own.subjects.pool_run("gpu")

    routed, unrouted = await asyncio.gather(
        asyncio.gather(
            *(ask.ask("predict", _body(14 * 1024)) for _ in range(3)),
            *(ask.ask("run", RUN) for _ in range(3)),
        ),
        asyncio.gather(
            *(
                ask.ask("predict", _body(14 * 1024), subject=direct, timeout=60)
                for _ in range(6)
            ),
            *(
                ask.ask("run", RUN, subject=direct, timeout=60, dspex_operation="run")
                for _ in range(3)
            ),
        ),
    )

    # A router tells after three seconds that the others have the card.
    assert {answer.code for answer in routed} <= {"done", "no_worker"}
    assert {answer.code for answer in unrouted} == {"done"}
    assert len({answer.body["metadata"]["worker"] for answer in unrouted}) == 2
    assert model.most_active == 1
