"""Every stream and bucket there is, in one table, made when a program starts.

What is acknowledged and must not be lost: the logs of sessions, jobs, dead letters,
programs, blobs. What is captured beside the hot path: the journal. No stream has a
subject that is answered: it would answer first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.bus.durable import StreamConfig, ensure_stream

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.contracts.subjects import Subjects

MIB = 1024 * 1024
DAY = 86_400.0


class Names(Struct, frozen=True):
    """What the streams and buckets under one prefix are called.

    Attributes:
        prefix: First token of every subject.
    """

    prefix: str

    @property
    def sessions(self) -> str:
        """Stream of the logs of sessions."""
        return f"{self.prefix.upper()}_SESSIONS"

    @property
    def jobs(self) -> str:
        """Stream of jobs that wait or run."""
        return f"{self.prefix.upper()}_JOBS"

    @property
    def dead(self) -> str:
        """Stream of jobs that failed for good."""
        return f"{self.prefix.upper()}_DEAD"

    @property
    def journal(self) -> str:
        """Stream of the copies of what happened."""
        return f"{self.prefix.upper()}_JOURNAL"

    @property
    def session_holders(self) -> str:
        """Key-value bucket: who holds a session."""
        return f"{self.prefix}_sessions"

    @property
    def job_states(self) -> str:
        """Key-value bucket: what became of a job."""
        return f"{self.prefix}_jobs"

    @property
    def programs(self) -> str:
        """Key-value bucket: program specifications, with history."""
        return f"{self.prefix}_programs"

    @property
    def blobs(self) -> str:
        """Object store of large bodies."""
        return f"{self.prefix}_blobs"


def declared(subjects: Subjects, replicas: int = 1) -> list[StreamConfig]:
    """Every stream under a prefix; buckets are streams too.

    Args:
        subjects: Of the prefix.
        replicas: Servers that hold each: 1 embedded, 3 in a cluster.
    """
    names = Names(subjects.prefix)
    return [
        StreamConfig(
            name=names.sessions,
            subjects=[subjects.session_logs(), subjects.tenant_session_logs()],
            description="Logs of sessions: a session is the fold of its log.",
            discard="new",
            num_replicas=replicas,
            allow_msg_ttl=True,
            allow_rollup_hdrs=True,
        ),
        StreamConfig(
            name=names.jobs,
            subjects=[subjects.job("*")],
            description="Jobs, until they are done.",
            discard="new",
            num_replicas=replicas,
            allow_msg_ttl=True,
        ),
        StreamConfig(
            name=names.dead,
            subjects=[subjects.dead("*")],
            description="Jobs that failed for good, with their reasons.",
            max_age=30 * DAY,
            num_replicas=replicas,
        ),
        StreamConfig(
            name=names.journal,
            subjects=subjects.journaled(),
            description="Copies of what happened.",
            max_age=7 * DAY,
            max_bytes=1024 * MIB,
            num_replicas=replicas,
            no_ack=True,
        ),
        _bucket(names.session_holders, replicas),
        _bucket(names.job_states, replicas),
        _bucket(names.programs, replicas, history=64),
        StreamConfig(
            name=f"OBJ_{names.blobs}",
            subjects=[f"$O.{names.blobs}.C.>", f"$O.{names.blobs}.M.>"],
            discard="new",
            max_age=DAY,
            num_replicas=replicas,
            allow_rollup_hdrs=True,
        ),
    ]


async def provision(bus: NatsBus, subjects: Subjects, replicas: int = 1) -> None:
    """Make every stream there is to be, or make it like its declaration.

    Raises:
        Conflict: One exists and cannot become what is declared.
        BusUnavailable: JetStream does not answer.
    """
    for config in declared(subjects, replicas):
        await ensure_stream(bus, config)


def _bucket(name: str, replicas: int, history: int = 1) -> StreamConfig:
    return StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        max_msgs_per_subject=history,
        discard="new",
        num_replicas=replicas,
        allow_msg_ttl=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )
