"""The prompt of a step of ReAct: its next thought and tool call."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import InvalidInputs, InvalidSignature
from dspex.contracts.signatures import Field
from dspex.native.prompts.dspy_values import tool_text
from dspex.native.prompts.markers import SUSPECT
from dspex.native.prompts.values import STR
from dspex.native.prompts.writing import Plan, part_of
from dspex.native.signatures.compiling import Slot
from dspex.native.signatures.parsing import infer_prefix
from dspex.native.types.tokens import shortened
from dspex.native.types.tree import ANY, DictType, TypeExpr, literal
from dspex.native.work import TooMuch, Work

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dspex.contracts.native_requests import ToolSpec
    from dspex.contracts.signatures import Kind
    from dspex.native.prompts.dialects import Dialect
    from dspex.native.prompts.writing import Chat

FINISH = "finish"
"""The tool that ends an episode; ReAct adds it itself."""
TRAJECTORY = "trajectory"
"""The input that holds what was done so far."""
ADDED = (TRAJECTORY, "next_thought", "next_tool_name", "next_tool_args")
"""Fields that ReAct adds to those of a signature."""

_STEP = re.compile(r"(thought|tool_name|tool_args|observation)_(0|[1-9][0-9]{0,3})")
_PARTS = 10_000
"""The most parts of the arguments of one tool, with references written out."""


def tool_names(tools: Sequence[ToolSpec]) -> list[str]:
    """Return the names of tools, and of the one that ReAct adds.

    Raises:
        InvalidInputs: A name is empty, or there twice, or ReAct's own.
    """
    names: dict[str, None] = {}
    for i, tool in enumerate(tools):
        problem = _problem(tool.name, names)
        if problem:
            raise InvalidInputs(
                f"A tool cannot be named {shortened(tool.name)!r}: the name {problem}.",
                hint="Give every tool a name of its own; ReAct adds 'finish' itself.",
                field=f"tools[{i}].name",
            )
        names[tool.name] = None
    return [*names, FINISH]


def react_plan(plan: Plan, tools: Sequence[ToolSpec]) -> Plan:
    """Return what the prompt of a step is made of.

    Args:
        plan: What the prompt of the signature itself would be made of.
        tools: What may be called.

    Raises:
        InvalidInputs: The tools cannot be described.
        InvalidSignature: A field has the name of one that ReAct adds.
    """
    names = tool_names(tools)
    for field, _ in plan.inputs:
        if field.name in ADDED:
            raise InvalidSignature(
                f"react writes a field {field.name!r} of its own, "
                "and the signature has one of that name.",
                hint="Rename the field.",
                field=field.name,
            )
    return Plan(
        inputs=(*plan.inputs, _slot(TRAJECTORY, "input", STR)),
        outputs=(
            _slot("next_thought", "output", STR),
            _slot("next_tool_name", "output", literal(names)),
            _slot("next_tool_args", "output", DictType(STR, ANY)),
        ),
        instructions=_stripped(_instructions(plan, tools)),
    )


def trajectory_text(
    writer: Chat, trajectory: Mapping[str, Any], dialect: Dialect
) -> str:
    """Write what was done so far, as the adapter writes inputs.

    Args:
        writer: Writes the prompt of the step.
        trajectory: ``thought_0``, ``tool_name_0``, ``tool_args_0``, … in order.
        dialect: The release of DSPy.

    Raises:
        InvalidInputs: A key is none of these, or a value cannot be written.
    """
    for key in trajectory:
        if not _STEP.fullmatch(key):
            raise InvalidInputs(
                f"A trajectory has no {shortened(key)!r}.",
                hint="Its keys are thought_0, tool_name_0, tool_args_0, "
                "observation_0, thought_1 and so on.",
                field="trajectory",
            )
    parts = [part_of(key, STR, dialect) for key in trajectory]
    return "\n\n".join(writer.given(trajectory, parts)).strip()


def _problem(name: str, names: Collection[str]) -> str:
    if not name.strip():
        return "is empty"
    if name == FINISH:
        return "is that of the tool that ends an episode"
    if name in names:
        return "is there more than once"
    return "holds a mark of DSPy's own" if SUSPECT in name else ""


def _instructions(plan: Plan, tools: Sequence[ToolSpec]) -> str:
    inputs = ", ".join(f"`{field.name}`" for field, _ in plan.inputs)
    outputs = ", ".join(f"`{field.name}`" for field, _ in plan.outputs)
    finish = (
        "Marks the task as complete. That is, signals that all information for "
        f"producing the outputs, i.e. {outputs}, are now available to be extracted."
    )
    shown = [tool_text(t.name, t.description, _arguments(t)) for t in tools]
    shown.append(tool_text(FINISH, finish, {}))
    return "\n".join(
        (
            f"{plan.instructions}\n",
            "You are an Agent. In each episode, you will be given the fields "
            f"{inputs} as input. And you can see your past trajectory so far.",
            "Your goal is to use one or more of the supplied tools to collect any "
            f"necessary information for producing {outputs}.\n",
            "To do this, you will interleave next_thought, next_tool_name, and "
            "next_tool_args in each turn, and also when finishing the task.",
            "After each tool call, you receive a resulting observation, which gets "
            "appended to your trajectory.\n",
            "When writing next_thought, you may reason about the current situation "
            "and plan for future steps.",
            "When selecting the next_tool_name and its next_tool_args, the tool must "
            "be one of:\n",
            *(f"({i}) {text}" for i, text in enumerate(shown, 1)),
            "When providing `next_tool_args`, the value inside the field must be in "
            "JSON format",
        )
    )


def _stripped(text: str) -> str:
    # Four fields are added one after another, and each time DSPy strips the text.
    for _ in range(5):
        text = inspect.cleandoc(text)
    return text


def _arguments(tool: ToolSpec) -> dict[str, Any]:
    properties = tool.schema.get("properties")
    definitions = tool.schema.get("$defs")
    if not isinstance(properties, dict):
        return {}
    known = definitions if isinstance(definitions, dict) else {}
    try:
        written: dict[str, Any] = _expanded(properties, known, Work(_PARTS))
    except (TooMuch, RecursionError):
        raise InvalidInputs(
            f"The arguments of the tool {shortened(tool.name)!r} refer to themselves, "
            f"or have more than {_PARTS} parts with every reference written out.",
            hint="DSPy writes every reference out; use simpler types.",
            field="tools",
        ) from None
    return written


def _expanded(value: Any, known: Mapping[str, Any], work: Work) -> Any:
    work.spend(1)
    if isinstance(value, list):
        return [_expanded(item, known, work) for item in value]
    if not isinstance(value, dict):
        return value
    name = value.get("$ref")
    if isinstance(name, str) and known:
        return _expanded(known.get(name.split("/")[-1], {}), known, work)
    return {key: _expanded(item, known, work) for key, item in value.items()}


def _slot(name: str, kind: Kind, expr: TypeExpr) -> Slot:
    field = Field(
        name=name,
        kind=kind,
        type=expr.describe(),
        schema={},
        description=f"${{{name}}}",
        prefix=f"{infer_prefix(name)}:",
    )
    return Slot(field, expr)
