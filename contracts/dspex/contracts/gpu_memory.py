"""GPU memory that requests and programs declare, MiB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.learning_requests import Evaluate, Optimize
from dspex.contracts.optimizers import Ensemble
from dspex.contracts.program_parts import children, programs_of
from dspex.contracts.program_requests import RunProgram
from dspex.contracts.program_specs import (
    MAX_DEPTH,
    EnsembleSpec,
    MajoritySpec,
    MapSpec,
    MultiChainComparisonSpec,
    ParallelSpec,
)
from dspex.contracts.requests import MAX_GPU_MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.contracts.program_specs import Program, Specification
    from dspex.contracts.requests import Body


def declared(body: Body) -> int:
    """What a request declares; what stored programs need is not known."""
    if not isinstance(body, RunProgram | Evaluate | Optimize):
        return body.options.gpu_memory_mib
    return of_request(body, [_of_program(one, 1) for _, one in programs_of(body)])


def field_of(body: Body) -> str:
    """Where a request says what it declares."""
    own = declared(body) == body.options.gpu_memory_mib
    return "options.gpu_memory_mib" if own else "program"


def of_request(body: Body, programs: Iterable[int]) -> int:
    """What a request needs: what it declares, or what it runs at a time.

    Args:
        body: The request; with ``threads``, so many examples are in hand at a time.
        programs: What a run of each of its programs needs.
    """
    said: Any = body
    together = isinstance(getattr(said, "optimizer", None), Ensemble)
    inner = sum(programs) if together else max(programs, default=0)
    at_once = getattr(said, "threads", 1)
    return _bounded(max(body.options.gpu_memory_mib, at_once * inner))


def of_specification(spec: Specification, parts: Iterable[int]) -> int:
    """What a specification needs: what it declares, or what it runs at a time.

    Args:
        spec: The specification.
        parts: What a run of each of the programs in it needs.
    """
    together = isinstance(spec, ParallelSpec | EnsembleSpec)
    inner = sum(parts) if together else max(parts, default=0)
    return _bounded(max(spec.gpu_memory_mib, _at_once(spec) * inner))


def _at_once(spec: Specification) -> int:
    """How many runs of its part a specification has in hand at a time."""
    if isinstance(spec, MapSpec):
        return spec.concurrency
    if isinstance(spec, MajoritySpec | MultiChainComparisonSpec):
        return spec.attempts
    return 1


def _of_program(program: Program, depth: int) -> int:
    # What is deeper than it may be is refused by whoever reads it whole.
    if isinstance(program, str) or depth > MAX_DEPTH:
        return 0
    parts = [_of_program(inner, depth + 1) for _, inner in children(program)]
    return of_specification(program, parts)


def _bounded(mib: int) -> int:
    return min(mib, MAX_GPU_MIB)
