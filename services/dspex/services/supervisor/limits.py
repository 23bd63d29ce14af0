"""What a worker process may use, and what it does use: the system's side of it."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.contracts.pooling import Pool

MIB = 1 << 20

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""What numerical libraries read when they are imported, and only then."""


class Usage(Struct, frozen=True):
    """What the processes of one session use together.

    Attributes:
        processes: How many there are, the first one included.
        memory: Their resident memory that is no file's and not shared, bytes.
    """

    processes: int = 0
    memory: int = 0


def environ(pool: Pool) -> dict[str, str]:
    """The variables of a pool's workers; the pool's own win."""
    return {name: str(pool.threads) for name in THREADS} | pool.env


def apply(pool: Pool, pid: int) -> None:
    """Hold a process that was just started, and what it will start, to its limits.

    The first instructions of the interpreter run without them, which does no harm.
    Memory is RLIMIT_DATA: files that are only mapped, such as weights, do not count.

    Raises:
        OSError: The system does not allow it; the process is left as it is.
    """
    if pool.nice:
        os.setpriority(os.PRIO_PROCESS, pid, pool.nice)
    if sys.platform != "linux":
        return
    import resource

    if pool.cpus:
        os.sched_setaffinity(pid, pool.cpus)
    if pool.memory_mib is not None:
        size = pool.memory_mib * MIB
        resource.prlimit(pid, resource.RLIMIT_DATA, (size, size))
    if pool.max_files is not None:
        most = (pool.max_files, pool.max_files)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, most)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used; 0 where /proc does not say."""
    try:
        words = _stat(Path(f"/proc/{pid}"))
    except (OSError, IndexError):
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def usages(sessions: Iterable[int]) -> dict[int, Usage]:
    """What each session uses; nothing where /proc does not say."""
    found = dict.fromkeys(sessions, Usage())
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = _stat(entry)
            session = int(words[3])
            if session in found and words[0] != "Z":
                resident, shared = (entry / "statm").read_text().split()[1:3]
                own = (int(resident) - int(shared)) * page
                used = found[session]
                found[session] = Usage(used.processes + 1, used.memory + own)
    return found


def _stat(entry: Path) -> list[str]:
    """What /proc says of a process behind its name, which may hold anything."""
    return (entry / "stat").read_text().rpartition(")")[2].split()
