"""What a session is: the fold of its log.

Every change of a session is one entry of its log, and its state is what applying the
entries one after another gives. Applying an entry twice changes nothing: turns and
settings of values are known by the id of the request that asked for them.

Who holds a session says so in the log, with a fence that grows from holder to holder:
a turn with an older fence is none, so a holder that was frozen cannot write.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from dspex.contracts.envelope import Usage
from dspex.contracts.program_functions import Tools
from dspex.contracts.program_specs import Program
from dspex.contracts.requests import Adapter, LmConfig
from dspex.contracts.signatures import SignatureSpec

Affinity = Literal["hint", "strict_queue", "strict_fail_fast"]
OnBusy = Literal["enqueue", "reject", "interrupt"]

REMEMBERED = 64
"""Ids of the last requests that set values: one of these is not applied again."""


class SessionSettings(Struct, frozen=True, kw_only=True):
    """What a session was opened with; it never changes.

    Attributes:
        signature: What its turns fill, unless they say otherwise.
        instructions: What to do, instead of the signature's own instructions.
        demos: Worked examples.
        program: What its turns run, as it was when the session was opened.
        tools: What its ``react`` turns may call.
        lm: Name of a language model in the workers' configuration.
        config: What to change about it.
        adapter: How the prompt is written.
        affinity: What happens when the worker that holds it is full.
        on_busy: What happens when a turn comes while another one runs.
        ttl_s: Seconds without a change after which it ends.
        max_turns: Turns it has at most.
    """

    signature: str | SignatureSpec | None = None
    instructions: str | None = None
    demos: list[dict[str, Any]] = field(default_factory=list)
    program: Program | None = None
    tools: Tools = field(default_factory=list)
    lm: str | None = None
    config: LmConfig = field(default_factory=LmConfig)
    adapter: Adapter | None = None
    affinity: Affinity = "strict_queue"
    on_busy: OnBusy = "enqueue"
    ttl_s: int = 86_400
    max_turns: int = 1000


class SessionTurn(Struct, frozen=True, kw_only=True):
    """One exchange of a session.

    Attributes:
        number: Counts from 1.
        request: Correlation id.
        operation: What was asked.
        inputs: What was given, without the conversation so far.
        outputs: What was answered.
        at: Unix milliseconds at which it was logged.
        usage: Tokens it used.
        lm: The language model asked.
    """

    number: int
    request: str
    operation: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    at: float
    usage: Usage | None = None
    lm: str = ""


class Parent(Struct, frozen=True, kw_only=True):
    """Where a forked session comes from.

    Attributes:
        session: The one it was forked from.
        after: The number of the last turn both have.
    """

    session: str
    after: int


class SessionState(Struct, frozen=True, kw_only=True):
    """A session after some entries of its log.

    Attributes:
        settings: What it was opened with.
        request: The request that opened it.
        opened_at: Unix milliseconds.
        at: Unix milliseconds of its last change.
        values: What its caller stored.
        turns: All of them.
        usage: Tokens of all turns together.
        fence: That of its holder; 0: nobody held it yet.
        worker: Its holder.
        parent: Where it was forked from.
        recent: The last requests that set values.
        closed: Whether it was closed.
    """

    settings: SessionSettings
    request: str
    opened_at: float
    at: float
    values: dict[str, Any] = field(default_factory=dict)
    turns: tuple[SessionTurn, ...] = ()
    usage: Usage = Usage()
    fence: int = 0
    worker: str = ""
    parent: Parent | None = None
    recent: tuple[str, ...] = ()
    closed: bool = False

    def find(self, request: str) -> SessionTurn | None:
        """The turn that a request was, if it was one."""
        return next((one for one in self.turns if one.request == request), None)

    @property
    def expires_at(self) -> float:
        """Unix milliseconds at which it ends if nothing changes."""
        return self.at + self.settings.ttl_s * 1000

    def is_over(self, now: float) -> bool:
        """Whether it has ended, at unix milliseconds ``now``."""
        return self.closed or self.expires_at <= now


class _Entry(Struct, frozen=True, kw_only=True, tag_field="entry"):
    """What every entry says.

    Attributes:
        at: Unix milliseconds by the clock of who wrote it.
    """

    at: float


class Opened(_Entry, frozen=True, kw_only=True, tag="opened"):
    """The session begins.

    Attributes:
        request: The request that opened it.
        settings: What it was opened with.
        values: What its caller stored with that.
    """

    request: str
    settings: SessionSettings
    values: dict[str, Any] = field(default_factory=dict)


class HeldEntry(_Entry, frozen=True, kw_only=True, tag="held"):
    """A worker holds it from now on.

    Attributes:
        worker: Its incarnation.
        fence: Grows from holder to holder.
    """

    worker: str
    fence: int


class TurnEntry(_Entry, frozen=True, kw_only=True, tag="turn"):
    """A turn was answered.

    Attributes:
        fence: That of who answered it.
        request: Correlation id.
        operation: What was asked.
        inputs: What was given.
        outputs: What was answered.
        usage: Tokens it used.
        lm: The language model asked.
    """

    fence: int
    request: str
    operation: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    usage: Usage | None = None
    lm: str = ""


class SetEntry(_Entry, frozen=True, kw_only=True, tag="set"):
    """Values were stored.

    Attributes:
        request: The request that asked for it.
        values: By name; null takes a name away.
    """

    request: str
    values: dict[str, Any]


class SnapshotEntry(_Entry, frozen=True, kw_only=True, tag="snapshot"):
    """All of the entries before it, folded; it begins the log of a fork too.

    Attributes:
        state: What they gave.
    """

    state: SessionState


class ClosedEntry(_Entry, frozen=True, kw_only=True, tag="closed"):
    """The session was closed.

    Attributes:
        request: The request that asked for it.
    """

    request: str


LogEntry = Opened | HeldEntry | TurnEntry | SetEntry | SnapshotEntry | ClosedEntry


def apply(state: SessionState | None, entry: LogEntry) -> SessionState | None:
    """A session after one more entry of its log.

    Args:
        state: Before it; ``None``: there was no session.
        entry: The entry.

    Returns:
        The session, or ``None`` where the entry belongs to one whose beginning is
        gone.
    """
    if isinstance(entry, SnapshotEntry):
        return entry.state
    if isinstance(entry, Opened):
        free = state is None or state.is_over(entry.at)
        return _opened(entry) if free else state
    if state is None or state.closed:
        return state
    match entry:
        case TurnEntry():
            return _with_turn(state, entry)
        case HeldEntry():
            return _held(state, entry)
        case SetEntry():
            return _with_values(state, entry)
        case ClosedEntry():
            return replace(state, closed=True, at=entry.at)


def forked(
    state: SessionState, session: str, after: int, request: str, at: float
) -> SessionState:
    """A session of its own that has the first turns of another.

    Args:
        state: The other.
        session: Its name.
        after: The number of the last turn both have; 0: none.
        request: The request that asks for it.
        at: Unix milliseconds.
    """
    turns = state.turns[:after]
    return SessionState(
        settings=state.settings,
        request=request,
        opened_at=at,
        at=at,
        values=state.values,
        turns=turns,
        usage=total(one.usage for one in turns),
        parent=Parent(session=session, after=after),
    )


def total(usages: Any) -> Usage:
    """The sum of what turns used; ``None`` counts as nothing."""
    found = Usage()
    for one in usages:
        found = _sum(found, one)
    return found


def _opened(entry: Opened) -> SessionState:
    return SessionState(
        settings=entry.settings,
        request=entry.request,
        opened_at=entry.at,
        at=entry.at,
        values=entry.values,
    )


def _held(state: SessionState, entry: HeldEntry) -> SessionState:
    if entry.fence <= state.fence:
        return state
    # It is no change of the session's own, so it does not put off its end.
    return replace(state, fence=entry.fence, worker=entry.worker)


def _with_turn(state: SessionState, entry: TurnEntry) -> SessionState:
    if entry.fence != state.fence or state.find(entry.request) is not None:
        return state
    turn = SessionTurn(
        number=len(state.turns) + 1,
        request=entry.request,
        operation=entry.operation,
        inputs=entry.inputs,
        outputs=entry.outputs,
        at=entry.at,
        usage=entry.usage,
        lm=entry.lm,
    )
    return replace(
        state,
        at=max(state.at, entry.at),
        turns=(*state.turns, turn),
        usage=_sum(state.usage, entry.usage),
    )


def _with_values(state: SessionState, entry: SetEntry) -> SessionState:
    if entry.request in state.recent:
        return state
    merged = state.values | entry.values
    return replace(
        state,
        at=max(state.at, entry.at),
        values={name: value for name, value in merged.items() if value is not None},
        recent=(*state.recent, entry.request)[-REMEMBERED:],
    )


def _sum(first: Usage, second: Usage | None) -> Usage:
    if second is None:
        return first
    return Usage(
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        total_tokens=first.total_tokens + second.total_tokens,
        calls=first.calls + second.calls,
    )
