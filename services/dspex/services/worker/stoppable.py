"""Modules of DSPy that only run without asyncio, in threads that can be stopped.

A thread cannot be ended from outside. One whose request was stopped ends where it
would ask a language model next: there DSPy calls back.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import dspy
from dspy.utils.callback import BaseCallback

from dspex.services.worker import leftovers
from dspex.services.worker.threads import Alone, contexts_are_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


class Stopped(BaseException):
    """The request ended; no ``except Exception`` of DSPy's shall go on without it."""


class Watch(BaseCallback):  # type: ignore[misc]  # DSPy ships no types
    """Stops a thread at its next question, and knows its last error.

    Attributes:
        last: What a module raised last; some of DSPy's go on after it.
    """

    def __init__(self) -> None:
        self.last: Exception | None = None
        self._context: contextvars.Context | None = None
        self._stopped = False
        self._waits: set[Any] = set()

    def stop(self) -> None:
        """Let the thread go no further."""
        self._stopped = True
        for future in list(self._waits):
            future.cancel()

    def begin(self) -> None:
        """Remember the context of the thread that it watches."""
        self._context = contextvars.copy_context()

    def adopt(self) -> None:
        """Give a thread of DSPy's own making what it lacks of that context.

        DSPy's settings reach such threads, and so this; nothing else does.
        """
        if self._context is None or _thread.get(None) is not None:
            return
        known = contextvars.copy_context()
        for variable, value in self._context.items():
            if variable not in known:
                variable.set(value)

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """Make a thread one of the request's."""
        del call_id, instance, inputs
        self.adopt()

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """Go no further once it was stopped."""
        del call_id, instance, inputs
        self.adopt()
        self.check()

    def on_module_end(
        self, call_id: str, outputs: Any, exception: BaseException | None = None
    ) -> None:
        """Remember an error."""
        del call_id, outputs
        if isinstance(exception, Exception):
            self.last = exception

    def check(self) -> None:
        """Raise if the request was stopped.

        Raises:
            Stopped: It was.
        """
        if self._stopped:
            raise Stopped

    def wait(self, future: Any) -> Any:
        """Wait in the thread for what the event loop does."""
        try:
            with self.stopping(future):
                return future.result()
        finally:
            future.cancel()

    @contextlib.contextmanager
    def stopping(self, what: Any) -> Iterator[None]:
        """Cancel ``what`` if the request is stopped meanwhile.

        Raises:
            Stopped: It was before.
        """
        self._waits.add(what)
        try:
            self.check()
            yield
        finally:
            self._waits.discard(what)


_thread: contextvars.ContextVar[tuple[asyncio.AbstractEventLoop, Watch]] = (
    contextvars.ContextVar("thread")
)


async def in_thread(work: Callable[[], Any], watch: Watch | None = None) -> Any:
    """Do something in a thread of its own, in the context of the caller.

    Args:
        work: What to do.
        watch: Learns of errors; default: a new one.

    Raises:
        BaseException: What ``work`` raised.
    """
    seen = watch or Watch()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context, settings = contextvars.copy_context(), _own_settings()

    def run() -> None:
        try:
            with dspy.context(**settings):
                result = context.run(_watched, work, loop, seen)
        except BaseException as error:  # noqa: BLE001 - who waits is told
            _settle(loop, _fail, done, error)
        else:
            _settle(loop, _succeed, done, result)

    thread = threading.Thread(target=run, name="dspy", daemon=True)
    thread.start()
    try:
        return await done
    finally:
        seen.stop()
        leftovers.note(thread)


def in_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Do something in the event loop, from a thread of `in_thread`, and wait for it."""
    loop, watch = _thread.get()
    # It takes this thread's context along.
    return watch.wait(asyncio.run_coroutine_threadsafe(work, loop))


def run_module(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a module's coroutine from a thread of `in_thread`, under its settings."""
    if contexts_are_apart():
        return in_loop(work)
    _, watch = _thread.get()
    alone = Alone()
    with watch.stopping(alone):
        try:
            return alone.run(lambda: work)
        except asyncio.CancelledError:
            raise Stopped from None


async def apart(work: Coroutine[Any, Any, Any]) -> Any:
    """Await a module's coroutine beside others of the same request."""
    if contexts_are_apart():
        return await work
    return await in_thread(lambda: run_module(work))


def _own_settings() -> dict[str, Any]:
    """DSPy's settings here, where another thread would not have them by itself."""
    return {} if contexts_are_apart() else dict(dspy.settings.copy())


def _watched(
    work: Callable[[], Any], loop: asyncio.AbstractEventLoop, watch: Watch
) -> Any:
    _thread.set((loop, watch))
    watch.begin()
    # What calls back here does so in this thread alone.
    with dspy.context(callbacks=[*dspy.settings.callbacks, watch]):
        return work()


def _settle(
    loop: asyncio.AbstractEventLoop, how: Callable[..., None], *values: Any
) -> None:
    with contextlib.suppress(RuntimeError):  # the process ends, and its loop has
        loop.call_soon_threadsafe(how, *values)


def _succeed(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: BaseException) -> None:
    if done.done():
        return
    if isinstance(error, Stopped | StopIteration | KeyboardInterrupt | SystemExit):
        done.set_exception(RuntimeError(f"{type(error).__name__} in a thread"))
    else:
        done.set_exception(error)
