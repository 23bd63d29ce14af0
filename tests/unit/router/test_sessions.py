"""The seat of a turn: at the holder of its session, on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from dspex.bus.clock import now_ms
from dspex.bus.provisioning import provision
from dspex.bus.session_holders import Holders
from dspex.bus.session_log import SessionLogs
from dspex.contracts.configuration import Configuration
from dspex.contracts.envelope import Decision
from dspex.contracts.failures import Conflict, InvalidInputs, NotFound, Overloaded
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.requests import Predict
from dspex.contracts.session_requests import Turn
from dspex.contracts.sessions import ClosedEntry, Opened, SessionSettings
from dspex.contracts.subjects import Subjects
from dspex.router.asking import look_at
from dspex.router.choosing import Wanted
from dspex.router.sending import BUSY, MOVED, NOT_HELD, SHORT, TAKEN, Fallen
from dspex.router.sessions import MOVES, Seat, Sessions
from dspex.router.targets import Targets

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus

pytestmark = pytest.mark.nats

KEY = ("default", "s")
WANTED = Wanted(operation="predict")


class Room:
    """What two routers share, and one session."""

    def __init__(self, bus: NatsBus, subjects: Subjects) -> None:
        self.logs = SessionLogs(bus, subjects)
        self.holders = Holders(bus, subjects.prefix)
        self.subjects = subjects
        self.targets = Targets()
        for name in ("a", "b"):
            self.targets.hear(beat(name), 0.0)

    async def opened(self, **given: Any) -> None:
        wanted: dict[str, Any] = {"signature": "question -> answer"} | given
        settings = SessionSettings(**wanted)
        found = await self.logs.read(*KEY)
        opened = Opened(at=now_ms(), request="r", settings=settings)
        await self.logs.append(*KEY, found, opened)

    async def closed(self) -> None:
        found = await self.logs.read(*KEY)
        await self.logs.append(*KEY, found, ClosedEntry(at=now_ms(), request="c"))

    def router(self) -> Sessions:
        return Sessions(self.logs, self.holders, self.subjects, self.targets)


def beat(name: str) -> Heartbeat:
    return Heartbeat(
        worker=name,
        pool="light",
        implementation="python",
        state="ready",
        seq=1,
        at=0.0,
        operations=["predict"],
        concurrency=4,
    )


def decided(worker: str) -> Decision:
    return Decision(
        worker=worker, pool="light", reason="chosen", candidates=[], eligible=1
    )


@pytest.fixture(name="room")
async def _room(bus: NatsBus) -> Room:
    subjects = Subjects(f"r{uuid4().hex[:8]}")
    await provision(bus, Configuration(prefix=subjects.prefix))
    return Room(bus, subjects)


async def held(router: Sessions, worker: str) -> Seat:
    """A seat whose session was given to a worker."""
    seat = Seat(router, *KEY)
    wanted = await seat.aim(WANTED)
    await seat.bind(wanted, decided(worker))
    return seat


async def test_first_turn(room: Room) -> None:
    """A session that nobody holds is given to who was chosen, on its own subject."""
    await room.opened()

    seat = await held(room.router(), "a")

    assert seat.fence > 0
    assert seat.subject == ""
    assert (await room.holders.find(*KEY)).worker == "a"


async def test_next_turn(room: Room) -> None:
    """The next turn goes to the holder, whichever router it comes through."""
    await room.opened()
    first = await held(room.router(), "a")

    seat = Seat(room.router(), *KEY)
    wanted = await seat.aim(WANTED)
    await seat.bind(wanted, decided("a"))

    assert wanted.holder == "a"
    assert seat.subject == room.subjects.session_run("s")
    assert seat.fence == first.fence


async def test_two_routers_at_once(room: Room) -> None:
    """Of two that give a session away at once one does; the other finds out to whom."""
    await room.opened()
    one, other = Seat(room.router(), *KEY), Seat(room.router(), *KEY)
    wanted = await one.aim(WANTED)
    await other.aim(WANTED)
    await one.bind(wanted, decided("a"))

    with pytest.raises(Fallen) as fallen:
        await other.bind(wanted, decided("b"))
    again = await other.aim(await other.fell(fallen.value.why, wanted, "b"))

    assert fallen.value.why == TAKEN
    assert again.holder == "a"
    assert again.tried == frozenset()


@pytest.mark.parametrize("why", [NOT_HELD, MOVED])
async def test_nobody_listens(room: Room, why: str) -> None:
    """Where the holder does not listen yet it is asked itself; then another one is."""
    await room.opened()
    first = await held(room.router(), "a")
    seat = Seat(room.router(), *KEY)
    wanted = await seat.aim(WANTED)
    await seat.bind(wanted, decided("a"))

    again = await seat.aim(await seat.fell(why, wanted, "a"))
    await seat.bind(again, decided("a"))
    directly = (again.holder, seat.fence, seat.subject)
    last = await seat.aim(await seat.fell(MOVED, again, "a"))
    await seat.bind(last, decided("b"))

    assert directly == ("a", first.fence, "")
    assert last.holder == ""
    assert (await room.holders.find(*KEY)).worker == "b"


@pytest.mark.parametrize("affinity", ["hint", "strict_queue", "strict_fail_fast"])
async def test_full(room: Room, affinity: str) -> None:
    """A full holder keeps its sessions, but for those that may go elsewhere."""
    await room.opened(affinity=affinity)
    await held(room.router(), "a")
    seat = Seat(room.router(), *KEY)
    wanted = await seat.aim(WANTED)
    await seat.bind(wanted, decided("a"))

    if affinity != "hint":
        with pytest.raises(Overloaded):
            await seat.fell(BUSY, wanted, "a")
        return
    again = await seat.aim(await seat.fell(BUSY, wanted, "a"))
    assert (again.holder, again.tried) == ("", frozenset({"a"}))


async def test_full_before_it_held(room: Room) -> None:
    """Who is full before it has the session is no reason to wait for it."""
    await room.opened()
    seat = await held(room.router(), "a")

    again = await seat.aim(await seat.fell(BUSY, WANTED, "a"))

    assert (again.holder, again.tried) == ("", frozenset({"a"}))


async def test_short_of_memory(room: Room) -> None:
    """A session moves from a holder whose GPU has not the memory for its turn."""
    await room.opened()
    await held(room.router(), "a")
    seat = Seat(room.router(), *KEY)
    wanted = await seat.aim(WANTED)
    await seat.bind(wanted, decided("a"))

    again = await seat.aim(await seat.fell(SHORT, wanted, "a"))

    assert wanted.holder == "a"
    assert (again.holder, again.tried) == ("", frozenset({"a"}))


async def test_lost(room: Room) -> None:
    """A holder that is gone, or has failed this turn, is not wanted again."""
    await room.opened()
    await held(room.router(), "a")

    tried = await Seat(room.router(), *KEY).aim(
        Wanted(operation="predict", tried=frozenset({"a"}))
    )
    room.targets.lose("a")
    gone = await Seat(room.router(), *KEY).aim(WANTED)

    assert tried.holder == gone.holder == ""


async def test_restless(room: Room) -> None:
    """A turn does not follow its session for ever."""
    await room.opened()
    seat = await held(room.router(), "a")
    for _ in range(MOVES):
        await seat.fell(MOVED, WANTED, "a")

    with pytest.raises(Overloaded, match="changed its holder"):
        await seat.fell(MOVED, WANTED, "a")


async def test_what_a_turn_stands_for(room: Room) -> None:
    """A turn is checked with what its session was opened with, as last looked at."""
    await room.opened(lm="spare")
    router = room.router()
    turn = Turn(inputs={"question": 3})

    body = await router.stands_for(KEY, "predict", turn)

    assert isinstance(body, Predict)
    assert (body.signature, body.lm) == ("question -> answer", "spare")
    with pytest.raises(InvalidInputs):
        look_at("predict", body)
    await room.closed()
    await room.opened(signature="question: int -> answer")
    router.forget(KEY)
    look_at("predict", await router.stands_for(KEY, "predict", turn))


async def test_no_session(room: Room) -> None:
    """A session that was never opened is neither checked nor given away."""
    router = room.router()

    with pytest.raises(NotFound):
        await router.stands_for(KEY, "predict", Turn(inputs={}))
    with pytest.raises(NotFound):
        await held(router, "a")


async def test_bound_meanwhile(room: Room) -> None:
    """A holder that another router wrote down is a conflict, and looked at anew."""
    await room.opened()
    router = room.router()
    before = await router.holder(KEY)
    await room.holders.bind(*KEY, "b", before, 60)

    with pytest.raises(Conflict):
        await router.bind(KEY, "a", before)
    assert (await router.holder(KEY)).worker == "b"
