"""One example of every operation on sessions: its body and its reply's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.session_requests import (
    CloseSession,
    ForkSession,
    GetSession,
    ListSessions,
    OpenSession,
    SetSession,
    Turn,
)

if TYPE_CHECKING:
    from dspex.contracts.requests import Body

_AT = 1767225600000.125
_DAY = 86_400_000
_SIGNATURE = "history: dspy.History, question -> answer"

REQUESTS: dict[str, Body] = {
    "session.open": OpenSession(
        session="chat-1", signature=_SIGNATURE, lm="default", values={"user": "Ada"}
    ),
    "session.get": GetSession(session="chat-1", after=1),
    "session.list": ListSessions(limit=2),
    "session.set": SetSession(session="chat-1", values={"user": "Bob"}),
    "session.close": CloseSession(session="chat-1"),
    "session.fork": ForkSession(session="chat-1", after=1, name="chat-2"),
}
"""The body of a request, by operation."""

TURN = Turn(inputs={"question": "And three of them?"})
"""The body of a turn."""

_SETTINGS: dict[str, Any] = {
    "signature": _SIGNATURE,
    "instructions": None,
    "demos": [],
    "lm": "default",
    "config": {
        "temperature": None,
        "max_tokens": None,
        "top_p": None,
        "stop": None,
        "seed": None,
        "frequency_penalty": None,
        "presence_penalty": None,
        "reasoning_effort": None,
    },
    "adapter": None,
    "affinity": "strict_queue",
    "on_busy": "enqueue",
    "ttl_s": 86_400,
    "max_turns": 1000,
}
_USED = {"prompt_tokens": 142, "completion_tokens": 12, "total_tokens": 154, "calls": 1}


def _info(count: int, **changed: Any) -> dict[str, Any]:
    return {
        "session": "chat-1",
        "state": "open",
        "opened_at": _AT,
        "at": _AT,
        "expires_at": _AT + _DAY,
        "turn_count": count,
        "usage": {name: count * one for name, one in _USED.items() if count},
        "values": {"user": "Ada"},
        "settings": _SETTINGS,
        "parent": None,
    } | changed


OUTPUTS: dict[str, dict[str, Any]] = {
    "session.open": _info(0),
    "session.get": _info(
        2,
        turns=[
            {
                "number": 2,
                "request": "0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71",
                "operation": "predict",
                "inputs": {"question": "And three of them?"},
                "outputs": {"answer": "24"},
                "at": _AT,
                "usage": _USED,
                "lm": "openai/gpt-4o-mini",
            }
        ],
        next=None,
    ),
    "session.list": {
        "sessions": [
            {
                "session": "chat-1",
                "opened_at": _AT,
                "at": _AT,
                "expires_at": _AT + _DAY,
                "turn_count": 2,
            }
        ],
        "next": None,
    },
    "session.set": _info(2, values={"user": "Bob"}),
    "session.close": _info(2, state="closed"),
    "session.fork": _info(
        1, session="chat-2", parent={"session": "chat-1", "after": 1}
    ),
}
"""The outputs of the reply to each."""
