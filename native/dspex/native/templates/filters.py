"""The filters of templates, and what they cost.

Only those that depend on nothing but their arguments: no ``date``, which knows the
time and the zone of the machine, and no ``strip_html``, whose parser can take long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from liquid import Environment
from liquid.exceptions import FilterArgumentError

from dspex.native.work import TooMuch

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.work import Work

INTEGER_LIMIT = 4096
"""The largest integers that filters take, bits."""

_NAMES = (
    *("abs", "append", "at_least", "at_most", "base64_decode", "base64_encode"),
    *("capitalize", "ceil", "compact", "concat", "default", "divided_by", "downcase"),
    *("escape", "escape_once", "find", "find_index", "first", "floor", "has", "join"),
    *("last", "lstrip", "map", "minus", "modulo", "newline_to_br", "plus", "prepend"),
    *("reject", "remove", "remove_first", "remove_last", "replace", "replace_first"),
    *("replace_last", "reverse", "round", "rstrip", "size", "slice", "sort"),
    *("sort_natural", "split", "squish", "strip", "strip_newlines", "sum", "times"),
    *("truncate", "truncatewords", "uniq", "upcase", "url_decode", "url_encode"),
    "where",
)


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError) as error:
        raise FilterArgumentError(f"json: {error}", token=None) from None


_STANDARD = Environment().filters
FILTERS: dict[str, Callable[..., Any]] = {
    **{name: _STANDARD[name] for name in _NAMES},
    "json": _json,
}
"""The filters by their names: those of Liquid that are pure, and ``json``."""


def weight(value: object, limit: int) -> int:
    """Return how many steps it takes to go through a value.

    Args:
        value: The value.
        limit: Where to give up.

    Raises:
        dspex.native.work.TooMuch: It takes more than the limit.
    """
    found = 0
    todo: list[Any] = [value]
    while todo:
        one = todo.pop()
        # Not isinstance: it asks an undefined value for its class, which fails.
        kind = type(one)
        found += 1
        if kind is str:
            found += len(one) >> 3
        elif kind is int:
            found += one.bit_length() >> 6
        elif kind in (list, tuple):
            found += len(one)
            _within(found, limit)
            todo.extend(one)
        elif kind is dict:
            found += 2 * len(one)
            _within(found, limit)
            todo.extend(one)
            todo.extend(one.values())
    return _within(found, limit)


def price(name: str, value: object, arguments: list[object], work: Work) -> int:
    """Return how many steps a filter may take.

    Args:
        name: Its name.
        value: What it is applied to.
        arguments: Its arguments.
        work: What is left.

    Raises:
        dspex.native.work.TooMuch: More than is left.
        FilterArgumentError: A number is too large.
    """
    for number in (value, *arguments):
        if type(number) is int and number.bit_length() > INTEGER_LIMIT:
            raise FilterArgumentError(
                f"{name} takes integers of up to {INTEGER_LIMIT} bits", token=None
            )
    found = sum(4 * weight(one, work.left) for one in (value, *arguments))
    if name == "uniq" and type(value) is list:
        return found * (1 + len(value) // 4)
    if name == "replace" and arguments:
        return found + _replaced(value, arguments)
    if name == "join" and type(value) is list:
        separator = str(arguments[0]) if arguments else " "
        return found + found * len(separator)
    return found


def _replaced(value: object, arguments: list[object]) -> int:
    """Return how much longer ``replace`` makes a text, at most, or a bit more."""
    text, old = str(value), str(arguments[0])
    new = str(arguments[1]) if len(arguments) > 1 else ""
    return text.count(old) * len(new)


def _within(found: int, limit: int) -> int:
    if found > limit:
        raise TooMuch
    return found
