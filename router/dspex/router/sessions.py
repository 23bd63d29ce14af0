"""Turns of sessions: what a session asks for, and the process that holds it.

A session is held by one process at a time, which listens on the session's own subject:
a turn goes there. Where nobody listens, the session needs a holder: one is chosen like
for any request, written down by compare-and-set, and gets the turn on its own subject.
What a router remembers of both is only what it tries first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from dspex.bus.clock import now_ms
from dspex.bus.connection import NatsBus
from dspex.bus.session_holders import NOBODY, Holder, Holders
from dspex.bus.session_log import SessionLogs
from dspex.contracts import catalog
from dspex.contracts.failures import Conflict, Failure, Overloaded, Unsupported
from dspex.native.programs.turns import require_turn, whole, with_history
from dspex.router.asking import look_at
from dspex.router.sending import BUSY, MOVED, NOT_HELD, TAKEN, Fallen

if TYPE_CHECKING:
    from dspex.bus.core import Bus
    from dspex.contracts.envelope import Decision
    from dspex.contracts.session_requests import Turn
    from dspex.contracts.sessions import SessionSettings
    from dspex.contracts.subjects import Subjects
    from dspex.native.programs.turns import Asked
    from dspex.router.choosing import Wanted
    from dspex.router.targets import Targets
    from dspex.router.tickets import Ticket

MOST = 10_000
"""Sessions of which something is remembered; the least recently used leave."""

MOVES = 16
"""Times a turn follows its session to another holder before it is given up."""

_Key = tuple[str, str]
_Value = TypeVar("_Value")


class Sessions:
    """What a router knows of sessions.

    Args:
        logs: What they are.
        holders: Who holds them.
        subjects: Under which prefix.
        targets: Everybody there is.
    """

    def __init__(
        self,
        logs: SessionLogs,
        holders: Holders,
        subjects: Subjects,
        targets: Targets,
    ) -> None:
        self.targets = targets
        self._logs = logs
        self._holders = holders
        self._subjects = subjects
        self._settings: OrderedDict[_Key, SessionSettings] = OrderedDict()
        self._held: OrderedDict[_Key, Holder] = OrderedDict()

    async def stands_for(self, key: _Key, operation: str, turn: Turn) -> Asked:
        """The request a turn stands for, as far as it can be checked here.

        Raises:
            NotFound: There is no such session.
            BadRequest: Neither it nor the turn says what to run.
            BusUnavailable: It cannot be known.
        """
        body = whole(await self.settings(key), operation, turn)
        inputs, _ = with_history(body, ())
        return replace(body, inputs=inputs)

    async def settings(self, key: _Key) -> SessionSettings:
        """What a session was opened with.

        Raises:
            NotFound: There is no such session.
            BusUnavailable: It cannot be known.
        """
        if key not in self._settings:
            found = await self._logs.read(*key)
            _put(self._settings, key, found.live(key[1], now_ms()).settings)
        self._settings.move_to_end(key)
        return self._settings[key]

    async def holder(self, key: _Key) -> Holder:
        """Who holds a session, as it was when last looked at.

        Raises:
            BusUnavailable: It cannot be known.
        """
        if key not in self._held:
            _put(self._held, key, await self._holders.find(*key))
        self._held.move_to_end(key)
        return self._held[key]

    async def bind(self, key: _Key, worker: str, before: Holder) -> Holder:
        """Make a process the holder of a session.

        Raises:
            Conflict: Another one is.
            BusUnavailable: It is not known who is.
        """
        settings = await self.settings(key)
        self._held.pop(key, None)
        ttl = 2 * settings.ttl_s
        holder = await self._holders.bind(*key, worker, before, ttl)
        _put(self._held, key, holder)
        return holder

    def forget(self, key: _Key) -> None:
        """Look anew before anything is decided about a session."""
        self._settings.pop(key, None)
        self._held.pop(key, None)

    def run_subject(self, key: _Key) -> str:
        """Where its holder listens."""
        tenant, session = key
        return self._subjects.of(tenant).session_run(session)


class Seat:
    """The place of one turn: at the holder of its session.

    Args:
        sessions: What the router knows of them.
        tenant: Whose session it is.
        session: Its id.

    Attributes:
        session: Its id.
        fence: That of the holder it is sent to.
        subject: Where the holder listens; empty: on its own subject only, for it is a
            new one, or has still to read the session.
    """

    def __init__(self, sessions: Sessions, tenant: str, session: str) -> None:
        self.session = session
        self.fence = 0
        self.subject = ""
        self._sessions = sessions
        self._key = (tenant, session)
        self._before = NOBODY
        self._own: set[int] = set()
        self._directly: set[int] = set()
        self._left: set[int] = set()
        self._moves = 0

    async def aim(self, wanted: Wanted) -> Wanted:
        """Want the holder, if there is one that may still answer; else anybody.

        Raises:
            NotFound: There is no such session.
            BusUnavailable: It cannot be known.
        """
        holder = self._before = await self._sessions.holder(self._key)
        there = holder.worker and holder.worker in self._sessions.targets
        usable = holder.fence not in self._left and holder.worker not in wanted.tried
        return replace(wanted, holder=holder.worker if there and usable else "")

    async def bind(self, wanted: Wanted, decision: Decision) -> None:
        """Make who was chosen the holder, unless it is.

        Raises:
            Fallen: Another one is.
            BusUnavailable: It is not known who is.
        """
        if wanted.holder:
            self.fence = self._before.fence
            direct = self.fence in self._directly
            self.subject = "" if direct else self._sessions.run_subject(self._key)
            return
        try:
            holder = await self._sessions.bind(self._key, decision.worker, self._before)
        except Conflict:
            raise Fallen(TAKEN) from None
        self.fence, self.subject = holder.fence, ""
        self._own.add(holder.fence)

    async def fell(self, why: str, wanted: Wanted, worker: str) -> Wanted:
        """What is wanted after a choice fell through.

        Raises:
            Overloaded: The holder has no room, and the session stays with it.
        """
        self._moves += 1
        if self._moves > MOVES:
            raise _restless(self.session)
        if why == BUSY and self.fence not in self._own:
            settings = await self._sessions.settings(self._key)
            if settings.affinity != "hint":
                raise _full(self.session)
        self._sessions.forget(self._key)
        if why == TAKEN:
            return wanted
        if why in (NOT_HELD, MOVED) and self.subject:
            # If it is the holder all the same, it has still to read the session.
            self._directly.add(self.fence)
            return wanted
        self._left.add(self.fence)
        tried = wanted.tried if why == MOVED else wanted.tried | {worker}
        return replace(wanted, tried=tried)


async def seated(sessions: Sessions | None, ticket: Ticket, turn: Turn) -> Asked:
    """Give a turn a seat at its session's holder.

    Returns:
        The request it stands for, as far as it can be checked here.

    Raises:
        NotFound: There is no such session.
        Unsupported: The operation has no turns.
        BusUnavailable: It cannot be known.
    """
    request = ticket.request
    require_turn(catalog.operation(request.operation))
    if sessions is None:
        raise Unsupported("This router serves no sessions: it has no JetStream.")
    key = request.tenant, request.session
    ticket.seat = Seat(sessions, *key)
    body = await sessions.stands_for(key, request.operation, turn)
    try:
        look_at(request.operation, body)
    except Failure:
        # Perhaps it was closed, and another one opened under its id.
        sessions.forget(key)
        body = await sessions.stands_for(key, request.operation, turn)
    return body


def sessions_of(bus: Bus, subjects: Subjects, targets: Targets) -> Sessions | None:
    """What there is to know of sessions, where there can be any."""
    if not isinstance(bus, NatsBus):
        return None
    holders = Holders(bus, subjects.prefix)
    return Sessions(SessionLogs(bus, subjects), holders, subjects, targets)


def _put(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    kept[key] = value
    while len(kept) > MOST:
        kept.popitem(last=False)


def _full(session: str) -> Overloaded:
    return Overloaded(
        f"The worker that holds session {session!r} is full.",
        hint="Send it again after a pause, or open sessions with affinity 'hint'.",
        retry_after_ms=1000,
    )


def _restless(session: str) -> Overloaded:
    return Overloaded(
        f"Session {session!r} changed its holder {MOVES} times under this turn.",
        hint="Send it again after a pause.",
        retry_after_ms=1000,
    )
