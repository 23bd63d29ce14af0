"""Cgroups of workers: what the kernel holds a worker and all it starts to.

Only below a folder that the configuration names, for a hierarchy belongs to whoever
runs the host. Control files are those of version 2.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
from typing import TYPE_CHECKING

from dspex.contracts.configuration import ConfigurationError
from dspex.contracts.subjects import SUPERVISOR_POOL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dspex.contracts.pooling import Pool

_log = logging.getLogger(__name__)

MIB = 1 << 20

PERIOD = 100_000
"""Microseconds over which CPU time is shared out: the kernel's own default."""

CONTROLLERS = ("cpu", "memory")
"""Those that are used."""


class Cgroups:
    """One cgroup for each worker of a host.

    Args:
        folder: Where they are made; ``None``: nowhere, and workers have none.
        name: Incarnation of the supervisor, for several may share a folder.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self._folder = folder
        self._name = name
        self._controllers: set[str] = set()
        self._left: set[Path] = set()

    @property
    def pattern(self) -> str:
        """The folders of all its workers, for a shell; empty: they have none."""
        if self._folder is None:
            return ""
        return f"{shlex.quote(str(self._folder))}/{self._name}-*"

    def prepare(self, pools: Mapping[str, Pool]) -> None:
        """Have the folder share out what the pools limit.

        Raises:
            ConfigurationError: It is no cgroup that this process may write, or lacks
                a controller that a pool needs.
        """
        if self._folder is not None:
            self._controllers = _delegated(self._folder)
            # What supervisors left that were killed: only empty ones can be removed.
            self._left |= set(self._folder.glob(f"{SUPERVISOR_POOL}-*"))
            self.sweep()
            self._left.clear()
        for name, pool in pools.items():
            try:
                self._check(pool)
            except OSError as error:
                raise ConfigurationError(f"pools.{name}: {error}") from None

    def place(self, worker: str, pid: int, pool: Pool) -> Cgroup | None:
        """Put a worker that was just started, and what it will start, into its own.

        Raises:
            OSError: The kernel refuses, or cannot do what the pool asks for.
        """
        self._check(pool)
        if self._folder is None:
            return None
        folder = self._folder / f"{self._name}-{worker}"
        folder.mkdir(exist_ok=True)
        for name, value in _limits(pool).items():
            if name.partition(".")[0] in self._controllers:
                (folder / name).write_text(value)
        (folder / "cgroup.procs").write_text(str(pid))
        return Cgroup(folder)

    def leave(self, group: Cgroup) -> None:
        """End what is left in one whose worker has ended, and remove it."""
        group.kill()
        self._left.add(group.folder)
        self.sweep()

    def sweep(self) -> None:
        """Remove those that are empty by now."""
        for folder in list(self._left):
            try:
                folder.rmdir()
            except FileNotFoundError:
                self._left.discard(folder)
            except OSError:  # what was killed has not ended yet
                continue
            else:
                self._left.discard(folder)

    def _check(self, pool: Pool) -> None:
        if pool.cpu_quota is not None and "cpu" not in self._controllers:
            raise OSError(
                "cpu_quota needs a cgroup of version 2 with the controller cpu: set "
                "supervisor.cgroup to its folder, or take cpus or nice instead."
            )


class Cgroup:
    """That of one worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has ended something in it for its memory."""
        with contextlib.suppress(OSError, ValueError):
            for line in (self.folder / "memory.events").read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count) > 0
        return False

    def kill(self) -> None:
        """End every process in it, whatever session it has gone to."""
        with contextlib.suppress(OSError):  # before Linux 5.14, or gone
            (self.folder / "cgroup.kill").write_text("1")


def _limits(pool: Pool) -> dict[str, str]:
    """Control files and what is written to them."""
    found = {}
    if pool.cpu_quota is not None:
        found["cpu.max"] = f"{round(pool.cpu_quota * PERIOD)} {PERIOD}"
    if pool.memory_mib is not None:
        # All of a worker ends together: half of one answers nobody.
        found["memory.oom.group"] = "1"
        found["memory.max"] = str(pool.memory_mib * MIB)
    return found


def _delegated(folder: Path) -> set[str]:
    """Have the cgroups below a folder get what it has to share out."""
    try:
        there = (folder / "cgroup.controllers").read_text().split()
        found = {one for one in CONTROLLERS if one in there}
        if found:
            wanted = " ".join(f"+{one}" for one in sorted(found))
            (folder / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        raise ConfigurationError(
            f"supervisor.cgroup {str(folder)!r} is no cgroup of version 2 that can be "
            f"written, with all processes in cgroups below it: {error}. "
            "docs/pools.md shows how systemd makes one."
        ) from None
    if missing := sorted(set(CONTROLLERS) - found):
        _log.warning("cgroup without controllers: %s", ", ".join(missing))
    return found
