"""What a job costs beside a request, and what it costs to have it on the disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
from tests.bench.measure import Window, closed_loop, middle, tell
from tests.bench.results import Findings, Result
from tests.support.nats_server import NatsServer

from dspex.bus.connection import BusSettings, connect
from dspex.bus.jobs import JobStore
from dspex.bus.provisioning import provision
from dspex.contracts import jobs
from dspex.contracts.configuration import Configuration
from dspex.contracts.job_records import Job

if TYPE_CHECKING:
    from tests.bench.rig import Rig

CLIENTS = 64
ROUNDS = 3
SECONDS = 3.0

BODY = {
    "signature": "question -> answer",
    "inputs": {"question": "Why is the sky blue?"},
}


async def job_throughput(rig: Rig) -> Findings:
    """Jobs from submission to result, beside the same requests."""

    async def request() -> None:
        await rig.client.call("predict", BODY)

    async def job() -> None:
        submitted = await rig.client.submit("predict", BODY)
        await submitted.result()

    rates: dict[str, list[float]] = {"request": [], "job": []}
    for number in range(ROUNDS):
        tell(f"  round {number + 1} of {ROUNDS}")
        for name, ask in (("request", request), ("job", job)):
            window = Window(warm_up=0.5, seconds=SECONDS)
            rates[name].append((await closed_loop(ask, CLIENTS, window)).per_second)
    says = {
        "job": "jobs per second from job.submit to the end of job.wait, every write on "
        "the disk (sync_interval: always)",
        "request": "the same as requests",
    }
    found = []
    for name, one in rates.items():
        value, spread = middle(one)
        how = (
            f"{says[name]}; {CLIENTS} clients, two workers, a model that takes no time."
        )
        found.append(
            Result(name=f"jobs_{name}", value=value, unit="/s", spread=spread, how=how)
        )
    return Findings(results=found)


async def job_durability(rig: Rig) -> Findings:
    """Submissions with and without waiting for the disk."""
    found: list[Result] = []
    for sync, says in (("always", "always"), ("2m", "the server's default")):
        folder = rig.folder / f"sync-{sync}"
        async with NatsServer(
            folder, sync_interval=sync if sync == "always" else f'"{sync}"'
        ) as server:
            value, spread = await _submissions(server.url)
        how = (
            f"jobs stored per second (message and record), {CLIENTS} at a time, "
            f"sync_interval: {says}, one server."
        )
        name = f"job_submissions_{sync}"
        found.append(Result(name=name, value=value, unit="/s", spread=spread, how=how))
    return Findings(results=found)


async def _submissions(url: str) -> tuple[float, tuple[float, float]]:
    bus = await connect(BusSettings(url=url, name="bench"))
    try:
        configuration = Configuration()
        await provision(bus, configuration)
        store = JobStore(bus, configuration.subjects)

        async def submit() -> None:
            job = _job()
            sequence = await store.append(job, now=job.submitted_at)
            await store.write(jobs.opened(job, sequence, job.submitted_at), 0)

        rates = []
        for _ in range(ROUNDS):
            load = await closed_loop(
                submit, CLIENTS, Window(warm_up=0.5, seconds=SECONDS)
            )
            rates.append(load.per_second)
        return middle(rates)
    finally:
        await bus.close()


def _job() -> Job:
    return Job(
        job=uuid4().hex,
        tenant="default",
        operation="predict",
        body=msgspec.Raw(msgspec.json.encode(BODY)),
        digest="0" * 32,
        pool="light",
        priority=3,
        submitted_at=time.time() * 1000,
        max_attempts=4,
        backoff_s=1.0,
        keep_result_s=3600,
    )
