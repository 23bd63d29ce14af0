"""A thread and an event loop of its own for each request, for DSPy before 3.0.

``dspy.context`` of those releases belongs to the thread: two requests on one event
loop would see each other's language model, and the one that ends last leaves its own
behind. In a thread of its own a request is alone with its context. What belongs to the
worker's loop, as the bus does, is reached from there by ``Home``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import dspy

from dspex.services.worker import leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from dspex.bus.audiences import Audience
    from dspex.bus.events import Events

_T = TypeVar("_T")


@cache
def contexts_are_apart() -> bool:
    """Whether requests on one event loop have contexts of their own in this DSPy."""
    with dspy.context(branch_idx=-1):
        inside: int = contextvars.Context().run(lambda: dspy.settings.branch_idx)
    return inside != -1


class Threads:
    """Runs coroutines, each in a thread that no other one uses meanwhile.

    Args:
        concurrency: How many run at a time; more wait for a thread.
        moment: Seconds that a coroutine has for its end once its caller was cancelled.
    """

    def __init__(self, concurrency: int, moment: float = 1.0) -> None:
        self._moment = moment
        self._executor = ThreadPoolExecutor(concurrency, "request")

    async def run(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run what ``work`` makes and return what it returns.

        Whoever cancels this call cancels that coroutine too, and waits a moment for
        its end; one that computes does not hear of it.

        Raises:
            BaseException: What the coroutine raised.
        """
        started = Alone()
        # The context of the caller, or log lines and spans would lose their request.
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        work_there = self._executor.submit(context.run, started.run, work)
        ran: asyncio.Future[_T] = asyncio.wrap_future(work_there, loop=loop)
        ran.add_done_callback(_looked_at)
        try:
            return await asyncio.shield(ran)
        except asyncio.CancelledError:
            if not work_there.cancel():  # it has begun
                started.cancel()
                await asyncio.wait([ran], timeout=self._moment)
                leftovers.note(work_there)
            raise

    def close(self, *, wait: bool = False) -> None:
        """Let the threads end; what runs in them ends by itself."""
        self._executor.shutdown(wait=wait, cancel_futures=True)


def _looked_at(ran: asyncio.Future[Any]) -> None:
    """Whoever was cancelled does not want to know how it ended."""
    if not ran.cancelled():
        ran.exception()


class Alone:
    """One coroutine on an event loop of its thread's own."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def run(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run what ``work`` makes, in this thread, to its end."""
        with asyncio.Runner() as runner:
            return runner.run(self._seen_to(work))

    async def _seen_to(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        self._task = asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        return await work()

    def cancel(self) -> None:
        """Cancel it, from any thread."""
        self._cancelled = True
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)


class Home:
    """The event loop that this is made on, as other threads reach it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something there, and return what it returns.

        Raises:
            BaseException: What it raised.
        """
        if asyncio.get_running_loop() is self._loop:
            return await work
        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await asyncio.wrap_future(done)


class AtHome:
    """What calls functions or operations on the worker's loop, from any thread.

    Args:
        calls: It.
        home: Where its bus is.
    """

    def __init__(self, calls: Any, home: Home) -> None:
        self.check: Any = getattr(calls, "check", None)
        self._calls = calls
        self._home = home

    async def call(self, *given: Any) -> Any:
        """As its own ``call``."""
        return await self._home.do(self._calls.call(*given))


class EventsFromThread:
    """What a program tells, from a thread of its own: told on the worker's loop.

    Args:
        events: Of the request.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._home = Home()

    @property
    def audience(self) -> Audience:
        """Who is told."""
        return self._events.audience

    @property
    def streams(self) -> bool:
        """Whether the client asked for deltas."""
        return self._events.streams

    async def emit(self, kind: type[Any], **said: Any) -> None:
        """Tell one event.

        Raises:
            BadRequest: It cannot be sent; nobody was told.
        """
        await self._home.do(self._events.emit(kind, **said))
