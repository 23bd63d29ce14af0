"""How the parts of a composition meet: by the names of values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from dspex.contracts.failures import BadRequest, nearest
from dspex.native.programs.nodes import Node, Part, below
from dspex.native.types.tree import accepts_none

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from dspex.contracts import program_specs as specs
    from dspex.contracts.program_functions import Reward
    from dspex.native.programs.nodes import Face
    from dspex.native.signatures.compiling import Compiled


def required(compiled: Compiled) -> frozenset[str]:
    """The inputs that a signature cannot do without."""
    return frozenset(
        field.name
        for field, expr in compiled.inputs
        if field.default is UNSET and not accepts_none(expr)
    )


def part(node: Node, step: specs.Step, path: str) -> Part:
    """A step's program, with its wires checked.

    Raises:
        BadRequest: A wire leads from or to a name that the program does not have.
    """
    if not node.open:
        _refuse_unknown(step.inputs, node.needs, below(path, "inputs"), "input")
        _refuse_unknown(step.outputs, node.gives, below(path, "outputs"), "output")
    _refuse_twice(step.outputs, path)
    return Part(node, step.inputs, step.outputs)


def chain(spec: specs.ChainSpec, path: str, parts: tuple[Part, ...]) -> Node:
    """Programs one after another.

    Raises:
        BadRequest: An output that is asked for is given by none.
    """
    needs: Face = {}
    must: set[str] = set()
    known: Face = {}
    is_open = False
    for one in parts:
        for name, slot in one.node.needs.items():
            source = one.inputs.get(name, name)
            if source in known:
                continue
            needs.setdefault(source, slot)
            if name in one.node.required or name in one.inputs:
                # What an unknown program gives may be what this one takes.
                must |= set() if is_open else {source}
        known |= one.gives
        is_open = is_open or one.node.open
    gives = parts[-1].gives
    if spec.outputs is not None:
        everything = needs | known
        if not is_open:
            _refuse_unknown(spec.outputs, everything, below(path, "outputs"), "value")
        gives = {name: everything.get(name) for name in spec.outputs}
    return _composed(spec, path, parts, (needs, must, gives))


def parallel(spec: specs.ParallelSpec, path: str, parts: tuple[Part, ...]) -> Node:
    """Programs side by side.

    Raises:
        BadRequest: Two of them give an output of the same name.
    """
    needs, must = _together(parts)
    gives: Face = {}
    for index, one in enumerate(parts):
        twice = gives.keys() & one.gives.keys()
        if twice:
            where = below(path, f"steps[{index}]")
            raise BadRequest(
                f"{where} gives an output {min(twice)!r}, and so does one before it.",
                field=where,
                hint='Rename it: "outputs": {"answer": "second_answer"}.',
            )
        gives |= one.gives
    return _composed(spec, path, parts, (needs, must, gives))


def mapped(spec: specs.MapSpec, path: str, one: Part) -> Node:
    """One program for each element of a list.

    Raises:
        BadRequest: It has no input for the element.
    """
    node = one.node
    if not node.open:
        _refuse_unknown([spec.into], node.needs, below(path, "into"), "input")
    others = {name: slot for name, slot in node.needs.items() if name != spec.into}
    needs: Face = {spec.over: None, **others}
    must = (node.required - {spec.into}) | {spec.over}
    return _composed(spec, path, (one,), (needs, must, dict.fromkeys(node.gives)))


def branch(spec: specs.BranchSpec, path: str, parts: tuple[Part, ...]) -> Node:
    """One of several programs.

    Raises:
        BadRequest: They have no output in common.
    """
    needs, _ = _together(parts)
    must = {spec.on}.union(
        frozenset.intersection(*(one.node.required for one in parts))
    )
    gives = _common(parts, f"{path}.cases")
    return _composed(spec, path, parts, ({spec.on: None, **needs}, must, gives))


def ensemble(spec: specs.EnsembleSpec, path: str, parts: tuple[Part, ...]) -> Node:
    """Several programs on the same inputs.

    Raises:
        BadRequest: They have no output in common to compare, or are too few.
    """
    if spec.size is not None and spec.size > len(parts):
        raise BadRequest(
            f"{below(path, 'size')} is {spec.size}, and there are {len(parts)} "
            "programs.",
            field=below(path, "size"),
        )
    needs, must = _together(parts)
    if spec.reduce is None:
        return _composed(spec, path, parts, (needs, must, {"completions": None}))
    gives = _common(parts, below(path, "programs"))
    known = [one.node for one in parts if not one.node.open]
    compared = spec.field or (list(known[0].gives)[-1] if known else "")
    for node in known:
        _refuse_unknown([compared], node.gives, below(path, "field"), "output")
    return _composed(spec, path, parts, (needs, must, gives))


def refuse_unlike(
    inputs: Iterable[str], trainset: Iterable[Mapping[str, Any]], path: str
) -> None:
    """Refuse examples that cannot be compared with inputs.

    Raises:
        BadRequest: One lacks what is compared.
    """
    wanted = sorted(inputs)
    for index, example in enumerate(trainset):
        lacking = [name for name in wanted if name not in example]
        if lacking:
            where = below(path, f"trainset[{index}].{lacking[0]}")
            raise BadRequest(
                f"{where} is missing: examples are compared by it.", field=where
            )


def like(spec: Any, path: str, one: Part) -> Node:
    """What takes and gives what its program does."""
    node = one.node
    return _composed(spec, path, (one,), (node.needs, node.required, node.gives))


def compared(node: Node, one: Part | None) -> Node:
    """A comparison of attempts: those of a program, or an input."""
    if one is None:
        needs: Face = {"completions": None, **node.needs}
        must = node.required | {"completions"}
        parts: tuple[Part, ...] = ()
    else:
        needs = one.node.needs | node.needs
        must, parts = node.required | one.node.required, (one,)
    return Node(
        spec=node.spec,
        path=node.path,
        needs=needs,
        required=must,
        gives=node.gives,
        compiled=node.compiled,
        parts=parts,
        states=node.states,
    )


def check_reward(reward: Reward, node: Node, path: str) -> None:
    """Refuse a reward that looks at what is not there.

    Raises:
        BadRequest: It scores no output, or compares with no input.
    """
    if node.open:
        return
    for name, known in (("field", node.gives), ("input", node.needs)):
        said = getattr(reward, name)
        if said is not None:
            _refuse_unknown([said], known, f"{path}.reward.{name}", f"{name}'s value")


def _common(parts: tuple[Part, ...], path: str) -> Face:
    """The outputs that all programs give, as far as it is known what they give.

    Raises:
        BadRequest: There is none.
    """
    known = [one.node for one in parts if not one.node.open]
    if not known:
        return {}
    first = known[0].gives
    common = [name for name in first if all(name in node.gives for node in known)]
    if not common:
        raise BadRequest(
            f"{path}: they have no output in common.",
            field=path,
            hint="Let each give an output of the same name, and compose it after.",
        )
    return {name: first[name] for name in common}


def _together(parts: Iterable[Part]) -> tuple[Face, set[str]]:
    needs: Face = {}
    must: set[str] = set()
    for one in parts:
        for name, slot in one.node.needs.items():
            source = one.inputs.get(name, name)
            needs.setdefault(source, slot)
            if name in one.node.required or name in one.inputs:
                must.add(source)
    return needs, must


def _composed(
    spec: Any,
    path: str,
    parts: tuple[Part, ...],
    face: tuple[Face, Collection[str], Face],
) -> Node:
    needs, must, gives = face
    return Node(
        spec=spec,
        path=path,
        needs=needs,
        required=frozenset(must),
        gives=gives,
        parts=parts,
        open=any(one.node.open for one in parts),
    )


def _refuse_unknown(
    names: Iterable[str], known: Collection[str], path: str, what: str
) -> None:
    for name in names:
        if name not in known:
            raise BadRequest(
                f"{path}: {name[:80]!r} is no {what} there. "
                + nearest(name[:80], list(known)),
                field=path,
            )


def _refuse_twice(outputs: Mapping[str, str], path: str) -> None:
    if len(set(outputs.values())) < len(outputs):
        raise BadRequest(
            f"{path}.outputs gives two outputs the same name.", field=f"{path}.outputs"
        )
