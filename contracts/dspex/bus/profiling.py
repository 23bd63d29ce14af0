"""What a process does: the stacks of its threads, looked at a hundred times a second.

It runs beside the heartbeat, so that a program that keeps the event loop busy can be
looked at. Only where the code is goes into a profile, never what it works on.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from asyncio import to_thread
from collections import Counter
from typing import TYPE_CHECKING

from dspex.bus.tasks import Tasks
from dspex.contracts import encoding
from dspex.contracts.admin import HotFunction, ProcessProfile, ProfileRequest
from dspex.contracts.envelope import failed
from dspex.contracts.failures import Failure, Overloaded
from dspex.contracts.subjects import answerable

if TYPE_CHECKING:
    from types import FrameType

    from dspex.bus.core import Bus, Message

PERIOD = 0.01
"""Seconds between two looks."""

DEEPEST = 64
"""Frames of a stack that are told, the innermost."""

MOST = 256 * 1024
"""Bytes of different stacks that are kept."""

HOTTEST = 25
"""Functions that are told."""

_WAITING = frozenset(
    {
        "asyncio.runners:Runner.run",
        "concurrent.futures.thread:_worker",
        "queue:Queue.get",
        "selectors:EpollSelector.select",
        "selectors:KqueueSelector.select",
        "threading:Condition.wait",
        "threading:Thread._wait_for_tstate_lock",
    }
)
"""Innermost functions of threads that wait for something to do."""


class Stacks:
    """How often each stack was seen; no more of them than fit."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, ...]] = Counter()
        self.samples = 0
        self.idle = 0
        self.lost = 0
        self._size = 0

    def add(self, frames: tuple[str, ...]) -> None:
        """Count a stack: the thread, then ``module:function:line`` inwards."""
        if frames[-1].rpartition(":")[0] in _WAITING:
            self.idle += 1
            return
        if frames not in self.seen:
            size = sum(map(len, frames)) + len(frames) + 8
            if self._size + size > MOST:
                self.lost += 1
                return
            self._size += size
        self.seen[frames] += 1

    def collapsed(self) -> str:
        """A line per stack, as programs that draw flame graphs read it."""
        found = self.seen.most_common()
        return "".join(f"{';'.join(frames)} {count}\n" for frames, count in found)

    def hottest(self) -> list[HotFunction]:
        """The functions that ran most."""
        own: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for (_, *frames), count in self.seen.items():
            functions = [one.rpartition(":")[0] for one in frames]
            own[functions[-1]] += count
            for one in set(functions):
                total[one] += count
        found = sorted(total, key=lambda one: (-own[one], -total[one], one))
        return [
            HotFunction(function=one, own=own[one], total=total[one])
            for one in found[:HOTTEST]
        ]


def stack_of(thread: str, frame: FrameType | None) -> tuple[str, ...]:
    """Where a thread is, from the thread inwards."""
    frames: list[str] = []
    while frame is not None and len(frames) < DEEPEST:
        code = frame.f_code
        module = frame.f_globals.get("__name__", "?")
        frames.append(_clean(f"{module}:{code.co_qualname}:{frame.f_lineno}"))
        frame = frame.f_back
    return _clean(thread), *reversed(frames)


def sample(seconds: float, stopped: threading.Event) -> Stacks:
    """Look at all other threads until the time is over, or it is stopped."""
    found, here = Stacks(), threading.get_ident()
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stopped.wait(PERIOD):
        names = {one.ident: one.name for one in threading.enumerate()}
        found.samples += 1
        for thread, frame in sys._current_frames().items():  # noqa: SLF001 - its only way
            if thread != here:
                found.add(stack_of(names.get(thread, "thread"), frame))
    return found


class Profiler:
    """Answers operators who ask what this process does, one at a time.

    Args:
        bus: Where it answers.
        process: The incarnation of this process.
    """

    def __init__(self, bus: Bus, process: str) -> None:
        self._bus = bus
        self._process = process
        self._busy = False
        self._stopped = threading.Event()
        self._tasks = Tasks()

    def asked(self, message: Message) -> None:
        """Somebody wants a profile; if it is not of this process, others answer."""
        try:
            wanted: ProfileRequest = encoding.decode(message.data, ProfileRequest)
        except Failure as failure:
            self._tasks.start(self._refuse(message, failure), "refuse")
            return
        if wanted.process == self._process:
            self._tasks.start(self._answer(message, wanted), "profile")

    async def stop(self) -> None:
        """End what runs: whoever asked is told what was seen so far."""
        self._stopped.set()
        await self._tasks.join(1.0)

    async def _answer(self, message: Message, wanted: ProfileRequest) -> None:
        if self._busy:
            busy = Overloaded(
                f"A profile of {self._process!r} is being taken already.",
                hint="Ask again when it is done.",
                retry_after_ms=1000,
            )
            await self._refuse(message, busy)
            return
        self._busy, begun = True, time.monotonic()
        try:
            found = await to_thread(sample, wanted.seconds, self._stopped)
        finally:
            self._busy = False
        said = ProcessProfile(
            process=self._process,
            pid=os.getpid(),
            seconds=round(time.monotonic() - begun, 3),
            samples=found.samples,
            idle=found.idle,
            lost=found.lost,
            stacks=found.collapsed(),
            hottest=found.hottest(),
        )
        if answerable(message.reply):
            await self._bus.publish(message.reply, encoding.encode(said))

    async def _refuse(self, message: Message, failure: Failure) -> None:
        if answerable(message.reply):
            said = failed("", failure)
            await self._bus.publish(message.reply, encoding.encode(said))


def _clean(text: str) -> str:
    """A frame as a line of stacks can hold it."""
    return text.replace(";", ",").replace(" ", "_").replace("\n", "_")
