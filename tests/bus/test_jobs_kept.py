"""What is kept of jobs, on a real server."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace

from dspex.bus.durable import API, Appender, Entry, api
from dspex.bus.jobs import JobStore
from dspex.bus.program import Context
from dspex.bus.provisioning import (
    PRIORITIES,
    Names,
    consumers,
    declared,
    lane,
    provision,
    provision_pool,
)
from dspex.bus.pulling import PullLoop, PullSettings
from dspex.bus.stores import OPERATION
from dspex.contracts import jobs
from dspex.contracts.configuration import Configuration
from dspex.contracts.envelope import Done, Metadata
from dspex.contracts.failures import Conflict
from dspex.contracts.job_records import Job, JobRecord
from dspex.contracts.job_requests import ListJobs
from dspex.contracts.job_settings import Jobs
from dspex.contracts.jobs import Step
from dspex.contracts.journaling import Journal
from dspex.services.state import jobs as state_jobs
from dspex.services.state.undelivered import Undelivered

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.pulling import Delivery
    from dspex.contracts.subjects import Subjects

pytestmark = pytest.mark.nats

NOW = 1_000_000.0
PAGE = 256
"""Consumers that the server lists at a time."""

JOB = Job(
    job="j1",
    tenant="default",
    operation="predict",
    body=msgspec.Raw(b'{"a": 1}'),
    digest="d",
    pool="light",
    priority=3,
    submitted_at=NOW,
    max_attempts=3,
    backoff_s=2.0,
    keep_result_s=60,
)


@pytest.fixture(name="store")
async def _store(bus: NatsBus, subjects: Subjects) -> JobStore:
    journal = Journal(max_mib=8)  # its size is set aside, and the tests share a server
    await provision(bus, Configuration(prefix=subjects.prefix, journal=journal))
    return JobStore(bus, subjects)


async def pull(bus: NatsBus, root: str, handle: Any, pool: str = JOB.pool) -> PullLoop:
    settings = PullSettings(stream=Names(root).jobs, consumer=lane(pool, 3))
    loop = PullLoop(bus, settings, handle)
    await loop.start()
    return loop


async def test_provisioned_once(bus: NatsBus, root: str) -> None:
    """What is there already is kept, as it was declared."""
    configuration = Configuration(prefix=root)

    first = await provision(bus, configuration)
    again = await provision(bus, configuration)

    assert {one.made for one in first} == {"made"}
    assert {one.made for one in again} == {"kept"}
    subjects = configuration.subjects
    lanes = consumers(subjects, ["light", "native"], configuration.jobs)
    assert len(again) == len(declared(subjects)) + len(lanes)


async def test_a_changed_consumer(bus: NatsBus, root: str) -> None:
    """A consumer is changed where it may be, in place: what waits stays."""
    before = Configuration(prefix=root)
    await provision(bus, before)
    await JobStore(bus, before.subjects).append(JOB, now=NOW)

    after = replace(before, jobs=replace(before.jobs, ack_wait_s=7.0))
    made = {one.name: one.made for one in await provision(bus, after)}

    name = f"{Names(root).jobs} light-p3"
    assert made[name] == "changed"
    info = await api(bus, f"CONSUMER.INFO.{Names(root).jobs}.light-p3")
    assert (info["config"]["ack_wait"], info["num_pending"]) == (7_000_000_000, 1)


async def test_appended_again(store: JobStore, bus: NatsBus, root: str) -> None:
    """The same job stands there anew: the first message may never come again."""
    first = await store.append(JOB, now=NOW)
    again = await store.append(JOB, now=NOW)
    retried = await store.append(replace(JOB, generation=1), now=NOW)

    assert [again, retried] == [first + 1, first + 2]
    for sequence in (first, again):
        data, subject = await store.job_at(sequence)
        assert subject == store.subjects.job("light", "3")
        assert msgspec.json.decode(data)["body"] == {"a": 1}


async def test_of_many_changes_each_counts(store: JobStore) -> None:
    """Changes that meet are made one after the other; none is lost."""
    await store.write(jobs.opened(JOB, 1, NOW), 0)
    with pytest.raises(Conflict):
        await store.write(jobs.opened(JOB, 1, NOW), 0)

    def count(record: JobRecord | None) -> Step:
        assert record is not None
        return Step(do="run", record=replace(record, tries=record.tries + 1))

    await asyncio.gather(*(store.change("default", "j1", count) for _ in range(10)))

    kept = await store.read("default", "j1")
    assert kept is not None
    assert kept.record.tries == 10


async def test_large_replies_are_blobs(store: JobStore) -> None:
    """A large reply is not part of the record, and is read from where it lies."""
    outputs = {"text": "x" * 3_000_000}
    metadata = Metadata(implementation="native", pool="native", worker="w")
    reply = Done(request="j1", outputs=outputs, metadata=metadata)
    record = replace(jobs.opened(JOB, 1, NOW), state="done", result=reply)

    await store.change("default", "j1", lambda _: Step(do="end", record=record))

    kept = await store.read("default", "j1")
    assert kept is not None
    assert kept.record.result is None
    assert await store.result_of(kept.record) == reply


async def test_records_end(store: JobStore) -> None:
    """The record of a job that has ended goes after its time."""
    ended = replace(jobs.opened(JOB, 1, NOW), state="cancelled", keep_result_s=1)
    await store.write(ended, 0)

    async with asyncio.timeout(10):
        while await store.read("default", "j1"):
            continue


async def test_listed_behind_what_an_operator_removed(
    store: JobStore, bus: NatsBus, root: str
) -> None:
    """The mark of a record that is gone is not the end of the list."""
    first = jobs.opened(replace(JOB, job="gone"), 1, NOW)
    await store.write(first, 0)
    subject = f"$KV.{Names(root).job_states}.{first.key}"
    await Appender(bus).append(Entry(subject=subject, headers={OPERATION: "DEL"}))
    for number in range(60):
        await store.write(jobs.opened(replace(JOB, job=f"j{number}"), 1, NOW), 0)
    context = Context(
        name="test",
        configuration=Configuration(prefix=root),
        arguments=argparse.Namespace(),
        environ={},
        bus=bus,
        stop=asyncio.Event(),
    )

    asked = ListJobs(limit=100)
    found = await state_jobs.Jobs(context).list(asked, store.events("default", first))

    assert len(found.outputs["jobs"]) == 60
    assert not found.outputs["next"]


async def test_purged(store: JobStore, bus: NatsBus, root: str) -> None:
    """Messages that are acknowledged are purged; those that are not stay."""
    undelivered = Undelivered(bus, store.subjects, store)
    for number in range(4):
        await store.append(replace(JOB, digest=f"d{number}"), now=NOW)
    settled, let_go = asyncio.Semaphore(0), asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if delivery.stream_sequence <= 2:
            await delivery.ack(confirm=5)
            settled.release()
            return
        await let_go.wait()

    loop = await pull(bus, root, handle)
    for _ in range(2):
        await settled.acquire()

    assert await undelivered.purge() == 2
    assert await undelivered.purge() == 0
    info = await bus.request(f"{API}.STREAM.INFO.{Names(root).jobs}")
    assert msgspec.json.decode(info.data)["state"]["messages"] == 2
    let_go.set()
    await loop.stop()


async def test_purged_behind_many_consumers(
    store: JobStore, bus: NatsBus, root: str
) -> None:
    """The server lists consumers by pages; those of the later ones are looked at."""
    pools = [*(f"a{number}" for number in range(PAGE // len(PRIORITIES))), "z"]
    await asyncio.gather(
        *(provision_pool(bus, store.subjects, pool, Jobs()) for pool in pools)
    )
    await store.append(replace(JOB, pool="z"), now=NOW)
    settled = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        await delivery.ack(confirm=5)
        settled.set()

    loop = await pull(bus, root, handle, pool="z")
    await settled.wait()

    assert await Undelivered(bus, store.subjects, store).purge() == 1
    await loop.stop()
