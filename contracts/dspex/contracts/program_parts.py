"""What is inside a specification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.program_specs import (
    BranchSpec,
    EnsembleSpec,
    KnnFewShotSpec,
    KnnSpec,
    PythonSpec,
)
from dspex.contracts.walking import path_of

if TYPE_CHECKING:
    from dspex.contracts.program_specs import Program


def children(spec: Any) -> list[tuple[str, Program]]:
    """The programs inside a specification, with their paths in it."""
    found: list[tuple[str, Program]] = []
    for name in ("program", "teacher", "otherwise"):
        inner = getattr(spec, name, None)
        if inner is not None:
            found.append((name, inner))
    for index, inner in enumerate(getattr(spec, "programs", ())):
        found.append((f"programs[{index}]", inner))
    for index, step in enumerate(getattr(spec, "steps", ())):
        found.append((f"steps[{index}].program", step.program))
    if isinstance(spec, BranchSpec):
        found += [
            (path_of(["cases", value]), inner) for value, inner in spec.cases.items()
        ]
    return found


def programs_of(body: Any) -> list[tuple[str, Program]]:
    """The programs that a request names, with their paths in it."""
    others = children(getattr(body, "optimizer", None))
    return children(body) + [(f"optimizer.{path}", one) for path, one in others]


def is_self_contained(program: Program) -> bool:
    """Whether a program names nothing: no other program, no function."""
    waiting: list[Program] = [program]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str | PythonSpec) or _calls(one):
            return False
        waiting += [inner for _, inner in children(one)]
    return True


def _calls(spec: Any) -> bool:
    scorers = (getattr(spec, name, None) for name in ("reward", "metric"))
    remote = any(one is not None and one.subject is not None for one in scorers)
    searches = isinstance(spec, KnnSpec | KnnFewShotSpec)
    draws = isinstance(spec, EnsembleSpec) and spec.size is not None
    return bool(getattr(spec, "tools", ())) or remote or searches or draws
