"""The metrics that real programs export are those of the requests that were made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.support.asking import Asker, question
from tests.support.collector import Collector
from tests.support.nvml import build_fake_nvml
from tests.support.stack import Program, Stack, worker_environ

from dspex.bus import metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

GIB = 1 << 30
ROUTER, WORKER, STATE = "dspex-router", "dspex-worker-light", "dspex-state"
DURATION = metrics.REQUEST_DURATION.name
KINDS = {"counter": "sum", "updowncounter": "sum", "histogram": "histogram"}


def exporting(collector: Collector, model: ScriptedModel) -> dict[str, str]:
    """Configuration of programs that export to a collector five times a second."""
    return worker_environ(model.url) | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
    }


@pytest.fixture(name="collector")
async def _collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector


@pytest.fixture(name="exported")
async def _exported(
    nats_url: str, collector: Collector, model: ScriptedModel, tmp_path: Path
) -> AsyncIterator[Stack]:
    environ = exporting(collector, model)
    if sys.platform == "linux":
        gpu = {"FAKE_GPUS": f"NVIDIA L4:{24 * GIB}:{20 * GIB}"}
        environ |= build_fake_nvml(tmp_path) | gpu
    async with Stack(nats_url, tmp_path, f"x{uuid4().hex[:8]}", environ) as stack:
        await stack.start(Program("dspex.router"), Program("dspex.native"))
        await stack.start(
            Program("dspex.services.worker"), Program("dspex.services.state")
        )
        await stack.ready(workers=1, state=1)
        yield stack


async def test_requests_are_measured(
    exported: Stack, collector: Collector, bus: NatsBus, model: ScriptedModel
) -> None:
    """Answers, refusals, kept answers and model calls are counted where they were."""
    asker, comes = Asker(bus, exported.subjects), collector.comes_to
    for number in range(3):
        await asker.ask("predict", question(question=f"{number}?"), dspex_cache="off")
    for _ in range(2):
        await asker.ask("predict", question(question="Kept?"), dspex_cache="use")
    await asker.ask("predict", question(signature="no"))
    await asker.ask("nonsense.of.a.client", {})

    said = {"dspex_operation": "predict", "dspex_pool": "router"}
    await comes(6, DURATION, ROUTER, **said)
    await comes(1, DURATION, ROUTER, **said, error_type="invalid_signature")
    await comes(1, DURATION, ROUTER, dspex_operation=metrics.OTHER)
    await comes(7, metrics.QUEUE_DURATION.name, ROUTER)
    await comes(4, metrics.ATTEMPTS.name, ROUTER)
    await comes(1, metrics.CACHE_LOOKUPS.name, ROUTER, dspex_cache_result="hit")
    await comes(1, metrics.CACHE_LOOKUPS.name, ROUTER, dspex_cache_result="miss")
    await comes(4, DURATION, WORKER, dspex_pool="light")
    scripted = {"gen_ai_request_model": "scripted", "gen_ai_provider_name": "openai"}
    await comes(4, metrics.LM_DURATION.name, WORKER, **scripted)
    await comes(4, metrics.LM_TOKENS.name, WORKER, gen_ai_token_type="output")
    assert len(model.requests) == 4


async def test_tokens_are_those_of_the_answer(
    exported: Stack, collector: Collector, bus: NatsBus
) -> None:
    """The sums of tokens are what the answer says that was used."""
    found = await Asker(bus, exported.subjects).ask("predict", question())

    usage, name = found.body["metadata"]["usage"], metrics.LM_TOKENS.name
    for kind, key in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        await collector.comes_to(1, name, WORKER, gen_ai_token_type=kind)
        [point] = collector.points(name, gen_ai_token_type=kind)[WORKER].values()
        assert point.sum == usage[key] > 0


async def test_failures_of_models_are_measured(
    exported: Stack, collector: Collector, bus: NatsBus, model: ScriptedModel
) -> None:
    """A model that refuses is in the metrics of its calls, and of retries."""
    model.fail_with(500, times=1)

    found = await Asker(bus, exported.subjects).ask("predict", question())

    comes, failed = collector.comes_to, {"error_type": "lm_unavailable"}
    assert found.code == "done"
    await comes(1, metrics.RETRIES.name, ROUTER)
    await comes(2, metrics.ATTEMPTS.name, ROUTER)
    await comes(2, metrics.LM_DURATION.name, WORKER)
    await comes(1, metrics.LM_DURATION.name, WORKER, **failed)
    await comes(1, DURATION, WORKER, **failed)
    await comes(0, DURATION, ROUTER, **failed)


async def test_jobs_are_measured(
    exported: Stack, collector: Collector, bus: NatsBus
) -> None:
    """A job is counted where it was submitted, and once where its end was stored."""
    asker = Asker(bus, exported.subjects)
    body = {"operation": "predict", "body": question()}

    submitted = await asker.ask("job.submit", body)
    job = {"job": submitted.body["outputs"]["job"]}
    ended = await asker.ask("job.wait", job | {"timeout_s": 15})

    assert ended.body["outputs"]["state"] == "done"
    await collector.comes_to(1, metrics.JOBS_ENDED.name, WORKER, dspex_job_state="done")
    await collector.comes_to(1, metrics.JOBS_SUBMITTED.name, STATE)


async def test_what_a_process_has(exported: Stack, collector: Collector) -> None:
    """Slots and GPU memory are read when they are exported; units are as documented."""
    limit = metrics.SLOTS_LIMIT.name
    [beat] = exported.beats()

    await collector.comes_to(beat.concurrency, limit, WORKER, dspex_pool="light")
    assert collector.count(metrics.SLOTS_USED.name, WORKER) == 0
    if beat.gpus:
        assert collector.count(metrics.GPU_USED.name, WORKER) == 4 * GIB
        assert collector.count(metrics.GPU_LIMIT.name, WORKER) == 24 * GIB
    known = {one.name: (one.unit, KINDS[one.kind]) for one in metrics.INSTRUMENTS}
    assert collector.units().items() <= known.items()
