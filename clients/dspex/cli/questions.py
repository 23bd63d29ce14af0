"""What ``dspex demo`` asks, and how each question looks on the wire: pure data."""

from __future__ import annotations

import json
import shlex
from typing import Any

from msgspec import Struct

from dspex.contracts import headers

TIMEOUT_SECONDS = 120


class Question(Struct, frozen=True, kw_only=True):
    """One question of the demo.

    Attributes:
        title: What it shows.
        operation: Last token of the subject.
        body: The whole body.
        stream: Whether its answer is asked for as it is written.
    """

    title: str
    operation: str
    body: dict[str, Any]
    stream: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers it is sent with."""
        return {headers.STREAM: "inbox"} if self.stream else {}

    def command(self, subject: str) -> str:
        """The same question for the ``nats`` command line."""
        options = ["--timeout", f"{TIMEOUT_SECONDS}s"]
        for name, value in self.headers.items():
            options += ["-H", f"{name}:{value}"]
        if self.stream:
            options.append("--wait-for-empty")
        words = ["nats", "req", *options, subject, self.text()]
        return shlex.join(words)

    def text(self) -> str:
        """The body as it goes over the wire."""
        return json.dumps(self.body, ensure_ascii=False)


QUESTIONS = (
    Question(
        title="Extraction",
        operation="predict",
        body={
            "signature": "text -> name: str, age: int",
            "inputs": {"text": "John Smith is 31 years old and lives in Leeds."},
        },
    ),
    Question(
        title="Two-way sentiment",
        operation="predict",
        body={
            "signature": 'text -> sentiment: Literal["positive", "negative"]',
            "inputs": {"text": "I loved this film, every minute of it."},
        },
    ),
    Question(
        title="Chain of thought",
        operation="chain_of_thought",
        body={
            "signature": "text, question -> answer",
            "inputs": {
                "text": "The museum is closed on Mondays. Today is Monday.",
                "question": "Is the museum open today?",
            },
        },
    ),
    Question(
        title="Streamed, as it is written",
        operation="predict",
        body={
            "signature": "text -> one_sentence_summary",
            "inputs": {
                "text": "The storm closed the harbour on Friday. "
                "Ferries sail again on Monday."
            },
        },
        stream=True,
    ),
)
