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
    from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping

    from dspex.client.client import Client
    from dspex.client.prediction import Prediction
    from dspex.contracts.envelope import Event

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

    def call(self, operation: str, body: Mapping[str, Any]) -> Prediction:
        """As ``Client.call``."""
        return self._wait(self._client.call(operation, body))

    def stream(self, operation: str, body: Mapping[str, Any]) -> Iterator[Event]:
        """As ``Client.stream``; leaving the loop early stops the request."""
        events = self._client.stream(operation, body)
        try:
            while (event := self._wait(_next(events))) is not None:
                yield event
        finally:
            self._wait(_close(events))

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


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def _close(events: Any) -> None:
    await events.aclose()
