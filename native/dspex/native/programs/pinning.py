"""Programs named in a specification, pinned to versions: what is stored stays so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts import encoding
from dspex.contracts.program_specs import Specification

if TYPE_CHECKING:
    from collections.abc import Mapping


def pinned(specification: Specification, versions: Mapping[str, int]) -> Specification:
    """The same specification with versions where it names programs without one.

    Args:
        specification: As it was given.
        versions: By the names of programs.
    """
    found: Specification = encoding.read(
        _pinned(msgspec.to_builtins(specification), versions), Specification
    )
    return found


def _pinned(program: Any, versions: Mapping[str, int]) -> Any:
    if isinstance(program, str):
        return f"{program}@{versions[program]}" if program in versions else program
    found = dict(program)
    for name in ("program", "teacher", "otherwise"):
        if found.get(name) is not None:
            found[name] = _pinned(found[name], versions)
    if "programs" in found:
        found["programs"] = [_pinned(inner, versions) for inner in found["programs"]]
    if "steps" in found:
        found["steps"] = [
            {**step, "program": _pinned(step["program"], versions)}
            for step in found["steps"]
        ]
    if "cases" in found:
        cases = found["cases"].items()
        found["cases"] = {value: _pinned(inner, versions) for value, inner in cases}
    return found
