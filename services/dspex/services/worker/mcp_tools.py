"""The tools of MCP servers as what programs call: functions on subjects.

Each worker keeps a session with every server of its configuration, and answers for
its tools on ``dspex.v1.mcp.<server>.<tool>``, together with the other workers. So the
call of one has a deadline, a trace and a record like that of any function, and
``tool.list`` finds it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus.program import VERSION
from dspex.bus.serving import Endpoint, Service, ServiceInfo
from dspex.bus.tasks import Tasks
from dspex.contracts import encoding, headers
from dspex.contracts.failures import BadRequest, NotFound, ToolFailed, Unsupported
from dspex.contracts.program_functions import Tool
from dspex.contracts.subjects import answerable
from dspex.native.programs.nodes import read_mcp_tool
from dspex.services.worker.mcp_servers import Server, installed
from dspex.services.worker.threads import Home

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.bus.core import Bus, Message
    from dspex.contracts.program_settings import McpServer
    from dspex.contracts.subjects import Subjects
    from dspex.services.worker.mcp_servers import Offered

QUEUE = "mcp"
"""Queue group of the workers that answer for one tool."""

_SHOWN = 300
_ENDS_WITHIN = 10.0


class McpTools:
    """The MCP servers of a configuration.

    Args:
        configured: The servers, by name.
        bus: Where their tools are called.
        subjects: Under which prefix.
        environ: Where tokens are.
    """

    def __init__(
        self,
        configured: Mapping[str, McpServer],
        bus: Bus,
        subjects: Subjects,
        environ: Mapping[str, str],
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._servers = {
            name: Server(name, one, environ, self._serve)
            for name, one in configured.items()
        }
        self._services: dict[str, Service] = {}
        self._served: dict[str, dict[str, Offered]] = {}
        self._tasks = Tasks()
        self._home = Home()

    def start(self) -> None:
        """Keep a session with each server from now on."""
        for server in self._servers.values() if installed() else ():
            self._tasks.start(server.run(), f"mcp {server.name}")

    async def stop(self) -> None:
        """Answer no more calls, then end the sessions."""
        for service in self._services.values():
            await service.stop(_ENDS_WITHIN)
        await self._tasks.cancel()

    async def ready(self, named: str, path: str) -> None:
        """Wait until what a program names is there to be called.

        Raises:
            NotFound: The configuration names no such server, or it has no such tool.
            Unsupported: This worker has no MCP client.
            ToolFailed: The server does not answer.
        """
        server = self._server(named, path)
        if not server.tools:
            try:
                await self._home.do(server.until_ready(server.settings.start_s))
            except ToolFailed as failure:
                failure.field = path
                raise
        self.tool(named, path)

    def tool(self, named: str, path: str) -> Tool:
        """The function that ``mcp:<server>/<tool>`` stands for.

        Args:
            named: As a program names it.
            path: Where in the program.

        Raises:
            NotFound: It is not known.
            Unsupported: This worker has no MCP client.
        """
        server, (_, name) = self._server(named, path), read_mcp_tool(named)
        found = server.tools.get(name)
        if found is None:
            raise NotFound(
                f"{path}: the MCP server {server.name!r} has no tool {name!r}. "
                f"It has: {', '.join(server.tools) or 'none'}.",
                hint="tool.list says which tools there are.",
                field=path,
            )
        return Tool(
            name=name,
            description=found.description,
            schema=found.schema,
            subject=self._subjects.mcp_tool(server.name, name),
            timeout_s=server.settings.timeout_s,
        )

    def _server(self, named: str, path: str) -> Server:
        name, _ = read_mcp_tool(named)
        found = self._servers.get(name)
        if found is None:
            raise NotFound(
                f"{path}: the workers' configuration has no MCP server {name!r}. "
                f"It has: {', '.join(sorted(self._servers)) or 'none'}.",
                hint=f"Add a section [mcp.{name}] with its command or its url.",
                field=path,
            )
        if not installed():
            raise Unsupported(
                f"{path}: this worker has no client for MCP servers.",
                hint='Install it for the workers: pip install "dspex[mcp]".',
                field=path,
            )
        return found

    async def _serve(self, server: Server) -> None:
        """Answer for the tools that a server has now."""
        if self._served.get(server.name) == server.tools:
            return  # a new session, and nothing else is new
        endpoints = [self._endpoint(server, one) for one in server.tools.values()]
        info = ServiceInfo(
            name=f"dspex-mcp-{server.name}",
            version=VERSION,
            description=f"Tools of the MCP server {server.name}.",
        )
        service = Service(self._bus, self._subjects, info, endpoints)
        await service.start()
        before = self._services.get(server.name)
        self._services[server.name] = service
        self._served[server.name] = server.tools
        if before is not None:
            # It may have calls in hand that wait for this session.
            self._tasks.start(before.stop(_ENDS_WITHIN), "mcp stop")

    def _endpoint(self, server: Server, tool: Offered) -> Endpoint:
        async def answer(message: Message) -> str | None:
            return await self._answer(server, tool, message)

        declared = {
            "name": tool.name,
            "description": tool.description,
            "schema": tool.schema,
        }
        return Endpoint(
            name=tool.name,
            subject=self._subjects.mcp_tool(server.name, tool.name),
            handler=answer,
            queue=QUEUE,
            metadata={headers.TOOL: msgspec.json.encode(declared).decode()},
        )

    async def _answer(
        self, server: Server, tool: Offered, message: Message
    ) -> str | None:
        if not answerable(message.reply):
            return None
        try:
            arguments = encoding.decode(message.data, dict[str, Any])
            timeout = _left(message, server.settings.timeout_s)
            found = await server.call(tool.name, arguments, timeout)
            await self._bus.publish(message.reply, encoding.encode(found))
        except (ToolFailed, BadRequest) as failure:
            code = "400" if isinstance(failure, BadRequest) else "500"
            said = " ".join(failure.message.split())[:_SHOWN]
            sent = {headers.ERROR_CODE: code, headers.ERROR: said}
            await self._bus.publish(message.reply, b"", headers=sent)
            return code
        return None


def _left(message: Message, longest: float) -> float:
    """Seconds until a call's deadline, at most so many."""
    try:
        until = float(message.headers.get(headers.DEADLINE, "inf")) / 1000
    except ValueError:
        until = float("inf")
    return max(0.001, min(longest, until - time.time()))
