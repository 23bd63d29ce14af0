"""What a replay compares: the recorded life of a request with that of its replay.

Pure: entries of the journal go in, a verdict comes out. Timestamps, ids, workers and
durations are left aside; so are the sizes of deltas, which depend on time.
"""

from __future__ import annotations

import difflib
import json
from typing import Any, Literal

from msgspec import Struct, field, to_builtins

from dspex.contracts.envelope import (
    Accepted,
    Delta,
    DoneEvent,
    Event,
    FailedEvent,
    Requested,
    Started,
    Status,
    StepEvent,
    ToolCall,
    ToolResult,
)
from dspex.contracts.failures import Category
from dspex.contracts.records import LmCall, Record
from dspex.contracts.walking import path_of

ReplayStatus = Literal["identical", "changed", "diverged", "failed"]
"""What came of a replay. ``identical``: the same end and the same events;
``changed``: others; ``diverged``: it asked a language model or a tool what the record
has no answer to; ``failed``: it could not be replayed."""

SHOWN = 4000
"""Characters of a prompt's difference that are told."""

_ASIDE = frozenset({"request", "attempt", "seq", "at", "type", "metadata", "ms"})
_OF_FAILURES = frozenset({"hint", "retry_after_ms"})
_FINAL = (DoneEvent, FailedEvent)
_UNTOLD = (Requested, Accepted, Status, StepEvent)


class Difference(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where two lives first differ.

    Attributes:
        path: Such as ``outputs.answer``, ``events[2].text`` or ``messages[1].content``.
        recorded: What was there; absent: nothing.
        replayed: What is there now.
        call: Number of the call that the record has no answer to; 0: no call differs.
        diff: Lines of both prompts, as ``diff -u`` writes them.
    """

    path: str
    recorded: Any = None
    replayed: Any = None
    call: int = 0
    diff: list[str] = field(default_factory=list)


class Replayed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of the replay of one request.

    Attributes:
        request: The recorded one.
        replayed_as: Id of the request that was sent; absent: none was.
        status: See ``ReplayStatus``.
        first_difference: Where the lives first differ.
        why: Why it could not be replayed.
        score: What a metric says of the new outputs against the recorded ones.
    """

    request: str
    replayed_as: str | None
    status: ReplayStatus
    first_difference: Difference | None = None
    why: str = ""
    score: float | None = None


class Asked(Struct, frozen=True, kw_only=True):
    """A call that a replayed request makes, and wants answered from the record.

    Attributes:
        request: Id of the replayed request.
        attempt: Number of its dispatch.
        call: Number of the call in that attempt; 0: it is a tool's.
        id: Of this question, which may be asked again until it is decided.
        messages: The prompt.
        parameters: What the call says besides.
        subject: Where the tool is.
        arguments: What the tool is given.
    """

    request: str
    attempt: int
    call: int = 0
    id: str = ""
    messages: list[Any] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    subject: str = ""
    arguments: Any = None


class FromRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the record answers.

    Attributes:
        found: Whether the call is in the record.
        outputs: What a language model answered, one per choice.
        usage: What that used.
        pieces: Characters of each piece of a streamed answer.
        ms: How long that took, milliseconds.
        result: What a tool answered.
        code: Of the failure that came instead.
        category: Branch that hangs on.
        message: What was wrong.
        error: Class of the exception that the program saw.
        retry_after_ms: Milliseconds after which it may succeed.
        later: Nobody has decided yet: ask again.
        really: The language model is called, or the tool, with ``messages`` or
            ``arguments``.
        messages: The prompt instead of the one that was asked.
        arguments: What the tool is given instead.
    """

    found: bool
    outputs: list[Any] | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    pieces: list[int] = field(default_factory=list)
    ms: float = 0.0
    result: Any = None
    code: str = ""
    category: Category | None = None
    message: str = ""
    error: str = ""
    retry_after_ms: int | None = None
    later: bool = False
    really: bool = False
    messages: list[Any] | None = None
    arguments: Any = None


class Script:
    """What language models and tools answered in a request's last attempt.

    A call is known by what it asks; of several that ask the same, the one with its
    number, else the first that was not given yet. A replay that tries again is
    answered from the beginning.

    Args:
        said: All that was told of the request.
        goes_on: Whether a call that asks what nobody asked is told, and answered all
            the same as the one with its number was: later turns of a session build on
            what it answered then.

    Attributes:
        difference: The first call that the record has no answer to.
    """

    def __init__(self, said: list[Event | Record], *, goes_on: bool = False) -> None:
        self._goes_on = goes_on
        last = final_attempt(said)
        calls = [one for one in said if isinstance(one, LmCall)]
        self._calls = sorted(
            (one for one in calls if one.attempt == last), key=lambda one: one.call
        )
        results = {
            one.call: one
            for one in said
            if isinstance(one, ToolResult) and one.attempt == last
        }
        self._tools = [
            (one, results[one.call])
            for one in said
            if isinstance(one, ToolCall) and one.attempt == last and one.call in results
        ]
        self._given: set[tuple[int, str, int]] = set()
        self.difference: Difference | None = None

    def answer(self, asked: Asked) -> FromRecord:
        """What the record answers to a call."""
        return self._lm(asked) if asked.call else self._tool(asked)

    def _lm(self, asked: Asked) -> FromRecord:
        fits = [
            one
            for one in self._calls
            if one.messages == asked.messages and one.parameters == asked.parameters
        ]
        fits.sort(key=lambda one: one.call != asked.call)
        for one in fits:
            if self._give(asked.attempt, "lm", one.call):
                return _answered(one)
        self._diverge(asked)
        instead = [one for one in self._calls if one.call == asked.call]
        if self._goes_on and instead and self._give(asked.attempt, "lm", asked.call):
            return _answered(instead[0])
        return FromRecord(found=False)

    def _tool(self, asked: Asked) -> FromRecord:
        for called, result in self._tools:
            same = called.arguments == asked.arguments
            if same and self._give(asked.attempt, "tool", called.call):
                code = "tool_failed" if result.error else ""
                return FromRecord(
                    found=True,
                    result=result.result,
                    ms=result.ms,
                    code=code,
                    message=result.error,
                )
        if self.difference is None:
            self.difference = Difference(
                path=f"tool {asked.subject}", replayed=asked.arguments
            )
        return FromRecord(found=False)

    def _give(self, attempt: int, kind: str, number: int) -> bool:
        key = (attempt, kind, number)
        fresh = key not in self._given
        self._given.add(key)
        return fresh

    def _diverge(self, asked: Asked) -> None:
        if self.difference is not None:
            return
        there = next((one for one in self._calls if one.call == asked.call), None)
        recorded = {} if there is None else _question(there)
        found = first_difference(recorded, _question(asked))
        self.difference = Difference(
            # The same was asked before, and is asked once more.
            path=found.path if found else "messages",
            recorded=found.recorded if found else None,
            replayed=found.replayed if found else asked.messages,
            call=asked.call,
            diff=prompt_diff(recorded.get("messages", []), asked.messages),
        )


def final_attempt(said: list[Event | Record]) -> int:
    """Number of the last attempt that is told of; 0: nobody began."""
    return max((one.attempt for one in said), default=0)


def own(said: list[Event | Record]) -> list[Event | Record]:
    """What a job's own life is told by, without that of its submission."""
    return [one for one in said if not _submits(one)]


def story(said: list[Event | Record]) -> list[dict[str, Any]]:
    """The events of a request's last attempt that a replay must tell again.

    Deltas of a field that follow each other are one, and nothing is told of waiting,
    nor of parts, which end in any order where they run side by side.
    """
    last = final_attempt(said)
    found: list[dict[str, Any]] = []
    for one in said:
        if not isinstance(one, Event) or isinstance(one, _UNTOLD):
            continue
        if one.attempt == last or (isinstance(one, _FINAL) and not one.attempt):
            _tell(found, one)
    return found


def compare(
    recorded: list[Event | Record], replayed: list[Event | Record]
) -> Difference | None:
    """Where two lives first differ: in their ends, else in what led there."""
    before, after = story(recorded), story(replayed)
    if before == after:
        return None
    ends = (_end(before), _end(after))
    if ends[0] != ends[1]:
        return first_difference(*ends)
    return first_difference({"events": before}, {"events": after})


def first_difference(
    recorded: Any, replayed: Any, steps: tuple[Any, ...] = ()
) -> Difference | None:
    """Where two values first differ; ``None``: nowhere."""
    if recorded == replayed:
        return None
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        keys = [*recorded, *(key for key in replayed if key not in recorded)]
        pairs = [(key, recorded.get(key), replayed.get(key)) for key in keys]
    elif isinstance(recorded, list) and isinstance(replayed, list):
        longest = max(len(recorded), len(replayed))
        pairs = [(i, _at(recorded, i), _at(replayed, i)) for i in range(longest)]
    else:
        pairs = []
    for key, before, after in pairs:
        if found := first_difference(before, after, (*steps, key)):
            return found
    return Difference(path=path_of(list(steps)), recorded=recorded, replayed=replayed)


def prompt_diff(recorded: list[Any], replayed: list[Any]) -> list[str]:
    """Both prompts as ``diff -u`` writes them, shortened to ``SHOWN`` characters."""
    lines = difflib.unified_diff(
        _lines(recorded), _lines(replayed), "recorded", "replayed", n=2, lineterm=""
    )
    found: list[str] = []
    room = SHOWN
    for line in lines:
        room -= len(line)
        if room < 0:
            return [*found, "…"]
        found.append(line)
    return found


def _question(one: LmCall | Asked) -> dict[str, Any]:
    return {"messages": one.messages, "parameters": one.parameters}


def _answered(call: LmCall) -> FromRecord:
    failure = call.failure
    if failure is None:
        return FromRecord(
            found=True,
            outputs=call.outputs or [],
            usage=call.usage,
            pieces=[size for _, size in call.pieces],
            ms=call.ms,
        )
    return FromRecord(
        found=True,
        usage=call.usage,
        ms=call.ms,
        code=failure.code,
        category=failure.category,
        message=failure.message,
        error=failure.error,
        retry_after_ms=failure.retry_after_ms,
    )


def _submits(one: Event | Record) -> bool:
    if isinstance(one, Requested | Accepted):
        return True
    if isinstance(one, Started):
        return one.operation == "job.submit"
    return isinstance(one, DoneEvent) and one.metadata.implementation == "state"


def _tell(found: list[dict[str, Any]], event: Event) -> None:
    last = found[-1] if found else {}
    if isinstance(event, Delta) and last.get("field") == event.field:
        last["text"] += event.text
        return
    aside = _ASIDE | (_OF_FAILURES if isinstance(event, FailedEvent) else frozenset())
    aside |= {"worker", "pool"} if isinstance(event, Started) else frozenset()
    said: dict[str, Any] = to_builtins(event)
    found.append({key: value for key, value in said.items() if key not in aside})


def _end(events: list[dict[str, Any]]) -> dict[str, Any]:
    last = events[-1] if events else {}
    return last if last.get("kind") in ("done", "failed", "cancelled") else {}


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else None


def _lines(messages: list[Any]) -> list[str]:
    found: list[str] = []
    for message in messages:
        known = isinstance(message, dict)
        content = message.get("content") if known else message
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        found += [f"[{message.get('role') if known else '?'}]", *text.splitlines()]
    return found
