"""Places, values and types as the messages of faults write them."""

from __future__ import annotations

import json
from typing import Any

from dspex.native.types.kinds import QUALIFIED, DspyType, Reference, SchemaType
from dspex.native.types.parts import Limited, ObjectType, Text
from dspex.native.types.scalars import EXPECTED
from dspex.native.types.tokens import shortened
from dspex.native.types.tree import (
    Collection,
    DictType,
    Scalar,
    TupleType,
    TypeExpr,
    literal,
)
from dspex.native.types.wire import TAG


def expected(expr: TypeExpr) -> str:
    """Say what a type allows."""
    if isinstance(expr, Scalar):
        return EXPECTED[expr.name]
    if expr.choices:
        return f"one of {shortened(literal(expr.choices).describe()[8:-1], 400)}"
    if isinstance(expr, Limited):
        return expected(expr.type)
    if isinstance(expr, (ObjectType, Text)):
        return shortened(expr.describe(), 200)
    if isinstance(expr, DspyType):
        keys = "".join(f', "{one.name}": …' for one in expr.tagged.properties[1:3])
        first = expr.tagged.properties[0]
        tag = f'"{expr.name}"' if first.name == TAG else "…"
        text = "a string or " * (expr.wire != expr.tagged and expr.name != "File")
        return (
            f'{QUALIFIED[expr.name]} ({text}an object {{"{first.name}": {tag}{keys}}})'
        )
    noun = _NOUNS.get(type(expr))
    name = shortened(expr.describe(), 200)
    if isinstance(expr, TupleType) and expr.items is not None and not expr.variadic:
        noun = f"an array of {len(expr.items)}"
    return f"{name} ({noun})" if noun else name


_NOUNS: dict[type, str] = {
    Collection: "an array",
    TupleType: "an array",
    DictType: "an object",
    SchemaType: "an object",
    Reference: "an object",
}


def under(path: str, key: str) -> str:
    """Write the path of what a key leads to."""
    key = shortened(key)
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key)}]"


def shown(value: Any) -> str:
    """Show a value in short, with its kind."""
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
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"an integer of {value.bit_length()} bits"
    # Python refuses to write integers of thousands of digits.
    return shortened(str(value)) if abs(value) < 10**100 else f"{value:.3e}"
