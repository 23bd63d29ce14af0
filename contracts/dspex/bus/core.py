"""The bus as everybody sees it, whatever carries the messages.

``connection.NatsBus`` speaks to a real server, ``testing.MemoryBus`` stays in the
process; one suite of tests holds for both. Handlers are plain functions that
return at once: NATS clients call them one after another, so one that waits would
hold up every message behind it. What takes time is handed to a task.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from dspex.bus.capture import Capture
from dspex.contracts import headers as names
from dspex.contracts.failures import BusUnavailable, Failure, Overloaded
from dspex.contracts.headers import NO_HEADERS, Headers

if TYPE_CHECKING:
    from types import TracebackType

    from dspex.bus.claims import Claims

INBOX = "_INBOX"
"""First token of the reply subjects made here."""

BACKLOG = 4096
"""Replies one request may leave unread before it is failed as too slow."""


class Message:
    """One message as it arrived.

    Attributes:
        subject: Where it was published.
        data: Its body.
        reply: Where an answer is awaited; empty when none is.
        headers: Its headers, looked up without case.
    """

    __slots__ = ("_headers", "_raw", "data", "reply", "subject")

    def __init__(
        self,
        subject: str,
        data: bytes,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.subject = subject
        self.data = data
        self.reply = reply
        self._raw = headers
        self._headers: Headers | None = None

    @property
    def headers(self) -> Headers:
        """Its headers; read when first asked for."""
        if self._headers is None:
            self._headers = Headers(self._raw) if self._raw else NO_HEADERS
        return self._headers

    def is_no_responders(self) -> bool:
        """Whether the server says that nobody listens where a request went."""
        return (
            not self.data
            and self._raw is not None
            and self.headers.get(names.STATUS) == "503"
        )

    def is_end(self) -> bool:
        """Whether it ends a stream of replies: no body, no headers."""
        return not self.data and not self._raw

    def __repr__(self) -> str:
        return f"Message({self.subject}, {len(self.data)} bytes)"


Handler = Callable[[Message], None]


class NoResponders(Exception):
    """Nobody subscribes to the subject a request went to."""


class Subscription(Protocol):
    """Interest in a subject."""

    async def unsubscribe(self) -> None:
        """End it; messages not handled yet are dropped."""
        ...

    async def drain(self) -> None:
        """End it after the messages that already arrived were handled."""
        ...


class Replies:
    """The answers to one message, as they come in.

    Publish with ``reply=replies.subject``, then ``await replies.next()``. Close it,
    or use it as an async context manager.
    """

    def __init__(self, subject: str, on_close: Callable[[Replies], None]) -> None:
        self.subject = subject
        self.target = ""
        self._arrived: asyncio.Queue[Message | Exception] = asyncio.Queue(BACKLOG)
        self._on_close = on_close
        self._subscription: Subscription | None = None
        self._overflowed = False

    def put(self, message: Message) -> None:
        """Take one answer in; a reader that lags too far behind is failed."""
        if self._overflowed:
            return
        try:
            self._arrived.put_nowait(message)
        except asyncio.QueueFull:
            self._overflowed = True
            self.fail(
                Overloaded(
                    f"{BACKLOG} replies were not read in time.",
                    hint="Read the stream faster, or ask again.",
                )
            )

    def fail(self, error: Exception) -> None:
        """Let ``next`` raise ``error`` after what has arrived; keeps what it can."""
        if self._arrived.full():
            self._arrived.get_nowait()
        self._arrived.put_nowait(error)

    async def next(self, timeout: float | None = None) -> Message:
        """The next answer.

        Args:
            timeout: Seconds to wait; ``None`` waits until one comes.

        Raises:
            TimeoutError: None came in time.
            NoResponders: Nobody subscribes to the subject.
            Failure: The bus broke, the publish was forbidden, or we are too slow.
        """
        async with asyncio.timeout(timeout):
            arrived = await self._arrived.get()
        if isinstance(arrived, Exception):
            raise arrived
        if arrived.is_no_responders():
            raise NoResponders(self.target)
        return arrived

    async def close(self) -> None:
        """Take no more answers."""
        self._on_close(self)
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    async def __aenter__(self) -> Replies:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class Bus(ABC):
    """Publish, subscribe, request.

    Attributes:
        capture: What of the telling over this connection is journaled.
        claims: Where bodies are that are too large for a message; ``None``: nowhere.

    Args:
        inbox: First tokens of the subjects that answers come to.
    """

    def __init__(self, inbox: str = INBOX) -> None:
        self._inbox = inbox
        self.capture = Capture()
        self.claims: Claims | None = None
        self._mux = self.new_inbox()
        self._mux_subscription: Subscription | None = None
        self._numbers = count()
        self._open: dict[str, Replies] = {}
        self._mux_lock = asyncio.Lock()

    @abstractmethod
    async def publish(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Send one message.

        Raises:
            BadRequest: The body is larger than the server takes, or the subject is
                not one to publish on.
            BusUnavailable: The connection is gone and its buffer full.
        """

    @abstractmethod
    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = ""
    ) -> Subscription:
        """Call ``handler`` for every message on ``subject``.

        Args:
            subject: May hold the wildcards ``*`` and ``>``.
            handler: Called in order, one at a time; must not block.
            queue: Queue group: one member gets each message.
        """

    @abstractmethod
    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has all that was published.

        Raises:
            BusUnavailable: It does not answer within ``timeout`` seconds.
        """

    @abstractmethod
    async def close(self) -> None:
        """Flush and end the connection; harmless when it has ended."""

    @property
    @abstractmethod
    def max_payload(self) -> int:
        """Largest body the server takes, bytes."""

    @property
    def is_connected(self) -> bool:
        """Whether messages pass now; a bus that cannot break always is."""
        return True

    def when_back(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call ``call`` whenever a lost connection stands again.

        Returns:
            What ends that; again, it does nothing.
        """
        return lambda: None

    async def replies(self, *, dedicated: bool = False) -> Replies:
        """A place for answers to come to.

        Args:
            dedicated: With a subscription of its own, so that a process that sends
                many answers can be told by the server when this one stops reading.
                Without, all share one subscription, which costs nothing to open.
        """
        if dedicated:
            return await self._dedicated_replies()
        if self._mux_subscription is None:
            await self._subscribe_mux()
        replies = Replies(f"{self._mux}.{next(self._numbers)}", self._forget)
        self._open[replies.subject] = replies
        return replies

    async def request(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> Message:
        """Publish and wait for one answer.

        Raises:
            TimeoutError: None within ``timeout`` seconds.
            NoResponders: Nobody subscribes to ``subject``.
            Forbidden: This connection may not publish there.
            BusUnavailable: The connection broke before the answer came.
        """
        async with await self.replies() as replies:
            replies.target = subject
            await self.publish(subject, data, headers=headers, reply=replies.subject)
            return await replies.next(timeout)

    def new_inbox(self) -> str:
        """A subject that answers to this connection may come to, and no others."""
        return f"{self._inbox}.{uuid4().hex}"

    async def _dedicated_replies(self) -> Replies:
        replies = Replies(self.new_inbox(), self._forget)
        self._open[replies.subject] = replies
        replies._subscription = await self.subscribe(replies.subject, replies.put)  # noqa: SLF001 - its maker
        return replies

    async def _subscribe_mux(self) -> None:
        async with self._mux_lock:
            if self._mux_subscription is None:
                self._mux_subscription = await self.subscribe(
                    f"{self._mux}.*", self._on_reply
                )

    def _on_reply(self, message: Message) -> None:
        if replies := self._open.get(message.subject):
            replies.put(message)

    def _forget(self, replies: Replies) -> None:
        self._open.pop(replies.subject, None)

    def _fail_open(self, error: Failure, target: str | None = None) -> None:
        """Fail the requests on their way, all or those to one (lower-case) subject."""
        for replies in list(self._open.values()):
            if target is None or replies.target.lower() == target:
                replies.fail(error)


def connection_lost() -> BusUnavailable:
    """What a request gets whose connection broke before its answer came."""
    return BusUnavailable(
        "The connection to NATS was lost before the answer came.",
        hint="The request may or may not have run; send it again with the same id.",
    )
