"""The recorded requests that a replay is about, and the whole life of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dspex.bus.journal import Damaged, Entry
from dspex.cli.journal_select import Lives, Wanted, session_of
from dspex.contracts import catalog
from dspex.contracts.envelope import Accepted, DoneEvent, Event, Requested, Started
from dspex.contracts.records import LmCall, Record
from dspex.contracts.replays import final_attempt, own

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.journal import Reader

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
    """

    at: float
    tenant: str
    request: str


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
        """Whether the state program answered it."""
        operation = catalog.OPERATIONS.get(self.asked.operation)
        return operation is not None and operation.implementation == "state"


async def choose(
    reader: Reader,
    wanted: Wanted,
    requests: list[str],
    damaged: Callable[[Damaged], None],
) -> list[Chosen]:
    """The requests that are wanted, in the order in which they came."""
    found: dict[tuple[str, str], Chosen] = {}
    opened: set[tuple[str, str]] = set()

    def left(life: Any) -> None:
        key = (life.tenant, life.request)
        about = wanted.session in ("", life.session) or key in opened
        if about and (not requests or life.request in requests):
            found[key] = Chosen(at=life.at, tenant=key[0], request=key[1])

    lives = Lives(_any_session(wanted), left)
    async for entry in reader.entries(since=wanted.since, until=wanted.until):
        if isinstance(entry, Damaged):
            damaged(entry)
            continue
        if wanted.session and _names(entry.said, wanted.session):
            opened.add((entry.tenant, entry.said.request))
        lives.take(entry)
    lives.end()
    return sorted(found.values(), key=lambda one: one.at)


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


def _names(said: Event | Record, session: str) -> bool:
    """Whether a request opens, forks, changes or closes a session."""
    if not isinstance(said, Requested) or said.operation not in SENT:
        return False
    body = said.body if isinstance(said.body, dict) else {}
    return session in (body.get("session", said.request), body.get("as"))
