"""Requests in threads of their own, as DSPy before 3.0 needs them."""

from __future__ import annotations

import asyncio
import contextvars
import random
import sys
import threading
from typing import Any

import pytest

from dspex.native.signatures.compiling import compile_signature
from dspex.services.worker import leftovers
from dspex.services.worker.lms import LanguageModels
from dspex.services.worker.programs import KEPT, Programs
from dspex.services.worker.threads import (
    Alone,
    EventsFromThread,
    Threads,
    contexts_are_apart,
)

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="")


@pytest.fixture(name="threads")
def _threads() -> Any:
    threads = Threads(4)
    yield threads
    threads.close()


class Told:
    """Events that note on which thread they were told."""

    streams = True

    def __init__(self) -> None:
        self.on: list[int] = []

    async def emit(self, kind: type[Any], **said: Any) -> None:
        self.on.append(threading.get_ident())
        if said.get("fails"):
            raise ValueError(kind.__name__)


def test_this_release() -> None:
    """The installed DSPy keeps contexts apart by itself."""
    assert contexts_are_apart()


async def test_each_is_alone_in_its_thread(threads: Threads) -> None:
    """Requests side by side have threads and loops of their own."""
    together = threading.Barrier(4)

    async def work() -> tuple[int, int]:
        together.wait(10)
        return threading.get_ident(), id(asyncio.get_running_loop())

    ran = await asyncio.gather(*(threads.run(work) for _ in range(4)))

    assert len(set(ran)) == len({thread for thread, _ in ran}) == 4
    assert threading.get_ident() not in {thread for thread, _ in ran}


async def test_it_sees_the_context_of_its_request(threads: Threads) -> None:
    """What was set for a request holds in its thread."""
    NAME.set("r-1")

    async def work() -> str:
        return NAME.get()

    assert await threads.run(work) == "r-1"


async def test_what_it_raises_comes_out(threads: Threads) -> None:
    """A failure in the thread is the caller's."""

    async def work() -> None:
        raise LookupError("there")

    with pytest.raises(LookupError, match="there"):
        await threads.run(work)


async def test_cancelled(threads: Threads) -> None:
    """Whoever cancels waits until the coroutine has ended, and the thread is free."""
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    ran = asyncio.ensure_future(threads.run(work))
    await begun.wait()
    ran.cancel()

    with pytest.raises(asyncio.CancelledError):
        await ran
    assert ended.is_set()


async def test_cancelled_and_going_on() -> None:
    """Nobody waits for a thread that computes on; it is known for how long it does."""
    threads = Threads(1, moment=0.01)
    begun, release, ended = asyncio.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        release.wait(60)  # as deaf as a computation
        loop.call_soon_threadsafe(ended.set)

    ran = asyncio.ensure_future(threads.run(work))
    await begun.wait()
    ran.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ran
    went_on = leftovers.longest()
    release.set()
    await ended.wait()
    threads.close(wait=True)

    assert went_on > 0
    assert leftovers.longest() == 0


def test_modules_are_shared_by_threads() -> None:
    """Requests in threads of their own find modules while others leave to make room."""
    programs = Programs(LanguageModels({}, environ={}), "none")
    signatures = [compile_signature(f"q{n} -> a") for n in range(KEPT + 16)]
    failed: list[Exception] = []

    def ask(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(1500):
                programs._module("predict", chance.choice(signatures))
        except Exception as error:  # noqa: BLE001 - the test fails by it
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    asking = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    sys.setswitchinterval(before)

    assert not failed


def test_cancelled_when_it_has_ended() -> None:
    """A coroutine whose loop closes in this moment needs no more to be cancelled."""
    alone = Alone()
    alone.run(lambda: asyncio.sleep(0))
    loop: Any = alone._task.get_loop() if alone._task else None
    loop.is_closed = bool  # as it said a moment before

    alone.cancel()

    del loop.is_closed


async def test_cancelled_before_it_began(threads: Threads) -> None:
    """What waits for a thread when it is cancelled never begins."""
    release, ran = threading.Event(), []

    async def blocks() -> None:
        release.wait(10)

    async def work() -> None:
        ran.append(1)

    blocked = [asyncio.ensure_future(threads.run(blocks)) for _ in range(4)]
    waiting = asyncio.ensure_future(threads.run(work))
    await asyncio.to_thread(lambda: None)
    waiting.cancel()
    await asyncio.to_thread(lambda: None)  # it has taken that in
    release.set()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.gather(*blocked)
    assert ran == []


async def test_events_are_told_on_the_loop_of_the_worker(threads: Threads) -> None:
    """A program tells from its thread what the bus sends from its own."""
    told = Told()
    events = EventsFromThread(told)  # type: ignore[arg-type]  # it only tells

    async def work() -> bool:
        await events.emit(int)
        with pytest.raises(ValueError, match="str"):
            await events.emit(str, fails=True)
        return events.streams

    assert await threads.run(work)
    assert told.on == [threading.get_ident()] * 2
