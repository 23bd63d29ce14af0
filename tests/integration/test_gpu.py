"""GPU memory in heartbeats, through the real NVML binding and a stand-in library."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import question
from tests.support.hosts import supervisor
from tests.support.nvml import build_fake_nvml
from tests.support.stack import Program, Stack, worker_environ

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.asking import Asker
    from tests.support.scripted_model import ScriptedModel

    from dspex.contracts.heartbeats import Heartbeat

pytestmark = [
    pytest.mark.nats,
    pytest.mark.dspy,
    pytest.mark.skipif(sys.platform != "linux", reason="LD_LIBRARY_PATH is Linux's"),
]

GIB = 1 << 30


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


async def test_requests_go_where_there_is_memory(
    own: Stack, ask: Asker, model: ScriptedModel, tmp_path: Path
) -> None:
    """A worker has one GPU; what needs much memory never lands on the small one."""
    machine = tmp_path / "gpus"
    machine.write_text(f"big:{24 * GIB}:{22 * GIB};small:{8 * GIB}:{8 * GIB}")
    own.environ |= build_fake_nvml(tmp_path) | {"FAKE_GPUS_FILE": str(machine)}
    own.environ |= {"DSPEX_POOLS_GPU_GPUS": '["all"]', "DSPEX_POOLS_GPU_PROCESSES": "2"}
    own.environ["DSPEX_POOLS_LIGHT_PROCESSES"] = "0"
    await own.start(Program("dspex.router"), Program("dspex.native"))
    await own.start(supervisor(own.folder))
    await own.ready(workers=2)
    cards = {beat.gpus[0].name: beat for beat in own.beats()}
    model.latency = 0.1

    large = await asyncio.gather(
        *(ask.ask("predict", _body(20 * 1024)) for _ in range(5))
    )
    one_at_a_time, model.most_active = model.most_active, 0
    halves = await asyncio.gather(
        *(ask.ask("predict", _body(10 * 1024)) for _ in range(6))
    )
    two_at_a_time = model.most_active
    machine.write_text(f"big:{24 * GIB}:{GIB};small:{8 * GIB}:{8 * GIB}")
    first = _beat(own, cards["big"].worker).seq
    await own.until(lambda: _beat(own, cards["big"].worker).seq >= first + 2)
    seen = _beat(own, cards["big"].worker).gpus[0].free
    refused = await ask.ask("predict", _body(20 * 1024))

    assert set(cards) == {"big", "small"}
    assert all(len(beat.gpus) == 1 for beat in cards.values())
    for answer in large + halves:
        assert answer.code == "done", answer.body
        assert answer.body["metadata"]["worker"] == cards["big"].worker
    assert one_at_a_time == 1
    assert 1 <= two_at_a_time <= 2
    assert seen == GIB
    assert refused.code == "no_worker"
    assert "The most there is: 8192 MiB" in refused.body["message"]


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
    await own.ready(workers=2)
    model.latency = 0.2
    direct = own.subjects.pool_run("gpu")

    routed, unrouted = await asyncio.gather(
        asyncio.gather(*(ask.ask("predict", _body(14 * 1024)) for _ in range(6))),
        asyncio.gather(
            *(
                ask.ask("predict", _body(14 * 1024), subject=direct, timeout=60)
                for _ in range(6)
            )
        ),
    )

    # A router tells after three seconds that the others have the card.
    assert {answer.code for answer in routed} <= {"done", "no_worker"}
    assert {answer.code for answer in unrouted} == {"done"}
    assert len({answer.body["metadata"]["worker"] for answer in unrouted}) == 2
    assert model.most_active == 1


def _beat(own: Stack, worker: str) -> Heartbeat:
    return next(beat for beat in own.beats() if beat.worker == worker)
