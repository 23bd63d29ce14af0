"""Workers that grow old or large, jobs that wait, and what operators are shown."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.asking import question
from tests.support.hosts import BAD, Hosts, configure, gone, pool, start
from tests.support.jobs import ended, submit
from tests.support.sessions import Conversations, numbered
from tests.support.stack import Program

if TYPE_CHECKING:
    from tests.support.asking import Asker
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus

pytestmark = [
    pytest.mark.nats,
    pytest.mark.dspy,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's"),
]

STATE = Program("dspex.services.state")


@pytest.fixture(name="hosts")
async def _hosts(own: Stack, bus: NatsBus) -> Hosts:
    hosts = Hosts(bus, own)
    await hosts.listen()
    return hosts


async def another(hosts: Hosts, before: str) -> dict[str, Any]:
    """Wait until another worker has taken the place of one."""
    [found] = await hosts.until(
        lambda found: (
            [one["state"] for one in found] == ["ready"]
            and found[0]["worker"] != before
        )
    )
    return found


def end_of(hosts: Hosts, worker: str) -> dict[str, Any]:
    """What was told of the end of a worker."""
    [found] = [
        one
        for one in hosts.notices
        if (one["worker"], one["state"]) == (worker, "ended")
    ]
    return found


async def test_jobs_that_wait_are_work(
    own: Stack, hosts: Hosts, ask: Asker, model: ScriptedModel
) -> None:
    """Queued jobs make a pool grow that scales by itself, and it is said why."""
    settings = {"processes": 1, "min": 1, "max": 3, "scale": "auto", "concurrency": 1}
    alone = "\n[supervisor]\ntarget = 1.0\n"  # one worker is enough for one job
    configure(own, pool(**settings) + alone)
    await own.start(STATE.another())
    await start(own, hosts, 1)
    model.latency = 8.0

    jobs = [(await submit(ask, "predict", question()))["job"] for _ in range(6)]
    told = await hosts.told(lambda one: one.get("desired") == 3)
    await hosts.ready(3)
    model.latency = 0.0
    done = await asyncio.gather(*(ended(ask, job) for job in jobs))

    assert "jobs behind" in told["reason"]
    assert [one["state"] for one in done] == ["done"] * 6
    assert len({one["result"]["metadata"]["worker"] for one in done}) > 1


async def test_an_old_worker_is_replaced(
    own: Stack, hosts: Hosts, ask: Asker, model: ScriptedModel
) -> None:
    """By age, and what it was doing is finished."""
    configure(own, pool(processes=1, recycle_after_s=30))
    await start(own, hosts, 1)
    [first] = await hosts.workers()
    model.latency = 35.0

    asked = asyncio.ensure_future(ask.ask("predict", question(), timeout=100))
    second = await another(hosts, first["worker"])
    answer = await asked

    told = end_of(hosts, first["worker"])
    assert "s old" in told["reason"]
    assert (told["asked"], told["code"]) == (True, "")
    assert answer.code == "done"
    assert answer.body["metadata"]["worker"] == first["worker"]
    assert second["age_s"] < first["age_s"] + 35


async def test_a_large_worker_is_replaced(
    own: Stack, hosts: Hosts, ask: Asker, model: ScriptedModel
) -> None:
    """By what it holds, once a request has made it hold too much."""
    configure(own, pool(processes=1, **BAD))
    await start(own, hosts, 1)
    usual = (await hosts.workers())[0]["rss"] >> 20
    configure(own, pool(processes=1, recycle_mib=usual + 120, **BAD))
    [before] = await hosts.workers()
    await hosts.ask("restart", pool="light")
    first = await another(hosts, before["worker"])

    answer = await ask.ask("predict", question(question="keep"), timeout=60)
    second = await another(hosts, first["worker"])

    told = end_of(hosts, first["worker"])
    assert answer.code == "done"
    assert "it holds" in told["reason"]
    assert (told["asked"], told["code"]) == (True, "")
    assert second["rss"] >> 20 < usual + 120


async def test_sessions_are_counted(
    own: Stack, hosts: Hosts, ask: Asker, model: ScriptedModel
) -> None:
    """A worker says how many sessions it holds in memory."""
    configure(own, pool(processes=1))
    await own.start(STATE.another())
    await start(own, hosts, 1)
    model.reply_with(numbered)
    talk = Conversations(ask)

    for _ in range(2):
        answer = await talk.turn(await talk.opened(), "q")
        assert answer.code == "done", answer.body
    [held] = await hosts.until(lambda found: found[0]["sessions"] == 2)

    assert held["sessions"] == 2


async def test_what_leaves_its_session_is_ended(
    own: Stack, hosts: Hosts, ask: Asker
) -> None:
    """A program cannot leave a process behind; its worker is none the worse for it."""
    escaped = own.folder / "escaped"
    own.environ["ESCAPED"] = str(escaped)
    configure(own, pool(processes=1, **BAD))
    await start(own, hosts, 1)
    [before] = await hosts.workers()

    answer = await ask.ask("predict", question(question="escape"), timeout=60)
    assert answer.code == "done", answer.body
    await gone([int(escaped.read_text())])
    [after] = await hosts.workers()

    assert after["worker"] == before["worker"]
