"""What of a process's telling goes into the journal: on, off, sampled, redacted.

Every connection has one (``bus.capture``); ``dspex.bus.program`` gives it what the
configuration says, and changes it when an operator does. Copies never wait: what
cannot be told is counted.
"""

from __future__ import annotations

import collections
import logging
import os
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from msgspec.structs import replace

from dspex.bus.tasks import Tasks
from dspex.contracts.failures import Failure
from dspex.contracts.journaling import Journal, JournalChange, JournalState
from dspex.contracts.redaction import Redaction, Rules, rules_of

if TYPE_CHECKING:
    from dspex.bus.stores import Blobs

_log = logging.getLogger(__name__)

STORING = 8
"""Large bodies on their way to the object store at a time."""


class Capture:
    """What one process journals.

    Args:
        journal: The section of the configuration.
    """

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal or Journal()
        self.rules: Rules = rules_of(self.journal.redact)
        self.blobs: Blobs | None = None
        self.counters: collections.Counter[str] = collections.Counter()
        self._storing = Tasks()
        self._open: WeakValueDictionary[str, Redaction] = WeakValueDictionary()

    @property
    def redacts(self) -> bool:
        """Whether something is left out."""
        return any(self.rules)

    @property
    def lost(self) -> int:
        """Records that were not told, or not whole; safe from another thread."""
        return self.counters["lost"] + self.counters["cut"]

    def keeps(self, tenant: str, operation: str, request: str) -> bool:
        """Whether copies of a request are kept."""
        return self.journal.keeps(tenant, operation, request)

    def redaction(self, request: str, body: bytes, media: str) -> Redaction | None:
        """What is left out of a request's copies; ``None``: nothing."""
        if not self.redacts:
            return None
        found = Redaction(self.rules)
        if body:
            found.learn_body(body, media)
        self._open[request] = found
        return found

    def log_text(self, request: str, text: str) -> str:
        """A text of the log as it may be written."""
        found = self._open.get(request)
        if found is None:
            return Redaction(self.rules).text(text)
        return found.log_text(text)

    def keep_apart(self, name: str, data: bytes) -> str:
        """Store what no message can hold, meanwhile; returns its name there.

        Returns:
            Empty when it is not stored: there is no place, or too much on its way.
        """
        if self.blobs is None or len(self._storing) >= STORING:
            self.counters["cut"] += 1
            return ""
        self._storing.start(self._store(self.blobs, name, data), "blob")
        return name

    async def join(self, grace: float) -> None:
        """Wait until what is stored apart is stored."""
        await self._storing.join(grace)

    async def _store(self, blobs: Blobs, name: str, data: bytes) -> None:
        try:
            await blobs.put(name, data)
        except Failure as failure:
            self.counters["cut"] += 1
            _log.warning("not journaled: %s", failure.message)
        else:
            self.counters["blobs"] += 1

    def change(self, asked: JournalChange) -> None:
        """Do as an operator says, from the next request on."""
        now = self.journal
        self.journal = replace(
            now,
            on=now.on if asked.on is None else asked.on,
            sample=now.sample if asked.sample is None else asked.sample,
            operations=now.operations | asked.operations,
            tenants=now.tenants | asked.tenants,
        )

    def state(self, name: str) -> JournalState:
        """What an operator is told."""
        journal = self.journal
        return JournalState(
            name=name,
            pid=os.getpid(),
            on=journal.on,
            sample=journal.sample,
            operations=journal.operations,
            tenants=journal.tenants,
            redacts=self.redacts,
            counters=dict(self.counters),
        )
