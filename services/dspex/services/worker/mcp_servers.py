"""MCP servers of the configuration: connected, watched, started again when they end.

The only importer of the ``mcp`` package, which is optional. A session lives in one
task from its start to its end, as its package wants it; calls come from any other.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import math
import re
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dspex.contracts.failures import ToolFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from dspex.contracts.program_settings import McpServer

    Changed = Callable[["Server"], Awaitable[None]]
    """Is told that a server is connected, before its tools are called."""

_log = logging.getLogger(__name__)

MOST = 512
"""Tools of one server that are looked at."""

ALIVE_WITHIN = 5.0
"""Seconds in which a server that was too slow with a tool must list its tools."""

_PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds before the first, second, ... start in a row that came to nothing."""

_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_SHOWN = 300


class Offered(Struct, frozen=True, kw_only=True):
    """A tool of an MCP server.

    Attributes:
        name: What models and programs call it.
        own: What the server calls it.
        description: What a model is told about it.
        schema: JSON Schema of its arguments.
    """

    name: str
    own: str
    description: str
    schema: dict[str, Any]


class Server:
    """One MCP server.

    Args:
        name: Of its section of the configuration.
        settings: That section.
        environ: Where its token is.
        changed: Is told of every new session.

    Attributes:
        name: Of its section of the configuration.
        settings: That section.
        tools: What it offers, by name; empty before its first session.
        problem: Why it has no session; empty while it has one.
    """

    STEADY = 10.0
    """Seconds that a session has lasted if its end is no sign of the next one's."""

    def __init__(
        self,
        name: str,
        settings: McpServer,
        environ: Mapping[str, str],
        changed: Changed,
    ) -> None:
        self.name = name
        self.settings = settings
        self.tools: dict[str, Offered] = {}
        self.problem = "It has not been started yet."
        self._environ = environ
        self._changed = changed
        self._client: Any = None
        self._ended = asyncio.Event()
        self._ready = asyncio.Event()
        self._since = math.inf  # when its session began

    async def run(self) -> None:
        """Keep a session with it, for ever; whoever cancels this ends the session."""
        failed = 0
        while True:
            await asyncio.sleep(_PAUSES[min(failed, len(_PAUSES) - 1)])
            self._since = math.inf
            try:
                await self._session()
                self.problem = "It ended."
            except Exception as error:  # noqa: BLE001 - it is told to who calls a tool
                self.problem = _said(error)
            finally:
                self._ready.clear()
                self._client = None
            steady = time.monotonic() - self._since > self.STEADY
            failed = 0 if steady else failed + 1
            # Not what it said: that may hold what it was started with.
            _log.warning("an MCP server has no session", extra={"server": self.name})

    async def until_ready(self, timeout: float) -> None:
        """Wait until it has a session.

        Raises:
            ToolFailed: It has none in time.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
        except TimeoutError:
            raise ToolFailed(
                f"The MCP server {self.name!r} does not answer: {self.problem}",
                hint="See the log of the workers, and [mcp] of their configuration.",
            ) from None

    async def call(self, tool: str, arguments: dict[str, Any], timeout: float) -> Any:
        """Call a tool and return what it answers, any JSON value.

        Raises:
            ToolFailed: It said so, was too slow, or ended meanwhile.
        """
        until = time.monotonic() + timeout
        await self.until_ready(timeout)
        client, ended = self._client, self._ended
        own = self.tools[tool].own if tool in self.tools else tool
        try:
            async with asyncio.timeout(until - time.monotonic()):
                result = await client.call_tool(own, arguments)
        except TimeoutError:
            await self._check(client, ended)
            raise ToolFailed(
                f"The MCP server {self.name!r} did not answer within {timeout:.3g} s."
            ) from None
        except Exception as error:
            await self._check(client, ended)
            raise ToolFailed(f"The MCP server {self.name!r}: {_said(error)}") from error
        return _read(result)

    async def _session(self) -> None:
        from mcp import Client

        ended = asyncio.Event()
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(self.settings.start_s):
                transport = _ending(await self._transport(stack), ended)
                client = await stack.enter_async_context(Client(transport))
                self.tools = await self._listed(client)
            await self._changed(self)
            self._client, self._ended, self.problem = client, ended, ""
            self._since = time.monotonic()
            self._ready.set()
            _log.info("an MCP server is ready", extra={"server": self.name})
            await ended.wait()
            self._ready.clear()  # before it is taken down, which may take seconds

    async def _transport(self, stack: AsyncExitStack) -> Any:
        settings = self.settings
        if settings.command is not None:
            from mcp import StdioServerParameters
            from mcp.client.stdio import stdio_client

            return stdio_client(
                StdioServerParameters(
                    command=settings.command,
                    args=settings.args,
                    env=settings.env,
                )
            )
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        sent: dict[str, str] = {}
        if settings.token_env is not None:
            token = self._environ.get(settings.token_env)
            if not token:
                raise ToolFailed(f"The variable {settings.token_env} is not set.")
            sent["Authorization"] = f"Bearer {token}"
        timeout = httpx2.Timeout(settings.start_s, read=None)  # calls have their own
        http = httpx2.AsyncClient(headers=sent, timeout=timeout)
        await stack.enter_async_context(http)
        return streamable_http_client(settings.url or "", http_client=http)

    async def _listed(self, client: Any) -> dict[str, Offered]:
        found: dict[str, Offered] = {}
        cursor = None
        while len(found) < MOST:
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                one = _offered(tool)
                if self.settings.tools is None or tool.name in self.settings.tools:
                    found.setdefault(one.name, one)
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def _check(self, client: Any, ended: asyncio.Event) -> None:
        """Give up a session that does not even say which tools there are."""
        try:
            async with asyncio.timeout(ALIVE_WITHIN):
                await client.list_tools(cache_mode="bypass")
        except Exception:  # noqa: BLE001 - whatever it is, another session is needed
            ended.set()


def installed() -> bool:
    """Whether this worker can speak to MCP servers."""
    return importlib.util.find_spec("mcp") is not None


@asynccontextmanager
async def _ending(transport: Any, ended: asyncio.Event) -> AsyncIterator[Any]:
    """The same transport, which says when there is nothing more to read."""
    async with transport as (read, write):
        yield _Reading(read, ended), write


class _Reading:
    """What is read from a server; its end is told.

    Args:
        stream: Where it is read.
        ended: Set at its end.
    """

    def __init__(self, stream: Any, ended: asyncio.Event) -> None:
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._ended.set()
            raise

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except BaseException:
            self._ended.set()
            raise

    async def aclose(self) -> None:
        self._ended.set()
        await self._stream.aclose()

    async def __aenter__(self) -> _Reading:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        self._ended.set()
        return await self._stream.__aexit__(*error)


def _offered(tool: Any) -> Offered:
    return Offered(
        # Providers of models take no other names.
        name=_OTHER.sub("_", tool.name)[:64],
        own=tool.name,
        description=(tool.description or tool.title or "")[:4000],
        schema=dict(tool.input_schema),
    )


def _read(result: Any) -> Any:
    """What a tool answered: an object, a text, or several pieces of content.

    Raises:
        ToolFailed: It says that it failed.
    """
    said = [
        one.text if one.type == "text" else one.model_dump(mode="json", by_alias=True)
        for one in result.content
    ]
    if result.is_error:
        raise ToolFailed(" ".join(map(str, said))[:_SHOWN] or "It failed.")
    if result.structured_content is not None:
        return result.structured_content
    return said[0] if len(said) == 1 else said


def _said(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ToolFailed):
        return error.message
    if isinstance(error, TimeoutError):
        return "It was too slow to start."
    return f"{type(error).__name__}: {error}"[:_SHOWN]
