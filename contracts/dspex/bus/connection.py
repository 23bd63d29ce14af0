"""The bus over a real NATS server.

nats-py does the talking. Its traps, each with a test in ``tests/bus``, are closed
here: a cancelled flush kills its read loop, requests hang on when the connection
breaks or a publish is denied, it gives up reconnecting, it notices a dead server
only after minutes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import nats.errors
from msgspec import Struct
from nats.aio.client import Client

from dspex.bus import outgoing
from dspex.bus.core import INBOX, Bus, Handler, Message, Subscription, connection_lost
from dspex.contracts.failures import BadRequest, BusUnavailable, Failure, Forbidden

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription as NatsSubscription

_log = logging.getLogger(__name__)
_PING = b"PING\r\n"
_SCHEMES = {"nats", "tls", "ws", "wss"}
_REFUSED = re.compile("authorization|authentication", re.I)
_DENIED = re.compile(r'permissions violation for publish(?: to)? "([^"]+)"', re.I)


DRAIN_WITHIN = 5.0
"""Seconds for the messages that arrived at a subscription to be handled."""


class BusSettings(Struct, frozen=True, kw_only=True):
    """How to reach the server.

    Attributes:
        url: One address, or several separated by commas.
        name: What the server's monitoring calls this connection.
        credentials: Path of a credentials file or of an NKey seed.
        inbox: First tokens of its inboxes, which begin with ``_INBOX``.
        connect_timeout: Seconds until the first connection must stand.
        pending_messages: Messages a subscription holds; more are dropped, and counted.
    """

    url: str
    name: str = "dspex"
    credentials: str | None = None
    inbox: str = INBOX
    connect_timeout: float = 10.0
    pending_messages: int = 65_536

    def __repr__(self) -> str:
        return f"BusSettings(url={safe_url(self.url)!r}, name={self.name!r})"


def safe_url(url: str) -> str:
    """The address without the user and password in it."""
    shown = []
    for one in _addresses(url):
        parts = urlsplit(one)
        shown.append(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return ",".join(shown)


def _addresses(url: str) -> list[str]:
    """The addresses in ``url``; one without a scheme, as ``host:4222``, is NATS's."""
    found = [one.strip() for one in url.split(",")]
    return [one if "://" in one else f"nats://{one}" for one in found]


class _GuardedClient(Client):
    """nats-py without its traps.

    A task cancelled inside ``flush()`` leaves its future behind; the PONG that
    answers it then raises InvalidStateError. That, as any error there, ends the read
    loop while the client still believes to be connected. Its PING overtakes what was
    published before it, so a flush proves nothing and a drain loses messages. And
    closing writes what is pending to a connection that may be broken, which raises
    before anything is closed or told.
    """

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._pongs.append(waiting if future is None else future)
        await self._send_command(_PING)
        await self._flush_pending()

    async def _read_loop(self) -> None:
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and task is not None and not task.cancelling():
            await self._process_op_err(nats.errors.UnexpectedEOF())

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._pending, self._pending_data_size = [], 0
        await super()._close(status, do_cbs)


class _NatsSubscription:
    def __init__(self, subscription: NatsSubscription) -> None:
        self._subscription = subscription

    async def unsubscribe(self) -> None:
        await self._end(self._subscription.unsubscribe)

    async def drain(self) -> None:
        await self._end(self._subscription.drain)

    async def _end(self, how: Any) -> None:
        try:
            # The connection may close under it, and nats-py then waits for ever.
            async with asyncio.timeout(DRAIN_WITHIN):
                await how()
        except (
            nats.errors.ConnectionClosedError,
            nats.errors.ConnectionDrainingError,
            nats.errors.BadSubscriptionError,
            TimeoutError,
        ):
            return  # it ended already, or ends with the connection


class NatsBus(Bus):
    """A connection to NATS that comes back for as long as it takes."""

    def __init__(self, settings: BusSettings) -> None:
        super().__init__(settings.inbox)
        self.settings = settings
        self.dropped = 0
        self.reconnects = 0
        self._client: Client = _GuardedClient()
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._connecting = True
        self._last_error: Exception | None = None
        self._closing = False
        self._when_back: set[Callable[[], None]] = set()

    async def connect(self) -> None:
        """Connect, trying again until the settings' ``connect_timeout``.

        Raises:
            BusUnavailable: No server answered in time; the message names the address.
            Forbidden: The server does not take the credentials.
        """
        options: dict[str, Any] = {
            "servers": _servers(self.settings.url),
            "name": self.settings.name,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.25,
            "ping_interval": 5,
            "max_outstanding_pings": 2,
            "pending_size": 8 << 20,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
            "closed_cb": self._on_closed,
        } | _credentials(self.settings.credentials)
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                await self._client.connect(**options)
        except BaseException as error:  # noqa: BLE001 - raised again, explained
            self._closing = True
            with suppress(AssertionError):  # nats-py's, when it did not get anywhere
                await self._client.close()
            raise self._explained(error) from None
        self._connecting = False
        self._up.set()

    def _explained(self, error: BaseException) -> BaseException:
        """What to raise when connecting ended with ``error``."""
        given = self.settings.credentials
        if isinstance(error, Failure) or not isinstance(error, Exception):
            return error
        if not isinstance(error, TimeoutError | OSError | nats.errors.Error) and given:
            return Forbidden(
                f"The credentials file {given} cannot be read: {error!r}.",
                hint="It takes an NKey seed (*.nk) or what `nsc` writes (*.creds).",
            )
        last = self._last_error or error
        return BusUnavailable(
            f"No NATS server answers at {safe_url(self.settings.url)} within "
            f"{self.settings.connect_timeout:g} s: {str(last) or repr(last)}.",
            hint="Check the address, or start one with `dspex up`.",
        )

    async def publish(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """As ``Bus.publish``."""
        outgoing.check(subject, data, headers, reply, self.max_payload)
        try:
            await self._client.publish(
                subject, data, reply, headers=dict(headers) if headers else None
            )
        except (
            nats.errors.OutboundBufferLimitError,
            nats.errors.ConnectionClosedError,
            nats.errors.ConnectionDrainingError,
        ):
            raise connection_lost() from None

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = ""
    ) -> Subscription:
        """As ``Bus.subscribe``."""

        async def deliver(message: Msg) -> None:
            handler(
                Message(message.subject, message.data, message.reply, message.headers)
            )

        try:
            subscription = await self._client.subscribe(
                subject,
                queue,
                cb=deliver,
                pending_msgs_limit=self.settings.pending_messages,
            )
        except nats.errors.BadSubjectError:
            raise BadRequest(f"Cannot subscribe to {subject[:80]!r}.") from None
        except (
            nats.errors.ConnectionClosedError,
            nats.errors.ConnectionDrainingError,
        ):
            raise connection_lost() from None
        return _NatsSubscription(subscription)

    async def flush(self, timeout: float = 5.0) -> None:
        """As ``Bus.flush``."""
        try:
            await self._client.flush(timeout)  # type: ignore[arg-type]
        except (TimeoutError, nats.errors.Error) as error:
            raise BusUnavailable(f"The server does not answer: {error!r}.") from None
        if not self._client.is_connected:  # then it flushed into its own buffer
            raise connection_lost()

    async def close(self) -> None:
        """As ``Bus.close``."""
        self._closing = True
        if self._client.is_connected:
            try:
                await self._client.flush(1)
            except (TimeoutError, nats.errors.Error):
                _log.warning("closing with messages the server may not have")
        await self._client.close()

    @property
    def max_payload(self) -> int:
        """As ``Bus.max_payload``."""
        return self._client.max_payload

    @property
    def is_connected(self) -> bool:
        """As ``Bus.is_connected``."""
        return self._client.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether it has ended for good."""
        return self._client.is_closed

    def when_back(self, call: Callable[[], None]) -> Callable[[], None]:
        """As ``Bus.when_back``."""
        self._when_back.add(call)
        return lambda: self._when_back.discard(call)

    async def gone(self, grace: float) -> None:
        """Return when the server has been away for ``grace`` seconds, or for good."""
        while not self._client.is_closed:
            await self._down.wait()
            try:
                async with asyncio.timeout(grace):
                    await self._up.wait()
            except TimeoutError:
                return

    async def _on_error(self, error: Exception) -> None:
        if self._connecting:
            self._on_failed_attempt(error)
            return
        # Runs inside nats-py's read loop: must neither raise nor wait.
        if denied := _DENIED.search(str(error)):
            subject = denied.group(1)  # in lower case
            self._fail_open(
                Forbidden(
                    f"This connection may not publish on {subject!r}.",
                    hint="Ask the operator of the NATS server for the permission.",
                ),
                subject,
            )
        if isinstance(error, OSError) and not self._up.is_set():
            _log.debug("nats: %s, still trying", error)
            return  # that the connection is lost has been said
        if isinstance(error, nats.errors.SlowConsumerError):
            self.dropped += 1
            if self.dropped & (self.dropped - 1):
                return  # log the 1st, 2nd, 4th, 8th, ...
        _log.warning("nats: %s", error, extra={"dropped": self.dropped})

    def _on_failed_attempt(self, error: Exception) -> None:
        """Keep why an attempt failed; raised from here, it ends all attempts."""
        if self._last_error is None:
            _log.debug("nats: %s, trying again", error)
        self._last_error = error
        if _REFUSED.search(str(error)):
            given = self.settings.credentials
            used = f"credentials in {given}" if given else "given credentials, if any"
            raise Forbidden(
                f"The NATS server at {safe_url(self.settings.url)} does not take the "
                f"{used} ({error}).",
                hint="Set nats.credentials (DSPEX_NATS_CREDENTIALS) to a credentials "
                "file or NKey seed that the server knows, or put user:password@ into "
                "the address.",
            )

    async def _on_disconnected(self) -> None:
        self._up.clear()
        self._down.set()
        self._fail_open(connection_lost())
        if not self._closing:
            _log.warning("nats connection lost, reconnecting")

    async def _on_reconnected(self) -> None:
        self.reconnects += 1
        self._down.clear()
        self._up.set()
        _log.info("nats connection is back")
        for call in list(self._when_back):
            call()

    async def _on_closed(self) -> None:
        self._up.clear()
        self._down.set()
        self._fail_open(connection_lost())
        if not self._closing:
            _log.error("nats connection closed for good")


def _servers(url: str) -> list[str]:
    for one in (found := _addresses(url)):
        if (scheme := urlsplit(one).scheme) not in _SCHEMES:
            raise BusUnavailable(
                f"{safe_url(one)} is no address of a NATS server: {scheme}:// is not "
                f"one of {', '.join(sorted(_SCHEMES))}.",
                hint="Write it as nats://host:4222.",
            )
    return found


def _credentials(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    if not Path(path).is_file():
        raise Forbidden(
            f"The credentials file {path} is not there.",
            hint="Correct nats.credentials (DSPEX_NATS_CREDENTIALS), or leave it out.",
        )
    return {"nkeys_seed" if path.endswith(".nk") else "user_credentials": path}


async def connect(settings: BusSettings) -> NatsBus:
    """Open a connection to NATS.

    Raises:
        BusUnavailable: No server answered in time.
        Forbidden: The server does not take the credentials.
    """
    bus = NatsBus(settings)
    await bus.connect()
    return bus
