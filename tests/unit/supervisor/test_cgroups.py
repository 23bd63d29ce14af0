"""Cgroups of workers: what is written where, and what the kernel makes of it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.support.hosts import gone

from dspex.bus.children import Child, Program
from dspex.contracts.configuration import ConfigurationError
from dspex.contracts.pooling import Pool
from dspex.services.supervisor.cgroups import Cgroup, Cgroups
from dspex.services.supervisor.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Iterator


def hierarchy(folder: Path, controllers: str) -> Path:
    """What looks like a cgroup that was delegated to us."""
    (folder / "cgroup.controllers").write_text(controllers)
    return folder


def mounted() -> Path | None:
    """Where cgroups of version 2 are on this machine, if we may make some."""
    if sys.platform != "linux":
        return None
    for line in Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(folder, os.W_OK):
            return Path(folder)
    return None


@pytest.fixture(name="real")
def _real() -> Iterator[Path]:
    root = mounted()
    if root is None:
        pytest.skip("no cgroup of version 2 may be written here")
    folder = root / f"dspex-test-{uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made below {root}: {error}")
    yield folder
    for left in folder.glob("*/"):  # of a test that failed
        (left / "cgroup.kill").write_text("1")
    folder.rmdir()


def test_limits_are_written(tmp_path: Path) -> None:
    """CPU time, memory, and who is held to them."""
    groups = Cgroups(hierarchy(tmp_path, "cpuset cpu io memory pids"), "supervisor-1")
    pool = Pool(cpu_quota=0.5, memory_mib=10)

    groups.prepare({"light": pool})
    placed = groups.place("light-1", 17, pool)

    assert placed is not None
    found = {one.name: one.read_text() for one in placed.folder.iterdir()}
    assert placed.folder == tmp_path / "supervisor-1-light-1"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert found == {
        "cpu.max": "50000 100000",
        "memory.max": str(10 << 20),
        "memory.oom.group": "1",
        "cgroup.procs": "17",
    }


def test_only_what_is_there_is_used(tmp_path: Path) -> None:
    """Without the controller memory a worker has the other limits on its memory."""
    groups = Cgroups(hierarchy(tmp_path, "hugetlb"), "supervisor-1")

    groups.prepare({"light": Pool(memory_mib=10)})
    placed = groups.place("light-1", 17, Pool(memory_mib=10))

    assert placed is not None
    assert [one.name for one in placed.folder.iterdir()] == ["cgroup.procs"]


def test_without_a_folder() -> None:
    """Nobody gets one unless the configuration says where."""
    groups = Cgroups(None, "supervisor-1")

    groups.prepare({"light": Pool(memory_mib=10)})

    assert groups.place("light-1", 17, Pool(memory_mib=10)) is None
    assert groups.pattern == ""


@pytest.mark.parametrize("controllers", [None, "memory"])
def test_a_quota_that_cannot_be_kept(tmp_path: Path, controllers: str | None) -> None:
    """It is refused at the start, and when a restart brings it; it says what to do."""
    folder = hierarchy(tmp_path, controllers) if controllers else None
    groups = Cgroups(folder, "supervisor-1")
    pool = Pool(cpu_quota=0.5)

    with pytest.raises(ConfigurationError, match=r"pools.light: cpu_quota needs a"):
        groups.prepare({"light": pool})
    with pytest.raises(OSError, match=r"set supervisor.cgroup"):
        groups.place("light-1", 17, pool)


def test_a_folder_that_is_no_cgroup(tmp_path: Path) -> None:
    """The message names it and says what it has to be."""
    with pytest.raises(ConfigurationError, match=r"is no cgroup of version 2"):
        Cgroups(tmp_path, "supervisor-1").prepare({})


def test_who_was_ended_for_memory(tmp_path: Path) -> None:
    """The kernel counts that; without the controller it counts nothing."""
    group = Cgroup(tmp_path)
    before = group.ran_out_of_memory
    (tmp_path / "memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 1\n")

    assert (before, group.ran_out_of_memory) == (False, True)


async def held(groups: Cgroups, folder: Path) -> tuple[Child, Cgroup, int]:
    """A worker in a cgroup, and the id of a child that has left its session."""
    pipe = folder / "pid"
    os.mkfifo(pipe)
    script = f"read go; setsid sleep 600 & echo $! > {pipe}; kill -STOP $$"
    argv = ("sh", "-c", script)
    child = Child(Program(name="w", role="worker", argv=argv), folder / "w.log")
    await child.start()
    group = groups.place("light-1", child.pid, Pool())
    assert group is not None
    child.tell("go")
    return child, group, int(await asyncio.to_thread(pipe.read_text))


async def test_all_of_a_worker_ends_with_it(real: Path, tmp_path: Path) -> None:
    """What left its session too; and the cgroup is gone."""
    groups = Cgroups(real, "supervisor-1")
    groups.prepare({})
    child, group, escaped = await held(groups, tmp_path)

    child.kill()
    await child.wait()
    groups.leave(group)
    await gone([escaped])
    groups.sweep()

    assert not group.folder.exists()


async def test_all_of_it_ends_with_its_supervisor(real: Path, tmp_path: Path) -> None:
    """When that was killed, its guard ends what left the session too."""
    groups = Cgroups(real, "supervisor-1")
    groups.prepare({})
    child, group, escaped = await held(groups, tmp_path)
    guard = Guard(tmp_path, groups.pattern)
    await guard.start()
    guard.add(child.pid)

    guard.child.release()
    await child.wait()
    await guard.child.wait()
    await gone([escaped])
    Cgroups(real, "supervisor-2").prepare({})

    assert not group.folder.exists()
