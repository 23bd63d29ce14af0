"""Clients that ask without a pause, and what each of them got."""

from __future__ import annotations

import asyncio
import collections
import json
import re
import time
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from msgspec import Struct
from tests.bench.measure import percentile
from tests.bench.results import aligned
from tests.support.asking import chat

from dspex.bus.tasks import Tasks
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.scripted_wire import Received

    from dspex.bus.core import Bus, Message, Subscription
    from dspex.client import Client

TIMEOUT = 60.0
"""Seconds until the deadline of a request."""

PAUSE = 0.1
"""Seconds that a client waits after a failure."""

SHOWN = 5
"""Failures that are told in full."""

_TOKEN = re.compile(r"token-[0-9a-f]{32}")


def echo(request: Received) -> str:
    """Answer with the token in the question, so that no other answer is right."""
    found = _TOKEN.findall(request.text("user"))
    return chat(answer=found[-1] if found else "none")


class Outcome(Struct, frozen=True, kw_only=True):
    """What a client got for one request.

    Attributes:
        request: Its id.
        code: ``done``, ``wrong`` (the answer belongs to another) or a failure's code.
        sent: When it was sent, in seconds of the steady clock.
        ended: When the client had it.
        retryable: Whether a failure said that the same request may succeed later.
        attempts: Dispatches made.
        worker: Who answered.
        said: The failure's own words.
    """

    request: str
    code: str
    sent: float
    ended: float
    retryable: bool = False
    attempts: int = 0
    worker: str = ""
    said: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.sent


class Load:
    """Sends requests for as long as its block lasts, then waits for their ends.

    Args:
        client: Sends them.
        clients: How many are in hand at a time.

    Attributes:
        outcomes: Of the requests that ended, in this order.
        open: When each of the others was sent, by id.
    """

    def __init__(self, client: Client, clients: int) -> None:
        self.outcomes: list[Outcome] = []
        self.open: dict[str, float] = {}
        self._client = client.with_options(timeout=TIMEOUT)
        self._clients = clients
        self._stops = False
        self._changed = asyncio.Event()
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        for number in range(self._clients):
            self._tasks.start(self._ask_on(), f"client {number}")
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._stops = True
        await self._tasks.join(0 if kind else TIMEOUT + 5)

    @property
    def failures(self) -> list[Outcome]:
        """Everything but right answers."""
        return [one for one in self.outcomes if one.code != "done"]

    @property
    def rerouted(self) -> list[Outcome]:
        """What was answered by another than the first who had it."""
        return [one for one in self.outcomes if one.attempts > 1]

    async def until(self, holds: Callable[[], bool], within: float = TIMEOUT) -> None:
        """Wait until a condition on the outcomes holds.

        Raises:
            TimeoutError: It does not in time; the message is the table.
        """
        try:
            async with asyncio.timeout(within):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {within:g} s\n{self.table()}") from None

    async def more(self, count: int) -> None:
        """Wait until so many more requests have ended."""
        wanted = len(self.outcomes) + count
        await self.until(lambda: len(self.outcomes) >= wanted)

    async def answered(
        self, since: float, worker: str = "", within: float = TIMEOUT
    ) -> None:
        """Wait for an answer, of anybody or of one, to what was sent after a moment."""
        await self.until(
            lambda: any(
                one.code == "done" and one.sent > since and worker in ("", one.worker)
                for one in self.outcomes
            ),
            within,
        )

    async def held(self, within: float = TIMEOUT) -> list[Outcome]:
        """Wait for the ends of all that is in hand now, and return them."""
        ids = set(self.open)
        await self.until(lambda: not ids & self.open.keys(), within)
        return [one for one in self.outcomes if one.request in ids]

    def table(self) -> str:
        """What happened, for whoever reads of a failed test."""
        outcomes = self.outcomes
        seconds = [one.seconds for one in outcomes] or [0.0]
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        rows = [
            ("ended as", _counted(one.code for one in outcomes)),
            ("still open", str(len(self.open))),
            ("attempts", _counted(str(one.attempts) for one in outcomes)),
            ("workers", str(len({one.worker for one in outcomes}))),
            *(
                (f"{name} seconds", f"{percentile(seconds, share):.2f}")
                for name, share in shares.items()
            ),
            *((one.code, f"{one.seconds:.2f} s: {one.said}") for one in self._told()),
        ]
        return "\n" + aligned(rows)

    def _told(self) -> list[Outcome]:
        return self.failures[:SHOWN]

    async def _ask_on(self) -> None:
        while not self._stops:
            outcome = await self._ask(uuid4().hex)
            self.outcomes.append(outcome)
            self._changed.set()
            if outcome.code != "done":
                await asyncio.sleep(PAUSE)

    async def _ask(self, request: str) -> Outcome:
        sent = self.open[request] = time.monotonic()
        client = self._client.with_options(request=request)
        try:
            found = await client.predict(
                "question -> answer", question=f"What is token-{request}?"
            )
        except Failure as failure:
            return Outcome(
                request=request,
                code=failure.code,
                sent=sent,
                ended=time.monotonic(),
                retryable=failure.retryable,
                said=failure.message,
            )
        finally:
            del self.open[request]
        answer = found["answer"]
        return Outcome(
            request=request,
            code="done" if answer == f"token-{request}" else "wrong",
            sent=sent,
            ended=time.monotonic(),
            attempts=found.metadata.attempts,
            worker=found.metadata.worker,
            said=str(answer),
        )


class Wiretap:
    """Every reply on its way to a client, whether the client still waits or not.

    Attributes:
        said: What was replied to each request, in this order: ``done``, ``wrong``, or
            a failure's code.
    """

    def __init__(self, bus: Bus) -> None:
        self.said: dict[str, list[str]] = collections.defaultdict(list)
        self._bus = bus
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._subscription = await self._bus.subscribe("_INBOX.>", self._hear)
        await self._bus.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._subscription is not None
        await self._subscription.unsubscribe()

    @property
    def contradictions(self) -> dict[str, list[str]]:
        """Requests of which anything was said but their right answer."""
        return {
            request: said
            for request, said in self.said.items()
            if set(said) != {"done"}
        }

    def _hear(self, message: Message) -> None:
        if not message.data:
            return
        reply = json.loads(message.data)
        if reply.get("type") not in ("done", "failed"):
            return
        request = reply["request"]
        code = reply.get("code", "done")
        if code == "done" and reply["outputs"].get("answer") != f"token-{request}":
            code = "wrong"
        self.said[request].append(code)


def _counted(values: Iterable[str]) -> str:
    counts = collections.Counter(values)
    return ", ".join(f"{value} x {count}" for value, count in sorted(counts.items()))
