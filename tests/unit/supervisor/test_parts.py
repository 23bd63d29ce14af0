"""The small parts of a supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.router.scene import beat_of

from dspex.bus.children import Child, Program
from dspex.contracts.failures import NotFound
from dspex.contracts.heartbeats import Gpu
from dspex.contracts.pooling import Pool, Supervising
from dspex.services.supervisor import limits, logfiles
from dspex.services.supervisor.devices import assign
from dspex.services.supervisor.guard import Guard
from dspex.services.supervisor.launching import Launcher
from dspex.services.supervisor.members import Member, PoolState
from dspex.services.supervisor.peers import Peers
from dspex.services.supervisor.restarts import Restarts

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")

GPUS = [Gpu(name="A", total=1, free=1, uuid=f"GPU-{n}") for n in range(3)]


def test_pauses_grow_and_are_forgotten() -> None:
    """Half a second, doubled each time, to half a minute; health ends it."""
    restarts, now, pauses = Restarts(), 0.0, []
    for _ in range(8):
        pauses.append(restarts.ended(1.0, now, "boom"))
        now += pauses[-1]

    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert restarts.trouble == "boom"
    restarts.healthy()
    assert restarts.trouble == ""
    assert restarts.ended(1.0, now, "boom") == 0.5


def test_many_ends_at_once_are_one_trouble() -> None:
    """Ten workers that end together do not make ten pauses of one."""
    restarts = Restarts()

    assert [restarts.ended(1.0, 0.0, "boom") for _ in range(10)] == [0.5] * 10
    assert restarts.pause(0.2) == pytest.approx(0.3)


def test_a_long_life_is_no_crash_loop() -> None:
    """The end of a worker that was well for long is answered at once."""
    assert Restarts().ended(31.0, 0.0, "boom") == 0.0


def test_one_that_is_well_excuses_no_other(tmp_path: Path) -> None:
    """Pauses grow while one worker of a pool ends again and again and another lives."""
    pool = PoolState("p", Pool(processes=2), Supervising(), 0.0)
    child = Child(Program(name="p-1", role="worker", argv=("true",)), tmp_path / "log")
    member, now, pauses = Member(child, pool, "", 0.0), 60.0, []
    for _ in range(4):
        member.hear(beat_of("w", pool="p"), now)
        pauses.append(pool.restarts.ended(1.0, now, "boom"))
        now += pauses[-1]

    assert pauses == [0.5, 1, 2, 4]


def test_gpus_are_spread() -> None:
    """The GPU that fewest workers have is next; an index and a UUID mean the same."""
    assert assign(["all"], GPUS, []) == "GPU-0"
    assert assign(["all"], GPUS, ["GPU-0", "GPU-0", "GPU-1"]) == "GPU-2"
    assert assign(["1", "GPU-2"], GPUS, ["GPU-1"]) == "GPU-2"
    with pytest.raises(NotFound, match=r"GPUs 7 is here\. There are: GPU-0 \(A\)"):
        assign(["7"], GPUS, [])


def test_variables_are_set_before_the_start() -> None:
    """Threads of numerical libraries, the pool's own, the GPU, and whose it is."""
    launcher = Launcher(host="h", url="nats://x", logs=Path("logs"), python="python")

    found = launcher.program("p-1", "p", Pool(threads=2, env={"A": "1"}), "GPU-0")

    assert found.argv[:4] == ("python", "-m", "dspex.services.worker", "--pool")
    assert (
        found.environ.items()
        >= {
            "OMP_NUM_THREADS": "2",
            "A": "1",
            "CUDA_VISIBLE_DEVICES": "GPU-0",
            "DSPEX_HOST": "h",
            "DSPEX_NATS_URL": "nats://x",
            "DSPEX_PARENT_PIPE": "1",
        }.items()
    )


def test_secrets_of_a_pool_are_not_shown() -> None:
    """What is in env may be a key."""
    assert "hush" not in repr(Pool(env={"KEY": "hush"}))


@LINUX
def test_limits_hold() -> None:
    """A process that was started is held to what its pool says."""
    pool = Pool(memory_mib=500, max_files=99, nice=3, cpus=[0])
    code = (
        "import os, resource as r; input(); print(r.getrlimit(r.RLIMIT_DATA)[0] >> 20,"
        "r.getrlimit(r.RLIMIT_NOFILE)[1], os.nice(0), os.sched_getaffinity(0))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        limits.apply(pool, process.pid)
        out, _ = process.communicate("\n", timeout=30)

    assert out.split(maxsplit=3) == ["500", "99", "3", "{0}\n"]


@LINUX
def test_usage_is_that_of_all_its_processes() -> None:
    """A session's processes are counted together."""
    with subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo; wait"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = limits.usages([process.pid, 0])
        os.killpg(process.pid, 9)

    assert found[process.pid].processes == 2
    assert found[process.pid].memory > 0


def test_logs_are_cut(tmp_path: Path) -> None:
    """A log that grew too long keeps its end; what is appended follows."""
    path = tmp_path / "worker.log"
    with path.open("ab") as log:
        log.write(b"x" * (logfiles.LARGEST + 1) + b"the end\n")
        log.flush()
        logfiles.bound([path, tmp_path / "none"])
        log.write(b"more\n")

    kept = path.read_bytes()
    assert len(kept) < logfiles.KEPT + 100
    assert kept.endswith(b"the end\nmore\n")
    assert kept.startswith(b"... the beginning was dropped")


async def test_guard_ends_what_is_left(tmp_path: Path) -> None:
    """When its supervisor is gone it ends the groups it knows, and no other."""
    guard = Guard(tmp_path)
    script = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done")
    programs = [Program(name=f"w{n}", role="worker", argv=script) for n in range(2)]
    left, let_go = (Child(one, tmp_path / one.name) for one in programs)
    for child in (left, let_go):
        await child.start()
    await guard.start()
    for child in (left, let_go):
        guard.add(child.pid)
    guard.remove(let_go.pid)

    guard.child.release()
    await left.wait()
    await guard.child.wait()

    assert left.status == -9
    assert let_go.running
    let_go.kill()
    await let_go.wait()


def test_peers() -> None:
    """Supervisors know each other by heartbeat; the silent are forgotten."""
    peers = Peers("me", "m")
    other = {"implementation": "supervisor", "pool": "supervisor"}
    peers.hear(beat_of("a", host="a", pools={"light": 1}, **other), 0.0)
    peers.hear(beat_of("z", host="z", **other), 2.0)

    assert peers.supervisors(2.0) == ["a a", "m me", "z z"]
    assert peers.sharing("light", 2.0) == ["a a", "m me"]
    assert peers.sharing("light", 4.0) == ["m me"]
    peers.hear(beat_of("z", host="z", state="leaving", **other), 4.0)
    assert peers.supervisors(4.0) == ["m me"]
