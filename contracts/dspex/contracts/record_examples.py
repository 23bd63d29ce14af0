"""One example of every record, and of what operators say about the journal."""

from __future__ import annotations

from typing import Any

from dspex.contracts.journaling import JournalState
from dspex.contracts.records import CallFailure, Cut, LmCall, Record, ToolCall

_RECORD: dict[str, Any] = {
    "request": "0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71",
    "attempt": 1,
    "at": 1767225600000.125,
    "worker": "light-4f1c9ad27b60",
}

RECORDS: dict[str, Record] = {
    "lm_call": LmCall(
        **_RECORD,
        call=1,
        ms=398.25,
        lm="default",
        model="openai/gpt-4o-mini",
        messages=[
            {"role": "system", "content": "Your input fields are:\n1. `text` (str)"},
            {"role": "user", "content": "[[ ## text ## ]]\nI loved it."},
        ],
        parameters={"temperature": 0.2, "max_tokens": 200},
        outputs=["[[ ## sentiment ## ]]\npositive"],
        usage={"prompt_tokens": 142, "completion_tokens": 12, "total_tokens": 154},
        pieces=[(210.5, 22), (260.75, 8)],
        dspy="3.4.1",
    ),
    "lm_call.failed": LmCall(
        **_RECORD,
        call=2,
        ms=12.5,
        lm="default",
        model="openai/gpt-4o-mini",
        messages=[{"role": "user", "content": "Hello"}],
        failure=CallFailure(
            code="lm_rate_limit",
            category="provider",
            message="The provider asks for fewer requests.",
            error="LMRateLimitError",
            retry_after_ms=2000,
        ),
        dspy="3.4.1",
    ),
    "lm_call.cut": LmCall(
        **_RECORD,
        call=3,
        ms=9021.0,
        lm="default",
        model="openai/gpt-4o-mini",
        messages=[],
        cut=Cut(
            bytes=1400000,
            blob="default.0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71.1.3",
            why="larger than a message",
        ),
        dspy="3.4.1",
    ),
    "tool_call": ToolCall(
        **_RECORD,
        call=4,
        ms=3.5,
        name="search",
        subject="dspex.v1.tool.search",
        arguments={"query": "spiders"},
        result=["A spider has eight legs."],
    ),
}
"""A record of every kind, and the ways a call can end."""

STATE = JournalState(
    name="dspex-worker-light",
    pid=4711,
    on=True,
    sample=0.5,
    operations={"predict": True},
    tenants={"acme": False},
    redacts=True,
    counters={"records": 17, "bytes": 40210},
)
"""What one process says of what it journals."""
