"""What is inside a specification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.program_specs import BranchSpec, KnnSpec, PythonSpec
from dspex.contracts.walking import path_of

if TYPE_CHECKING:
    from dspex.contracts.program_specs import Program, Specification


def children(spec: Specification) -> list[tuple[str, Program]]:
    """The programs inside a specification, with their paths in it."""
    found: list[tuple[str, Program]] = []
    for name in ("program", "otherwise"):
        inner = getattr(spec, name, None)
        if inner is not None:
            found.append((name, inner))
    for index, step in enumerate(getattr(spec, "steps", ())):
        found.append((f"steps[{index}].program", step.program))
    if isinstance(spec, BranchSpec):
        found += [
            (path_of(["cases", value]), inner) for value, inner in spec.cases.items()
        ]
    return found


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
    reward = getattr(spec, "reward", None)
    remote = reward is not None and reward.subject is not None
    return bool(getattr(spec, "tools", ())) or remote or isinstance(spec, KnnSpec)
