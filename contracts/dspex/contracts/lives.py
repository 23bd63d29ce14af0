"""The life of one request, folded from its events and records.

The fold takes them in any order and keeps numbers, not texts, so many lives fit in
memory at once.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from dspex.contracts.envelope import (
    FINAL_KINDS,
    Accepted,
    DoneEvent,
    Event,
    FailedEvent,
    Requested,
    Started,
)
from dspex.contracts.records import LmCall, Record, ToolCall


class Counted(Struct):
    """How many of what counts from 1 were seen, and the highest number among them."""

    seen: int = 0
    highest: int = 0

    def take(self, number: int) -> None:
        """See one."""
        self.seen += 1
        self.highest = max(self.highest, number)

    @property
    def missing(self) -> int:
        """How many were not seen."""
        return max(0, self.highest - self.seen)


class Life(Struct, kw_only=True):
    """What became of one request.

    Attributes:
        request: Its id.
        tenant: Whose it is.
        session: Session it belongs to; empty: none.
        operation: What was asked.
        at: Unix milliseconds of the first thing told of it.
        ms: From then to the last.
        end: ``done``, the code of its failure, or empty while it goes on.
        category: Branch of the failure; empty without one.
        worker: Who ran it last.
        pool: Its pool.
        attempts: Dispatches.
        lm_calls: Calls of language models recorded.
        tool_calls: Calls of tools recorded.
        tokens: Tokens those language models counted.
        missing: Events and records that are not there.
        cut: Copies that lack something.
    """

    request: str
    tenant: str
    session: str = ""
    operation: str = ""
    at: float = 0.0
    ms: float = 0.0
    end: str = ""
    category: str = ""
    worker: str = ""
    pool: str = ""
    attempts: int = 0
    lm_calls: int = 0
    tool_calls: int = 0
    tokens: int = 0
    missing: int = 0
    cut: int = 0
    events: dict[int, Counted] = field(default_factory=dict)
    calls: dict[int, Counted] = field(default_factory=dict)

    def take(self, said: Event | Record) -> None:
        """Take in one more."""
        if not self.at or said.at < self.at:
            # An earlier beginning does not change when it ended.
            self.ms += self.at - said.at if self.at else 0.0
            self.at = said.at
        self.ms = round(max(self.ms, said.at - self.at), 3)
        counted = self.calls if isinstance(said, Record) else self.events
        number = said.call if isinstance(said, Record) else said.seq
        counted.setdefault(said.attempt, Counted()).take(number)
        self.attempts = max(self.attempts, said.attempt)
        if isinstance(said, Record):
            self._take_record(said)
        else:
            self._take_event(said)
        self.missing = sum(
            one.missing for one in (*self.events.values(), *self.calls.values())
        )

    def summary(self) -> dict[str, Any]:
        """What a list of requests shows of it."""
        return {
            name: getattr(self, name)
            for name in self.__struct_fields__
            if name not in ("events", "calls")
        }

    def _take_record(self, record: Record) -> None:
        self.cut += record.cut is not None
        if isinstance(record, ToolCall):
            self.tool_calls += 1
        elif isinstance(record, LmCall):
            self.lm_calls += 1
            total = record.usage.get("total_tokens")
            self.tokens += total if isinstance(total, int) else 0

    def _take_event(self, event: Event) -> None:
        match event:
            case Requested():
                self.operation = event.operation
                self.cut += event.cut is not None
            case Accepted():
                self.worker, self.pool = event.decision.worker, event.decision.pool
            case Started():
                self.operation = self.operation or event.operation
                self.worker, self.pool = event.worker, event.pool
            case DoneEvent():
                self.end, self.category = "done", ""
                calls = event.metadata.usage.calls if event.metadata.usage else 0
                counted = self.calls.setdefault(event.attempt, Counted())
                counted.highest = max(counted.highest, calls)
            case FailedEvent():
                self.end, self.category = event.code, event.category
            case _:
                return


def ends(said: Event | Record) -> bool:
    """Whether it is the end of a request."""
    return said.__struct_config__.tag in FINAL_KINDS
