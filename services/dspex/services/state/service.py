"""The state program: the only file of this package that sees the bus's messages."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from dspex.bus.program import VERSION, Context
from dspex.bus.provisioning import provision
from dspex.bus.responder import Profile, Responder
from dspex.bus.running import Identity, Outcome
from dspex.bus.serving import ServiceInfo
from dspex.bus.slots import Slots
from dspex.contracts import catalog, encoding, headers
from dspex.contracts.failures import BusUnavailable, Unsupported
from dspex.contracts.subjects import STATE_POOL
from dspex.native.tables.messages import ArrowTables
from dspex.services.state import datasets, jobs, programs
from dspex.services.state.sessions import Sessions
from dspex.services.state.streams import Streams
from dspex.services.state.undelivered import Undelivered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from dspex.bus.events import Events
    from dspex.bus.running import Run
    from dspex.contracts.subjects import Subjects
    from dspex.services.state.answers import Operation

_log = logging.getLogger(__name__)

CONCURRENCY = 256
"""Requests in hand at a time; nearly all of their time they wait for JetStream."""

QUEUE = 1024
"""Requests that wait beyond those."""

GRACE = 10.0
"""Seconds to finish what is in hand when told to stop."""


def operations(context: Context, found: jobs.Jobs) -> dict[str, Operation]:
    """What answers each operation: its body and where its life is told."""
    subjects = context.configuration.subjects
    stored = programs.stored(context)
    sessions = Sessions(context.bus, subjects, stored)
    streams = Streams(context.bus, subjects)
    return {
        **jobs.operations(found),
        **sessions.operations(),
        **programs.operations(stored),
        **datasets.operations(datasets.Datasets(context.bus, subjects.prefix)),
        "stream.resume": streams.resume,
    }


def runner(table: Mapping[str, Operation]) -> Run:
    """What does an operation."""

    async def run(operation: str, body: Any, events: Events) -> Outcome:
        if operation not in table:
            raise Unsupported(f"This process does not do {operation!r}.")
        return await table[operation](body, events)

    return run


def profile(subjects: Subjects, served: list[str]) -> Profile:
    """What a new state process is."""
    worker = f"{STATE_POOL}-{uuid4().hex[:12]}"
    return Profile(
        info=ServiceInfo(
            name="dspex-state",
            version=VERSION,
            description="Sessions, jobs, programs and datasets, on JetStream.",
            metadata={"pool": STATE_POOL, "worker": worker},
            id=worker,
        ),
        identity=Identity(
            subjects=subjects,
            pool=STATE_POOL,
            worker=worker,
            implementation="state",
            operations=frozenset(served),
        ),
        direct=(subjects.pool_run(STATE_POOL), subjects.tenant_pool_runs(STATE_POOL)),
        queue=STATE_POOL,
        operation_of=lambda message: message.headers.get(headers.OPERATION, ""),
        operations=served,
        versions=VERSION,
    )


async def _provision(context: Context) -> None:
    """Make the streams; a cluster that is just starting answers after a while.

    Raises:
        Failure: It cannot be done, or JetStream does not answer for too long.
    """
    until = time.monotonic() + context.configuration.nats.grace
    while True:
        try:
            await provision(context.bus, context.configuration)
        except BusUnavailable as failure:
            if time.monotonic() >= until or context.stop.is_set():
                raise
            _log.warning("streams not made yet: %s", failure.message)
            await asyncio.sleep(1)
        else:
            return


async def main(context: Context) -> None:
    """Serve until told to stop, then drain."""
    configuration = context.configuration
    subjects = configuration.subjects
    found = profile(subjects, catalog.served_by("state"))
    encoding.read_tables_with(ArrowTables())
    kept_jobs = jobs.Jobs(context)
    undelivered = Undelivered(context.bus, subjects, kept_jobs.store)
    run = runner(operations(context, kept_jobs))
    responder = Responder(context, found, Slots(CONCURRENCY, QUEUE), run)
    await responder.start()
    await _provision(context)
    await kept_jobs.start()
    await undelivered.start()
    await responder.open()
    _log.info("state ready", extra={"worker": found.identity.worker})
    await context.stop.wait()
    await responder.stop(GRACE)
    await undelivered.stop()
