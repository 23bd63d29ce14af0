"""Replays, from the client's side: what came of each request, as it comes."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts import encoding
from dspex.contracts.envelope import Delta, DoneEvent, Status
from dspex.contracts.failures import BadRequest
from dspex.contracts.replay_requests import ReplayRun, ReplaySummary
from dspex.contracts.replays import Replayed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from dspex.client.client import Client

TIMEOUT = 3600.0
"""Seconds that a replay may take."""


class ReplayHandle:
    """One replay; made by ``Client.replay``. It is asked for when it is iterated.

    Args:
        client: Asks for it.
        body: Of ``replay.run``.

    Attributes:
        done: How many requests had been replayed when that was last told.
        total: Of how many.
    """

    def __init__(self, client: Client, body: dict[str, Any]) -> None:
        self.done = 0
        self.total = 0
        self._client = client
        self._body = body
        self._run: ReplayRun | None = None

    def __aiter__(self) -> AsyncIterator[Replayed]:
        return self.results()

    async def results(self) -> AsyncGenerator[Replayed, None]:
        """What came of each request, as it comes.

        Raises:
            Failure: The leaf of the tree that says what went wrong.
        """
        begun = ""
        async with aclosing(self._client.stream("replay.run", self._body)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    *lines, begun = f"{begun}{event.text}".split("\n")
                    for line in lines:
                        yield msgspec.json.decode(line, type=Replayed)
                elif isinstance(event, Status):
                    self.done, self.total = event.done, event.total
                elif isinstance(event, DoneEvent):
                    self._run = encoding.read(event.outputs, ReplayRun)

    @property
    def summary(self) -> ReplaySummary:
        """What came of all, in numbers; known at the end.

        Raises:
            BadRequest: It has not ended.
        """
        return self._ended().summary

    @property
    def passed_over(self) -> list[str]:
        """What of the journal is missing or cannot be read; known at the end.

        Raises:
            BadRequest: It has not ended.
        """
        return self._ended().passed_over

    def _ended(self) -> ReplayRun:
        if self._run is None:
            raise BadRequest(
                "The replay has not ended.", hint="Iterate over all its results first."
            )
        return self._run
