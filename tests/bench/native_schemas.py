"""Checking values against JSON Schemas, here and as DSPy does it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jsonschema
from tests.bench.measure import middle
from tests.bench.results import Bar, Findings, Result

from dspex.contracts.native_requests import ValidateSchema
from dspex.native.schemas.validating import validate_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.rig import Rig

ROUNDS = 9
CALLS = 10
OURS_PER_CALL = 20
"""Calls of ours for each of theirs: one alone is too short to time."""

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "minimum": 0},
        "email": {"type": "string", "format": "email"},
    },
    "required": ["name"],
}
ANN = {"name": "Ann", "age": 3, "email": "ann@example.org"}

_TEXT = {"type": "string", "minLength": 1, "maxLength": 100}
_ADDRESS = {
    "type": "object",
    "properties": dict.fromkeys(("name", "street", "city", "zip", "country"), _TEXT),
    "required": ["street", "city"],
}
_LINE = {
    "type": "object",
    "properties": {
        "sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
        "amount": {"type": "integer", "minimum": 1},
        "price": {"type": "number", "exclusiveMinimum": 0},
        "tags": {
            "type": "array",
            "items": {"enum": ["new", "sale", "gift"]},
            "uniqueItems": True,
        },
        "note": {"anyOf": [{"type": "string", "maxLength": 200}, {"type": "null"}]},
    },
    "required": ["sku", "amount", "price"],
    "additionalProperties": False,
}
ORDER = {
    "$defs": {"address": _ADDRESS, "line": _LINE},
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "at": {"type": "string", "format": "date-time"},
        "billing": {"$ref": "#/$defs/address"},
        "shipping": {"$ref": "#/$defs/address"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 1},
        "paid": {"type": "boolean"},
    },
    "required": ["id", "at", "billing", "lines"],
    "if": {"properties": {"paid": {"const": True}}},
    "then": {"required": ["shipping"]},
}
_HOME = dict.fromkeys(("name", "street", "city", "zip", "country"), "somewhere")
_ROW = {"sku": "ABC-1234", "amount": 2, "price": 9.5, "tags": ["new"], "note": None}
ONE_ORDER = {
    "id": "7f0c1a52-6d2f-4f0e-9a53-3f1f0b9d3f11",
    "at": "2024-05-31T12:00:00Z",
    "billing": _HOME,
    "shipping": _HOME,
    "lines": [_ROW] * 20,
    "paid": True,
}


async def schema_validate(_: Rig | None) -> Findings:
    """``schema.validate`` beside ``jsonschema``, for a small and a larger schema."""
    small = _compared("schema_small", "three properties", PERSON, ANN)
    large = _compared("schema_large", "an order of twenty lines", ORDER, ONE_ORDER)
    return Findings(results=[*small, *large])


def _compared(name: str, what: str, schema: Any, value: Any) -> list[Result]:
    body = ValidateSchema(schema=schema, value=value)
    prepared = jsonschema.Draft202012Validator(schema)
    assert validate_schema(body).valid
    assert prepared.is_valid(value)
    whole = _ratios(body, lambda: jsonschema.validate(value, schema))
    alone = _ratios(body, lambda: prepared.is_valid(value))
    (fast, spread), (faster, range_) = middle(whole), middle(alone)
    return [
        Result(
            name=name,
            value=fast,
            unit="x",
            bar=Bar(50.0, at_least=True),
            spread=spread,
            how=f"Time of `jsonschema.validate(value, schema)`, as DSPy calls it, over "
            f"that of `schema.validate` without the bus: {what}; taken in turns.",
        ),
        Result(
            name=f"{name}_prepared",
            value=faster,
            unit="x",
            spread=range_,
            how="The same over a `jsonschema` validator that is made only once.",
        ),
    ]


def _ratios(body: ValidateSchema, theirs: Callable[[], object]) -> list[float]:
    """How many times as long they take, for each round but the first."""
    found = []
    for _ in range(ROUNDS + 1):
        ours = other = 0.0
        for _ in range(CALLS):
            other += _timed(theirs, 1)
            ours += _timed(lambda: validate_schema(body), OURS_PER_CALL)
        found.append(other / ours)
    return found[1:]


def _timed(call: Callable[[], object], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begun) / times
