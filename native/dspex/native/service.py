"""The native-ops program: the only file of this room that sees the bus."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from uuid import uuid4

from dspex.bus.job_running import JobWorker
from dspex.bus.program import VERSION, Context
from dspex.bus.responder import Profile, Responder
from dspex.bus.running import Identity, Outcome
from dspex.bus.serving import ServiceInfo
from dspex.bus.slots import Slots
from dspex.contracts import catalog, encoding
from dspex.contracts.subjects import NATIVE_QUEUE
from dspex.native.metrics.texts import TEXTS
from dspex.native.operations import perform
from dspex.native.tables.messages import ArrowTables

if TYPE_CHECKING:
    from dspex.bus.events import Events
    from dspex.contracts.requests import Body
    from dspex.contracts.subjects import Subjects

_log = logging.getLogger(__name__)

CONCURRENCY = 16
"""Requests in hand at a time; pure computation, so they run one after another."""

QUEUE = 1024
"""Requests that wait beyond those."""

GRACE = 10.0
"""Seconds to finish what is in hand when told to stop."""


async def run(operation: str, body: Body, events: Events) -> Outcome:
    """Do one operation."""
    if catalog.operation(operation).columns:  # as many as there are rows: it may last
        return Outcome(outputs=await asyncio.to_thread(perform, operation, body))
    return Outcome(outputs=perform(operation, body))


def profile(subjects: Subjects) -> Profile:
    """What a new native-ops process is."""
    worker = f"native-{uuid4().hex[:12]}"
    operations = catalog.served_by("native")
    return Profile(
        info=ServiceInfo(
            name="dspex-native",
            version=VERSION,
            description="Signatures and validation without DSPy.",
            metadata={"pool": NATIVE_QUEUE, "worker": worker, "texts": TEXTS.name},
            id=worker,
        ),
        identity=Identity(
            subjects=subjects,
            pool=NATIVE_QUEUE,
            worker=worker,
            implementation="native",
            operations=frozenset(operations),
        ),
        direct=(subjects.natives(), subjects.tenant_natives()),
        queue=NATIVE_QUEUE,
        operation_of=lambda message: subjects.read_native(message.subject),
        operations=operations,
        versions=VERSION,
    )


async def main(context: Context) -> None:
    """Serve until told to stop, then drain."""
    encoding.read_tables_with(ArrowTables())
    found = profile(context.configuration.subjects)
    slots = Slots(CONCURRENCY, QUEUE)
    responder = Responder(context, found, slots, run)
    jobs = JobWorker(context, found.identity, slots, run)
    await responder.start()
    await responder.open()
    await jobs.start()
    _log.info("native-ops ready", extra={"worker": found.identity.worker})
    await context.stop.wait()
    await asyncio.gather(jobs.stop(GRACE), responder.stop(GRACE))
