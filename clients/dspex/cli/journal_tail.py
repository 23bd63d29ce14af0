"""``dspex journal tail``: requests as they end."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from dspex.bus.journal import Entry
from dspex.bus.selecting import Lives
from dspex.cli import journal_select
from dspex.cli.journal_rows import row
from dspex.contracts import encoding
from dspex.contracts.envelope import Event
from dspex.contracts.failures import Failure
from dspex.contracts.lives import Life, ends
from dspex.contracts.records import Record

if TYPE_CHECKING:
    import argparse

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.contracts.subjects import Subjects

BACKLOG = 8192
"""Messages that wait to be read; more are counted and passed over."""


async def tail(bus: NatsBus, subjects: Subjects, given: argparse.Namespace) -> int:
    """Print requests as they end, until stopped."""

    def show(life: Life) -> None:
        if given.json:
            print(msgspec.json.encode(life.summary()).decode(), flush=True)
        else:
            print("  ".join(row(life)), flush=True)

    lives = Lives(journal_select.wanted(given), show)
    arrived = _Arrived()
    for subject in subjects.journaled():
        await bus.subscribe(subject, arrived.put)
    await bus.flush()
    print("listening", file=sys.stderr, flush=True)
    while True:
        entry = _read(subjects, await arrived.next())
        if entry is None:
            continue
        lives.take(entry)
        if ends(entry.said):
            lives.leave((entry.tenant, entry.said.request))


class _Arrived:
    """What arrived and is not read yet; what is too much is counted."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue(BACKLOG)
        self._dropped = 0

    def put(self, message: Message) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._dropped += 1

    async def next(self) -> Message:
        if self._dropped:
            print(f"too fast: {self._dropped} messages passed over", file=sys.stderr)
            self._dropped = 0
        return await self._queue.get()


def _read(subjects: Subjects, message: Message) -> Entry | None:
    try:
        tenant, family, _, _ = subjects.read_journaled(message.subject)
        said = encoding.decode(message.data, Event if family == "event" else Record)
    except Failure:
        return None
    return Entry(
        sequence=0,
        stored=time.time() * 1000,
        subject=message.subject,
        tenant=tenant,
        said=said,
        data=message.data,
    )
