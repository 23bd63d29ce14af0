"""Pools that hold: a supervisor, its workers, and operators, on real processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.chaos.load import Load, echo
from tests.support.asking import question
from tests.support.hosts import (
    BAD,
    Hosts,
    configure,
    gone,
    members_of,
    pool,
    start,
    supervisor,
)
from tests.support.misbehaving import OWN
from tests.support.networks import Network, refusal
from tests.support.releases import INSTALLED, RELEASES, python_of
from tests.support.stack import Program

from dspex.client import Client

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


NO_NETWORKS = refusal()


@pytest.fixture(name="hosts")
async def _hosts(own: Stack, bus: NatsBus) -> Hosts:
    hosts = Hosts(bus, own)
    await hosts.listen()
    return hosts


def environ_of(pid: int) -> list[bytes]:
    """The variables of a process."""
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


async def test_scale_under_load(
    own: Stack, hosts: Hosts, bus: NatsBus, model: ScriptedModel
) -> None:
    """From 2 workers to 8 to 1 while clients ask: no request fails."""
    configure(own, pool(processes=2))
    await start(own, hosts, 2)
    model.latency = 0.02
    model.reply_with(echo)

    async with Load(Client(bus, own.subjects), 4) as load:
        up = await hosts.ask("scale", pool="light", processes=8)
        await hosts.ready(8)
        await load.more(50)
        down = await hosts.ask("scale", pool="light", processes=1)
        await hosts.ready(1)
        await load.more(50)

    assert (up["pools"], down["pools"]) == ({"light": 8}, {"light": 1})
    assert load.failures == [], load.table()
    ended = [one for one in hosts.notices if one["state"] == "ended"]
    assert len(ended) == 7
    assert all(one["asked"] and not one["code"] for one in ended)


async def test_restart_replaces_under_load(
    own: Stack, hosts: Hosts, bus: NatsBus, model: ScriptedModel
) -> None:
    """A restart puts another release of DSPy in place of every worker, unnoticed."""
    path = configure(own, pool(processes=2))
    await start(own, hosts, 2)
    before = {one["worker"] for one in await hosts.workers()}
    model.latency = 0.02
    model.reply_with(echo)
    release = next(one for one in RELEASES if one != INSTALLED)
    env = {"MY_RELEASE": "2"}
    path.write_text(pool(processes=2, python=str(python_of(release)), env=env))

    async with Load(Client(bus, own.subjects), 4) as load:
        await hosts.ask("restart", pool="light")
        after = await hosts.until(
            lambda found: (
                len(found) == 2
                and all(one["state"] == "ready" for one in found)
                and not before & {one["worker"] for one in found}
            )
        )
        await load.more(50)

    assert load.failures == [], load.table()
    assert [one["dspy"] for one in after] == [release] * 2
    for one in after:
        environ = environ_of(one["pid"])
        assert b"MY_RELEASE=2" in environ
        assert b"OMP_NUM_THREADS=1" in environ


async def test_drain_and_recycle(
    own: Stack, hosts: Hosts, ask: Asker, model: ScriptedModel
) -> None:
    """A drained worker and one that has served enough are replaced; a pool is not."""
    configure(own, pool(processes=1, recycle_requests=3))
    await start(own, hosts, 1)
    first = (await hosts.workers())[0]["worker"]

    answers = [await ask.ask("predict", question()) for _ in range(5)]
    [second] = await hosts.until(
        lambda found: (
            len(found) == 1
            and found[0]["state"] == "ready"
            and found[0]["worker"] != first
        )
    )
    await hosts.ask("drain", name=second["worker"])
    [third] = await hosts.until(
        lambda found: (
            len(found) == 1
            and found[0]["state"] == "ready"
            and found[0]["worker"] != second["worker"]
        )
    )
    await hosts.ask("drain", name="light")
    await hosts.ready(0)
    nobody = await hosts.ask("drain", name="nothing-of-that-name")

    assert [one.code for one in answers] == ["done"] * 5
    reasons = {n["worker"]: n["reason"] for n in hosts.notices if n["state"] == "ended"}
    assert "requests" in reasons[first]
    assert reasons[second["worker"]] == "it is drained"
    assert third["worker"] in reasons
    assert (nobody["pools"], nobody["workers"]) == ({}, [])


async def test_nothing_outlives_a_killed_supervisor(
    own: Stack, hosts: Hosts, ask: Asker
) -> None:
    """Its workers end, the one that is stuck and what they had started included."""
    configure(own, pool(processes=2, **BAD))
    kept = await start(own, hosts, 2)
    pids = [one["pid"] for one in await hosts.workers()]
    for one in await hosts.workers():
        route = f"worker:{one['worker']}"
        asked = question(question="have a child")
        assert (await ask.ask("predict", asked, dspex_route=route)).code == "done"
    family = [pid for one in pids for pid in members_of(one)]
    os.kill(pids[0], signal.SIGSTOP)

    await kept.kill()
    await gone(family)

    assert len(family) == 4
    assert [members_of(pid) for pid in pids] == [[], []]


@pytest.mark.parametrize(
    ("deed", "code", "said"),
    [
        ("hog", "resource_memory", "memory limit"),
        ("segfault", "worker_lost", "was ended by SIGSEGV"),
        ("vanish", "worker_lost", "ended with status 7"),
        ("leave", "program_error", "sys.exit"),
        ("spin", "resource_cpu", "was kept busy"),
        ("multiply", "resource_cpu", "child processes, 8 are allowed"),
        ("flood", "done", ""),
    ],
)
async def test_misbehaving_programs(
    misbehaving: tuple[Hosts, Asker], deed: str, code: str, said: str
) -> None:
    """The caller learns it, neighbours are served, the pool is refilled."""
    hosts, ask = misbehaving
    before = {one["worker"] for one in await hosts.ready(2)}
    once = question(question=deed) | {"options": {"idempotent": False}}

    bad, *good = await asyncio.gather(
        ask.ask("predict", once, timeout=60),
        *(ask.ask("predict", question(), timeout=60) for _ in range(8)),
    )
    if code not in ("done", "program_error"):
        await hosts.until(lambda found: before != {one["worker"] for one in found})
    after = await hosts.ready(2)

    assert bad.code == code, bad.body
    assert said in bad.body.get("message", "")
    assert {answer.code for answer in good} == {"done"}
    lost = before - {one["worker"] for one in after}
    assert len(lost) == (code not in ("done", "program_error"))


@pytest.mark.parametrize(
    ("program", "timeout", "code", "said"),
    [
        # Python code lets the others run, so its deadline is kept, and it is found
        # to go on; native code need not, and looks to routers as if it were frozen.
        ("spins", 3.0, "deadline_exceeded", "thread whose request had ended"),
        ("locks", 60.0, "worker_lost", "busy by native code"),
    ],
)
async def test_programs_that_compute_without_end(
    misbehaving: tuple[Hosts, Asker], program: str, timeout: float, code: str, said: str
) -> None:
    """In a thread too: the caller learns it, the worker is replaced as too busy."""
    hosts, ask = misbehaving
    before = {one["worker"] for one in await hosts.ready(2)}
    once = {
        "program": program,
        "inputs": {"question": "?"},
        "options": {"idempotent": False},
    }

    bad, *good = await asyncio.gather(
        ask.ask("run", once, timeout=timeout),
        *(ask.ask("predict", question(), timeout=60) for _ in range(8)),
    )
    told = await hosts.told(lambda one: said in one["reason"])
    after = await hosts.ready(2)

    assert bad.code == code, bad.body
    assert {answer.code for answer in good} == {"done"}
    assert (told["state"], told["code"]) == ("ended", "resource_cpu")
    assert before - {one["worker"] for one in after} == {told["worker"]}


async def test_workers_are_put_into_cgroups(
    misbehaving: tuple[Hosts, Asker], cgroups: Path
) -> None:
    """Each into its own below the folder that was given, with its limits."""
    hosts, _ = misbehaving

    workers = await hosts.ready(2)

    assert (cgroups / "cgroup.subtree_control").read_text() == "+cpu +memory"
    folders = [folder_of(one["pid"], cgroups) for one in workers]
    quotas = {(one / "cpu.max").read_text() for one in folders}
    assert quotas == {"150000 100000"}


async def test_the_kernel_ends_a_worker_for_its_memory(
    misbehaving: tuple[Hosts, Asker], cgroups: Path
) -> None:
    """What its cgroup counts is what the caller learns."""
    hosts, ask = misbehaving
    victim, _ = await hosts.ready(2)
    events = folder_of(victim["pid"], cgroups) / "memory.events"
    events.write_text("oom 1\noom_kill 1\n")
    once = question(question="vanish") | {"options": {"idempotent": False}}

    route = f"worker:{victim['worker']}"
    answer = await ask.ask("predict", once, timeout=60, dspex_route=route)
    await hosts.until(lambda found: victim["worker"] not in map(_incarnation, found))
    await hosts.ready(2)

    assert answer.code == "resource_memory", answer.body


def folder_of(pid: int, cgroups: Path) -> Path:
    """The cgroup that a process was put into."""
    return next(
        one
        for one in cgroups.glob("supervisor-*")
        if (one / "cgroup.procs").read_text() == str(pid)
    )


def _incarnation(status: dict[str, Any]) -> str:
    incarnation: str = status["worker"]
    return incarnation


@pytest.fixture(scope="module", name="cgroups")
def _cgroups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a cgroup: few machines let a test write a real one."""
    folder = tmp_path_factory.mktemp("cgroups")
    (folder / "cgroup.controllers").write_text("cpu memory pids")
    return folder


@pytest.fixture(scope="module", name="misbehaving")
async def _misbehaving(
    nats_url: str,
    scripted: ScriptedModel,
    cgroups: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """A stack with two workers that do what they should not."""
    from tests.support.asking import Asker as Asking
    from tests.support.stack import Stack as Running
    from tests.support.stack import worker_environ

    from dspex.bus.connection import BusSettings, connect

    folder = tmp_path_factory.mktemp("misbehaving")
    environ = worker_environ(scripted.url)
    bus = await connect(BusSettings(url=nats_url, name="test"))
    async with Running(nats_url, folder, "misbehaving", environ) as stack:
        limits = {"memory_mib": 600, "stall_s": 5.0, "max_children": 8}
        limits |= {"nice": 1, "max_files": 500, "cpu_quota": 1.5}
        kept = f"\n[supervisor]\ncgroup = {str(cgroups)!r}\n"
        configure(stack, pool(processes=2, **limits, **BAD) + kept + OWN)
        hosts = Hosts(bus, stack)
        await hosts.listen()
        await start(stack, hosts, 2)
        yield hosts, Asking(bus, stack.subjects)
    await bus.close()


async def test_a_pool_that_crashes_backs_off(own: Stack, hosts: Hosts) -> None:
    """Workers that cannot start are tried less and less often, and it is said why."""
    configure(own, pool(processes=2, module="no_such_module"))
    await own.start(supervisor(own.folder))

    late = await hosts.told(lambda one: one.get("again_ms", 0) > 1500)
    status = (await hosts.ask("pools"))["pools"][0]

    assert "No module named no_such_module" in late["words"]
    assert "No module named no_such_module" in status["trouble"]
    assert status["again_ms"] > 0
    assert all(one["code"] == "worker_lost" for one in hosts.notices)


async def test_starts_are_staggered(own: Stack, hosts: Hosts) -> None:
    """No more workers start at a time than may, and no heartbeat is missed."""
    configure(own, pool(processes=6) + "\n[supervisor]\nstarting = 2\n")
    beats: dict[str, list[float]] = {}
    most = 0

    def look(found: list[dict[str, Any]]) -> bool:
        nonlocal most
        most = max(most, sum(one["state"] == "starting" for one in found))
        for beat in own.beats():
            beats.setdefault(beat.worker, []).append(beat.at)
        return [one["state"] for one in found] == ["ready"] * 6

    await own.start(supervisor(own.folder))
    await hosts.until(look)

    gaps = [
        later - earlier
        for times in beats.values()
        for earlier, later in itertools.pairwise(times)
    ]
    assert 1 <= most <= 2
    assert max(gaps) < 3000


@pytest.mark.skipif(bool(NO_NETWORKS), reason=NO_NETWORKS)
async def test_two_hosts(
    own: Stack, hosts: Hosts, ask: Asker, nats_url: str, model: ScriptedModel
) -> None:
    """Workers are spread over hosts with networks of their own, which may be cut."""
    configure(own, pool(processes=1))
    await own.start(Program("dspex.router"), Program("dspex.native"))
    async with Network(nats_url, model.url) as one, Network(nats_url, model.url) as two:
        kept = (
            supervisor(own.folder, "one", one),
            supervisor(own.folder, "two", two),
        )
        await own.start(*kept)
        await own.serving(*kept)

        spread = await hosts.all("scale", 2, pool="light", processes=3)
        await own.until(lambda: len(own.beats()) == 3)
        await two.cut()
        await hosts.until_told(lambda found: found["supervisors"] == 1)
        alone = await ask.ask("predict", question(), timeout=60)
        await two.heal()
        await hosts.until_told(lambda found: found["supervisors"] == 2)
        drained = await hosts.all("drain", 2, name="two")
        await hosts.until_told(
            lambda found: not found["pools"][0]["workers"], host="two"
        )
        later = await hosts.all("scale", 2, pool="light", processes=2)
        there = await hosts.all("pools", 2)
        answer = await ask.ask("predict", question(), timeout=60)
        await asyncio.gather(*(one.stop() for one in kept))

    assert [one["pools"] for one in spread] == [{"light": 2}, {"light": 1}]
    assert (alone.code, answer.code) == ("done", "done")
    assert [one["pools"] for one in drained] == [{}, {"light": 0}]
    assert [one["pools"]["light"] for one in later] == [2, 0]
    assert [one["host"] for one in there] == ["one", "two"]


async def test_a_pool_scales_by_itself(
    own: Stack, hosts: Hosts, ask: Asker, model: ScriptedModel
) -> None:
    """More requests than places bring more workers, up to max; their end, fewer."""
    settings = {"processes": 1, "min": 1, "max": 2, "scale": "auto", "concurrency": 1}
    configure(own, pool(**settings) + "\n[supervisor]\ndown_after_s = 3\n")
    await start(own, hosts, 1)
    model.latency = 12.0
    asked = [
        asyncio.ensure_future(ask.ask("predict", question(), timeout=90))
        for _ in range(5)
    ]

    await hosts.ready(2)
    by_hand = await hosts.ask("scale", pool="light", processes=1)
    model.latency = 0.0
    answers = await asyncio.gather(*asked)
    await hosts.ready(1)

    assert by_hand["code"] == "conflict"
    assert [one.code for one in answers] == ["done"] * 5
