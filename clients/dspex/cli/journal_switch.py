"""``dspex journal set``: say to all programs what is journaled from now on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from dspex.bus.core import NoResponders
from dspex.contracts import encoding
from dspex.contracts.failures import BadRequest, NoWorker
from dspex.contracts.journaling import JournalChange, JournalState

if TYPE_CHECKING:
    import argparse

    from dspex.bus.connection import NatsBus
    from dspex.contracts.subjects import Subjects

ANSWER_WITHIN = 2.0
"""Seconds in which the programs answer."""

AFTER_THE_LAST = 0.3
"""Seconds after the last answer in which one more may come."""


def add(found: argparse.ArgumentParser) -> None:
    """The options that say what changes; without any, nothing does."""
    switch = found.add_mutually_exclusive_group()
    switch.add_argument("--on", action="store_true", default=None, help="keep copies")
    switch.add_argument(
        "--off", dest="on", action="store_false", default=None, help="keep none"
    )
    found.add_argument(
        "--sample", type=float, metavar="SHARE", help="share of the requests, 0 to 1"
    )
    for name in ("operation", "tenant"):
        found.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar=f"{name.upper()}=on|off",
            help=f"whether requests of one {name} are kept; may be repeated",
        )


async def switch(bus: NatsBus, subjects: Subjects, given: argparse.Namespace) -> int:
    """Tell all programs, and print what each one says it does now."""
    change = JournalChange(
        on=given.on,
        sample=_share(given.sample),
        operations=dict(map(_switch, given.operation)),
        tenants=dict(map(_switch, given.tenant)),
    )
    states = await ask(bus, subjects, change)
    for state in sorted(states, key=lambda one: (one.name, one.pid)):
        if given.json:
            print(msgspec.json.encode(state).decode())
        else:
            said = "on" if state.on else "off"
            switched = state.operations | state.tenants
            named = [f"{name} {'on' if on else 'off'}" for name, on in switched.items()]
            counted = [f"{name} {count}" for name, count in state.counters.items()]
            parts = [f"{said}, sample {state.sample:g}", *named, *counted]
            print(f"{state.name} {state.pid}: {', '.join(parts)}")
    return 0


async def ask(
    bus: NatsBus, subjects: Subjects, change: JournalChange
) -> list[JournalState]:
    """Tell all programs; each one answers for itself.

    Raises:
        NoWorker: None answered.
    """
    states: list[JournalState] = []
    until = time.monotonic() + ANSWER_WITHIN
    async with await bus.replies() as replies:
        replies.target = subjects.admin("journal")
        data = encoding.encode(change)
        await bus.publish(replies.target, data, reply=replies.subject)
        while (left := until - time.monotonic()) > 0:
            wait = min(left, AFTER_THE_LAST) if states else left
            try:
                message = await replies.next(wait)
            except (NoResponders, TimeoutError):
                break
            states.append(encoding.decode(message.data, JournalState))
    if not states:
        raise NoWorker(
            "No program answers on this NATS server.",
            hint="Start them: `dspex up`.",
        )
    return states


def _share(value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise BadRequest("--sample takes a share from 0 to 1, such as 0.1.")
    return value


def _switch(text: str) -> tuple[str, bool]:
    name, _, said = text.partition("=")
    if not name or said not in ("on", "off"):
        raise BadRequest(f"{text!r} is not NAME=on or NAME=off.")
    return name, said == "on"
