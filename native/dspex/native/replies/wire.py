"""What a reply was read as, in its JSON form."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic_core import to_jsonable_python

from dspex.contracts.encoding import tag_bytes
from dspex.contracts.failures import OutputInvalid

if TYPE_CHECKING:
    from collections.abc import Callable


def wire(value: Any) -> Any:
    """Return a value in its JSON form, as a worker answers it.

    Args:
        value: Texts, numbers, dates and the like, and what is built of them.

    Raises:
        OutputInvalid: JSON cannot say it.
    """
    convert = _CONVERSIONS.get(type(value))
    if convert is None:
        raise OutputInvalid(
            f"The reply holds a {type(value).__name__}, which has no JSON form.",
            hint="Ask again, or declare the output as str.",
        )
    return convert(value)


def _same(value: Any) -> Any:
    return value


def sayable(value: str) -> str:
    """Return a text, if it is one that JSON can say.

    Raises:
        OutputInvalid: It holds half of a surrogate pair.
    """
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        raise OutputInvalid(
            "The reply holds half of a surrogate pair, which is no text.",
            hint="Ask again.",
        ) from None
    return value


def finite(value: float) -> float:
    """Return a number, if it is one that JSON can say.

    Raises:
        OutputInvalid: It is infinite, or none.
    """
    if math.isfinite(value):
        return value
    raise OutputInvalid(
        f"The reply holds {value}, which JSON cannot say.",
        hint="Ask again, or declare the output as str.",
    )


def _list(value: Any) -> list[Any]:
    return [wire(item) for item in value]


def _sorted(value: Any) -> list[Any]:
    return sorted(_list(value), key=repr)


def _dict(value: dict[Any, Any]) -> dict[str, Any]:
    return {_key(key): wire(item) for key, item in value.items()}


def _key(value: Any) -> str:
    return str(wire(value))


def _iso(value: datetime.date | datetime.time) -> str:
    return value.isoformat()


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    str: sayable,
    bool: _same,
    int: _same,
    type(None): _same,
    float: finite,
    bytes: tag_bytes,
    datetime.datetime: _iso,
    datetime.date: _iso,
    datetime.time: _iso,
    datetime.timedelta: to_jsonable_python,
    Decimal: str,
    UUID: str,
    dict: _dict,
    list: _list,
    tuple: _list,
    set: _sorted,
    frozenset: _sorted,
}
