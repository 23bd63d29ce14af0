"""Values against a signature: every fault, with its place and what is allowed there.

Values are JSON values and stay so: sets and tuples are arrays, dates and UUIDs are
strings, bytes are ``{"$t": "bytes", "data": <base64>}``. They are given back as
they came, except that defaults are filled in and, in the ``lax`` mode, converted
(``"3"`` to ``3``, ``"yes"`` to ``true``, never a number to a string).

A path starts with the side: ``inputs.people[2].age``. A key that is not a name is
quoted: ``inputs.counts["two words"]``.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, Struct

from dspex.contracts.failures import InvalidSignature, nearest
from dspex.contracts.signatures import Fault
from dspex.native.constraints import broken
from dspex.native.scalars import EXPECTED, NO, is_key, read
from dspex.native.tokens import shortened
from dspex.native.types import (
    ANY,
    NONE,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    TypeExpr,
    UnionType,
    accepts_none,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.contracts.signatures import Constraints, Field
    from dspex.native.compiling import Compiled

Side = Literal["inputs", "outputs"]
Mode = Literal["strict", "lax"]

FAULT_LIMIT = 200
"""The most faults listed; the last one then says how many more there are."""
_SUGGESTIONS = 20


class Checked(Struct, frozen=True, kw_only=True):
    """What a check found.

    Attributes:
        valid: Whether there is no fault.
        values: The values that are right, defaults included, in the order of the
            fields; complete only if ``valid``.
        errors: The faults, in the order of the fields, unknown fields last.
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
    run = _Run(lax=mode == "lax")
    found: dict[str, Any] = {}
    for field, expr in slots:
        value = _field_value(run, field, expr, values, side)
        if value is not NO:
            found[field.name] = value
    _report_unknown(run, compiled, values, side)
    return Checked(valid=not run.faults, values=found, errors=run.listed())


def checked_default(
    name: str, expr: TypeExpr, default: Any, limits: Constraints | None
) -> Any:
    """Return a default in its JSON form; none given stays ``UNSET``.

    Raises:
        InvalidSignature: The field itself would not take it; the message says why.
    """
    if default is UNSET:
        return UNSET
    run = _Run(lax=False)
    value = _checked(run, expr, default, limits, "default")
    if run.faults:
        raise InvalidSignature(
            f"Field {name!r}: {run.faults[0].message}",
            hint="Give a default of the field's type, or leave it out.",
            field=name,
        )
    return value


def fits(expr: TypeExpr, value: Any) -> bool:
    """Say whether a JSON value is of a type, strictly."""
    run = _Run(lax=False)
    _read(run, expr, value, "")
    return not run.faults


class _Run:
    """The faults of one check, or of one alternative of a union."""

    def __init__(self, *, lax: bool) -> None:
        self.lax = lax
        self.faults: list[Fault] = []
        self.unlisted = 0

    def fault(self, path: str, found: Any, expected: str, more: str = "") -> None:
        """Note a fault; beyond the limit it is only counted."""
        if len(self.faults) >= FAULT_LIMIT:
            self.unlisted += 1
            return
        shown = "nothing" if found is NO else _shown(found)
        is_there = "is missing" if found is NO else f"is {shown}"
        message = f"{path} {is_there}; allowed: {expected}.{more and ' ' + more}"
        self.faults.append(
            Fault(path=path, found=shown, expected=expected, message=message)
        )

    def listed(self) -> list[Fault]:
        """Return the faults and, if some were only counted, how many."""
        if not self.unlisted:
            return self.faults
        rest = f"{self.unlisted} more faults"
        last = Fault(path="", found=rest, expected="", message=f"There are {rest}.")
        return [*self.faults, last]


def _field_value(
    run: _Run, field: Field, expr: TypeExpr, values: Mapping[str, Any], side: Side
) -> Any:
    if field.name in values:
        path = f"{side}.{field.name}"
        return _checked(run, expr, values[field.name], field.constraints, path)
    if field.default is not UNSET:
        return copy.deepcopy(field.default)
    if accepts_none(expr):
        return None
    run.fault(f"{side}.{field.name}", NO, _expected(expr))
    return NO


def _checked(
    run: _Run, expr: TypeExpr, value: Any, limits: Constraints | None, path: str
) -> Any:
    before = len(run.faults) + run.unlisted
    found = _read(run, expr, value, path)
    if len(run.faults) + run.unlisted == before:
        for expected in broken(found, limits):
            run.fault(path, found, expected)
    return found if len(run.faults) + run.unlisted == before else NO


def _report_unknown(
    run: _Run, compiled: Compiled, values: Mapping[str, Any], side: Side
) -> None:
    slots = compiled.inputs if side == "inputs" else compiled.outputs
    names = [field.name for field, _ in slots]
    known = set(names)
    for count, name in enumerate(key for key in values if key not in known):
        shown = shortened(str(name))
        more = nearest(shown, names) if count < _SUGGESTIONS else ""
        expected = f"no field of that name among the {side}"
        run.fault(_under(side, str(name)), values[name], expected, more)


def _read(run: _Run, expr: TypeExpr, value: Any, path: str) -> Any:
    return _READERS[type(expr)](run, expr, value, path)


def _scalar(run: _Run, expr: Scalar, value: Any, path: str) -> Any:
    found = read(expr.name, value, lax=run.lax)
    if found is NO:
        lenient = NO if run.lax else read(expr.name, value, lax=True)
        hint = "" if lenient is NO else f"The lax mode reads it as {_shown(lenient)}."
        run.fault(path, value, EXPECTED[expr.name], hint)
    return found


def _collection(run: _Run, expr: Collection, value: Any, path: str) -> Any:
    if not isinstance(value, list):
        run.fault(path, value, _expected(expr))
        return NO
    item = expr.item or ANY
    found = [_read(run, item, v, f"{path}[{i}]") for i, v in enumerate(value)]
    if expr.kind == "list":
        return found
    for i, element in enumerate(found if item == ANY else ()):
        # Read as it is, an array becomes a list, which no set can hold.
        if isinstance(element, list):
            run.fault(f"{path}[{i}]", element, "a value without parts, in a set")
    return _unique(run, found, path)


def _unique(run: _Run, values: list[Any], path: str) -> list[Any]:
    seen: dict[Any, int] = {}
    found: list[Any] = []
    for i, value in enumerate(values):
        if value is NO:
            continue
        key = _key(value)
        if key is NO:
            run.fault(f"{path}[{i}]", value, "a value without parts, in a set")
        elif key not in seen:
            seen[key] = i
            found.append(value)
        elif not run.lax:
            first = f"{path}[{seen[key]}]"
            run.fault(f"{path}[{i}]", value, f"an element unlike {first}, in a set")
    return found


def _key(value: Any) -> Any:
    # What makes two elements the same: 1 and 1.0 are, 1 and true are not.
    if isinstance(value, list):
        parts = tuple(_key(part) for part in value)
        return NO if NO in parts else parts
    if isinstance(value, dict):
        return ("bytes", value["data"]) if value.get("$t") == "bytes" else NO
    return (isinstance(value, bool), value)


def _tuple(run: _Run, expr: TupleType, value: Any, path: str) -> Any:
    items = expr.items
    if not isinstance(value, list):
        run.fault(path, value, _expected(expr))
        return NO
    if items is None:
        return value
    if expr.variadic:
        items = items * len(value)
    elif len(items) != len(value):
        run.fault(path, value, _expected(expr))
        return NO
    pairs = zip(items, value, strict=True)
    return [_read(run, item, v, f"{path}[{i}]") for i, (item, v) in enumerate(pairs)]


def _dict(run: _Run, expr: DictType, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        run.fault(path, value, _expected(expr))
        return NO
    found: dict[Any, Any] = {}
    for key, inner in value.items():
        where = _under(path, str(key))
        if not isinstance(key, str) or not _key_fits(expr.key, key):
            wanted = expr.key.describe() if expr.key else "str"
            run.fault(where, key, f"a key that spells {wanted}")
        found[key] = _read(run, expr.value or ANY, inner, where)
    return found


def _key_fits(expr: TypeExpr | None, key: str) -> bool:
    if isinstance(expr, LiteralType):
        return key in map(str, expr.values)
    return not isinstance(expr, Scalar) or is_key(expr.name, key)


def _literal(run: _Run, expr: LiteralType, value: Any, path: str) -> Any:
    if any(type(v) is type(value) and v == value for v in expr.values):
        return value
    names = [v for v in expr.values if isinstance(v, str)]
    guess = ""
    if isinstance(value, str):
        guess = nearest(shortened(value), names[:100]).partition(" Allowed:")[0]
    more = guess if guess.startswith("Did") else ""
    run.fault(path, value, _expected(expr), more)
    return NO


def _union(run: _Run, expr: UnionType, value: Any, path: str) -> Any:
    attempts: list[tuple[TypeExpr, _Run]] = []
    for lax in (False, True) if run.lax else (False,):
        attempts.clear()
        for member in expr.members:
            attempt = _Run(lax=lax)
            found = _read(attempt, member, value, path)
            if not attempt.faults:
                return found
            attempts.append((member, attempt))
    told = _telling(attempts, value)
    if told is None:
        run.fault(path, value, _expected(expr))
    else:
        room = FAULT_LIMIT - len(run.faults)
        run.faults.extend(told.faults[:room])
        run.unlisted += told.unlisted + len(told.faults[room:])
    return NO


def _telling(attempts: list[tuple[TypeExpr, _Run]], value: Any) -> _Run | None:
    # The faults inside the one alternative that was meant say more than "neither".
    kinds: tuple[type, ...] = ()
    if isinstance(value, list):
        kinds = (Collection, TupleType)
    elif isinstance(value, dict):
        kinds = (DictType,)
    meant = [run for member, run in attempts if isinstance(member, kinds)]
    others = [run for member, run in attempts if member != NONE]
    if len(meant) == 1:
        return meant[0]
    return others[0] if len(others) == 1 else None


def _expected(expr: TypeExpr) -> str:
    if isinstance(expr, Scalar):
        return EXPECTED[expr.name]
    if isinstance(expr, LiteralType):
        return f"one of {shortened(expr.describe()[8:-1], 400)}"
    noun = _NOUNS.get(type(expr))
    name = shortened(expr.describe(), 200)
    if isinstance(expr, TupleType) and expr.items is not None and not expr.variadic:
        noun = f"an array of {len(expr.items)}"
    return f"{name} ({noun})" if noun else name


_NOUNS: dict[type, str] = {
    Collection: "an array",
    TupleType: "an array",
    DictType: "an object",
}


def _under(path: str, key: str) -> str:
    key = shortened(key)
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key)}]"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"{json.dumps(shortened(value), ensure_ascii=False)} (string)"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        keys = ", ".join(shortened(str(key), 20) for key in list(value)[:5])
        return f"an object with {shortened(keys)}" if keys else "an empty object"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{str(value).lower()} (boolean)"
    if isinstance(value, (int, float)):
        return f"{_digits(value)} (number)"
    return f"a {type(value).__name__}"


def _digits(value: float) -> str:
    # Python refuses to write integers of thousands of digits.
    return shortened(str(value)) if abs(value) < 10**100 else f"{value:.3e}"


_READERS: dict[type, Callable[[_Run, Any, Any, str], Any]] = {
    Scalar: _scalar,
    Collection: _collection,
    TupleType: _tuple,
    DictType: _dict,
    LiteralType: _literal,
    UnionType: _union,
}
