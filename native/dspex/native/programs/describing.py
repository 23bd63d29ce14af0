"""What a program takes, gives, calls and needs, said without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.program_requests import DescribedProgram, Predictor
from dspex.native.programs.nodes import read_mcp_tool, tools_of
from dspex.native.signatures.describing import object_schema

if TYPE_CHECKING:
    from dspex.native.programs.nodes import Face, Node

_CODE = frozenset({"program_of_thought", "code_act", "rlm"})

_SINCE: dict[str, tuple[int, ...]] = {
    "rlm": (3, 1, 3),
    "code_act": (2, 6, 20),
    "refine": (2, 6),
    "best_of_n": (2, 6),
}
_BEFORE: dict[str, tuple[int, ...]] = {
    "program_of_thought": (3, 5),
    "code_act": (3, 5),
}
_FIRST = (2, 6)
_XML_SINCE = (3, 0)


def describe(node: Node, name: str = "", version: int = 0) -> DescribedProgram:
    """Describe a checked program.

    Args:
        node: The program, with all that it names looked up.
        name: Under which it is stored, if it is.
        version: Its version there.
    """
    parts = list(node.walk())
    return DescribedProgram(
        module=node.module,
        inputs=_face(node.needs, node.required, node.open),
        outputs=_face(node.gives, frozenset(node.gives), node.open),
        predictors=[_predictor(one) for one in parts if one.compiled is not None],
        tools=[tool for one in parts for tool in tools_of(one.spec)],
        programs=sorted({one.reference for one in parts if one.reference}),
        needs=_needs(parts),
        dspy=_releases(parts),
        gpu_memory_mib=node.gpu_memory_mib,
        name=name,
        version=version,
    )


def _face(face: Face, required: frozenset[str], is_open: bool) -> dict[str, Any]:
    known = object_schema([slot for slot in face.values() if slot is not None])
    properties = {name: known["properties"].get(_own(face, name), {}) for name in face}
    return known | {
        "properties": properties,
        "required": [name for name in face if name in required],
        "additionalProperties": is_open,
    }


def _own(face: Face, name: str) -> str:
    slot = face[name]
    return name if slot is None else slot.field.name


def _predictor(node: Node) -> Predictor:
    assert node.compiled is not None
    spec: Any = node.spec
    learned = sum(len(state.demos) for state in node.states.values())
    return Predictor(
        path=node.path,
        module=node.module,
        signature=node.compiled.signature,
        demos=len(getattr(spec, "demos", ())) + learned,
        learned=list(node.states),
        lm=spec.lm or "",
    )


def _needs(parts: list[Node]) -> list[str]:
    found: set[str] = set()
    for one in parts:
        if one.module in _CODE:
            found.add("code_interpreter")
        if one.module in ("knn", "knn_few_shot"):
            found.add("numpy")
        if one.module == "python":
            spec: Any = one.spec
            found.add(f"python:{spec.name}")
        found |= {
            f"mcp:{read_mcp_tool(tool)[0]}"
            for tool in tools_of(one.spec)
            if isinstance(tool, str)
        }
    return sorted(found)


def _releases(parts: list[Node]) -> str:
    since = max((_SINCE.get(one.module, _FIRST) for one in parts), default=_FIRST)
    if any(getattr(one.spec, "adapter", None) == "xml" for one in parts):
        since = max(since, _XML_SINCE)
    before = [_BEFORE[one.module] for one in parts if one.module in _BEFORE]
    said = f">={_dotted(since)}"
    return f"{said},<{_dotted(min(before))}" if before else said


def _dotted(release: tuple[int, ...]) -> str:
    return ".".join(map(str, release))
