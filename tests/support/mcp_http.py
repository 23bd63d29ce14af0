"""A small MCP server over HTTP, in this process, that wants a bearer token."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from dspex.bus.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def serving(token: str) -> AsyncIterator[str]:
    """Serve while the block lasts; yields the address."""
    from mcp.server import MCPServer

    made = MCPServer("by the package")

    @made.tool()
    def shout(text: str) -> str:
        """Says it louder."""
        return text.upper()

    inner: Any = made.streamable_http_app()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization")
        if scope["type"] == "http" and given != f"Bearer {token}".encode():
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body"})
            return
        await inner(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    listening = socket.create_server(("127.0.0.1", 0))
    tasks = Tasks()
    serve = tasks.start(server.serve([listening]), "mcp over http")
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    finally:
        server.should_exit = server.force_exit = True
        await serve
