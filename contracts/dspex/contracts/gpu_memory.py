"""GPU memory that requests and programs declare, MiB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.program_parts import children
from dspex.contracts.program_specs import (
    MAX_DEPTH,
    MajoritySpec,
    MapSpec,
    MultiChainComparisonSpec,
    ParallelSpec,
)
from dspex.contracts.requests import MAX_GPU_MIB, Predict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.contracts.program_specs import Program, Specification
    from dspex.contracts.requests import Body


def declared(body: Body) -> int:
    """What a request declares; that of stored programs is not known."""
    options = body.options.gpu_memory_mib
    if isinstance(body, Predict):
        return options
    said: Any = body
    named = (getattr(said, name, None) for name in ("program", "teacher"))
    return max(options, of_programs(said, (_of_program(one, 1) for one in named)))


def field_of(body: Body) -> str:
    """Where a request says what it declares."""
    own = declared(body) == body.options.gpu_memory_mib
    return "options.gpu_memory_mib" if own else "program"


def of_programs(body: Any, programs: Iterable[int]) -> int:
    """What a request needs for its programs, of which one runs at a time.

    Args:
        body: The request; with ``threads``, so many examples run side by side.
        programs: What each of them needs.
    """
    return _bounded(getattr(body, "threads", 1) * max(programs, default=0))


def of_specification(spec: Specification, parts: Iterable[int]) -> int:
    """What a specification needs: what it declares, or what runs in it at a time.

    Args:
        spec: The specification.
        parts: What each of the programs in it needs.
    """
    inner = sum(parts) if isinstance(spec, ParallelSpec) else max(parts, default=0)
    return _bounded(max(spec.gpu_memory_mib, _side_by_side(spec) * inner))


def _side_by_side(spec: Specification) -> int:
    """How many runs of its part a specification has in hand at a time."""
    if isinstance(spec, MapSpec):
        return spec.concurrency
    if isinstance(spec, MajoritySpec | MultiChainComparisonSpec):
        return spec.attempts
    return 1


def _of_program(program: Program | None, depth: int) -> int:
    # What is deeper than it may be is refused by whoever reads it whole.
    if program is None or isinstance(program, str) or depth > MAX_DEPTH:
        return 0
    parts = [_of_program(inner, depth + 1) for _, inner in children(program)]
    return of_specification(program, parts)


def _bounded(mib: int) -> int:
    return min(mib, MAX_GPU_MIB)
