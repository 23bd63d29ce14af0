"""Opening, asking and looking at sessions as a plain NATS client does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.support.asking import chat

if TYPE_CHECKING:
    from tests.support.asking import Answer, Asker
    from tests.support.scripted_wire import Received

SIGNATURE = "history: dspy.History, question -> answer"


def numbered(received: Received) -> str:
    """Answer the last question with itself and how many questions came before it."""
    said = [one["content"] for one in received.body["messages"]]
    users = [one for one in said if "[[ ## question ## ]]" in one][1:]
    question = users[-1].split("[[ ## question ## ]]")[1].split("\n")[1].strip()
    return chat(answer=f"{question}/{len(users) - 1}")


class Conversations:
    """Sessions under one stack's prefix."""

    def __init__(self, ask: Asker) -> None:
        self.ask = ask

    async def opened(self, **given: Any) -> str:
        """Open a session and return its id."""
        body = {"session": uuid4().hex[:12], "signature": SIGNATURE} | given
        outputs = await self.done("session.open", body)
        found: str = outputs["session"]
        return found

    async def done(self, operation: str, body: Any) -> dict[str, Any]:
        """The outputs of a request that succeeds."""
        answer = await self.ask.ask(operation, body)
        assert answer.code == "done", answer.body
        found: dict[str, Any] = answer.body["outputs"]
        return found

    async def turn(
        self,
        session: str,
        question: str,
        *,
        operation: str = "predict",
        body: Any = None,
        **sent: Any,
    ) -> Answer:
        """Ask inside a session."""
        subject = self.ask.subjects.session_call(session, operation)
        body = {"inputs": {"question": question}} if body is None else body
        return await self.ask.ask(operation, body, subject=subject, **sent)

    def begun(self, session: str, question: str, **sent: Any) -> asyncio.Future[Answer]:
        """The same, to be waited for later."""
        return asyncio.ensure_future(self.turn(session, question, **sent))

    async def seen(self, session: str) -> dict[str, Any]:
        """A session with its turns."""
        return await self.done("session.get", {"session": session})

    async def transcript(self, session: str) -> list[tuple[str, str]]:
        """Question and answer of every turn."""
        found = await self.seen(session)
        return [
            (one["inputs"]["question"], one["outputs"]["answer"])
            for one in found["turns"]
        ]
