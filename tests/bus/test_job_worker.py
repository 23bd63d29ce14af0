"""Who does jobs, on a real server, with a program that the test plays."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace

from dspex.bus.clock import now_ms
from dspex.bus.core import Message
from dspex.bus.job_running import JobWorker
from dspex.bus.jobs import JobStore
from dspex.bus.program import Context
from dspex.bus.provisioning import provision
from dspex.bus.running import Identity, Outcome
from dspex.bus.slots import Slots
from dspex.contracts.configuration import Configuration
from dspex.contracts.job_records import Job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.connection import NatsBus
    from dspex.contracts.subjects import Subjects

pytestmark = pytest.mark.nats

JOB = Job(
    job="j1",
    tenant="default",
    operation="signature.parse",
    body=msgspec.Raw(b'{"signature": "a -> b"}'),
    digest="d",
    pool="native",
    priority=3,
    submitted_at=0.0,
    max_attempts=1,
    backoff_s=0.0,
    keep_result_s=60,
)


@pytest.fixture(name="worker")
async def _worker(bus: NatsBus, subjects: Subjects) -> AsyncIterator[JobWorker]:
    """One whose program never comes to an end by itself."""

    async def run(*_: Any) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError("it goes on for ever")

    configuration = Configuration(prefix=subjects.prefix)
    await provision(bus, configuration)
    context = Context(
        name="test",
        configuration=configuration,
        arguments=argparse.Namespace(),
        environ={},
        bus=bus,
        stop=asyncio.Event(),
    )
    identity = Identity(
        subjects=subjects,
        pool="native",
        worker="w1",
        implementation="native",
        operations=frozenset({JOB.operation}),
    )
    worker = JobWorker(context, identity, Slots(1, 1), run)
    await worker.start()
    yield worker
    await worker.stop(0.0)


async def test_cancelled_while_it_begins(
    bus: NatsBus, subjects: Subjects, worker: JobWorker
) -> None:
    """A cancel that comes before the attempt has begun stops it all the same."""
    store, changes = JobStore(bus, subjects), asyncio.Semaphore(0)
    cancel = Message(subject=subjects.cancel(JOB.job), data=b"", headers={}, reply="")

    def hear(_: Message) -> None:
        # It comes before the worker has the word that its record is stored.
        worker._cancel(cancel)
        changes.release()

    await bus.subscribe(subjects.job_notices(), hear)
    await store.append(replace(JOB, submitted_at=now_ms()), now=now_ms())

    async with asyncio.timeout(30):
        for _ in range(2):
            await changes.acquire()
    kept = await store.read("default", JOB.job)

    assert kept is not None
    assert kept.record.state == "cancelled"
