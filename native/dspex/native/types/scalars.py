"""JSON values of the types without parts, strictly and leniently.

A reader returns the value in its JSON form, or `NO` where it is not one of the type.
The lenient readings are those of pydantic's lax mode, which DSPy parses replies with.
"""

from __future__ import annotations

import binascii
import datetime
import math
import re
import uuid
from base64 import b64decode
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts.encoding import tag_bytes
from dspex.native.types.tree import KEY_PATTERNS

if TYPE_CHECKING:
    from collections.abc import Callable

NO: Any = object()
"""What a reader returns for a value that is not of its type."""

EXPECTED = {
    "str": "str (a string)",
    "int": "int (a whole number)",
    "float": "float (a finite number)",
    "bool": "bool (true or false)",
    "NoneType": "null",
    "Any": "any value",
    "bytes": 'bytes (an object {"$t": "bytes", "data": <base64>})',
    "date": 'date (a string such as "2024-05-31")',
    "datetime": 'datetime (a string such as "2024-05-31T12:30:00Z")',
    "time": 'time (a string such as "12:30:00")',
    "timedelta": 'timedelta (an ISO 8601 duration such as "PT1H30M")',
    "Decimal": 'Decimal (a string such as "19.90", or a whole number)',
    "UUID": "UUID (a string of 32 hexadecimal digits in groups)",
}
"""What each type allows, for a message."""

# Arithmetic with 1E+1000000 would fill the memory; no such number is meant.
_EXPONENT_LIMIT = 1000
# Beyond this Python refuses to convert digits to a number, against slow attacks.
_DIGIT_LIMIT = 4000

_LETTER = re.compile("[A-Za-z]")
_INTEGER = re.compile(r"[+-]?[0-9]+(?:_[0-9]+)*(?:\.0+)?")
_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})
_FALSE = frozenset({"0", "off", "f", "false", "n", "no"})
_KEYS = {name: re.compile(text) for name, text in KEY_PATTERNS.items()}


def read(name: str, value: Any, *, lax: bool) -> Any:
    """Read a value of a type without parts.

    Args:
        name: The type, one of the keys of `EXPECTED`.
        value: A JSON value.
        lax: Whether to convert what can be converted without a guess.

    Returns:
        The value in its JSON form, or `NO`.
    """
    found = _STRICT[name](value)
    if found is NO and lax and name in _LAX:
        return _LAX[name](value)
    return found


def are_keys(name: str, keys: list[str]) -> bool:
    """Say whether the keys of an object all spell values of a type."""
    if name not in _KEYS:
        return all(read(name, key, lax=False) is not NO for key in keys)
    short = max(map(len, keys), default=0) <= _DIGIT_LIMIT
    return short and all(map(_KEYS[name].fullmatch, keys))


def tagged_bytes(value: Any) -> bytes | None:
    """Return the bytes that ``{"$t": "bytes", "data": <base64>}`` stands for."""
    if not isinstance(value, dict) or value.keys() != {"$t", "data"}:
        return None
    if value["$t"] != "bytes" or not isinstance(value["data"], str):
        return None
    try:
        return b64decode(value["data"], validate=True)
    except (binascii.Error, ValueError):
        return None


def are_decimals(values: list[Any]) -> bool:
    """Say whether integers and texts are all values of ``Decimal``."""
    texts = [value for value in values if isinstance(value, str)]
    longest = max(map(len, texts), default=0)
    if longest > _DIGIT_LIMIT:
        return False
    try:
        numbers = list(map(Decimal, texts))
    except InvalidOperation:
        return False
    if longest <= _EXPONENT_LIMIT and not _LETTER.search("".join(texts)):
        return True  # Neither an exponent nor an infinity can be written so.
    sizes = map(abs, map(Decimal.adjusted, numbers))
    finite = all(map(Decimal.is_finite, numbers))
    return finite and max(sizes, default=0) <= _EXPONENT_LIMIT


def _instance(kind: type) -> Callable[[Any], Any]:
    # By exact type: to Python a bool is an int, to JSON it is not.
    return lambda value: value if type(value) is kind else NO


def _float(value: Any) -> Any:
    if type(value) is int:
        return value
    return value if type(value) is float and math.isfinite(value) else NO


def _parsed(kind: type) -> Callable[[Any], Any]:
    def reader(value: Any) -> Any:
        if not isinstance(value, str):
            return NO
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return NO
        return value

    return reader


def _decimal(value: Any) -> Any:
    fine = type(value) is int or (isinstance(value, str) and are_decimals([value]))
    return value if fine else NO


def _bytes(value: Any) -> Any:
    if isinstance(value, bytes):  # From Python, not from a message.
        return tag_bytes(value)
    return NO if tagged_bytes(value) is None else value


def _lax_int(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _DIGIT_LIMIT or not _INTEGER.fullmatch(text):
            return NO
        return int(text.partition(".")[0])
    if isinstance(value, float):
        return int(value) if value.is_integer() else NO
    return int(value) if isinstance(value, bool) else NO


def _lax_float(value: Any) -> Any:
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not value.isascii() or len(value) > _DIGIT_LIMIT:
        return NO
    try:
        return _float(float(value))
    except ValueError:
        return NO


def _lax_bool(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return bool(value) if value in (0, 1) else NO
    word = value.lower() if isinstance(value, str) else ""
    if word in _TRUE:
        return True
    return False if word in _FALSE else NO


def _lax_decimal(value: Any) -> Any:
    if isinstance(value, str):
        return _decimal(value.strip())
    return str(value) if type(value) is float and math.isfinite(value) else NO


def _lax_bytes(value: Any) -> Any:
    return _bytes(value.encode()) if isinstance(value, str) else NO


_STRICT: dict[str, Callable[[Any], Any]] = {
    "str": _instance(str),
    "int": _instance(int),
    "float": _float,
    "bool": _instance(bool),
    "NoneType": _instance(type(None)),
    "Any": lambda value: value,
    "bytes": _bytes,
    "date": _parsed(datetime.date),
    "datetime": _parsed(datetime.datetime),
    "time": _parsed(datetime.time),
    "timedelta": _parsed(datetime.timedelta),
    "Decimal": _decimal,
    "UUID": _parsed(uuid.UUID),
}
_LAX: dict[str, Callable[[Any], Any]] = {
    "int": _lax_int,
    "float": _lax_float,
    "bool": _lax_bool,
    "Decimal": _lax_decimal,
    "bytes": _lax_bytes,
}
