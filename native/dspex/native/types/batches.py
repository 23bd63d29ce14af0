"""What can be said of many JSON values at once, whatever their type."""

from __future__ import annotations

import datetime
import math
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts.walking import elements, way
from dspex.native.types.scalars import are_decimals, tagged_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.work import Work

DEPTH_LIMIT = 64
"""How many arrays and objects may be nested in one another, a field's own included."""

_SLOW = 40
# Python's hash of a larger integer is its remainder: a sender can choose many that
# share one, and a set of them would take forever.
_HASHED_AS_THEY_ARE = 2**61 - 1


def distinct(values: list[Any], work: Work) -> bool:
    """Say whether the elements of a set are unlike one another."""
    types = set(map(type, values))
    if types <= {int} and values:
        if -_HASHED_AS_THEY_ARE < min(values) <= max(values) < _HASHED_AS_THEY_ARE:
            return len(set(values)) == len(values)
    elif types <= {str}:
        return len(set(values)) == len(values)
    work.spend(_SLOW * len(values))
    keys = [identity(value) for value in values]
    return None not in keys and len(set(keys)) == len(keys)


def identity(value: Any) -> str | None:
    """Return what makes two elements of a set the same; ``None`` for what has none.

    1 and 1.0 are the same, 1 and true are not. It is a text because only of texts
    nobody can choose many with the same hash.
    """
    if isinstance(value, list):
        parts = [identity(part) for part in value]
        return None if None in parts else f"[{','.join(map(str, parts))}]"
    if isinstance(value, dict):
        return f"bytes:{value['data']}" if value.get("$t") == "bytes" else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Hexadecimal: Python writes thousands of digits in no other way.
    return hex(value) if type(value) is int else repr(value)


def deepest(value: Any) -> list[Any] | None:
    """Return the keys and indices that lead to what is nested too deep, if any."""
    levels = [[value]]
    while len(levels) <= DEPTH_LIMIT:
        levels.append(elements(levels[-1]))
        if not levels[-1]:
            return None
    place = next((v for v in levels.pop() if type(v) in (list, dict)), None)
    return None if place is None else way(levels, place)


def _parsed(kind: Any) -> Callable[[list[Any]], bool]:
    wanted = list[kind]

    def whole(values: list[Any]) -> bool:
        try:
            msgspec.convert(values, wanted)
        except msgspec.ValidationError:
            return False
        return True

    return whole


def _finite(values: list[Any]) -> bool:
    return all(map(math.isfinite, [v for v in values if type(v) is float]))


def _bytes(values: list[Any]) -> bool:
    return all(tagged_bytes(value) is not None for value in values)


COSTS = {"Decimal": 6, "bytes": 40}
"""Steps that one value of a type takes, where they are not four."""

_TEXT = frozenset({str})
PLAIN: dict[str, tuple[frozenset[type], Callable[[list[Any]], bool] | None]] = {
    "str": (_TEXT, None),
    "int": (frozenset({int}), None),
    "float": (frozenset({int, float}), _finite),
    "bool": (frozenset({bool}), None),
    "NoneType": (frozenset({type(None)}), None),
    "bytes": (frozenset({dict}), _bytes),
    "date": (_TEXT, _parsed(datetime.date)),
    "datetime": (_TEXT, _parsed(datetime.datetime)),
    "time": (_TEXT, _parsed(datetime.time)),
    "timedelta": (_TEXT, _parsed(datetime.timedelta)),
    "Decimal": (frozenset({int, str}), are_decimals),
    "UUID": (_TEXT, _parsed(uuid.UUID)),
}
"""For each plain type the Python types of its values, and what else they are."""
