"""Jobs while workers die and freeze, servers restart, and leaders are lost."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest
from tests.support.asking import Asker, question, read
from tests.support.cluster import cluster
from tests.support.jobs import (
    about,
    all_jobs,
    ended,
    ended_in_the_end,
    failures,
    retried,
    submit,
)
from tests.support.nats_server import NatsServer
from tests.support.stack import Program, Stack, worker_environ

from dspex.bus.connection import BusSettings, NatsBus, connect
from dspex.bus.durable import API, api
from dspex.bus.provisioning import Names, lane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.core import Message

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

WORKER = ("dspex.services.worker", "--pool", "light")


async def start(own: Stack, *, workers: int = 1, **environ: str) -> list[Program]:
    """Router, state and workers; a job that is not heard of for a second is lost."""
    own.environ |= {"DSPEX_JOBS_ACK_WAIT_S": "1"} | environ
    found = [Program(*WORKER) for _ in range(workers)]
    await own.start(Program("dspex.router"), Program("dspex.services.state"), *found)
    await own.ready(workers=workers, native=0, state=1)
    return found


def worker_of(own: Stack, job: dict[str, Any]) -> Program:
    """The program that makes a job's latest attempt."""
    beat = next(b for b in own.beats() if b.worker == job["attempts"][-1]["worker"])
    return next(program for program in own.programs if program.pid == beat.pid)


async def test_killed(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """The job of a worker that is killed is done by another one, and ends once."""
    await start(own, workers=2)
    model.hang(times=1)
    ends = await count_ends(ask)
    queued = await submit(ask, "predict", question())
    await model.received(1)

    await worker_of(own, await about(ask, "get", queued["job"])).kill()
    done = await ended(ask, queued["job"])
    async with asyncio.timeout(10):
        while not ends:  # it is told after it was stored
            await about(ask, "get", queued["job"])

    assert (done["state"], failures(done)) == ("done", ["worker_lost", None])
    assert ends == [queued["job"]]


async def test_frozen(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A worker that was frozen comes too late with its answer: it is dropped."""
    await start(own, workers=2)
    model.hold_chunks()
    ends = await count_ends(ask)
    queued = await submit(ask, "predict", question())
    await model.received(1)
    frozen = worker_of(own, await about(ask, "get", queued["job"]))

    frozen.signal(signal.SIGSTOP)
    await model.received(2)
    model.let_chunks_flow()
    done = await ended(ask, queued["job"])
    frozen.signal(signal.SIGCONT)
    await ended(ask, (await submit(ask, "predict", question()))["job"])
    await own.serving(frozen)
    await frozen.stop()

    assert (done["state"], failures(done)) == ("done", ["worker_lost", None])
    assert await about(ask, "get", queued["job"]) == done
    assert ends.count(queued["job"]) == 1


async def test_drained(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A worker that is told to stop finishes its job first."""
    [worker] = await start(own)
    model.hold_chunks()
    queued = await submit(ask, "predict", question())
    await model.received(1)

    worker.signal(signal.SIGTERM)
    await own.until(lambda: not own.beats())
    model.let_chunks_flow()

    assert failures(await ended(ask, queued["job"])) == [None]
    assert await worker.wait() == 0


async def test_poison(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A job that takes every worker with it is dead, not given to one more."""
    await start(own)
    model.hang(times=2)
    queued = await submit(ask, "predict", question(), max_attempts=2)
    for count in (1, 2):
        await model.received(count)
        job = await about(ask, "get", queued["job"])
        await worker_of(own, job).kill()
        await own.start(another := Program(*WORKER))
        await own.serving(another)

    dead = await ended(ask, queued["job"])
    next_one = await ended(ask, (await submit(ask, "predict", question()))["job"])

    assert (dead["state"], failures(dead)) == ("dead", ["worker_lost"] * 2)
    assert next_one["state"] == "done"


async def test_delivered_no_more(own: Stack, ask: Asker, bus: NatsBus) -> None:
    """What the server gives up after too many deliveries is a dead letter too."""
    own.environ |= {"DSPEX_JOBS_MAX_DELIVER": "2", "DSPEX_JOBS_ACK_WAIT_S": "1"}
    await own.start(Program("dspex.router"), Program("dspex.services.state"))
    await own.ready(workers=0, native=0, state=1)
    queued = await submit(ask, "predict", question())

    for _ in range(2):
        await take_and_forget(bus, own)
    waiting = asyncio.ensure_future(ended(ask, queued["job"]))
    await ask_for_one(bus, own)
    dead = await waiting

    assert (dead["state"], dead["result"]["code"]) == ("dead", "worker_lost")
    letter = await bus.request(
        f"{API}.DIRECT.GET.{Names(own.prefix).dead}.{own.subjects.dead('light')}"
    )
    assert read(letter)["job"]["job"] == queued["job"]


async def ask_for_one(bus: NatsBus, own: Stack) -> asyncio.Future[None]:
    """Pull like a worker that never settles; done once it has one."""
    taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    inbox = f"_INBOX.{uuid4().hex}"

    def hear(_: Message) -> None:
        if not taken.done():
            taken.set_result(None)

    await bus.subscribe(inbox, hear)
    wanted = {"batch": 1, "expires": 20_000_000_000}
    consumer = f"{Names(own.prefix).jobs}.{lane('light', 3)}"
    subject = f"{API}.CONSUMER.MSG.NEXT.{consumer}"
    await bus.publish(subject, msgspec.json.encode(wanted), reply=inbox)
    return taken


async def take_and_forget(bus: NatsBus, own: Stack) -> None:
    await asyncio.wait_for(await ask_for_one(bus, own), 20)


async def test_priorities(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """Of jobs that wait the most important goes first, whenever it came."""
    await start(own, DSPEX_POOLS_LIGHT_CONCURRENCY="1")
    model.hold_chunks()
    jobs = [(await submit(ask, "predict", asked("first")))["job"]]
    await model.received(1)
    for text, priority in [("last", 5), ("usual", 3), ("more", 3), ("urgent", 1)]:
        job = await submit(ask, "predict", asked(text), priority=priority)
        jobs.append(job["job"])

    model.let_chunks_flow()
    for job in jobs:
        await ended(ask, job)

    # Requests for one message of an empty priority may be with the server already.
    found = texts(model)
    assert found[0] == "first"
    assert found.index("usual") < found.index("more")
    assert sorted(found) == ["first", "last", "more", "urgent", "usual"]


def asked(text: str) -> dict[str, Any]:
    return question(question=text)


def texts(model: ScriptedModel) -> list[str]:
    """What the language model was asked, in order."""
    prompts = (request.text("user") for request in model.requests)
    return [prompt.split("]]\n")[1].split("\n")[0] for prompt in prompts]


async def test_the_server_restarts(
    model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No job is lost, and none is done twice, while the server restarts."""
    folder = tmp_path_factory.mktemp("restarted")
    async with (
        NatsServer(folder / "nats") as server,
        Stack(server.url, folder, "re", worker_environ(model.url)) as stack,
        talking(server.url) as bus,
    ):
        await start(stack, workers=2)
        ask = Asker(bus, stack.subjects)
        model.latency = 0.3
        jobs = [(await submit(ask, "predict", question()))["job"] for _ in range(8)]
        await model.received(2)

        await server.restart()
        more = [(await retried(ask, "predict", question()))["job"] for _ in range(4)]

        found = [await ended_in_the_end(ask, job) for job in [*jobs, *more]]
        assert {job["state"] for job in found} == {"done"}
        assert len(await all_jobs(ask, state="done")) == 12


@asynccontextmanager
async def talking(url: str) -> AsyncIterator[NatsBus]:
    bus = await connect(BusSettings(url=url, name="test"))
    try:
        yield bus
    finally:
        await bus.close()


async def test_a_cluster_loses_its_leader(
    model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Three servers hold every job: none is lost when the one that leads is killed."""
    folder = tmp_path_factory.mktemp("cluster")
    environ = worker_environ(model.url) | {"DSPEX_NATS_REPLICAS": "3"}
    async with cluster(folder) as servers:
        url = ",".join(server.url for server in servers)
        async with Stack(url, folder, "cl", environ) as stack, talking(url) as bus:
            await start(stack)
            ask = Asker(bus, stack.subjects)
            jobs = [(await submit(ask, "predict", question()))["job"] for _ in range(5)]

            leader = await leader_of(bus, Names("cl").jobs)
            await servers[int(leader.removeprefix("n"))].stop()
            more = [
                (await retried(ask, "predict", question()))["job"] for _ in range(5)
            ]

            found = [await ended_in_the_end(ask, job) for job in [*jobs, *more]]
            assert {job["state"] for job in found} == {"done"}


async def leader_of(bus: NatsBus, stream: str) -> str:
    info = await api(bus, f"STREAM.INFO.{stream}")
    found: str = info["cluster"]["leader"]
    return found


async def count_ends(ask: Asker) -> list[str]:
    """The ids of requests that are told to be done, as they are told."""
    found: list[str] = []
    subject = ask.subjects.all_events("done")

    def hear(message: Message) -> None:
        if read(message)["attempt"] >= 100:
            found.append(read(message)["request"])

    await ask.bus.subscribe(subject, hear)
    return found
