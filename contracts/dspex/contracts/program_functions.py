"""Functions that programs call: tools, vectorizers, and what scores answers."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

MAX_TOOLS = 64
"""Tools of one module at most."""

Name = Annotated[str, Meta(min_length=1, max_length=64)]


class Tool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function somebody offers on a subject, in any language.

    Attributes:
        name: What the model calls it: letters, digits, ``_`` and ``-``.
        description: What the model is told about it.
        schema: JSON Schema of its arguments, an object.
        subject: Where it is called: under ``dspex.v1.tool.>``, or what the workers'
            configuration allows.
        timeout_s: Longest wait for one answer, seconds; never past the deadline.
    """

    name: Name
    subject: Annotated[str, Meta(min_length=1, max_length=255)]
    description: Annotated[str, Meta(max_length=4000)] = ""
    schema: dict[str, Any] = field(default_factory=dict)
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0


McpTool = Annotated[str, Meta(pattern=r"^mcp:[A-Za-z0-9_-]{1,64}/[A-Za-z0-9_-]{1,64}$")]
"""A tool of an MCP server of the workers' configuration: ``mcp:files/read``."""

Tools = Annotated[list[Tool | McpTool], Meta(max_length=MAX_TOOLS)]
"""What an agent may call: functions on subjects, and tools of MCP servers by name."""


class Remote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function on a subject.

    Attributes:
        subject: Where it is called, as for tools.
        timeout_s: Longest wait for one answer, seconds.
    """

    subject: Annotated[str, Meta(min_length=1, max_length=255)]
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0


class Reward(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What says how good an answer is: a function on a subject, or a native metric.

    The function gets ``{"inputs": ..., "outputs": ...}`` and answers with a number,
    or with an object that holds one as ``score``.

    Attributes:
        subject: Where the function is called, as for tools.
        timeout_s: Longest wait for one answer of the function, seconds.
        metric: Name of a native metric, such as ``f1``, instead of a subject.
        field: The output that the metric scores.
        answers: What would be right: texts.
        input: The input that says what would be right, instead of ``answers``.
        parameters: Of the metric.
    """

    subject: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    metric: str | None = None
    field: str | None = None
    answers: list[str] | None = None
    input: str | None = None
    parameters: dict[str, Any] = {}
