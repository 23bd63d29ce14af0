"""Sections of the configuration about programs and the functions that they call."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field


class Tools(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[tools]``: which functions programs may call.

    Attributes:
        subjects: Subjects, wildcards included, beside ``<prefix>.v1.tool.>`` of the
            tenant; open to all tenants.
    """

    subjects: list[str] = field(default_factory=list)


class McpServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[mcp.<name>]``: an MCP server whose tools programs may call.

    Attributes:
        command: What starts it, to be spoken to on its standard input and output.
        args: Of the command.
        env: Variables of its process, beside ``PATH``, ``HOME`` and the like: it
            gets none of the worker's own.
        url: Where it is, for one that runs elsewhere (Streamable HTTP).
        token_env: Environment variable that holds the bearer token for ``url``.
        tools: Those of its tools that may be called; absent: all.
        timeout_s: Longest wait for one call, seconds; never past the deadline.
        start_s: Longest wait until it is ready, seconds.
    """

    command: str | None = None
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    url: str | None = None
    token_env: str | None = None
    tools: list[str] | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    start_s: Annotated[float, Meta(gt=0, le=600)] = 30.0

    def __repr__(self) -> str:
        # Arguments, variables and addresses may hold secrets.
        return f"McpServer(tools={self.tools!r})"


class OwnProgram(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[programs.<name>]``: a program written in Python.

    Attributes:
        path: Where it is, ``package.module:Class``; a ``dspy.Module`` that is made
            without arguments.
    """

    path: Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
