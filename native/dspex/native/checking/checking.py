"""Values against a signature: every fault, with its place and what is allowed there.

Values are JSON values and stay so: sets and tuples are arrays, dates and UUIDs are
strings, bytes are ``{"$t": "bytes", "data": <base64>}``. They are given back as
they came, except that defaults are filled in and, in the ``lax`` mode, converted
(``"3"`` to ``3``, ``"yes"`` to ``true``, never a number to a string).

A path starts with the side: ``inputs.people[2].age``. A key that is not a name is
quoted: ``inputs.counts["two words"]``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, Struct

from dspex.contracts.failures import InvalidSignature
from dspex.contracts.signatures import Fault
from dspex.native.checking.accepting import acceptor
from dspex.native.checking.faults import Enough, Run, suspects
from dspex.native.checking.reading import read_value
from dspex.native.types.batches import DEPTH_LIMIT, deepest
from dspex.native.types.constraints import broken
from dspex.native.types.scalars import NO
from dspex.native.types.showing import expected, under
from dspex.native.types.tree import ANY, TypeExpr, accepts_none
from dspex.native.work import CHECK_LIMIT, TooMuch, Work

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dspex.contracts.signatures import Constraints, Field
    from dspex.native.checking.accepting import Acceptor
    from dspex.native.signatures.compiling import Compiled

Side = Literal["inputs", "outputs"]
Mode = Literal["strict", "lax"]


class Checked(Struct, frozen=True, kw_only=True):
    """What a check found.

    Attributes:
        valid: Whether there is no fault.
        values: The values that are right, defaults included, in the order of the
            fields; complete only if ``valid``.
        errors: The faults, in the order of the fields, unknown fields last.
            Where checking stopped early the last one has no path and says so.
    """

    valid: bool
    values: dict[str, Any]
    errors: list[Fault]


def check(
    compiled: Compiled, values: Mapping[str, Any], side: Side, mode: Mode = "strict"
) -> Checked:
    """Check the values of one side of a signature.

    Args:
        compiled: The signature.
        values: A JSON value for each field.
        side: ``inputs`` or ``outputs``.
        mode: ``strict`` takes values as they are; ``lax`` converts like pydantic.
    """
    slots = compiled.inputs if side == "inputs" else compiled.outputs
    run = Run(lax=mode == "lax")
    found: dict[str, Any] = {}
    try:
        for field, expr in slots:
            if field.name not in values:
                value = _left_out(run, field, expr, side)
            else:
                node, path = compiled.acceptors[field.name], f"{side}.{field.name}"
                value = _checked(run, node, values[field.name], field.constraints, path)
            if value is not NO:
                found[field.name] = value
        _report_unknown(run, [slot.field.name for slot in slots], values, side)
    except Enough:
        run.faults.append(_STOPPED)
    return Checked(valid=not run.faults, values=found, errors=run.faults)


def check_demos(
    compiled: Compiled,
    demos: Sequence[Mapping[str, Any]],
    extra: Collection[str] = (),
) -> list[Fault]:
    """Check worked examples: any of the inputs and outputs, none of them required.

    Args:
        compiled: The signature.
        demos: For each example a JSON value for some of the fields.
        extra: Names that are no fields and may have any value, such as
            ``reasoning``.

    Returns:
        The faults, with paths such as ``demos[0].question``; as those of a check
        they have an end.
    """
    slots = (*compiled.inputs, *compiled.outputs)
    limits = {field.name: field.constraints for field, _ in slots}
    nodes = dict.fromkeys(extra, acceptor(ANY)) | compiled.acceptors
    limited = {name for name, limit in limits.items() if limit is not None}
    run = Run()

    def fine(some: Sequence[Mapping[str, Any]]) -> bool:
        return all(
            demo.keys() <= nodes.keys() and limited.isdisjoint(demo) for demo in some
        ) and all(
            node.accepts([demo[name] for demo in some if name in demo], run.work)
            for name, node in nodes.items()
        )

    try:
        for i in suspects(demos, fine):
            for name in sorted(demos[i].keys() & nodes.keys()):
                path = f"demos[{i}].{name}"
                _checked(run, nodes[name], demos[i][name], limits.get(name), path)
            _report_unknown(run, [*nodes], demos[i], f"demos[{i}]")
    except Enough:
        run.faults.append(_STOPPED)
    except TooMuch:
        _report_size(run, list(demos), "demos", len(run.faults))
        run.faults.append(_STOPPED)
    return run.faults


def checked_default(
    name: str, expr: TypeExpr, default: Any, limits: Constraints | None
) -> Any:
    """Return a default in its JSON form; none given stays ``UNSET``.

    Raises:
        InvalidSignature: The field itself would not take it; the message says why.
    """
    if default is UNSET:
        return UNSET
    run = Run(limit=1)
    try:
        value = _checked(run, acceptor(expr), default, limits, "default")
    except Enough:
        value = NO
    if run.faults:
        raise InvalidSignature(
            f"Field {name!r}: {run.faults[0].message}",
            hint="Give a default of the field's type, or leave it out.",
            field=name,
        )
    return value


def fits(expr: TypeExpr, value: Any) -> bool:
    """Say whether a JSON value is of a type, strictly, just as it is."""
    return acceptor(expr).accepts([value], Work(sys.maxsize))


_SIDES = {"inputs": "the inputs", "outputs": "the outputs"}
_STOPPED = Fault(
    path="",
    found="more faults",
    expected="",
    message="Checking stopped here; there may be more faults.",
)


def _left_out(run: Run, field: Field, expr: TypeExpr, side: Side) -> Any:
    if field.default is not UNSET:
        # A copy: the signature is shared.
        return msgspec.to_builtins(field.default)
    if accepts_none(expr):
        return None
    run.fault(f"{side}.{field.name}", NO, expected(expr))
    return NO


def _checked(
    run: Run, node: Acceptor, value: Any, limits: Constraints | None, path: str
) -> Any:
    before = len(run.faults)
    try:
        found = _read(run, node, value, path)
    except TooMuch:
        _report_size(run, value, path, before)
        raise Enough from None
    if len(run.faults) == before and limits is not None:
        for wanted in broken(found, limits, run.matching):
            run.fault(path, found, wanted)
    return found if len(run.faults) == before else NO


def _read(run: Run, node: Acceptor, value: Any, path: str) -> Any:
    if node.accepts([value], run.work):
        return value
    way = deepest(value) if node.is_open else None
    if way is None:
        return read_value(run, node, value, path)
    for step in way[:_STEPS_SHOWN]:
        path = under(path, step) if isinstance(step, str) else f"{path}[{step}]"
        value = value[step]
    run.fault(
        path,
        value,
        f"at most {DEPTH_LIMIT} arrays and objects nested in one another",
        lambda: "Flatten the value, or send its inner part as a string of JSON.",
    )
    return NO


_STEPS_SHOWN = 8


def _report_size(run: Run, value: Any, path: str, before: int) -> None:
    if len(run.faults) == before:
        run.fault(
            path,
            value,
            f"a value whose check takes at most {CHECK_LIMIT} steps",
            lambda: "Send fewer parts, or give the field a simpler type.",
        )


def _report_unknown(
    run: Run, names: list[str], values: Mapping[str, Any], side: str
) -> None:
    known = set(names)
    for name in values:
        if name not in known:
            text = str(name)
            run.fault(
                under(side, text),
                values[name],
                f"no field of that name among {_SIDES.get(side, 'the fields')}",
                lambda text=text: run.near(text, names),  # type: ignore[misc]
            )
