"""Tools and rewards as they are declared: names, schemas, subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import BadRequest, Failure, nearest
from dspex.contracts.subjects import is_literal, is_token
from dspex.native.metrics.catalog import METRICS
from dspex.native.programs.nodes import below, read_mcp_tool, remotes_of, tools_of
from dspex.native.schemas.validating import ready

if TYPE_CHECKING:
    from dspex.contracts.program_functions import Reward, Tool

TAKEN = frozenset({"finish", "submit", "llm_query", "llm_query_batched"})
"""Names that DSPy's agents give to tools of their own."""


def check_tools(spec: Any, path: str) -> None:
    """Refuse tools, rewards and vectorizers that cannot be called.

    Raises:
        BadRequest: The first one that cannot.
    """
    for inner, subject in remotes_of(spec):
        if not is_literal(subject):
            raise BadRequest(
                f"{below(path, inner)} {subject[:80]!r} is not a subject to call.",
                field=below(path, inner),
                hint="Use tokens of letters, digits, '_' and '-', with dots between.",
            )
    seen: set[str] = set()
    for index, tool in enumerate(tools_of(spec)):
        _check_tool(tool, below(path, f"tools[{index}]"), seen)
    if (reward := getattr(spec, "reward", None)) is not None:
        _check_reward(reward, below(path, "reward"))


def _check_tool(tool: Tool | str, path: str, seen: set[str]) -> None:
    if isinstance(tool, str):
        _check_name(read_mcp_tool(tool)[1], path, seen)
        return
    _check_name(tool.name, f"{path}.name", seen)
    if tool.schema.get("type", "object") != "object":
        raise BadRequest(
            f"{path}.schema describes no object: arguments have names.",
            field=f"{path}.schema",
            hint='Write {"type": "object", "properties": {...}}.',
        )
    try:
        ready(tool.schema)
    except Failure as failure:
        raise BadRequest(
            f"{path}.schema is no sound JSON Schema: {failure.message}",
            field=f"{path}.schema",
            hint=failure.hint,
        ) from None


def _check_name(name: str, path: str, seen: set[str]) -> None:
    if not is_token(name) or name in TAKEN or name in seen:
        why = "is there twice" if name in seen else "cannot be a tool's name"
        raise BadRequest(
            f"{path} {name!r} {why}.",
            field=path,
            hint="Use letters, digits, '_' and '-', each name once, and none of "
            f"{', '.join(sorted(TAKEN))}.",
        )
    seen.add(name)


def _check_reward(reward: Reward, path: str) -> None:
    if (reward.subject is None) == (reward.metric is None):
        raise BadRequest(
            f"{path} names both a subject and a metric, or neither.",
            field=path,
            hint='Write {"subject": ...} or {"metric": ..., "field": ...}.',
        )
    if reward.metric is None:
        return
    if reward.metric not in METRICS:
        raise BadRequest(
            f"{path}.metric {reward.metric[:80]!r} is unknown. "
            + nearest(reward.metric, METRICS),
            field=f"{path}.metric",
        )
    if reward.field is None or (reward.answers is None) == (reward.input is None):
        raise BadRequest(
            f"{path} needs the output `field` that is scored, and either `answers` or "
            "the `input` that says what would be right.",
            field=path,
        )
