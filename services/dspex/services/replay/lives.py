"""The recorded requests that a replay is about, and the whole life of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.bus.journal import Damaged, Entry
from dspex.bus.selecting import Lives, Wanted, session_of
from dspex.contracts import catalog
from dspex.contracts.envelope import Accepted, DoneEvent, Event, Requested, Started
from dspex.contracts.records import LmCall, Record
from dspex.contracts.replays import final_attempt, own

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.journal import Reader
    from dspex.contracts.lives import Life

SENT = frozenset({"session.open", "session.fork", "session.set", "session.close"})
"""What is sent again of the operations of the state program: requests depend on it.
Others look at all there is, which a replay does not have."""

SUBMIT = "job.submit"


class Chosen(Struct, frozen=True, kw_only=True):
    """One request, to be read whole when its turn comes.

    Attributes:
        at: Unix milliseconds when it came.
        tenant: Whose it is.
        request: Its id.
        session: Session it is a turn of; empty: none.
    """

    at: float
    tenant: str
    request: str
    session: str = ""


class Selection(Struct, frozen=True, kw_only=True):
    """What was chosen.

    Attributes:
        chosen: The requests, in the order in which they came.
        models: The language models of then, by the names that workers had for them.
    """

    chosen: list[Chosen]
    models: dict[str, str]


class Recorded(Struct, frozen=True, kw_only=True):
    """The life of one request.

    Attributes:
        asked: The request.
        tenant: Whose it is.
        session: Session it is a turn of; empty: none.
        said: All that was told of it; of a job, of the job alone.
        pool: Who ran it.
        damaged: What of it is missing or cannot be read, in words.
    """

    asked: Requested
    tenant: str
    session: str
    said: list[Event | Record]
    pool: str = ""
    damaged: list[str] = []

    @property
    def state(self) -> bool:
        """Whether it was about sessions, jobs and programs, or another replay."""
        operation = catalog.OPERATIONS.get(self.asked.operation)
        return operation is not None and operation.implementation in ("state", "replay")


async def choose(
    reader: Reader,
    wanted: Wanted,
    requests: list[str],
    damaged: Callable[[Damaged], None],
) -> Selection:
    """The requests that are wanted, in the order in which they came."""
    sessions = await _lineage(reader, wanted.session) if wanted.session else {}
    choosing = _Choosing(requests, sessions)
    followed = Lives(_any_session(wanted), choosing.left)
    async for entry in reader.entries(since=wanted.since, until=wanted.until):
        if isinstance(entry, Damaged):
            damaged(entry)
            continue
        choosing.take(entry)
        followed.take(entry)
    followed.end()
    chosen = sorted(choosing.found.values(), key=lambda one: one.at)
    return Selection(chosen=chosen, models=choosing.models)


class _Choosing:
    """Sorts out the lives that are wanted.

    Args:
        requests: Only these; empty: all.
        sessions: Only what is about these, each up to a time; empty: all.
    """

    def __init__(self, requests: list[str], sessions: dict[str, float]) -> None:
        self.found: dict[tuple[str, str], Chosen] = {}
        self.models: dict[str, str] = {}
        self._requests = frozenset(requests)
        self._sessions = sessions
        self._about: dict[tuple[str, str], str] = {}

    def take(self, entry: Entry) -> None:
        """Learn which sessions a request is about, and which models there were."""
        said = entry.said
        if isinstance(said, LmCall):
            self.models[said.lm] = said.model
        if isinstance(said, Requested):
            for session in _named(said) & self._sessions.keys():
                self._about[entry.tenant, said.request] = session

    def left(self, life: Life) -> None:
        """Keep a life that is wanted."""
        key = (life.tenant, life.request)
        session = life.session or self._about.get(key, "")
        if self._sessions and life.at > self._sessions.get(session, -1.0):
            return
        if not self._requests or life.request in self._requests:
            self.found[key] = Chosen(
                at=life.at, tenant=life.tenant, request=life.request, session=session
            )


async def _lineage(reader: Reader, session: str) -> dict[str, float]:
    """A session, and those it was forked from up to then, unix milliseconds."""
    forks: dict[str, tuple[str, float]] = {}
    async for entry in reader.entries():
        said = entry.said if isinstance(entry, Entry) else None
        if isinstance(said, Requested) and said.operation == "session.fork":
            body = said.body if isinstance(said.body, dict) else {}
            forks[body.get("as", said.request)] = (body.get("session", ""), said.at)
    found, until = {session: float("inf")}, float("inf")
    while session in forks:
        session, at = forks[session]
        if session in found:
            break  # names may be used again
        until = found[session] = min(until, at)
    return found


async def read(reader: Reader, one: Chosen) -> Recorded | Damaged | None:
    """The whole life of a request; ``None``: it is not one to be sent again."""
    said, damaged, session = await _said(reader, one.tenant, one.request)
    asked = next((part for part in said if isinstance(part, Requested)), None)
    if asked is None:
        if said and not _began_here(said):
            return None  # a job: its submission is the request
        why = f"the request of {one.request} is not in the journal"
        return Damaged(sequence=0, why=why)
    if asked.cut is not None:
        return Damaged(sequence=0, why=f"the body of {one.request} is not there")
    found = Recorded(asked=asked, tenant=one.tenant, session=session, said=said)
    if found.state and asked.operation not in (*SENT, SUBMIT):
        return None
    if asked.operation == SUBMIT:
        said = await _job(reader, found, damaged)
    pools = [part.pool for part in said if isinstance(part, Started)]
    return Recorded(
        asked=asked,
        tenant=one.tenant,
        session=session,
        said=said,
        pool=pools[-1] if pools else "",
        damaged=damaged + missing(said),
    )


def missing(said: list[Event | Record]) -> list[str]:
    """Calls of the last attempt that happened and of which there is no record."""
    last = final_attempt(said)
    calls = [one for one in said if isinstance(one, Record) and one.attempt == last]
    numbers = {one.call for one in calls}
    lost = sorted(set(range(1, max(numbers, default=0) + 1)) - numbers)
    found = [f"call {number} is not in the journal" for number in lost]
    asked = sum(isinstance(one, LmCall) for one in calls)
    for one in said:
        if isinstance(one, DoneEvent) and not one.metadata.cache_hit:
            usage = one.metadata.usage
            if not lost and usage is not None and usage.calls > asked:
                found.append(f"calls missing in the journal: {usage.calls - asked}")
    return found


async def _said(
    reader: Reader, tenant: str, request: str
) -> tuple[list[Event | Record], list[str], str]:
    said: list[Event | Record] = []
    damaged: list[str] = []
    session = ""
    async for part in reader.of_request(request, tenant):
        whole = await reader.whole(part) if isinstance(part, Entry) else part
        if isinstance(whole, Damaged):
            damaged.append(whole.why)
        if isinstance(part, Entry):
            session = session or session_of(part.subject)
            said.append(part.said if isinstance(whole, Damaged) else whole.said)
    return said, damaged, session


async def _job(
    reader: Reader, found: Recorded, damaged: list[str]
) -> list[Event | Record]:
    """What was told of the job itself; of a submission that was refused, that."""
    body = found.asked.body
    job = body.get("job") if isinstance(body, dict) else None
    said = found.said
    if job and job != found.asked.request:
        said, more, _ = await _said(reader, found.tenant, job)
        damaged += more
    return own(said) or found.said


def _began_here(said: list[Event | Record]) -> bool:
    """Whether a request was chosen for, so that its copy must have been there."""
    return any(isinstance(one, Accepted) for one in said)


def _any_session(wanted: Wanted) -> Wanted:
    names = [name for name in wanted.__struct_fields__ if name != "session"]
    return Wanted(**{name: getattr(wanted, name) for name in names})


def _named(said: Requested) -> set[str]:
    """The sessions that a request opens, forks, changes or closes."""
    if said.operation not in SENT:
        return set()
    body = said.body if isinstance(said.body, dict) else {}
    names = (body.get("session", said.request), body.get("as"))
    return {name for name in names if isinstance(name, str)}
