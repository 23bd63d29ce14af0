"""A small MCP server on standard input and output, written by hand.

``python mcp_server.py FILE`` notes in FILE, a line each, that it was started and what
it was asked to do.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def tool(name: str, description: str, **properties: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"name": name, "description": description, "inputSchema": schema}


TOOLS = [
    tool("read", "Reads a file.", path="string"),
    tool("number.add", "Adds two numbers.", a="integer", b="integer"),
    tool("fail", "Fails."),
    tool("sleep", "Is slow."),
    tool("crash", "Ends the server."),
    tool("environ", "Tells the names of its variables."),
    tool("secret", "Not for everybody."),
]


def note(said: str) -> None:
    with Path(sys.argv[1]).open("a") as notes:
        notes.write(f"{said}\n")


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}], **more}


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a tool answers."""
    if name == "read":
        return text(f"the file {arguments['path']}")
    if name == "number.add":
        total = arguments["a"] + arguments["b"]
        return text(str(total), structuredContent={"sum": total})
    if name == "environ":
        return text(",".join(sorted(os.environ)))
    if name == "sleep":
        time.sleep(2)
    if name == "crash":
        os._exit(3)
    return text("not today", isError=True)


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a method; ``None``: it is not known."""
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "by hand", "version": "1"},
        }
    if method == "tools/list":
        # In two pages, as large servers do.
        first, cursor = TOOLS[:3], params.get("cursor")
        return {"tools": TOOLS[3:]} if cursor else {"tools": first, "nextCursor": "2"}
    if method == "tools/call":
        note(params["name"])
        return call(params["name"], params.get("arguments") or {})
    return None


def main() -> None:
    note(f"started {os.getpid()}")
    for line in sys.stdin:
        said = json.loads(line)
        if "id" not in said:
            continue
        result = answer(said["method"], said.get("params") or {})
        reply = {"jsonrpc": "2.0", "id": said["id"]}
        if result is None:
            reply["error"] = {"code": -32601, "message": "Method not found"}
        else:
            reply["result"] = result
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
