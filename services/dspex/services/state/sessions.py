"""The operations on sessions: reading their logs, and adding to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from dspex.bus.clock import now_ms
from dspex.bus.session_holders import Holders
from dspex.bus.session_log import NOTHING, SessionLogs, no_session
from dspex.contracts import encoding
from dspex.contracts.failures import BadRequest, Conflict, NotFound, Quota
from dspex.contracts.session_requests import (
    SessionDetails,
    SessionInfo,
    SessionList,
    SessionSummary,
)
from dspex.contracts.sessions import (
    ClosedEntry,
    Opened,
    SessionSettings,
    SetEntry,
    SnapshotEntry,
    forked,
)
from dspex.native.checking.requiring import extra_fields, require_demos
from dspex.native.programs.tools import check_tools
from dspex.native.signatures.compiling import compile_signature
from dspex.services.state.answers import outcome, tenant_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.connection import NatsBus
    from dspex.bus.events import Events
    from dspex.bus.running import Outcome
    from dspex.bus.session_log import Found
    from dspex.contracts.session_requests import (
        CloseSession,
        ForkSession,
        GetSession,
        ListSessions,
        OpenSession,
        SetSession,
    )
    from dspex.contracts.sessions import LogEntry, SessionState
    from dspex.contracts.subjects import Subjects
    from dspex.services.state.answers import Operation
    from dspex.services.state.programs import Programs

TRIES = 16
"""How often a change is tried again because another one came first."""

VALUES = 256 * 1024
"""Most bytes of the values of a session, as JSON."""


class Sessions:
    """Does the operations on sessions.

    Args:
        bus: Where their logs are.
        subjects: Under which prefix.
        stored: Looks programs up.
    """

    def __init__(self, bus: NatsBus, subjects: Subjects, stored: Programs) -> None:
        self._stored = stored
        self._logs = SessionLogs(bus, subjects)
        self._holders = Holders(bus, subjects.prefix)

    def operations(self) -> dict[str, Operation]:
        """What does each of them: its body, and where its life is told."""
        return {
            "session.open": self.open,
            "session.get": self.get,
            "session.list": self.list,
            "session.set": self.set,
            "session.close": self.close,
            "session.fork": self.fork,
        }

    async def open(self, body: OpenSession, events: Events) -> Outcome:
        """Begin a session; once, however often the same request comes."""
        _check(body)
        program = await self._stored.looked_up(tenant_of(events), body.program)
        request = events.audience.request
        # The same request sent again asks for the same session.
        session = body.session or request
        entry = Opened(
            at=now_ms(),
            request=request,
            settings=replace(_settings(body), program=program),
            values=_checked(body.values),
        )
        return await self._begin(tenant_of(events), session, request, entry)

    async def get(self, body: GetSession, events: Events) -> Outcome:
        """A session and some of its turns."""
        found = await self._logs.read(tenant_of(events), body.session)
        state = found.live(body.session, now_ms())
        turns = state.turns[body.after : body.after + body.limit]
        until = body.after + len(turns)
        more = until < len(state.turns) and bool(turns)
        return outcome(
            SessionDetails(
                **_facts(body.session, state),
                turns=list(turns),
                next=until if more else None,
            )
        )

    async def list(self, body: ListSessions, events: Events) -> Outcome:
        """Some of the sessions there are."""
        tenant = tenant_of(events)
        names = [n for n in await self._logs.names(tenant) if n > body.after]
        page = names[: body.limit]
        found = await asyncio.gather(*(self._logs.read(tenant, one) for one in page))
        now = now_ms()
        sessions = [
            _summary(name, one.state)
            for name, one in zip(page, found, strict=True)
            if one.state is not None and not one.state.is_over(now)
        ]
        following = page[-1] if len(names) > len(page) else None
        return outcome(SessionList(sessions=sessions, next=following))

    async def set(self, body: SetSession, events: Events) -> Outcome:
        """Store values in a session."""
        request = events.audience.request

        def entry(state: SessionState) -> SetEntry | None:
            if request in state.recent:
                return None
            _checked(state.values | body.values)
            return SetEntry(at=now_ms(), request=request, values=body.values)

        found = await self._change(tenant_of(events), body.session, entry)
        return _info(body.session, found)

    async def close(self, body: CloseSession, events: Events) -> Outcome:
        """End a session; its log goes but for the word that it was closed."""
        tenant, session = tenant_of(events), body.session
        closed = ClosedEntry(at=now_ms(), request=events.audience.request)
        found = await self._change(tenant, session, lambda _: closed)
        await self._logs.cut(tenant, session, found.last - 1)
        await self._forget_holder(tenant, session)
        return _info(session, found)

    async def fork(self, body: ForkSession, events: Events) -> Outcome:
        """Begin a session with the first turns of another."""
        tenant, request = tenant_of(events), events.audience.request
        found = await self._logs.read(tenant, body.session)
        state = found.live(body.session, now_ms())
        after = _kept(state, body.after)
        at = now_ms()
        copy = forked(state, body.session, after, request, at)
        entry = SnapshotEntry(at=at, state=copy)
        return await self._begin(tenant, body.name or request, request, entry)

    async def _begin(
        self, tenant: str, session: str, request: str, entry: Opened | SnapshotEntry
    ) -> Outcome:
        """Write the first entry of a log, unless this request has written it."""
        found = NOTHING
        for _ in range(TRIES):
            found = await self._logs.read(tenant, session)
            state = found.state
            if state is not None and not state.is_over(now_ms()):
                if state.request == request:
                    return _info(session, found)
                raise _taken(session)
            try:
                # Of what was there before only the place in the order counts.
                empty = msgspec.structs.replace(NOTHING, last=found.last)
                begun = await self._logs.append(tenant, session, empty, entry)
            except Conflict:
                continue
            if found.last:
                await self._logs.cut(tenant, session, found.last)
            return _info(session, begun)
        raise _contended(session)

    async def _change(
        self,
        tenant: str,
        session: str,
        entry: Callable[[SessionState], LogEntry | None],
    ) -> Found:
        """Add an entry to a session, again if another one comes first."""
        found = NOTHING
        for _ in range(TRIES):
            found = await self._logs.read(tenant, session, found)
            wanted = entry(found.live(session, now_ms()))
            if wanted is None:
                return found
            try:
                changed = await self._logs.append(tenant, session, found, wanted)
            except Conflict:
                continue
            return await self._compacted(tenant, session, changed)
        raise _contended(session)

    async def _compacted(self, tenant: str, session: str, found: Found) -> Found:
        if found.wants_snapshot(now_ms()):
            try:
                return await self._logs.compact(tenant, session, found)
            except Conflict:
                return found  # it changed again; whoever did that will do this
        return found

    async def _forget_holder(self, tenant: str, session: str) -> None:
        holder = await self._holders.find(tenant, session)
        if holder.worker:
            try:
                await self._holders.release(tenant, session, holder.fence)
            except Conflict:
                return  # a new one, which will find that the session is closed


def _check(body: OpenSession) -> None:
    """Refuse at the door what every turn would be refused for."""
    for name in ("signature", "instructions", "demos", "tools", "adapter"):
        if body.program is not None and getattr(body, name):
            raise BadRequest(
                f"{name} is the program's own.",
                field=name,
                hint="Open the session with a program, or with a signature.",
            )
    check_tools(body, "")
    if body.signature is not None:
        compiled = compile_signature(body.signature, body.instructions)
        require_demos(compiled, body.demos, extra_fields("chain_of_thought"))


def _settings(body: OpenSession) -> SessionSettings:
    names = SessionSettings.__struct_fields__
    return SessionSettings(**{name: getattr(body, name) for name in names})


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    size = len(encoding.encode(values))
    if size > VALUES:
        raise Quota(
            f"The values of the session would have {size} bytes; {VALUES} are allowed.",
            field="values",
            hint="Take names away by setting them to null.",
        )
    return values


def _kept(state: SessionState, after: int | str | None) -> int:
    """The number of the last turn that a fork keeps."""
    if after is None:
        return len(state.turns)
    if isinstance(after, str):
        turn = state.find(after)
        if turn is None:
            raise NotFound(
                f"The session has no turn {after[:80]!r}.",
                field="after",
                hint="session.get shows the requests of its turns.",
            )
        return turn.number
    if after > len(state.turns):
        raise NotFound(
            f"The session has {len(state.turns)} turns, none with number {after}.",
            field="after",
            hint="Leave `after` out to keep all of them.",
        )
    return after


def _facts(session: str, state: SessionState) -> dict[str, Any]:
    return {
        "session": session,
        "state": "closed" if state.closed else "open",
        "opened_at": state.opened_at,
        "at": state.at,
        "expires_at": state.expires_at,
        "turn_count": len(state.turns),
        "usage": state.usage,
        "values": state.values,
        "settings": state.settings,
        "parent": state.parent,
    }


def _info(session: str, found: Found) -> Outcome:
    if found.state is None:
        raise no_session(session)
    return outcome(SessionInfo(**_facts(session, found.state)))


def _summary(session: str, state: SessionState) -> SessionSummary:
    return SessionSummary(
        session=session,
        opened_at=state.opened_at,
        at=state.at,
        expires_at=state.expires_at,
        turn_count=len(state.turns),
    )


def _taken(session: str) -> Conflict:
    return Conflict(
        f"There is a session {session!r} already.",
        field="session",
        hint="Leave the id out to get a new one, or close that session first.",
    )


def _contended(session: str) -> Conflict:
    return Conflict(
        f"Session {session!r} changed {TRIES} times while it was to be changed.",
        hint="Send it again.",
    )
