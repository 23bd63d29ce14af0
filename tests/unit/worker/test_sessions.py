"""Two workers and one session, on a real server: who may write, and who is told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from dspex.bus.audiences import audience_of
from dspex.bus.clock import now_ms
from dspex.bus.events import Events
from dspex.bus.incoming import Request
from dspex.bus.provisioning import provision
from dspex.bus.running import Attempt, Moved, Outcome
from dspex.bus.session_log import NOTHING, SessionLogs
from dspex.bus.slots import Slots
from dspex.contracts.configuration import Configuration
from dspex.contracts.encoding import JSON
from dspex.contracts.failures import BusUnavailable, Conflict, NotFound
from dspex.contracts.headers import NO_HEADERS
from dspex.contracts.session_requests import Turn
from dspex.contracts.sessions import Opened, SessionSettings, SetEntry
from dspex.contracts.subjects import Subjects
from dspex.contracts.words import MovedWord
from dspex.services.worker.sessions import Limits, Sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Bus, Message
    from dspex.contracts.requests import Body

pytestmark = pytest.mark.nats


class Worker:
    """What a worker does with the turns it gets; its program answers at once."""

    def __init__(self, bus: NatsBus, subjects: Subjects, name: str) -> None:
        self.bus = bus
        self.subjects = subjects
        self.ran: list[str] = []
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        limits = Limits(most=2, idle=60.0)
        self.sessions = Sessions(bus, subjects, name, Slots(4, 4), limits)
        self.sessions.start(self._take)

    async def turn(self, request: str, fence: int, session: str = "s") -> Outcome:
        """Do a turn as it is done when a router sends it with this fence."""
        asked = requested(request, fence, session)
        events = Events(self.bus, audience_of(asked, self.subjects, 1))
        turn = Turn(inputs={"question": request})
        async with self.sessions.turn(Attempt(asked, events)):
            return await self.sessions.run("predict", turn, events, self._run)

    def refusal(self, request: str, fence: int) -> Any:
        return self.sessions.refusal(requested(request, fence, "s"))

    async def _run(self, operation: str, body: Body, events: Events) -> Outcome:
        request = events.audience.request
        self.ran.append(request)
        self.begun.set()
        await self.goes_on.wait()
        return Outcome(outputs={"answer": request})

    def _take(self, message: Message) -> None:
        raise AssertionError("nothing is dispatched here")


def requested(request: str, fence: int, session: str) -> Request:
    return Request(
        operation="predict",
        id=request,
        tenant="default",
        body=b"",
        media=JSON,
        deadline=(time.time() + 60) * 1000,
        reply="",
        headers=NO_HEADERS,
        session=session,
        fence=fence,
    )


@pytest.fixture(name="subjects")
async def _subjects(bus: NatsBus) -> Subjects:
    subjects = Subjects(f"w{uuid4().hex[:8]}")
    await provision(bus, Configuration(prefix=subjects.prefix))
    logs = SessionLogs(bus, subjects)
    settings = SessionSettings(signature="question -> answer")
    for session in ("s", "t", "u"):
        opened = Opened(at=now_ms(), request=session, settings=settings)
        await logs.append("default", session, NOTHING, opened)
    return subjects


@pytest.fixture(name="pair")
async def _pair(
    bus: NatsBus, subjects: Subjects
) -> AsyncIterator[tuple[Worker, Worker]]:
    pair = Worker(bus, subjects, "w1"), Worker(bus, subjects, "w2")
    yield pair
    for one in pair:
        await one.sessions.stop()


async def turned(times: int) -> None:
    """Let the loop come round so many times."""
    for _ in range(times):
        await asyncio.sleep(0)


async def logged(bus: Bus, subjects: Subjects) -> list[str]:
    """The requests in the log of session ``s``."""
    found = await SessionLogs(bus, subjects).read("default", "s")  # type: ignore[arg-type]  # a NatsBus
    assert found.state is not None
    return [one.request for one in found.state.turns]


async def test_a_former_holder_cannot_write(
    bus: NatsBus, subjects: Subjects, pair: tuple[Worker, Worker]
) -> None:
    """Who was replaced in the middle of a turn logs nothing, and drops the session."""
    first, second = pair
    await first.turn("r0", 1)
    first.goes_on.clear()
    first.begun.clear()
    asked = asyncio.ensure_future(first.turn("r1", 1))
    await first.begun.wait()

    await second.turn("r2", 2)
    first.goes_on.set()

    with pytest.raises(Moved):
        await asked
    assert await logged(bus, subjects) == ["r0", "r2"]
    assert len(first.sessions) == 0


async def test_a_turn_that_another_logged(
    bus: NatsBus, subjects: Subjects, pair: tuple[Worker, Worker]
) -> None:
    """The former holder does not answer even what its successor logged meanwhile."""
    first, second = pair
    first.goes_on.clear()
    asked = asyncio.ensure_future(first.turn("r1", 1))
    await first.begun.wait()

    await second.turn("r1", 2)
    first.goes_on.set()

    with pytest.raises(Moved):
        await asked
    assert await logged(bus, subjects) == ["r1"]


async def test_an_older_fence(pair: tuple[Worker, Worker]) -> None:
    """Who is sent a turn with an older fence than the log's does not take it."""
    first, second = pair
    await second.turn("r0", 2)

    with pytest.raises(Moved):
        await first.turn("r1", 1)
    assert second.refusal("r1", 1) is MovedWord
    assert second.refusal("r1", 2) is None
    assert first.ran == []


async def test_from_the_log(pair: tuple[Worker, Worker]) -> None:
    """What one answered, the next holder answers from the log without running it."""
    first, second = pair
    await first.turn("r0", 1)

    found = await second.turn("r0", 2)

    assert found.outputs == {"answer": "r0"}
    assert second.ran == []


async def test_values_meanwhile(
    bus: NatsBus, subjects: Subjects, pair: tuple[Worker, Worker]
) -> None:
    """Values that are stored while a turn runs do not cost the holder its session."""
    holder, _ = pair
    holder.goes_on.clear()
    asked = asyncio.ensure_future(holder.turn("r0", 1))
    await holder.begun.wait()
    logs = SessionLogs(bus, subjects)
    found = await logs.read("default", "s")
    stored = SetEntry(at=now_ms(), request="set", values={"a": 1})
    await logs.append("default", "s", found, stored)

    holder.goes_on.set()
    await asked
    await holder.turn("r1", 1)

    assert await logged(bus, subjects) == ["r0", "r1"]
    assert holder.ran == ["r0", "r1"]


async def test_values_all_the_time(
    bus: NatsBus, subjects: Subjects, pair: tuple[Worker, Worker]
) -> None:
    """A turn that cannot be logged, for the log never stands still, is not answered."""
    holder, _ = pair
    await holder.turn("r0", 1)
    logs, over = SessionLogs(bus, subjects), asyncio.Event()

    async def write() -> None:
        found = await logs.read("default", "s")
        while not over.is_set():
            entry = SetEntry(at=now_ms(), request=uuid4().hex, values={"a": 1})
            try:
                found = await logs.append("default", "s", found, entry)
            except Conflict:
                found = await logs.read("default", "s", found)

    writing = asyncio.ensure_future(write())
    answered = ["r0"]
    for number in range(1, 20):
        try:
            await holder.turn(f"r{number}", 1)
        except BusUnavailable:
            continue
        answered.append(f"r{number}")
    over.set()
    await writing

    assert await logged(bus, subjects) == answered


async def test_stopped_while_it_is_logged(
    bus: NatsBus, subjects: Subjects, pair: tuple[Worker, Worker]
) -> None:
    """A turn is logged and answered, or neither, whenever it is stopped."""
    holder, _ = pair
    await holder.turn("first", 1)
    answered = []
    for number in range(40):
        asked = asyncio.ensure_future(holder.turn(f"r{number}", 1))
        await turned(number)
        asked.cancel()
        try:
            await asked
        except asyncio.CancelledError:
            continue
        answered.append(f"r{number}")

    assert await logged(bus, subjects) == ["first", *answered]
    assert 0 < len(answered) < 40


async def test_no_session(pair: tuple[Worker, Worker]) -> None:
    """A session that there is not is held by nobody."""
    first, _ = pair

    with pytest.raises(NotFound):
        await first.turn("r0", 1, session="nothing")
    assert len(first.sessions) == 0


async def test_bounded(pair: tuple[Worker, Worker]) -> None:
    """Beyond the most that may be in memory the least recently used leave."""
    first, _ = pair
    for session in ("s", "t", "u"):
        await first.turn("r0", 1, session=session)

    async with asyncio.timeout(10):
        while len(first.sessions) > 2:
            await first.bus.flush()

    assert first.refusal("r1", 0) is None  # the first one is not held any more


async def test_other_turn(pair: tuple[Worker, Worker]) -> None:
    """Another turn under an id that the log knows is a conflict."""
    first, _ = pair
    await first.turn("r0", 1)
    asked = requested("r0", 1, "s")
    events = Events(first.bus, audience_of(asked, first.subjects, 1))
    other = Turn(inputs={"question": "another"})

    async with first.sessions.turn(Attempt(asked, events)):
        with pytest.raises(Conflict):
            await first.sessions.run("predict", other, events, first._run)
