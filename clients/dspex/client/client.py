"""Ask over NATS from Python, with asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from msgspec.structs import replace

from dspex.bus import connection, settings, tracing
from dspex.bus.claims import Claims, packed, unpacked
from dspex.bus.core import Bus, Message, NoResponders
from dspex.bus.program import DEFAULT_URL
from dspex.client.jobs import JobHandle
from dspex.client.options import Options
from dspex.client.patience import BACK, Patience
from dspex.client.prediction import Prediction, answer_of
from dspex.client.reading import (
    LATE,
    Inbox,
    Reading,
    Sent,
    media_of,
    nobody,
    silence,
)
from dspex.client.replays import TIMEOUT, ReplayHandle
from dspex.client.sessions import Session, lasting
from dspex.contracts import encoding, headers
from dspex.contracts.envelope import (
    Event,
    Reply,
)
from dspex.contracts.failures import (
    BusUnavailable,
    Failure,
)
from dspex.contracts.subjects import DEFAULT_PREFIX, DEFAULT_TENANT, Subjects

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from dspex.contracts.replay_requests import Mode


class Client:
    """Sends requests over one connection.

    Args:
        bus: The connection.
        subjects: Under which prefix, and as which tenant.
        options: How requests are sent.
        claims: Where bodies are put that are too large for a message; default: where
            the others read them, if the bus is a real one.

    Attributes:
        options: How requests are sent.
        bus: The connection.
        subjects: Under which prefix, and as which tenant.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        options: Options | None = None,
        claims: Claims | None = None,
    ) -> None:
        self.options = options or Options()
        self.bus = bus
        self.subjects = subjects
        if claims is None and isinstance(bus, connection.NatsBus):
            claims = Claims(bus, subjects.prefix)
        self._claims = claims

    @property
    def claims(self) -> Claims | None:
        """Where bodies are that are too large for a message; ``None``: nowhere."""
        return self._claims if self.options.objects else None

    def with_options(self, **changes: Any) -> Client:
        """The same client with other options: ``client.with_options(timeout=5)``.

        Args:
            **changes: Fields of ``Options``.

        Raises:
            TypeError: One of them is no option.
        """
        options = replace(self.options, **changes)
        return Client(self.bus, self.subjects, options, self._claims)

    async def predict(self, signature: Any, /, **inputs: Any) -> Prediction:
        """Fill a signature's outputs: ``predict("question -> answer", question=…)``.

        Args:
            signature: Its text, or its structured form as a dict.
            **inputs: A value per input field.

        Raises:
            Failure: The leaf of the tree that says what went wrong.
        """
        return await self.call("predict", self.options.body(signature, inputs))

    async def chain_of_thought(self, signature: Any, /, **inputs: Any) -> Prediction:
        """The same, with an output ``reasoning`` written first."""
        body = self.options.body(signature, inputs)
        return await self.call("chain_of_thought", body)

    async def run(self, program: Any, /, **inputs: Any) -> Prediction:
        """Run a program: ``run("triage", ticket=…)``.

        Args:
            program: Its name, stored or configured, or its specification as a dict.
            **inputs: A value per input.
        """
        body = self.options.body(None, inputs)
        names = ("lm", "config", "options")
        said = {name: body[name] for name in names if name in body}
        return await self.call("run", {"program": program, "inputs": inputs} | said)

    async def call(self, operation: str, body: Mapping[str, Any]) -> Prediction:
        """Ask for any operation.

        Args:
            operation: Its name in the catalog.
            body: As the operation's JSON Schema describes it.

        Raises:
            Failure: The leaf of the tree that says what went wrong.
        """
        try:
            message = await self._ask(operation, encoding.encode(body))
            data = await unpacked(self.claims, message)
        except NoResponders:
            raise nobody(self.options.pool) from None
        except TimeoutError:
            raise silence(self.options.timeout) from None
        return answer_of(encoding.decode(data, Reply, media_of(message)))

    async def submit(
        self, operation: str, body: Mapping[str, Any], **job: Any
    ) -> JobHandle:
        """Have an operation done whatever becomes of this process.

        Args:
            operation: Its name in the catalog.
            body: As the operation's JSON Schema describes it.
            **job: Other fields of ``job.submit``, such as ``priority=1``.

        Raises:
            Failure: It was not taken; what a request would have been told.
        """
        asked = {"operation": operation, "body": body} | job
        answer = await self.call("job.submit", asked)
        return self.job(answer.outputs["job"])

    def job(self, job: str) -> JobHandle:
        """A job by its id."""
        return JobHandle(job, self.bus, self.call, answer_of)

    async def _ask(self, operation: str, data: bytes) -> Message:
        """Send a request, and once more whenever it may have been lost.

        Whoever stops waiting stops the request too.
        """
        data, sent = await packed(
            self.claims, self.subjects.tenant, data, self._headers(operation)
        )
        try:
            return await self._until_answered(self._subject(operation), sent, data)
        except asyncio.CancelledError:
            with contextlib.suppress(Failure):
                await self.cancel(sent[headers.REQUEST])
            raise

    async def _until_answered(
        self, subject: str, sent: dict[str, str], data: bytes
    ) -> Message:
        until = time.monotonic() + self.options.timeout + LATE
        # Any worker of a pool may get it, and one does not know what another runs.
        resend = math.inf if self.options.pool else self.options.resend
        patience = Patience(resend)
        send = True
        async with await self.bus.replies() as replies:
            replies.target = subject
            while True:
                if send:
                    await self.bus.publish(
                        subject, data, headers=sent, reply=replies.subject
                    )
                left = until - time.monotonic()
                wait = patience.wait(left, connected=self.bus.is_connected)
                try:
                    return await replies.next(wait)
                except (TimeoutError, BusUnavailable, NoResponders) as silence:
                    send = patience.sends_again(silence, left)
                    if send and isinstance(silence, NoResponders):
                        await asyncio.sleep(BACK / 20)

    async def stream(
        self, operation: str, body: Mapping[str, Any], *, after: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """Ask, and yield the events of the request as they come.

        The last one is ``DoneEvent``. Leaving the loop early unsubscribes, which
        stops the request. When the connection is lost and comes back, the events go on
        where they stopped; the request too, if its ``options`` say
        ``"on_disconnect": "continue"``.

        Args:
            operation: Its name in the catalog.
            body: As the operation's JSON Schema describes it.
            after: ``seq`` of the last event that arrived of the request that the
                option ``request`` names: nothing is asked anew, its events go on
                behind that one.

        Raises:
            Failure: The request failed; raised in place of its last event.
        """
        if after is not None:
            async with aclosing(self.resume(self.options.request, after=after)) as rest:
                async for event in rest:
                    yield event
            return
        sent = self._sent(operation, body)
        reading = Reading(sent.headers[headers.REQUEST])
        pool = self.options.pool
        inbox = Inbox(self, reading, pool)
        try:
            async with aclosing(inbox.ask(sent)) as events:
                async for event in events:
                    yield event
        except BusUnavailable:
            if pool or reading.attempt is None or reading.ended:
                raise
            async with aclosing(inbox.go_on(self._resumes)) as events:
                async for event in events:
                    yield event

    async def resume(
        self, request: str, *, attempt: int | None = None, after: int = 0
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a request behind the last one that arrived.

        Args:
            request: Its id.
            attempt: ``attempt`` of the last event that arrived; default: the newest.
            after: ``seq`` of that event; 0: begin with the first one.

        Raises:
            NotFound: They are not in the journal, or not without a gap.
            Failure: The request failed; raised in place of its last event.
        """
        reading = Reading(request, attempt, after)
        inbox = Inbox(self, reading)
        async with aclosing(inbox.go_on(self._resumes)) as events:
            async for event in events:
                yield event

    def session(
        self, signature: Any = None, tools: Iterable[Any] = (), **settings: Any
    ) -> AbstractAsyncContextManager[Session]:
        """A session for as long as the block lasts; see ``sessions.lasting``."""
        return lasting(self, signature, tools, settings)

    def replay(
        self, mode: Mode = "exact", *, timeout: float = TIMEOUT, **said: Any
    ) -> ReplayHandle:
        """Send requests of the journal again, and say what is different.

        ::

            replay = client.replay("exact", session="chat-1")
            async for one in replay:
                print(one.request, one.status)
            print(replay.summary)

        Args:
            mode: ``exact``, ``diff``, ``live`` or ``load``.
            timeout: Seconds that all of it may take.
            **said: Other fields of ``replay.run``, such as ``since`` or ``requests``.
        """
        body = {"mode": mode} | said
        return ReplayHandle(self.with_options(timeout=timeout), body)

    async def cancel(self, request: str) -> None:
        """Stop a request, wherever it is."""
        await self.bus.publish(self.subjects.cancel(request))

    async def close(self) -> None:
        """End the connection."""
        await self.bus.close()

    def _sent(self, operation: str, body: Mapping[str, Any]) -> Sent:
        subject = self._subject(operation)
        return Sent(subject, encoding.encode(body), self._headers(operation))

    def _resumes(self, reading: Reading) -> Sent:
        """The request that asks for what a reader has not had."""
        said: dict[str, Any] = {"request": reading.request, "after": reading.after}
        if reading.attempt is not None:
            said["attempt"] = reading.attempt
        options = Options(timeout=self.options.timeout, objects=self.options.objects)
        other = Client(self.bus, self.subjects, options, self._claims)
        return other._sent("stream.resume", said)

    def _subject(self, operation: str) -> str:
        if self.options.pool:
            return self.subjects.pool_run(self.options.pool)
        if self.options.session:
            return self.subjects.session_call(self.options.session, operation)
        return self.subjects.call(operation)

    def _headers(self, operation: str) -> dict[str, str]:
        options = self.options
        sent = {
            headers.REQUEST: options.request or uuid4().hex,
            headers.DEADLINE: f"{(time.time() + options.timeout) * 1000:.0f}",
        }
        if options.cache:
            sent[headers.CACHE] = options.cache
        if options.route:
            sent[headers.ROUTE] = options.route
        if options.pool:
            sent[headers.OPERATION] = operation
        return tracing.inject(sent)


@asynccontextmanager
async def connect(  # noqa: PLR0913 - each is a setting of its own
    url: str | None = None,
    *,
    prefix: str | None = None,
    tenant: str = DEFAULT_TENANT,
    credentials: str | None = None,
    inbox: str = "_INBOX",
    connect_timeout: float = 5.0,
) -> AsyncIterator[Client]:
    """Connect to NATS for as long as the ``async with`` block lasts.

    Args:
        url: Default: ``DSPEX_NATS_URL``, else the ``dspex up`` that runs in this
            folder, else ``nats://127.0.0.1:4222``.
        prefix: Default: ``DSPEX_PREFIX``, else ``dspex``.
        tenant: Whose subjects to use.
        credentials: Path of a credentials file or of an NKey seed.
        inbox: First tokens of the inboxes that its user may subscribe to, such as
            ``_INBOX.client``; they must begin with ``_INBOX``.
        connect_timeout: Seconds until the connection must stand.

    Raises:
        BusUnavailable: No server answers there.
        Forbidden: The server does not take the credentials.
    """
    wanted = connection.BusSettings(
        url=url or os.environ.get("DSPEX_NATS_URL") or _url_here() or DEFAULT_URL,
        name="dspex-client",
        credentials=credentials,
        inbox=inbox,
        connect_timeout=connect_timeout,
    )
    found = prefix or os.environ.get("DSPEX_PREFIX") or DEFAULT_PREFIX
    client = Client(await connection.connect(wanted), Subjects(found, tenant))
    try:
        yield client
    finally:
        await client.close()


def _url_here() -> str | None:
    found = settings.published(Path())
    return found.url if found and found.alive else None
