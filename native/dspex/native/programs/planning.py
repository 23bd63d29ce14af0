"""Specifications -> checked trees, with every fault named by its path."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dspex.contracts import program_specs as specs
from dspex.contracts.failures import (
    BadRequest,
    Failure,
    InvalidInputs,
    InvalidSignature,
    nearest,
)
from dspex.contracts.program_specs import MAX_DEPTH, MAX_PARTS
from dspex.contracts.walking import path_of
from dspex.native.checking.requiring import require, require_demos
from dspex.native.programs import wiring
from dspex.native.programs.nodes import Node, Part, below, read_reference
from dspex.native.programs.states import read_states
from dspex.native.programs.tools import check_tools
from dspex.native.signatures.compiling import compile_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.contracts.program_specs import Program, Specification
    from dspex.native.signatures.compiling import Compiled

    Find = Callable[[str], Specification | None]

COMPLETIONS = "completions"
"""The input that holds attempts, where no program makes them."""

EXTRA: dict[str, tuple[str, ...]] = {
    "chain_of_thought": ("reasoning",),
    "react": ("trajectory", "reasoning"),
    "program_of_thought": ("reasoning",),
    "code_act": ("trajectory", "reasoning"),
    "rlm": ("trajectory", "final_reasoning"),
    "multi_chain_comparison": ("rationale",),
}
"""Outputs that a module gives beside those of its signature."""

_OWN: dict[str, tuple[str, ...]] = {
    "react": ("next_thought", "next_tool_name", "next_tool_args", "max_iters"),
    "program_of_thought": (
        "generated_code",
        "previous_code",
        "error",
        "final_generated_code",
        "code_output",
        "interpreter",
    ),
    "code_act": ("generated_code", "finished", "max_iters", "interpreter"),
    "rlm": ("variables_info", "repl_history", "iteration", "code", "interpreter"),
    "multi_chain_comparison": (COMPLETIONS,),
}
"""Other fields that a module has of its own."""


def plan(program: Program, find: Find | None = None, path: str = "program") -> Node:
    """Check a program and all in it.

    Args:
        program: A specification, or the name of a stored one.
        find: Looks stored programs up; ``None`` for one that is not to be looked up
            here, so that its own faults are found by who does.
        path: Where it stands in the request.

    Raises:
        Failure: The first fault; its ``field`` is the path of the part at fault.
    """
    return _Planner(find or _nowhere).node(program, path, 1)


def check_inputs(node: Node, inputs: Mapping[str, Any]) -> None:
    """Refuse inputs that the program cannot begin with.

    Raises:
        InvalidInputs: One is missing, or not known, or of the wrong type.
    """
    if node.compiled is not None and _is_plain(node):
        require(node.compiled, inputs, "inputs")
        return
    missing = sorted(node.required - inputs.keys())
    if missing:
        raise InvalidInputs(
            f"inputs.{missing[0]} is missing. The program takes: "
            f"{', '.join(node.needs)}.",
            field=f"inputs.{missing[0]}",
            hint="Send a value for every input.",
        )
    unknown = sorted(inputs.keys() - node.needs.keys())
    if unknown and not any(one.open for one in node.walk()):
        raise InvalidInputs(
            f"inputs.{unknown[0][:80]} is no input of the program. "
            + nearest(unknown[0][:80], node.needs),
            field=f"inputs.{unknown[0][:80]}",
            hint="Leave it out.",
        )


def _is_plain(node: Node) -> bool:
    """Whether it takes just the inputs of its signature."""
    assert node.compiled is not None
    return {slot.field.name for slot in node.compiled.inputs} == node.needs.keys()


def _nowhere(reference: str) -> None:
    """Look nothing up."""
    del reference


class _Planner:
    """Checks one program; counts its parts."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._parts = 0

    def node(self, program: Program, path: str, depth: int) -> Node:
        self._parts += 1
        if depth > MAX_DEPTH or self._parts > MAX_PARTS:
            raise BadRequest(
                f"{path} is one specification too many: at most {MAX_PARTS} in a "
                f"program, and {MAX_DEPTH} inside each other, stored ones counted in.",
                field=path,
                hint="Store parts as programs of their own, and call those.",
            )
        if isinstance(program, str):
            return self._stored(program, path, depth)
        check_tools(program, path)
        if isinstance(program, specs.Signed):
            return self._signed(program, path, depth)
        return _BUILDERS[type(program)](self, program, path, depth)

    def _stored(self, text: str, path: str, depth: int) -> Node:
        read_reference(text, path)
        found = self._find(text)
        if found is None:
            return _open(None, path, text)
        try:
            made = self.node(found, path, depth + 1)
        except Failure as failure:
            failure.message = f"In the program {text!r}: {failure.message}"
            raise
        return dataclasses.replace(made, reference=text)

    def _signed(self, spec: Any, path: str, depth: int) -> Node:
        compiled = _compiled(spec, path)
        module = str(spec.__struct_config__.tag)
        _refuse_own(module, compiled, path)
        if demos := getattr(spec, "demos", None):
            try:
                require_demos(compiled, demos, EXTRA.get(module, ()))
            except InvalidInputs as failure:
                raise _at(failure, path) from None
        needs: dict[str, Any] = {s.field.name: s for s in compiled.inputs}
        gives: dict[str, Any] = dict.fromkeys(EXTRA.get(module, ()))
        gives |= {slot.field.name: slot for slot in compiled.outputs}
        states = read_states(spec.state, below(path, "state")) if spec.state else {}
        made = Node(
            spec=spec,
            path=path,
            needs=needs,
            required=wiring.required(compiled),
            gives=gives,
            compiled=compiled,
            states=states,
        )
        if isinstance(spec, specs.MultiChainComparisonSpec):
            return wiring.compared(made, self._maybe(spec.program, path, depth))
        return made

    def _maybe(self, program: Program | None, path: str, depth: int) -> Part | None:
        if program is None:
            return None
        return Part(self.node(program, below(path, "program"), depth + 1), {}, {})

    def chosen(self, spec: Any, path: str, depth: int) -> Node:
        """``best_of_n`` and ``refine``: what their program is."""
        part = self._maybe(spec.program, path, depth)
        assert part is not None
        wiring.check_reward(spec.reward, part.node, path)
        return wiring.like(spec, path, part)

    def majority(self, spec: specs.MajoritySpec, path: str, depth: int) -> Node:
        part = self._maybe(spec.program, path, depth)
        if part is None:
            needs: dict[str, Any] = {COMPLETIONS: None}
            return Node(
                spec=spec,
                path=path,
                needs=needs,
                required=frozenset(needs),
                gives={},
                open=True,
            )
        node = part.node
        if spec.field is not None and spec.field not in node.gives and not node.open:
            raise BadRequest(
                f"{below(path, 'field')} {spec.field[:80]!r} is no output there. "
                + nearest(spec.field[:80], node.gives),
                field=below(path, "field"),
            )
        return wiring.like(spec, path, part)

    def ensemble(self, spec: specs.EnsembleSpec, path: str, depth: int) -> Node:
        parts = []
        for index, inner in enumerate(spec.programs):
            where = below(path, f"programs[{index}]")
            parts.append(Part(self.node(inner, where, depth + 1), {}, {}))
        return wiring.ensemble(spec, path, tuple(parts))

    def few_shot(self, spec: specs.KnnFewShotSpec, path: str, depth: int) -> Node:
        part = self._maybe(spec.program, path, depth)
        assert part is not None
        wiring.refuse_unlike(part.node.required, spec.trainset, path)
        found = wiring.like(spec, path, part)
        if spec.teacher is None:
            return found
        teacher = self.node(spec.teacher, below(path, "teacher"), depth + 1)
        return dataclasses.replace(found, parts=(part, Part(teacher, {}, {})))

    def knn(self, spec: specs.KnnSpec, path: str, depth: int) -> Node:
        del depth
        wiring.refuse_unlike(spec.inputs, spec.trainset, path)
        return Node(
            spec=spec,
            path=path,
            needs=dict.fromkeys(spec.inputs),
            required=frozenset(spec.inputs),
            gives={"examples": None},
        )

    def python(self, spec: specs.PythonSpec, path: str, depth: int) -> Node:
        del depth
        return _open(spec, path, "")

    def chain(self, spec: specs.ChainSpec, path: str, depth: int) -> Node:
        return wiring.chain(spec, path, self._steps(spec, path, depth))

    def parallel(self, spec: specs.ParallelSpec, path: str, depth: int) -> Node:
        return wiring.parallel(spec, path, self._steps(spec, path, depth))

    def _steps(self, spec: Any, path: str, depth: int) -> tuple[Part, ...]:
        found = []
        for index, step in enumerate(spec.steps):
            where = below(path, f"steps[{index}]")
            node = self.node(step.program, f"{where}.program", depth + 1)
            found.append(wiring.part(node, step, where))
        return tuple(found)

    def map(self, spec: specs.MapSpec, path: str, depth: int) -> Node:
        part = self._maybe(spec.program, path, depth)
        assert part is not None
        return wiring.mapped(spec, path, part)

    def branch(self, spec: specs.BranchSpec, path: str, depth: int) -> Node:
        parts = [
            Part(
                self.node(inner, below(path, path_of(["cases", value])), depth + 1),
                {},
                {},
            )
            for value, inner in spec.cases.items()
        ]
        if spec.otherwise is not None:
            node = self.node(spec.otherwise, below(path, "otherwise"), depth + 1)
            parts.append(Part(node, {}, {}))
        return wiring.branch(spec, path, tuple(parts))


def _open(spec: Specification | None, path: str, reference: str) -> Node:
    return Node(
        spec=spec,
        path=path,
        needs={},
        required=frozenset(),
        gives={},
        open=True,
        reference=reference,
    )


def _compiled(spec: Any, path: str) -> Compiled:
    try:
        return compile_signature(spec.signature, spec.instructions)
    except InvalidSignature as failure:
        raise _at(failure, below(path, "signature")) from None


def _refuse_own(module: str, compiled: Compiled, path: str) -> None:
    own = {*EXTRA.get(module, ()), *_OWN.get(module, ())}
    for slot in (*compiled.inputs, *compiled.outputs):
        if slot.field.name in own or slot.field.name.startswith("reasoning_attempt_"):
            raise InvalidSignature(
                f"{below(path, 'signature')} has a field {slot.field.name!r}, and "
                f"{module} has "
                "one of that name of its own.",
                field=below(path, "signature"),
                hint="Rename the field, or use another module.",
            )


def _at(failure: Failure, path: str) -> Failure:
    """The same fault, with the path of the part it is in."""
    inner = failure.field
    return type(failure)(
        f"{path}: {failure.message}",
        hint=failure.hint,
        field=f"{path}.{inner}" if inner else path,
    )


_BUILDERS: dict[type, Callable[[_Planner, Any, str, int], Node]] = {
    specs.BestOfNSpec: _Planner.chosen,
    specs.RefineSpec: _Planner.chosen,
    specs.MajoritySpec: _Planner.majority,
    specs.KnnSpec: _Planner.knn,
    specs.KnnFewShotSpec: _Planner.few_shot,
    specs.EnsembleSpec: _Planner.ensemble,
    specs.PythonSpec: _Planner.python,
    specs.ChainSpec: _Planner.chain,
    specs.ParallelSpec: _Planner.parallel,
    specs.MapSpec: _Planner.map,
    specs.BranchSpec: _Planner.branch,
}
