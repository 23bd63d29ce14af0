"""Jobs, from the client's side: submitted, followed, ended."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from dspex.bus.connection import NatsBus
from dspex.bus.stores import Blobs
from dspex.contracts import encoding
from dspex.contracts.envelope import Reply
from dspex.contracts.failures import BusUnavailable, DeadlineExceeded, Overloaded
from dspex.contracts.job_requests import ShownJob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dspex.bus.core import Bus
    from dspex.client.prediction import Prediction

    Ask = Callable[[str, Mapping[str, Any]], Awaitable[Prediction]]
    Answer = Callable[[Reply], Prediction]

AT_ONCE = 30.0
"""Seconds that one ``job.wait`` asks for."""

PAUSE = 1.0
"""Seconds until it is asked again after it could not be answered."""

ENDED = ("done", "failed", "cancelled", "dead")


class JobHandle:
    """One job; made by ``Client.submit`` and ``Client.job``.

    Args:
        job: Its id.
        bus: The connection.
        ask: Sends a request.
        answer: Makes of a reply what a request would have returned or raised.

    Attributes:
        id: Its id.
    """

    def __init__(self, job: str, bus: Bus, ask: Ask, answer: Answer) -> None:
        self.id = job
        self._bus = bus
        self._ask = ask
        self._answer = answer

    async def get(self) -> ShownJob:
        """The job as it is now.

        Raises:
            NotFound: There is none of this id, or it ended too long ago.
        """
        return await self._about("get")

    async def cancel(self) -> ShownJob:
        """End it, unless it has ended."""
        return await self._about("cancel")

    async def retry(self) -> ShownJob:
        """Try it again; it must be dead.

        Raises:
            Conflict: It is not.
        """
        return await self._about("retry")

    async def wait(self, timeout: float | None = None) -> ShownJob:
        """Wait until it has ended, one way or another.

        Args:
            timeout: Seconds; ``None`` waits for as long as it takes.

        Raises:
            DeadlineExceeded: It had not ended by then.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = AT_ONCE if until is None else until - time.monotonic()
            try:
                wanted = max(0.0, min(left, AT_ONCE))
                found = await self._about("wait", timeout_s=wanted)
            except (BusUnavailable, Overloaded):
                if left <= 0:
                    raise
                await asyncio.sleep(min(PAUSE, left))
                continue
            if found.state in ENDED:
                return found
            if until is not None and time.monotonic() >= until:
                raise DeadlineExceeded(
                    f"Job {self.id!r} is still {found.state} after {timeout:g} s.",
                    hint="Wait longer: nothing happened to the job.",
                )

    async def result(self, timeout: float | None = None) -> Prediction:
        """Wait for its end, and return what the request would have returned.

        Args:
            timeout: As for ``wait``.

        Raises:
            Failure: What it failed with.
        """
        found = await self.wait(timeout)
        if (blob := found.result_blob) is not None:
            assert isinstance(self._bus, NatsBus)  # jobs are kept by a real server
            data = await Blobs(self._bus, blob.bucket).get(blob.name)
            return self._answer(encoding.decode(data, Reply))
        return self._answer(encoding.read(found.result, Reply))

    async def _about(self, operation: str, **more: Any) -> ShownJob:
        answer = await self._ask(f"job.{operation}", {"job": self.id} | more)
        return shown(answer)


def shown(answer: Prediction) -> ShownJob:
    """The job that an answer shows."""
    found: ShownJob = encoding.read(answer.outputs, ShownJob)
    return found
