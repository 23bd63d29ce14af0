"""What not every release of DSPy has: needed by requests, missing in heartbeats.

A feature is ``module:<module>``, ``adapter:<adapter>``, ``optimizer:<name>`` or
``tools:mcp``. All that is not named here every worker has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.optimizers import BetterTogether
from dspex.contracts.program_parts import children, programs_of
from dspex.contracts.requests import Predict

if TYPE_CHECKING:
    from dspex.contracts.program_specs import Program
    from dspex.contracts.requests import Body

MODULES = frozenset({"program_of_thought", "code_act", "rlm", "knn", "knn_few_shot"})
ADAPTERS = frozenset({"xml"})
MCP = "tools:mcp"
"""Calling tools of MCP servers."""

NONE: frozenset[str] = frozenset()


def needed(body: Body) -> frozenset[str]:
    """The features that a request needs; those of stored programs are not known."""
    if isinstance(body, Predict):
        return NONE if body.adapter is None else frozenset(_adapter(body.adapter))
    said: Any = body
    found = _adapter(getattr(said, "adapter", None)) | _tools(said)
    for _, program in programs_of(said):
        found |= _of_program(program)
    if (optimizer := getattr(said, "optimizer", None)) is not None:
        found |= _optimizers(optimizer)
    return frozenset(found)


def _of_program(program: Program) -> set[str]:
    found: set[str] = set()
    waiting = [program]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            continue
        module = str(one.__struct_config__.tag)
        found |= {f"module:{module}"} if module in MODULES else set()
        found |= _adapter(one.adapter) | _tools(one)
        waiting += [inner for _, inner in children(one)]
    return found


def _tools(spec: Any) -> set[str]:
    tools = getattr(spec, "tools", None) or ()
    return {MCP} if any(isinstance(one, str) for one in tools) else set()


def _adapter(name: str | None) -> set[str]:
    return {f"adapter:{name}"} if name in ADAPTERS else set()


def _optimizers(optimizer: Any) -> set[str]:
    found = [optimizer]
    if isinstance(optimizer, BetterTogether):
        found += optimizer.optimizers.values()
    return {f"optimizer:{one.__struct_config__.tag}" for one in found}
