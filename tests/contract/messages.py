"""The messages whose bytes are held golden, and the type each one is read as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspex.contracts import (
    encoding,
    envelope,
    examples,
    pool_examples,
    record_examples,
    words,
)
from dspex.contracts.catalog import OPERATIONS
from dspex.contracts.failures import BY_CODE
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.journaling import JournalState
from dspex.contracts.records import Record

GOLDEN = Path(__file__).parent / "golden"

REQUESTS: dict[str, tuple[Any, Any]] = {
    f"request.{name}": (body, OPERATIONS[name].request)
    for name, body in examples.REQUESTS.items()
}
ANSWERS: dict[str, tuple[Any, Any]] = {
    "reply.failed": (examples.FAILED, envelope.Reply),
    "heartbeat": (examples.HEARTBEAT, Heartbeat),
}
ANSWERS |= {
    f"reply.{name}": (done, envelope.Reply) for name, done in examples.REPLIES.items()
}
ANSWERS |= {
    f"event.{kind}": (event, envelope.Event) for kind, event in examples.EVENTS.items()
}
ANSWERS |= {
    f"notice.{kind}": (notice, type(notice))
    for kind, notice in examples.NOTICES.items()
}
ANSWERS |= {
    f"word.{name}": (word, words.Words) for name, word in examples.WORDS.items()
}
ANSWERS |= {
    f"record.{name}": (record, Record)
    for name, record in record_examples.RECORDS.items()
}
for verb, (asked, answer) in pool_examples.ADMIN.items():
    REQUESTS[f"request.admin.{verb}"] = (asked, type(asked))
    ANSWERS[f"reply.admin.{verb}"] = (answer, type(answer))
ANSWERS["journal"] = (record_examples.STATE, JournalState)
MESSAGES = REQUESTS | ANSWERS


def golden(name: str) -> bytes:
    """The bytes a message must have."""
    return (GOLDEN / f"{name}.json").read_bytes().removesuffix(b"\n")


def leaf_lines() -> list[bytes]:
    """One line per leaf of the failure tree: its number and its reply."""
    failures = [
        leaf(
            "What was wrong.", hint="What to do.", field="inputs.a", retry_after_ms=250
        )
        for leaf in BY_CODE.values()
    ]
    return [
        encoding.encode(
            {"status": one.status, "reply": envelope.failed(examples.REQUEST, one)}
        )
        for one in failures
    ]
