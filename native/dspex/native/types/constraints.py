"""Constraints of a field: whether they fit its type, and whether a value fits them."""

from __future__ import annotations

import math
import operator
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import InvalidSignature
from dspex.native.types.matching import TooLong
from dspex.native.types.patterns import PatternError, pattern
from dspex.native.types.scalars import tagged_bytes
from dspex.native.types.tree import (
    NONE,
    Collection,
    DictType,
    Scalar,
    TupleType,
    TypeExpr,
    UnionType,
    completed,
)
from dspex.native.work import MATCH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspex.contracts.signatures import Constraints
    from dspex.native.work import Work

BOUNDS = {
    "ge": "at least",
    "le": "at most",
    "gt": "greater than",
    "lt": "less than",
}
"""The limits of a number, in words."""

_NUMBER = (*BOUNDS, "multiple_of")
_LENGTH = ("min_length", "max_length")
_FAMILIES = {
    "number": (*_NUMBER,),
    "text": (*_LENGTH, "pattern"),
    "bytes": _LENGTH,
    "array": _LENGTH,
    "object": _LENGTH,
}
_SCALAR_FAMILIES = {
    "int": "number",
    "float": "number",
    "Decimal": "number",
    "str": "text",
    "bytes": "bytes",
}
_KEYWORDS = {
    "ge": "minimum",
    "le": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}
_LENGTH_KEYWORDS = {"text": "Length", "array": "Items", "object": "Properties"}
_COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "ge": operator.ge,
    "le": operator.le,
    "gt": operator.gt,
    "lt": operator.lt,
}


def given(constraints: Constraints | None) -> dict[str, Any]:
    """Return the constraints that are set, in the order of their declaration."""
    if constraints is None:
        return {}
    values = ((n, getattr(constraints, n)) for n in constraints.__struct_fields__)
    return {name: value for name, value in values if value is not None}


def verify(field: str, expr: TypeExpr, constraints: Constraints | None) -> None:
    """Refuse constraints that the type cannot have or that contradict themselves.

    Raises:
        InvalidSignature: They do; the message names the constraint.
    """
    for name, value in given(constraints).items():
        _verify_type(field, name, expr)
        _verify_whole(field, name, value, expr)
    verify_values(f"Field {field!r}", field, constraints)


def verify_values(what: str, field: str, constraints: Constraints | None) -> None:
    """Refuse constraints that no value satisfies, or that mean nothing.

    Args:
        what: What they belong to, for the message.
        field: The same, for the field of the failure.
        constraints: The constraints.

    Raises:
        InvalidSignature: The message names the constraint.
    """
    values = given(constraints)
    for name, value in values.items():
        _verify_value(what, field, name, value)
    _verify_order(what, field, values)


def pattern_size(constraints: Constraints | None) -> int:
    """Return how many steps the pattern of sound constraints comes to."""
    text = constraints.pattern if constraints else None
    return 0 if text is None else pattern(text).size


def constrained_schema(
    expr: TypeExpr, constraints: Constraints | None
) -> dict[str, Any]:
    """Describe the values of a type under constraints as JSON Schema."""
    return completed(expr, constrained_shape(expr, constraints))


def constrained_shape(
    expr: TypeExpr, constraints: Constraints | None
) -> dict[str, Any]:
    """Describe them too, but only refer to types of the client's."""
    schema = expr.shape()
    values = given(constraints)
    if not values:
        return schema
    if isinstance(expr, UnionType):
        members = (
            constrained_shape(m, None if m == NONE else constraints)
            for m in expr.members
        )
        return {"anyOf": list(members)}
    for name, value in values.items():
        keyword = _keyword(name, _family(expr))
        if keyword:
            schema[keyword] = value
    return schema


def broken(
    value: Any, constraints: Constraints | None, matching: Work | None = None
) -> Iterator[str]:
    """Yield what a value of the right type should be and is not.

    Args:
        value: The value in its JSON form; ``None`` satisfies every constraint.
        constraints: What it must satisfy.
        matching: What may be done to match patterns; by default what one check may.
    """
    if value is None or constraints is None:
        return
    for name, limit in given(constraints).items():
        if name in _LENGTH:
            yield from _broken_length(name, _length(value), limit)
        elif name == "pattern":
            yield from _broken_pattern(value, limit, matching)
        elif not _number_fits(name, value, limit):
            words = BOUNDS.get(name, "a multiple of")
            yield f"{words} {limit}"


def _family(expr: TypeExpr) -> str | None:
    if isinstance(expr, Scalar):
        return _SCALAR_FAMILIES.get(expr.name)
    if isinstance(expr, Collection):
        return "array"
    if isinstance(expr, TupleType):
        return "array" if expr.variadic or expr.items is None else None
    return "object" if isinstance(expr, DictType) else None


def _verify_type(field: str, name: str, expr: TypeExpr) -> None:
    members = expr.parts if isinstance(expr, UnionType) else (expr,)
    for member in members:
        if member == NONE and len(members) > 1:
            continue
        allowed = _FAMILIES.get(_family(member) or "", ())
        if name not in allowed:
            fits = ", ".join(allowed) or "none"
            raise InvalidSignature(
                f"Field {field!r}: {name} does not apply to {member.describe()}.",
                hint=f"Constraints that {member.describe()} can have: {fits}.",
                field=field,
            )


def _verify_whole(field: str, name: str, value: Any, expr: TypeExpr) -> None:
    # Pydantic, which DSPy builds its fields with, takes no other bound for int.
    members = expr.parts if isinstance(expr, UnionType) else (expr,)
    if {member for member in members if member != NONE} != {Scalar("int")}:
        return
    if isinstance(value, float) and not value.is_integer():
        raise InvalidSignature(
            f"Field {field!r}: {name} is {value}, and an int is a whole number.",
            hint="Give a whole number as the bound, or make the field a float.",
            field=field,
        )


def _verify_value(what: str, field: str, name: str, value: Any) -> None:
    problem = ""
    if name == "pattern":
        problem = _pattern_problem(value)
    elif name in _LENGTH:
        problem = "must not be negative" if value < 0 else ""
    elif not math.isfinite(value):
        problem = "must be a finite number"
    elif name == "multiple_of" and value <= 0:
        problem = "must be greater than 0"
    if problem:
        raise InvalidSignature(
            f"{what}: {name} {problem}.",
            hint="Correct the constraint or leave it out.",
            field=field,
        )


def _verify_order(what: str, field: str, values: dict[str, Any]) -> None:
    pairs = [("min_length", "max_length")]
    pairs += [(low, high) for low in ("ge", "gt") for high in ("le", "lt")]
    for low, high in pairs:
        if low not in values or high not in values:
            continue
        strict = low == "gt" or high == "lt"
        if values[low] > values[high] or (strict and values[low] == values[high]):
            raise InvalidSignature(
                f"{what}: no value satisfies both {low}={values[low]} "
                f"and {high}={values[high]}.",
                hint="Widen one of the two.",
                field=field,
            )


def _pattern_problem(text: str) -> str:
    try:
        pattern(text)
    except PatternError as error:
        return f"{text[:60]!r} cannot be used: {error}"
    return ""


def _keyword(name: str, family: str | None) -> str | None:
    if name in _LENGTH:
        noun = _LENGTH_KEYWORDS.get(family or "")
        return noun and name.removesuffix("_length") + noun
    return _KEYWORDS[name]


def _broken_length(name: str, length: int, limit: int) -> Iterator[str]:
    if name == "min_length" and length < limit:
        yield f"at least {limit} long, not {length}"
    if name == "max_length" and length > limit:
        yield f"at most {limit} long, not {length}"


def _broken_pattern(value: str, text: str, matching: Work | None) -> Iterator[str]:
    try:
        found = pattern(text).search(value, matching)
    except TooLong as error:
        yield (
            f"short enough to be matched against {text!r} within {MATCH_LIMIT} steps "
            f"for all patterns of a request together, not {error}"
        )
    else:
        if not found:
            yield f"a string that matches {text!r}"


def _length(value: Any) -> int:
    raw = tagged_bytes(value)
    return len(value) if raw is None else len(raw)


def _number_fits(name: str, sent: Any, bound: float) -> bool:
    value, limit = _exact(sent), _exact(bound)
    if name == "multiple_of":
        return value % limit == 0
    return _COMPARE[name](value, limit)


def _exact(number: Any) -> Fraction:
    # By its decimal digits: 0.3 is a multiple of 0.1, though not in binary. A text is
    # read as a Decimal, which takes more than a Fraction does, such as ``1__0``.
    return Fraction(number if isinstance(number, int) else Decimal(str(number)))
