"""Records for the journal: told fire and forget, and counted when they are not.

A record goes out by one publish. What no message can hold goes to the journal's object
store, in a task of its own. Where fields are left out by their paths, records wait for
the end of the request: only then is known what an output was.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from dspex.contracts import encoding
from dspex.contracts.failures import BadRequest, Failure
from dspex.contracts.records import Cut, LmCall, ToolCall
from dspex.contracts.redaction import MARK

if TYPE_CHECKING:
    from dspex.bus.core import Bus
    from dspex.bus.events import Events
    from dspex.contracts.records import Record

HELD = 512
"""Records that wait for the end of their request; more are lost, and counted."""

_ROOM = 1024
"""Bytes left for the subject and what the server adds."""


class Records:
    """The calls of models and tools of one attempt.

    Args:
        bus: Where they are told.
        events: Whose attempt it is.
    """

    def __init__(self, bus: Bus, events: Events) -> None:
        self.kept = events.kept
        self.audience = events.audience
        self._bus = bus
        self._redaction = events.redaction
        self._numbers = count(1)
        self._held: list[Record] = []
        self._loop = asyncio.get_running_loop()

    def next_call(self) -> int:
        """The number of a call that begins."""
        return next(self._numbers)

    async def tell(self, record: Record) -> None:
        """Tell a record, or count it as lost."""
        if asyncio.get_running_loop() is not self._loop:
            self.tell_from_thread(record)
            return
        redaction = self._redaction
        if redaction is not None and redaction.rules.paths:
            if len(self._held) < HELD:
                self._held.append(record)
            else:
                self._bus.capture.counters["lost"] += 1
            return
        await self._tell(record)

    def tell_from_thread(self, record: Record) -> None:
        """Tell a record from another thread than the bus's own."""
        asyncio.run_coroutine_threadsafe(self.tell(record), self._loop)

    async def end(self, outputs: Any) -> None:
        """Tell what waited for the outputs; ``None``: there are none."""
        held, self._held = self._held, []
        if not held or self._redaction is None:
            return
        if outputs is not None:
            self._redaction.learn({"outputs": msgspec.to_builtins(outputs)})
        blank = outputs is None and self._redaction.rules.hide_outputs
        for record in held:
            await self._tell(_blank(record) if blank else record)

    async def _tell(self, record: Record) -> None:
        counters = self._bus.capture.counters
        try:
            data = self._encode(record)
            if len(data) > self._bus.max_payload - _ROOM:
                data = self._apart(record, data)
            subject = self.audience.subjects.record(record.request, _kind(record))
            await self._bus.publish(subject, data)
        except Failure:
            counters["lost"] += 1
            return
        counters["records"] += 1
        counters["bytes"] += len(data)

    def _encode(self, record: Record) -> bytes:
        if self._redaction is None:
            return encoding.encode(record)
        if self._redaction.rules.hide_outputs:
            record = _without_reply(record)
        return encoding.encode(self._redaction.of(msgspec.to_builtins(record)))

    def _apart(self, record: Record, data: bytes) -> bytes:
        """Store a record apart, and say where."""
        name = f"{self.audience.subjects.tenant}.{record.request}"
        name = f"{name}.{record.attempt}.{record.call}"
        blob = self._bus.capture.keep_apart(name, data)
        why = "larger than a message" if blob else "larger than a message, and many are"
        cut = Cut(bytes=len(data), blob=blob, why=why)
        small = self._encode(replace(_without(record), cut=cut))
        if len(small) > self._bus.max_payload - _ROOM:
            raise BadRequest("A record has too much beside its prompt.")
        return small


def _kind(record: Record) -> str:
    return str(record.__struct_config__.tag)


def _without(record: Record) -> Record:
    """A record without what can be large."""
    if isinstance(record, LmCall):
        return replace(record, messages=[], outputs=None, parameters={}, pieces=[])
    return replace(record, arguments=None, result=None)


def _without_reply(record: Record) -> Record:
    """A record without what a model wrote."""
    if not isinstance(record, LmCall) or record.outputs is None:
        return record
    return replace(record, outputs=[MARK] * len(record.outputs), pieces=[])


def _blank(record: Record) -> Record:
    """A record without anything that may be an output nobody knows."""
    if record.failure is not None:
        record = replace(record, failure=replace(record.failure, message=MARK))
    if isinstance(record, ToolCall):
        return replace(record, arguments=MARK, result=MARK)
    return replace(record, messages=[MARK])
