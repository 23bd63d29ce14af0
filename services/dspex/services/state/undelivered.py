"""Jobs that the server delivers no more, and messages that nobody needs any more.

A job that was delivered as often as may be, and never came to an end, is told by the
server in an advisory. It ends in the dead letters like any other. Messages that all
deliveries of are acknowledged are purged, for a stream with limits keeps them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from dspex.bus.clock import now_ms
from dspex.bus.durable import api
from dspex.bus.job_running import bury, tell_end
from dspex.bus.provisioning import UNDELIVERED, Names
from dspex.bus.pulling import PullLoop, PullSettings
from dspex.bus.tasks import Tasks
from dspex.contracts import encoding, jobs
from dspex.contracts.failures import Failure, NotFound
from dspex.contracts.job_records import Job, JobRecord

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.jobs import JobStore
    from dspex.bus.pulling import Delivery
    from dspex.contracts.jobs import Step
    from dspex.contracts.subjects import Subjects

_log = logging.getLogger(__name__)

PURGE_EVERY = 60.0
"""Seconds between two looks for messages that nobody needs."""


class Undelivered:
    """Buries what the server gives up, and purges what is done, until stopped.

    Args:
        bus: Where.
        subjects: Under the configured prefix.
        store: Of jobs.
    """

    def __init__(self, bus: NatsBus, subjects: Subjects, store: JobStore) -> None:
        names = Names(subjects.prefix)
        self._bus = bus
        self._store = store
        self._jobs = names.jobs
        self._undelivered = names.undelivered
        settings = PullSettings(stream=names.undelivered, consumer=UNDELIVERED)
        self._loop = PullLoop(bus, settings, self._give_up)
        self._tasks = Tasks()

    async def start(self) -> None:
        """Begin."""
        await self._loop.start()
        self._tasks.start(self._purge_now_and_then(), "purge")

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()
        await self._loop.stop()

    async def purge(self) -> int:
        """Remove the messages of jobs that have ended; returns how many."""
        if await self._some_are_undelivered():
            return 0  # what they tell of must still be there
        consumers = await self._consumers()
        return sum([await self._purge_behind(one) for one in consumers])

    async def _consumers(self) -> list[dict[str, Any]]:
        """Those of the stream of jobs; the server tells them by pages."""
        found: list[dict[str, Any]] = []
        while True:
            verb, offset = f"CONSUMER.LIST.{self._jobs}", {"offset": len(found)}
            page = (await api(self._bus, verb, offset)).get("consumers") or []
            found += page
            if not page:
                return found

    async def _purge_behind(self, consumer: dict[str, Any]) -> int:
        config = consumer["config"]
        # The server tells one filter by the name under which it was made.
        subjects = config.get("filter_subjects") or [config.get("filter_subject", "")]
        floor = int(consumer["ack_floor"]["stream_seq"])
        if len(subjects) != 1 or not subjects[0] or not floor:
            return 0
        wanted = {"filter": subjects[0], "seq": floor + 1}
        found = await api(self._bus, f"STREAM.PURGE.{self._jobs}", wanted)
        return int(found.get("purged", 0))

    async def _some_are_undelivered(self) -> bool:
        verb = f"CONSUMER.INFO.{self._undelivered}.{UNDELIVERED}"
        info = await api(self._bus, verb)
        return bool(info["num_pending"] or info["num_ack_pending"])

    async def _purge_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(PURGE_EVERY)
            try:
                await self.purge()
            except Failure as failure:
                _log.warning("jobs not purged: %s", failure.message)

    async def _give_up(self, delivery: Delivery) -> None:
        said = encoding.decode(delivery.message.data, dict[str, Any])
        sequence = int(said["stream_seq"])
        try:
            data, _ = await self._store.job_at(sequence)
        except NotFound:
            return  # it ended, and was purged
        job: Job = encoding.decode(data, Job)

        def decide(record: JobRecord | None) -> Step:
            found = record or jobs.opened(job, sequence, now_ms())
            return jobs.give_up(found, sequence, now_ms())

        step = await self._store.change(job.tenant, job.job, decide)
        if step.record is not None:
            await bury(self._store, job, step.record)
            await tell_end(self._store, step.record)
            _log.error("job given up", extra={"job": job.job})
