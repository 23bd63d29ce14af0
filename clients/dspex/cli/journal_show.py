"""``dspex journal show``: the whole life of a request, as a tree."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus.journal import Damaged, Entry
from dspex.cli.journal_rows import clock, ended
from dspex.contracts import records
from dspex.contracts.envelope import (
    Accepted,
    CancelledEvent,
    Delta,
    DoneEvent,
    FailedEvent,
    Requested,
    Started,
    Status,
    StepEvent,
    ToolCall,
    ToolResult,
)
from dspex.contracts.failures import NotFound
from dspex.contracts.lives import Life
from dspex.contracts.records import LmCall, Record

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from dspex.bus.journal import Reader
    from dspex.cli.console import Console
    from dspex.contracts.envelope import Event

Line = tuple[int, str]
"""How deep it stands, and what it says."""


async def show(reader: Reader, given: argparse.Namespace, out: Console) -> int:
    """Print it; exit status 1 if something of it is missing.

    Raises:
        NotFound: The journal has nothing of it.
    """
    entries, damaged = await _read(reader, given)
    if not entries:
        raise NotFound(
            f"The journal has nothing of request {given.request!r}.",
            hint="It may be older than what is kept, or not journaled: "
            "`dspex journal ls` lists what there is.",
        )
    if given.json:
        for entry in entries:
            print(entry.data.decode())
    else:
        life = life_of(entries)
        out.line(out.bold(f"{life.request}  {life.operation}  {ended(life)}"))
        for depth, text in tree(entries, life):
            out.line("  " * depth + text)
    for damage in damaged:
        print(f"passed over: {damage.subject}: {damage.why}", file=sys.stderr)
    return 1 if damaged else 0


async def _read(
    reader: Reader, given: argparse.Namespace
) -> tuple[list[Entry], list[Damaged]]:
    """What there is of a request, whole where it can be had, and what is not."""
    entries: list[Entry] = []
    damaged: list[Damaged] = []
    async for one in reader.of_request(given.request, given.tenant):
        whole = await reader.whole(one) if isinstance(one, Entry) else one
        if isinstance(whole, Damaged):
            damaged.append(whole)
        if isinstance(one, Entry):
            entries.append(one if isinstance(whole, Damaged) else whole)
    return entries, damaged


def life_of(entries: Iterable[Entry]) -> Life:
    """The life of a request, from all there is of it."""
    first, *rest = entries
    life = Life(request=first.said.request, tenant=first.tenant)
    for entry in (first, *rest):
        life.take(entry.said)
    return life


def tree(entries: list[Entry], life: Life) -> Iterator[Line]:
    """What happened, in the order of the clocks of those who told it."""
    begun = life.at
    yield 1, f"tenant {life.tenant}, began {clock(begun)}, took {life.ms:.1f} ms"
    said = sorted((entry.said for entry in entries), key=_order)
    attempt = 0
    deltas: list[Delta] = []
    for one in [*said, None]:
        if isinstance(one, Delta):
            deltas.append(one)
            continue
        if deltas:
            yield from _deltas(deltas, begun)
            deltas = []
        if one is None:
            return
        if one.attempt > attempt:
            attempt = one.attempt
            yield 1, f"attempt {attempt}"
        yield from _lines(one, begun)


def _order(one: Event | Record) -> tuple[float, int, int]:
    number = one.seq if not isinstance(one, Record) else one.call
    return one.at, one.attempt, number


def _lines(one: Event | Record, begun: float) -> Iterator[Line]:
    at = f"+{one.at - begun:.1f} ms"
    yield from _SHOWN[type(one)](one, at)


def _requested(one: Requested, at: str) -> Iterator[Line]:
    yield 1, f"asked {at}  {one.operation}"
    yield from _object(2, one.headers)
    yield from _object(2, one.body)


def _started(one: Started, at: str) -> Iterator[Line]:
    yield 2, f"started {at}  on {one.worker}"


def _status(one: Status, at: str) -> Iterator[Line]:
    yield 2, f"status {at}  {one.message}"


def _step(one: StepEvent, at: str) -> Iterator[Line]:
    how = f"failed: {one.code}" if one.code else "done"
    yield 2, f"{one.part} {at}  {one.module} {how}, {one.ms:.1f} ms"


def _nothing(one: ToolCall | ToolResult, at: str) -> Iterator[Line]:
    yield from ()


def _done(one: DoneEvent, at: str) -> Iterator[Line]:
    depth = 2 if one.attempt else 1
    yield depth, f"done {at}"
    yield from _object(depth + 1, one.outputs)
    yield from _object(depth + 1, {"metadata": _short(one.metadata)})


def _failed(one: FailedEvent, at: str) -> Iterator[Line]:
    depth = 2 if one.attempt else 1
    yield depth, f"{one.code} {at}  {one.message}"
    if one.hint:
        yield depth + 1, one.hint


def _decision(one: Accepted, at: str) -> Iterator[Line]:
    decision = one.decision
    yield 1, f"decided {at}  {decision.worker} ({decision.reason})"
    waited = f", waited {decision.waited_ms:g} ms" if decision.waited_ms else ""
    yield 2, f"dispatch {decision.attempt}, one of {decision.eligible}{waited}"
    for candidate in decision.candidates:
        yield 2, f"{candidate.worker} of {candidate.pool}, load {candidate.score:g}"


def _lm_call(one: LmCall, at: str) -> Iterator[Line]:
    usage = one.usage.get("total_tokens")
    tokens = f", {usage} tokens" if usage else ""
    pieces = f", {len(one.pieces)} pieces" if one.pieces else ""
    yield (
        2,
        (
            f"model call {one.call} {at}  {one.lm} = {one.model}, "
            f"{one.ms:.1f} ms{tokens}{pieces}"
        ),
    )
    yield from _object(3, one.parameters)
    for message in one.messages:
        spoken = message if isinstance(message, dict) else {"content": message}
        yield from _text(3, str(spoken.get("role", "?")), spoken.get("content"))
    for output in one.outputs or ():
        yield from _text(3, "reply", output)
    if one.failure is not None:
        yield 3, f"failed: {one.failure.code}: {one.failure.message}"


def _tool_call(one: records.ToolCall, at: str) -> Iterator[Line]:
    where = f" on {one.subject}" if one.subject else ""
    yield 2, f"tool call {one.call} {at}  {one.name}{where}, {one.ms:.1f} ms"
    yield from _text(3, "arguments", one.arguments)
    if one.failure is None:
        yield from _text(3, "result", one.result)
    else:
        yield 3, f"failed: {one.failure.code}: {one.failure.message}"


def _deltas(deltas: list[Delta], begun: float) -> Iterator[Line]:
    first, last = deltas[0].at - begun, deltas[-1].at - begun
    texts: dict[str, str] = {}
    for delta in deltas:
        texts[delta.field] = texts.get(delta.field, "") + delta.text
    told = ", ".join(f"{name} {len(text)}" for name, text in texts.items())
    yield 2, f"{len(deltas)} deltas +{first:.1f} to +{last:.1f} ms  characters: {told}"


def _object(depth: int, value: Any) -> Iterator[Line]:
    for name, one in value.items() if isinstance(value, dict) else ():
        yield from _text(depth, str(name), one)


def _text(depth: int, name: str, value: Any) -> Iterator[Line]:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    lines = text.splitlines() or [""]
    if len(lines) == 1:
        yield depth, f"{name}: {lines[0]}"
        return
    yield depth, f"{name}:"
    for line in lines:
        yield depth + 1, line


def _short(metadata: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(metadata)
    return {name: one for name, one in plain.items() if one not in (None, "", False)}


_SHOWN: dict[type, Callable[[Any, str], Iterator[Line]]] = {
    LmCall: _lm_call,
    records.ToolCall: _tool_call,
    Requested: _requested,
    Accepted: _decision,
    Started: _started,
    Status: _status,
    StepEvent: _step,
    DoneEvent: _done,
    FailedEvent: _failed,
    CancelledEvent: _failed,
    # The record of the call says what both say.
    ToolCall: _nothing,
    ToolResult: _nothing,
}
