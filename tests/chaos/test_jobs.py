"""Many jobs over workers that die: none is lost, and each has one result."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.chaos.load import echo
from tests.chaos.sizes import FULL, SIZES
from tests.support.asking import Asker, question, read
from tests.support.jobs import all_jobs, ended_in_the_end, submit
from tests.support.scripted_model import ScriptedModel
from tests.support.stack import Program, Stack, worker_environ

if TYPE_CHECKING:
    from pathlib import Path

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(900)]

JOBS, WORKERS, KILLS = (1000, 4, 25) if SIZES is FULL else (60, 2, 3)
LATENCY = 1.0
"""Seconds that the language model takes: a worker that dies had something in hand."""

WORKER = ("dspex.services.worker", "--pool", "light")


async def test_workers_are_killed(nats_url: str, bus: NatsBus, tmp_path: Path) -> None:
    """However many workers are killed, every job is done, with its own answer."""
    async with ScriptedModel(latency=LATENCY) as model:
        model.reply_with(echo)
        environ = worker_environ(model.url) | {
            "DSPEX_JOBS_ACK_WAIT_S": "1",
            "DSPEX_POOLS_LIGHT_CONCURRENCY": "4",
        }
        prefix = f"c{uuid4().hex[:8]}"
        async with Stack(nats_url, tmp_path, prefix, environ) as stack:
            workers = [Program(*WORKER) for _ in range(WORKERS)]
            await stack.start(Program("dspex.router"), Program("dspex.services.state"))
            await stack.start(*workers)
            await stack.ready(workers=WORKERS, native=0, state=1)
            ask = Asker(bus, stack.subjects)
            told = await listen(ask)

            tokens = await submit_all(ask)
            await kill_now_and_then(stack, workers, ask)
            jobs = [await ended_in_the_end(ask, job) for job in tokens]

            assert {job["state"] for job in jobs} == {"done"}
            answers = {job["job"]: answer_of(job["result"]) for job in jobs}
            assert answers == tokens
            assert {len(told[job]) for job in tokens if job in told} == {1}
            lost = [one for job in jobs for one in job["attempts"] if one["failure"]]
            assert {one["failure"]["code"] for one in lost} == {"worker_lost"}, jobs[0]
            assert len(await all_jobs(ask, state="done")) == JOBS


async def submit_all(ask: Asker) -> dict[str, str]:
    """Submit every job; the answer that each must have, by its id."""
    tokens = [f"token-{uuid4().hex}" for _ in range(JOBS)]
    found: dict[str, str] = {}
    for start in range(0, JOBS, 20):
        some = tokens[start : start + 20]
        jobs = await asyncio.gather(
            *(
                submit(ask, "predict", question(question=one), max_attempts=20)
                for one in some
            )
        )
        found |= {job["job"]: token for job, token in zip(jobs, some, strict=True)}
    return found


async def kill_now_and_then(stack: Stack, workers: list[Program], ask: Asker) -> None:
    """Kill workers while they have jobs, each when more jobs are done than before."""
    for _ in range(KILLS):
        if not await all_jobs(ask, state="running"):
            return
        oldest = workers.pop(0)
        await oldest.kill()
        await stack.start(another := oldest.another())
        workers.append(another)
        await stack.serving(another)


async def listen(ask: Asker) -> dict[str, set[str]]:
    """The answers that are told of each job."""
    told: dict[str, set[str]] = defaultdict(set)

    def hear(message: Message) -> None:
        event = read(message)
        if event["attempt"] >= 100:
            told[event["request"]].add(answer_of(event))

    await ask.bus.subscribe(ask.subjects.all_events("done"), hear)
    return told


def answer_of(reply: dict[str, Any]) -> str:
    found: str = reply["outputs"]["answer"]
    return found
