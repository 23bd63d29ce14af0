"""What a stock autoscaler sees of jobs: the manifest in deploy, read as KEDA does."""

from __future__ import annotations

import asyncio
import json
import math
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.support.asking import Asker
from tests.support.jobs import submit
from tests.support.nats_server import NatsServer, free_port
from tests.support.stack import Program, Stack

from dspex.bus.connection import BusSettings, connect
from dspex.contracts.pooling import Pool, Supervising
from dspex.services.supervisor.scaling import Load, needed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.nats

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "keda.yaml"
QUESTION = {"signature": "question -> answer", "inputs": {"question": "?"}}


@pytest.fixture(name="spec")
def _spec() -> dict[str, Any]:
    spec: dict[str, Any] = msgspec.yaml.decode(MANIFEST.read_bytes())["spec"]
    return spec


@pytest.fixture(name="monitored")
async def _monitored(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Asker, str]]:
    """A stack without workers under the prefix of the manifest, on its own server."""
    folder, endpoint = tmp_path_factory.mktemp("keda"), f"127.0.0.1:{free_port()}"
    async with (
        NatsServer(folder / "nats", extra=f'http: "{endpoint}"') as server,
        Stack(server.url, folder, "dspex", {}) as stack,
    ):
        await stack.start(Program("dspex.router"), Program("dspex.services.state"))
        await stack.ready(workers=0, native=0, state=1)
        bus = await connect(BusSettings(url=server.url, name="test"))
        yield Asker(bus, stack.subjects), endpoint
        await bus.close()


async def lag_of(trigger: dict[str, Any], endpoint: str) -> int:
    """What KEDA's scaler makes of a trigger: what waits and what is not acknowledged.

    Raises:
        LookupError: There is no such consumer.
    """
    given = trigger["metadata"]
    query = f"acc={given['account']}&consumers=true&config=true"
    url = f"http://{endpoint}/jsz?{query}"
    with await asyncio.to_thread(urllib.request.urlopen, url, timeout=10) as answer:
        accounts = json.load(answer)["account_details"]
    for account in accounts:
        for stream in account["stream_detail"]:
            for consumer in stream.get("consumer_detail") or []:
                found = account["name"], stream["name"], consumer["name"]
                if found == (given["account"], given["stream"], given["consumer"]):
                    waits: int = consumer["num_pending"] + consumer["num_ack_pending"]
                    return waits
    raise LookupError(given["consumer"])


async def test_the_manifest_follows_the_jobs(
    spec: dict[str, Any], monitored: tuple[Asker, str]
) -> None:
    """Jobs of every priority are seen, and need as many workers as we say they do."""
    ask, endpoint = monitored
    modifiers = spec["advanced"]["scalingModifiers"]
    triggers = {one["name"]: one for one in spec["triggers"]}
    before = [await lag_of(one, endpoint) for one in triggers.values()]

    for number in range(14):
        await submit(ask, "predict", QUESTION, priority=number % 5 + 1)
    lags = {name: await lag_of(one, endpoint) for name, one in triggers.items()}
    lag = sum(lags[name] for name in modifiers["formula"].split(" + "))
    workers = math.ceil(lag / float(modifiers["target"]))

    concurrency, target = Pool().concurrency, Supervising().target
    ours = needed(Load(lag=lag, concurrency=concurrency), target)
    assert before == [0] * 5
    assert lags == {"p1": 3, "p2": 3, "p3": 3, "p4": 3, "p5": 2}
    assert float(modifiers["target"]) == concurrency * target
    assert workers == ours.workers == 2
