"""What the instance of a program has learned, back into its specification.

Only instructions, descriptions and demos: no language model, no trace, no class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dspex.contracts.program_specs import (
    BranchSpec,
    ChainSpec,
    EnsembleSpec,
    ParallelSpec,
    Signed,
)
from dspex.native.programs.states import ALONE
from dspex.services.worker.composing import Compared
from dspex.services.worker.convert import to_wire

if TYPE_CHECKING:
    import dspy

    from dspex.contracts.program_specs import Specification
    from dspex.native.programs.nodes import Node

_KEPT = ("signature", "demos")


def with_learned(node: Node, module: dspy.Module) -> Specification:
    """The specification of a program with what its instance has learned.

    What it names becomes part of it, for the state is that of this one.

    Args:
        node: The program.
        module: An instance of it, or a copy of one.
    """
    parts = getattr(module, "parts", [])
    inner = [
        with_learned(part.node, one)
        for part, one in zip(node.parts, parts, strict=True)
    ]
    changes: dict[str, Any] = {}
    if isinstance(node.spec, Signed):
        own = module.comparison if isinstance(module, Compared) else module
        changes["state"] = _state(own)
        if getattr(node.spec, "demos", None):
            changes["demos"] = []  # those of the state take their place
    return _made_of(node, inner, changes)


def whole(node: Node) -> Specification:
    """The specification of a program with what it names as a part of it."""
    return _made_of(node, [whole(part.node) for part in node.parts], {})


def _made_of(
    node: Node, inner: list[Specification], changes: dict[str, Any]
) -> Specification:
    spec: Any = node.spec
    if isinstance(spec, EnsembleSpec):
        changes["programs"] = inner
    elif isinstance(spec, ChainSpec | ParallelSpec):
        steps = zip(spec.steps, inner, strict=True)
        changes["steps"] = [replace(step, program=one) for step, one in steps]
    elif isinstance(spec, BranchSpec):
        changes["cases"] = dict(zip(spec.cases, inner, strict=False))
        if spec.otherwise is not None:
            changes["otherwise"] = inner[-1]
    elif inner:
        changes |= dict(zip(("program", "teacher"), inner, strict=False))
    made: Any = replace(spec, **changes)
    found: Specification = made
    return found


def _state(module: dspy.Module) -> dict[str, Any]:
    states = {name: _kept(one) for name, one in module.named_predictors()}
    return states.get(ALONE, states)


def _kept(predictor: Any) -> dict[str, Any]:
    predictor.lm = None  # some optimizers set it, and ours has no form to be saved in
    state = predictor.dump_state()
    # Before 3.0 demos are no dicts there.
    state["demos"] = [dict(demo) for demo in state["demos"]]
    return {name: to_wire(state[name]) for name in _KEPT}
