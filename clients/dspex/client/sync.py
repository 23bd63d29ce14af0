"""The same client without ``await``, for notebooks and scripts.

::

    with dspex.client.sync.connect() as client:
        print(client.predict("question -> answer", question="Why?").answer)

A thread of its own runs the connection, so it works where an event loop already
runs, as in a notebook.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from dspex.client import client as asynchronous

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping

    from dspex.client.client import Client
    from dspex.client.jobs import JobHandle
    from dspex.client.prediction import Prediction
    from dspex.client.replays import ReplayHandle
    from dspex.client.sessions import Session
    from dspex.contracts.envelope import Event
    from dspex.contracts.job_requests import ShownJob
    from dspex.contracts.replay_requests import Mode, ReplaySummary
    from dspex.contracts.replays import Replayed
    from dspex.contracts.session_requests import SessionDetails

_T = TypeVar("_T")


class SyncClient:
    """Sends requests and waits for their answers.

    Args:
        client: The asynchronous client it stands for.
        loop: Where that one lives, in another thread.
    """

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def with_options(self, **changes: Any) -> SyncClient:
        """As ``Client.with_options``."""
        return SyncClient(self._client.with_options(**changes), self._loop)

    def predict(self, signature: Any, /, **inputs: Any) -> Prediction:
        """As ``Client.predict``."""
        return self._wait(self._client.predict(signature, **inputs))

    def chain_of_thought(self, signature: Any, /, **inputs: Any) -> Prediction:
        """As ``Client.chain_of_thought``."""
        return self._wait(self._client.chain_of_thought(signature, **inputs))

    def run(self, program: Any, /, **inputs: Any) -> Prediction:
        """As ``Client.run``."""
        return self._wait(self._client.run(program, **inputs))

    def call(self, operation: str, body: Mapping[str, Any]) -> Prediction:
        """As ``Client.call``."""
        return self._wait(self._client.call(operation, body))

    def stream(self, operation: str, body: Mapping[str, Any]) -> Iterator[Event]:
        """As ``Client.stream``; leaving the loop early stops the request."""
        yield from self._all(self._client.stream(operation, body))

    def resume(
        self, request: str, *, attempt: int | None = None, after: int = 0
    ) -> Iterator[Event]:
        """As ``Client.resume``."""
        yield from self._all(self._client.resume(request, attempt=attempt, after=after))

    def replay(self, mode: Mode = "exact", **said: Any) -> SyncReplay:
        """As ``Client.replay``; leaving the loop early stops it."""
        return SyncReplay(self._client.replay(mode, **said), self._all)

    def _all(self, found: AsyncIterator[_T]) -> Iterator[_T]:
        try:
            while (one := self._wait(_next(found))) is not None:
                yield one
        finally:
            self._wait(_close(found))

    def submit(self, operation: str, body: Mapping[str, Any], **job: Any) -> SyncJob:
        """As ``Client.submit``."""
        found = self._wait(self._client.submit(operation, body, **job))
        return SyncJob(found, self._wait)

    def job(self, job: str) -> SyncJob:
        """As ``Client.job``."""
        return SyncJob(self._client.job(job), self._wait)

    @contextmanager
    def session(self, signature: Any = None, **settings: Any) -> Iterator[SyncSession]:
        """As ``Client.session``."""
        opened = self._client.session(signature, **settings)
        session: Session = self._wait(opened.__aenter__())
        try:
            yield SyncSession(session, self._wait)
        finally:
            self._wait(opened.__aexit__(None, None, None))

    def cancel(self, request: str) -> None:
        """As ``Client.cancel``."""
        self._wait(self._client.cancel(request))

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C, or the notebook's stop button: end the request too, and let it
            # clean up before its generator is closed.
            if future.cancel():
                asyncio.run_coroutine_threadsafe(_turn(), self._loop).result()
            raise


class SyncJob:
    """One job.

    Args:
        job: The asynchronous one it stands for.
        wait: Runs a coroutine to its end.
    """

    def __init__(
        self, job: JobHandle, wait: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self.id = job.id
        self._job = job
        self._wait = wait

    def get(self) -> ShownJob:
        """As ``JobHandle.get``."""
        found: ShownJob = self._wait(self._job.get())
        return found

    def wait(self, timeout: float | None = None) -> ShownJob:
        """As ``JobHandle.wait``."""
        found: ShownJob = self._wait(self._job.wait(timeout))
        return found

    def result(self, timeout: float | None = None) -> Prediction:
        """As ``JobHandle.result``."""
        found: Prediction = self._wait(self._job.result(timeout))
        return found

    def cancel(self) -> ShownJob:
        """As ``JobHandle.cancel``."""
        found: ShownJob = self._wait(self._job.cancel())
        return found

    def retry(self) -> ShownJob:
        """As ``JobHandle.retry``."""
        found: ShownJob = self._wait(self._job.retry())
        return found


class SyncReplay:
    """One replay, as ``dspex.client.ReplayHandle``.

    Args:
        replay: The one it stands for.
        all_of: Yields what that one does.
    """

    def __init__(
        self,
        replay: ReplayHandle,
        all_of: Callable[[AsyncIterator[Replayed]], Iterator[Replayed]],
    ) -> None:
        self._replay = replay
        self._all_of = all_of

    def __iter__(self) -> Iterator[Replayed]:
        return self._all_of(self._replay.results())

    @property
    def summary(self) -> ReplaySummary:
        """As ``ReplayHandle.summary``."""
        return self._replay.summary

    @property
    def passed_over(self) -> list[str]:
        """As ``ReplayHandle.passed_over``."""
        return self._replay.passed_over


class SyncSession:
    """One session, as ``dspex.client.Session``.

    Args:
        session: The one it stands for.
        wait: Runs what that one does, and waits for its end.
    """

    def __init__(self, session: Session, wait: Callable[[Any], Any]) -> None:
        self.id = session.id
        self._session = session
        self._wait = wait

    def predict(self, **inputs: Any) -> Prediction:
        """As ``Session.predict``."""
        return self.call("predict", inputs)

    def chain_of_thought(self, **inputs: Any) -> Prediction:
        """As ``Session.chain_of_thought``."""
        return self.call("chain_of_thought", inputs)

    def react(self, **inputs: Any) -> Prediction:
        """As ``Session.react``."""
        return self.call("react", inputs)

    def run(self, **inputs: Any) -> Prediction:
        """As ``Session.run``."""
        return self.call("run", inputs)

    def call(self, operation: str, inputs: dict[str, Any]) -> Prediction:
        """As ``Session.call``."""
        found: Prediction = self._wait(self._session.call(operation, inputs))
        return found

    def get(self, after: int = 0, limit: int = 100) -> SessionDetails:
        """As ``Session.get``."""
        found: SessionDetails = self._wait(self._session.get(after, limit))
        return found

    def set(self, **values: Any) -> None:
        """As ``Session.set``."""
        self._wait(self._session.set(**values))

    def fork(self, after: int | str | None = None) -> SyncSession:
        """As ``Session.fork``."""
        return SyncSession(self._wait(self._session.fork(after)), self._wait)

    def close(self) -> None:
        """As ``Session.close``."""
        self._wait(self._session.close())


@contextmanager
def connect(url: str | None = None, **options: Any) -> Iterator[SyncClient]:
    """Connect for as long as the ``with`` block lasts.

    Args:
        url: As for ``dspex.client.connect``.
        **options: The others of ``dspex.client.connect``.

    Raises:
        BusUnavailable: No server answers there.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dspex", daemon=True)
    thread.start()
    opened = asynchronous.connect(url, **options)
    try:
        client = asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result()
        try:
            yield SyncClient(client, loop)
        finally:
            closing = opened.__aexit__(None, None, None)
            asyncio.run_coroutine_threadsafe(_await(closing), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _await(work: Any) -> Any:
    return await work


async def _turn() -> None:
    """Let what was cancelled end."""
    for _ in range(3):
        await asyncio.sleep(0)


async def _next(found: AsyncIterator[_T]) -> _T | None:
    return await anext(found, None)


async def _close(events: Any) -> None:
    await events.aclose()
