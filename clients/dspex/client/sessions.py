"""A session: a conversation that outlives the worker that holds it.

::

    async with client.session("history: dspy.History, question -> answer") as chat:
        await chat.predict(question="Who wrote Faust?")
        print((await chat.predict(question="When was he born?")).answer)
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from dspex.client.tools import offered
from dspex.contracts import encoding
from dspex.contracts.session_requests import SessionDetails, SessionInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from dspex.client.client import Client
    from dspex.client.prediction import Prediction
    from dspex.contracts.envelope import Event


class Session:
    """One session, by its id; what asks need not be what opened it.

    Args:
        client: Sends its requests, with its options.
        session: Its id.
    """

    def __init__(self, client: Client, session: str) -> None:
        self.id = session
        self._client = client

    async def predict(self, **inputs: Any) -> Prediction:
        """The next turn: fill the session's signature.

        Raises:
            Failure: The leaf of the tree that says what went wrong.
        """
        return await self.call("predict", inputs)

    async def chain_of_thought(self, **inputs: Any) -> Prediction:
        """The same, with an output ``reasoning`` written first."""
        return await self.call("chain_of_thought", inputs)

    async def react(self, **inputs: Any) -> Prediction:
        """The same by an agent with the session's tools."""
        return await self.call("react", inputs)

    async def run(self, **inputs: Any) -> Prediction:
        """The next turn of a session that was opened with a program."""
        return await self.call("run", inputs)

    async def call(self, operation: str, inputs: dict[str, Any]) -> Prediction:
        """The next turn, with any operation that has turns."""
        return await self._turns.call(operation, self._body(inputs))

    def stream(self, operation: str, inputs: dict[str, Any]) -> AsyncIterator[Event]:
        """The next turn, as the events of its life; as ``Client.stream``."""
        return self._turns.stream(operation, self._body(inputs))

    async def get(self, after: int = 0, limit: int = 100) -> SessionDetails:
        """The session and some of its turns.

        Args:
            after: Number of the turn behind which to begin.
            limit: Turns at most.
        """
        body = {"session": self.id, "after": after, "limit": limit}
        found = await self._client.call("session.get", body)
        details: SessionDetails = encoding.read(found.outputs, SessionDetails)
        return details

    async def set(self, **values: Any) -> SessionInfo:
        """Store values; ``None`` takes one away."""
        return await self._ask("session.set", values=values)

    async def fork(
        self, after: int | str | None = None, session: str | None = None
    ) -> Session:
        """A session of its own with the first turns of this one.

        Args:
            after: The last turn both have, by number or by request id; default: the
                last one.
            session: Its id; default: a new one.
        """
        given = {"after": after, "as": session}
        said = {name: one for name, one in given.items() if one is not None}
        return Session(self._client, (await self._ask("session.fork", **said)).session)

    async def close(self) -> SessionInfo:
        """End it."""
        return await self._ask("session.close")

    @property
    def _turns(self) -> Client:
        return self._client.with_options(session=self.id)

    def _body(self, inputs: dict[str, Any]) -> dict[str, Any]:
        body = self._client.options.body("", inputs)
        del body["signature"]
        return body

    async def _ask(self, operation: str, **body: Any) -> SessionInfo:
        found = await self._client.call(operation, {"session": self.id} | body)
        info: SessionInfo = encoding.read(found.outputs, SessionInfo)
        return info


@asynccontextmanager
async def lasting(
    client: Client, signature: Any, tools: Iterable[Any], settings: dict[str, Any]
) -> AsyncIterator[Session]:
    """A session that is closed at the end of the block.

    Args:
        client: Asks for it.
        signature: What its turns fill.
        tools: What its ``react`` turns may call. Functions among them are offered as
            ``tools.serve`` does, while the block lasts.
        settings: Others of ``session.open``.
    """
    async with offered(client, tools) as known:
        given = settings | ({"tools": known} if known else {})
        session = await opened(client, signature, **given)
        try:
            yield session
        finally:
            await session.close()


async def opened(client: Client, signature: Any = None, **settings: Any) -> Session:
    """Open a session.

    Args:
        client: Asks for it.
        signature: What its turns fill; as text or in structured form.
        **settings: Others of ``session.open``, such as ``session`` (its id), ``lm``,
            ``affinity``, ``on_busy``, ``ttl_s``, ``values``.

    Raises:
        Conflict: There is one with that id.
        Failure: The leaf of the tree that says what went wrong.
    """
    body = settings if signature is None else {"signature": signature} | settings
    found = await client.call("session.open", body)
    return Session(client, found.outputs["session"])
