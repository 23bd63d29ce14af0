"""Asking as a plain NATS client does: a subject, a JSON body, a few headers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

if TYPE_CHECKING:
    from dspex.bus.core import Bus, Message
    from dspex.contracts.subjects import Subjects


class Answer(Struct, kw_only=True):
    """One reply: its JSON and its headers."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """``done``, or the code of the failure."""
        code: str = self.body.get("code", self.body["type"])
        return code


class Events(Struct, kw_only=True):
    """Everything a stream sent to its inbox."""

    all: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.all if event["kind"] == kind]

    def text(self, name: str) -> str:
        """The deltas of a field, joined."""
        return "".join(e["text"] for e in self.of("delta") if e["field"] == name)

    @property
    def last(self) -> dict[str, Any]:
        """The event that ended it."""
        return self.all[-1]


class Asker:
    """Sends requests under one stack's prefix."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self.bus = bus
        self.subjects = subjects

    async def ask(
        self,
        operation: str,
        body: Any,
        *,
        subject: str = "",
        timeout: float = 20.0,
        **headers: Any,
    ) -> Answer:
        """Send one request and read its reply; fails the test if none comes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = await self.bus.request(
            subject or self.subjects.call(operation),
            data,
            headers=_headers(headers, timeout),
            timeout=timeout + 1,
        )
        return Answer(body=json.loads(message.data), headers=dict(message.headers))

    async def stream(
        self,
        operation: str,
        body: Any,
        *,
        subject: str = "",
        timeout: float = 20.0,
        **headers: Any,
    ) -> Events:
        """Send one request and read its inbox until the empty message."""
        found = Events()
        sent = _headers(headers | {"dspex_stream": "inbox"}, timeout)
        async with await self.bus.replies(dedicated=True) as replies:
            await self.bus.publish(
                subject or self.subjects.call(operation),
                json.dumps(body).encode(),
                headers=sent,
                reply=replies.subject,
            )
            while not (message := await replies.next(timeout)).is_end():
                found.all.append(json.loads(message.data))
        return found


def question(signature: Any = "question -> answer", **inputs: Any) -> dict[str, Any]:
    """The body of a ``predict``."""
    return {"signature": signature, "inputs": inputs or {"question": "Why?"}}


def chat(**fields: str) -> str:
    """A reply in the format that DSPy's ChatAdapter asks for."""
    blocks = [f"[[ ## {name} ## ]]\n{text}\n" for name, text in fields.items()]
    return "\n".join([*blocks, "[[ ## completed ## ]]\n"])


def read(message: Message) -> dict[str, Any]:
    """The JSON of a message."""
    found: dict[str, Any] = json.loads(message.data)
    return found


def _headers(given: dict[str, str], timeout: float) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in given.items()}
    deadline = f"{(time.time() + timeout) * 1000:.0f}"
    return {"Dspex-Deadline": deadline} | {
        "-".join(part.capitalize() for part in name.split("-")): value
        for name, value in named.items()
    }
