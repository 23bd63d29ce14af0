"""GPU memory in heartbeats, through the real NVML binding and a stand-in library."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.support.nvml import build_fake_nvml
from tests.support.stack import Program, Stack, worker_environ

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel

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
