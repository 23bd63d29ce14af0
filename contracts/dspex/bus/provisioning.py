"""Every stream and bucket there is, in one table, made when a program starts.

What is acknowledged and must not be lost: the logs of sessions, jobs, dead letters,
programs, blobs. What is captured beside the hot path: the journal. No stream has a
subject that is answered: it would answer first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from dspex.bus.durable import (
    ConsumerConfig,
    Made,
    StreamConfig,
    ensure_consumer,
    ensure_stream,
)
from dspex.contracts.journaling import Journal
from dspex.contracts.subjects import NATIVE_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.bus.connection import NatsBus
    from dspex.contracts.configuration import Configuration
    from dspex.contracts.job_settings import Jobs
    from dspex.contracts.subjects import Subjects

MIB = 1024 * 1024
DAY = 86_400.0
DEFAULT_JOURNAL = Journal()

PRIORITIES = (1, 2, 3, 4, 5)
"""Those of jobs, the first one first."""

UNDELIVERED = "burial"
"""Consumer of what the server says of jobs that it delivers no more."""


class Provisioned(Struct, frozen=True, kw_only=True):
    """What came of one declaration.

    Attributes:
        kind: ``stream`` (buckets are streams too) or ``consumer``.
        name: Of the stream, with that of the consumer behind it.
        made: ``made``, ``changed`` or ``kept``.
    """

    kind: Literal["stream", "consumer"]
    name: str
    made: Made


def lane(pool: str, priority: int) -> str:
    """The durable consumer of a pool's jobs of one priority."""
    return f"{pool}-p{priority}"


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
    def undelivered(self) -> str:
        """Stream of what the server says of jobs that it delivers no more."""
        return f"{self.prefix.upper()}_UNDELIVERED"

    @property
    def journal(self) -> str:
        """Stream of the copies of what happened."""
        return f"{self.prefix.upper()}_JOURNAL"

    @property
    def journal_blobs(self) -> str:
        """Object store of what is too large for a message of the journal."""
        return f"{self.prefix}_journal"

    @property
    def session_holders(self) -> str:
        """Key-value bucket: who holds a session."""
        return f"{self.prefix}_sessions"

    @property
    def job_states(self) -> str:
        """Key-value bucket: what became of a job."""
        return f"{self.prefix}_jobs"

    @property
    def pools(self) -> str:
        """Key-value bucket: what operators asked of pools and hosts."""
        return f"{self.prefix}_pools"

    @property
    def programs(self) -> str:
        """Key-value bucket: program specifications, with history."""
        return f"{self.prefix}_programs"

    @property
    def datasets(self) -> str:
        """Key-value bucket: versions of datasets; object store: their examples."""
        return f"{self.prefix}_datasets"

    @property
    def blobs(self) -> str:
        """Object store of large bodies."""
        return f"{self.prefix}_blobs"


def declared(
    subjects: Subjects, replicas: int = 1, journal: Journal = DEFAULT_JOURNAL
) -> list[StreamConfig]:
    """Every stream under a prefix; buckets are streams too.

    Args:
        subjects: Of the prefix.
        replicas: Servers that hold each: 1 embedded, 3 in a cluster.
        journal: How long and how much of it is kept.
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
            subjects=[subjects.job("*", "*"), subjects.later_job("*", "*")],
            description="Jobs, until they are done.",
            # Schedules allow no "new"; without limits of its own it drops nothing.
            discard="old",
            num_replicas=replicas,
            allow_msg_ttl=True,
            allow_msg_schedules=True,
        ),
        StreamConfig(
            name=names.undelivered,
            subjects=[f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{names.jobs}.*"],
            description="What the server says of jobs it delivers no more.",
            max_age=7 * DAY,
            num_replicas=replicas,
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
            max_age=journal.max_age,
            max_bytes=int(journal.max_mib * MIB),
            max_msgs_per_subject=journal.max_per_subject,
            num_replicas=replicas,
            no_ack=True,
            # Copies do not wait for the disk; a cluster keeps them on three.
            persist_mode="async" if replicas == 1 else None,
        ),
        StreamConfig(
            name=f"OBJ_{names.journal_blobs}",
            subjects=[f"$O.{names.journal_blobs}.C.>", f"$O.{names.journal_blobs}.M.>"],
            max_age=journal.max_age,
            max_bytes=int(journal.max_mib * MIB / 4),
            num_replicas=replicas,
            allow_rollup_hdrs=True,
        ),
        _bucket(names.session_holders, replicas),
        _bucket(
            names.job_states,
            replicas,
            republish={
                "src": f"$KV.{names.job_states}.>",
                "dest": subjects.job_notices(),
                "headers_only": True,
            },
        ),
        _bucket(names.pools, replicas),
        _bucket(names.programs, replicas, history=64),
        _bucket(names.datasets, replicas, history=64),
        StreamConfig(
            name=f"OBJ_{names.datasets}",
            subjects=[f"$O.{names.datasets}.C.>", f"$O.{names.datasets}.M.>"],
            discard="new",
            num_replicas=replicas,
            allow_rollup_hdrs=True,
        ),
        StreamConfig(
            name=f"OBJ_{names.blobs}",
            subjects=[f"$O.{names.blobs}.C.>", f"$O.{names.blobs}.M.>"],
            discard="new",
            max_age=DAY,
            num_replicas=replicas,
            allow_msg_ttl=True,
            allow_rollup_hdrs=True,
        ),
    ]


def consumers(
    subjects: Subjects, pools: Iterable[str], jobs: Jobs
) -> list[tuple[str, ConsumerConfig]]:
    """Every durable consumer under a prefix, with the stream it belongs to.

    Args:
        subjects: Of the prefix.
        pools: Those that do jobs.
        jobs: How they are delivered.
    """
    names = Names(subjects.prefix)
    lanes = [
        (names.jobs, _lane(subjects, pool, priority, jobs))
        for pool in sorted(pools)
        for priority in PRIORITIES
    ]
    return [*lanes, (names.undelivered, ConsumerConfig(name=UNDELIVERED))]


async def provision(bus: NatsBus, configuration: Configuration) -> list[Provisioned]:
    """Make every stream and consumer there is to be, or make it like its declaration.

    Raises:
        Conflict: One exists and cannot become what is declared.
        BusUnavailable: JetStream does not answer.
    """
    subjects = configuration.subjects
    found: list[Provisioned] = []
    for config in declared(
        subjects, configuration.nats.replicas, configuration.journal
    ):
        made = await ensure_stream(bus, config)
        found.append(Provisioned(kind="stream", name=config.name, made=made))
    pools = {*configuration.pools, NATIVE_QUEUE}
    for stream, consumer in consumers(subjects, pools, configuration.jobs):
        made = await ensure_consumer(bus, stream, consumer)
        name = f"{stream} {consumer.name}"
        found.append(Provisioned(kind="consumer", name=name, made=made))
    return found


async def provision_pool(
    bus: NatsBus, subjects: Subjects, pool: str, jobs: Jobs
) -> None:
    """Make the consumers of a pool that this program's configuration does not name."""
    for priority in PRIORITIES:
        lane = _lane(subjects, pool, priority, jobs)
        await ensure_consumer(bus, Names(subjects.prefix).jobs, lane)


async def provision_bucket(
    bus: NatsBus, configuration: Configuration, name: str
) -> None:
    """Make one declared bucket, for a program that does not wait for the others.

    Raises:
        Conflict: It exists and cannot become what is declared.
        BusUnavailable: JetStream does not answer.
    """
    for config in declared(configuration.subjects, configuration.nats.replicas):
        if config.name == f"KV_{name}":
            await ensure_stream(bus, config)


def _lane(subjects: Subjects, pool: str, priority: int, jobs: Jobs) -> ConsumerConfig:
    return ConsumerConfig(
        name=lane(pool, priority),
        filter_subjects=[subjects.job(pool, str(priority))],
        ack_wait=jobs.ack_wait_s,
        max_deliver=jobs.max_deliver,
        max_ack_pending=jobs.max_in_hand,
    )


def _bucket(
    name: str,
    replicas: int,
    history: int = 1,
    republish: dict[str, Any] | None = None,
) -> StreamConfig:
    return StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        max_msgs_per_subject=history,
        discard="new",
        num_replicas=replicas,
        allow_msg_ttl=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
        republish=republish,
    )
