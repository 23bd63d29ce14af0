"""The bodies and outputs of the operations on sessions, and the body of a turn."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from dspex.contracts.envelope import Usage
from dspex.contracts.program_functions import Tools
from dspex.contracts.program_specs import Iterations, Program
from dspex.contracts.requests import Adapter, Body, LmConfig
from dspex.contracts.sessions import (
    Affinity,
    OnBusy,
    Parent,
    SessionSettings,
    SessionTurn,
)
from dspex.contracts.signatures import SignatureSpec

SessionId = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]

LONGEST = 366 * 86_400
"""Seconds after which a session without a change ends at the latest."""


class OpenSession(Body, frozen=True, kw_only=True):
    """Begin a session.

    Attributes:
        session: Its id; default: that of the request. One that exists is refused,
            unless this very request has opened it.
        signature: What its turns fill, unless they say otherwise. An input of type
            ``dspy.History`` gets the conversation so far.
        instructions: What to do, instead of the signature's own instructions.
        demos: Worked examples.
        program: What its turns ``run``, in place of a signature: a specification, or
            the name of a stored program, which stays as it is now. An input of type
            ``dspy.History`` gets the conversation so far.
        tools: What its ``react`` turns may call.
        lm: Name of a language model in the workers' configuration.
        config: What to change about it.
        adapter: How the prompt is written.
        affinity: When the worker that holds it is full: ``hint`` goes to another,
            ``strict_queue`` waits there, ``strict_fail_fast`` is refused at once.
        on_busy: When a turn comes while another one runs: ``enqueue`` waits for its
            end, ``reject`` is refused, ``interrupt`` stops the one that runs.
        ttl_s: Seconds without a change after which it ends.
        max_turns: Turns it has at most.
        values: What to store with it, by name.
    """

    session: SessionId | None = None
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
    ttl_s: Annotated[int, Meta(ge=1, le=LONGEST)] = 86_400
    max_turns: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    values: dict[str, Any] = field(default_factory=dict)


class GetSession(Body, frozen=True, kw_only=True):
    """See a session.

    Attributes:
        session: Its id.
        after: Number of the turn behind which to begin.
        limit: Turns that are shown at most.
    """

    session: SessionId
    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=0, le=1000)] = 100


class ListSessions(Body, frozen=True, kw_only=True):
    """See which sessions there are, in the order of their ids.

    Attributes:
        after: The id behind which to begin.
        limit: Sessions that are shown at most.
    """

    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 100


class SetSession(Body, frozen=True, kw_only=True):
    """Store values in a session; they do not go into prompts.

    Attributes:
        session: Its id.
        values: By name; null takes a name away.
    """

    session: SessionId
    values: dict[str, Any]


class CloseSession(Body, frozen=True, kw_only=True):
    """End a session; its log goes.

    Attributes:
        session: Its id.
    """

    session: SessionId


class ForkSession(Body, frozen=True, kw_only=True, rename={"name": "as"}):
    """Begin a session that has the first turns of another.

    Its values are those that the other has now.

    Attributes:
        session: The other one.
        after: The last turn both have, by number or by request id; 0: none. Default:
            the last one.
        as: Its id; default: that of the request.
    """

    session: SessionId
    after: Annotated[int, Meta(ge=0)] | str | None = None
    name: SessionId | None = None


class Turn(Body, frozen=True, kw_only=True):
    """Ask inside a session: what is left out is the session's own.

    Attributes:
        inputs: A value per input field; the conversation so far is filled in.
        signature: Text or structured form.
        instructions: What to do, instead of the signature's own instructions.
        demos: Worked examples.
        tools: What a ``react`` may call; default: what the session was opened with.
        max_iters: Calls of tools in a ``react`` at most.
        lm: Name of a language model in the workers' configuration.
        config: What to change about it.
        adapter: How the prompt is written.
    """

    inputs: dict[str, Any]
    signature: str | SignatureSpec | None = None
    instructions: str | None = None
    demos: list[dict[str, Any]] | None = None
    tools: Tools | None = None
    max_iters: Iterations | None = None
    lm: str | None = None
    config: LmConfig | None = None
    adapter: Adapter | None = None


class SessionInfo(Struct, frozen=True, kw_only=True):
    """A session, without its turns.

    Attributes:
        session: Its id.
        state: ``open``, or ``closed`` in the answer to closing it.
        opened_at: Unix milliseconds.
        at: Unix milliseconds of its last change.
        expires_at: Unix milliseconds at which it ends if nothing changes.
        turn_count: Turns it has.
        usage: Tokens of all turns together.
        values: What is stored in it.
        settings: What it was opened with.
        parent: Where it was forked from.
    """

    session: str
    state: str
    opened_at: float
    at: float
    expires_at: float
    turn_count: int
    usage: Usage
    values: dict[str, Any]
    settings: SessionSettings
    parent: Parent | None = None


class SessionDetails(SessionInfo, frozen=True, kw_only=True):
    """A session with some of its turns.

    Attributes:
        turns: In order.
        next: What to give as ``after`` to see more; absent: there are none.
    """

    turns: list[SessionTurn]
    next: int | None = None


class SessionSummary(Struct, frozen=True, kw_only=True):
    """One of many sessions.

    Attributes:
        session: Its id.
        opened_at: Unix milliseconds.
        at: Unix milliseconds of its last change.
        expires_at: Unix milliseconds at which it ends if nothing changes.
        turn_count: Turns it has.
    """

    session: str
    opened_at: float
    at: float
    expires_at: float
    turn_count: int


class SessionList(Struct, frozen=True, kw_only=True):
    """Some of the sessions there are.

    Attributes:
        sessions: In the order of their ids.
        next: What to give as ``after`` to see more; absent: there are none.
    """

    sessions: list[SessionSummary]
    next: str | None = None
