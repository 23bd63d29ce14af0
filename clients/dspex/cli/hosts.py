"""Hosts, pools and workers as lines of text: pure, but for what is heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.bus.health import read_beat
from dspex.cli.console import aligned
from dspex.contracts.failures import Failure
from dspex.contracts.pools import WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.bus.core import Message
    from dspex.cli.console import Console
    from dspex.contracts.heartbeats import Gpu, Heartbeat
    from dspex.contracts.pools import HostStatus, PoolStatus
    from dspex.contracts.subjects import Subjects

_HEAD = (
    *("worker", "name", "state", "pid", "load", "served"),
    *("sessions", "memory", "age", "dspy", "gpu"),
)


class Seen:
    """The workers whose heartbeats were heard.

    Args:
        subjects: Under the configured prefix.
        pool: Only those of this pool; ``None``: all.

    Attributes:
        beats: The latest of each worker.
    """

    def __init__(self, subjects: Subjects, pool: str | None) -> None:
        self.beats: dict[str, Heartbeat] = {}
        self._subjects = subjects
        self._pool = pool

    def hear(self, message: Message) -> None:
        """Take a heartbeat in."""
        try:
            beat = read_beat(self._subjects, message)
        except Failure:
            return
        ours = self._pool in (None, beat.pool)
        if ours and beat.implementation == "python" and beat.state != "leaving":
            self.beats[beat.worker] = beat

    def unsupervised(self, hosts: Sequence[HostStatus]) -> list[Heartbeat]:
        """Those that no supervisor has: started by hand, or by something else."""
        kept = {
            (host.host, worker.pid)
            for host in hosts
            for pool in host.pools
            for worker in pool.workers
        }
        found = (one for one in self.beats.values() if (one.host, one.pid) not in kept)
        return sorted(found, key=lambda one: (one.host, one.pool, one.worker))


def lines(
    hosts: Sequence[HostStatus], others: Sequence[Heartbeat], out: Console
) -> list[str]:
    """The picture."""
    found: list[str] = []
    for host in hosts:
        about = f"up {_age(host.uptime_s)}, {_mib(host.rss)}, dspex {host.version}"
        found.append(f"{out.bold(host.host)}  {out.dim(f'{host.supervisor}, {about}')}")
        for pool in host.pools:
            found += _pool(pool, out)
    if others:
        found.append(f"{out.bold('workers without a supervisor')}")
        found += _table([(one.host, _status(one)) for one in others], out)
    return found


def _pool(pool: PoolStatus, out: Console) -> list[str]:
    ready = sum(one.state == "ready" for one in pool.workers)
    need = f"{pool.scale}, {pool.desired} needed ({pool.reason})"
    found = [f"  pool {pool.pool}: {ready} of {pool.processes} ready; {need}"]
    if pool.trouble:
        again = f" Next start in {pool.again_ms / 1000:.1f} s." if pool.again_ms else ""
        found += [
            "    " + out.warning(line) for line in f"{pool.trouble}{again}".split("\n")
        ]
    return found + _table([(one.name, one) for one in pool.workers], out)


def _status(beat: Heartbeat) -> WorkerStatus:
    return WorkerStatus(
        name=beat.host,
        worker=beat.worker,
        pid=beat.pid,
        state="ready" if beat.state == "ready" else "starting",
        in_flight=beat.in_flight,
        queued=beat.queued,
        concurrency=beat.concurrency,
        served=beat.served,
        sessions=beat.sessions,
        rss=beat.rss,
        dspy=beat.dspy,
        gpus=beat.gpus,
    )


def _table(workers: list[tuple[str, WorkerStatus]], out: Console) -> list[str]:
    if not workers:
        return []
    head, *rows = aligned([_HEAD, *(_row(name, one) for name, one in workers)])
    return [f"    {out.dim(head)}", *(f"    {row}" for row in rows)]


def _row(name: str, one: WorkerStatus) -> tuple[str, ...]:
    state = f"{one.state} ({one.why})" if one.why else one.state
    load = f"{one.in_flight}+{one.queued}/{one.concurrency}" if one.concurrency else "-"
    return (
        one.worker or "-",
        name,
        state,
        str(one.pid),
        load,
        str(one.served),
        str(one.sessions),
        _mib(one.rss) if one.rss else "-",
        _age(one.age_s) if one.age_s else "-",
        one.dspy or "-",
        ", ".join(map(_gpu, one.gpus)) or "-",
    )


def _gpu(gpu: Gpu) -> str:
    free = max(0, gpu.free - gpu.reserved)
    return f"{gpu.name} {_mib(free)} of {_mib(gpu.total)} free"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
