"""Keywords that look at a value itself: its type, size, pattern, format and so on."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.native.schemas.leaves import (
    Matcher,
    has_format,
    identity,
    is_multiple,
)
from dspex.native.schemas.nodes import Check
from dspex.native.types.showing import shown
from dspex.native.types.tokens import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspex.native.schemas.nodes import Run

_NAMES_SHOWN = 5
_NAMES_PER_STEP = 8
_BITS_SHOWN = 1000


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


class Type(Check):
    """``type``: one of some kinds of values.

    Args:
        pointer: See `Check`.
        names: The kinds.
    """

    __slots__ = ("_integers", "_kinds", "_names")

    def __init__(self, pointer: str, names: list[str]) -> None:
        super().__init__("type", pointer)
        self._names = names
        self._kinds = frozenset(kind for name in names for kind in _TYPES[name])
        self._integers = "integer" in names

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is of one of the kinds."""
        if type(value) in self._kinds:
            return True
        return self._integers and type(value) is float and value.is_integer()

    def message(self, value: Any, run: Run) -> str:
        """Name the kinds."""
        return f"Expected {listed(self._names)}, not {told(value)}."


class OneOfValues(Check):
    """``const`` and ``enum``: one of some values.

    Args:
        keyword: See `Check`.
        pointer: See `Check`.
        values: The values.
        run: What may be done to prepare them.
    """

    __slots__ = ("_allowed", "_values", "_words")

    def __init__(self, keyword: str, pointer: str, values: list[Any], run: Run) -> None:
        super().__init__(keyword, pointer)
        self._values = values
        self._allowed = frozenset(identity(value, run) for value in values)
        self._words = ""

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it equals one of them; 3 equals 3.0."""
        if type(value) is str:
            return value in self._allowed
        return identity(value, run) in self._allowed

    def message(self, value: Any, run: Run) -> str:
        """Name the values."""
        if not self._words:
            some = self._values[: _NAMES_SHOWN + 1]
            self._words = listed([msgspec.json.encode(one).decode() for one in some])
        return f"Expected {self._words}, not {told(value)}."


_COMPARE: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "minimum": (operator.ge, "at least"),
    "maximum": (operator.le, "at most"),
    "exclusiveMinimum": (operator.gt, "more than"),
    "exclusiveMaximum": (operator.lt, "less than"),
}


class Bound(Check):
    """``minimum`` and the like: a limit of numbers."""

    __slots__ = ("_compare", "_limit", "_words")

    def __init__(self, keyword: str, pointer: str, limit: float) -> None:
        super().__init__(keyword, pointer)
        self._compare, self._words = _COMPARE[keyword]
        self._limit = limit

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is no number, or on the right side of the limit."""
        return type(value) not in (int, float) or self._compare(value, self._limit)

    def message(self, value: Any, run: Run) -> str:
        """Name the limit."""
        return f"Expected {self._words} {_number(self._limit)}, not {told(value)}."


class MultipleOf(Check):
    """``multipleOf``: a divisor of numbers, by their decimal digits."""

    __slots__ = ("_divisor",)

    def __init__(self, pointer: str, divisor: float) -> None:
        super().__init__("multipleOf", pointer)
        self._divisor = divisor

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is no number, or a multiple."""
        return type(value) not in (int, float) or is_multiple(value, self._divisor, run)

    def message(self, value: Any, run: Run) -> str:
        """Name the divisor."""
        return f"Expected a multiple of {_number(self._divisor)}, not {told(value)}."


_SIZES: dict[str, tuple[type[Any], bool, str]] = {
    "minLength": (str, True, "characters"),
    "maxLength": (str, False, "characters"),
    "minItems": (list, True, "items"),
    "maxItems": (list, False, "items"),
    "minProperties": (dict, True, "properties"),
    "maxProperties": (dict, False, "properties"),
}


class Size(Check):
    """``minLength``, ``maxItems`` and the like: how many there may be."""

    __slots__ = ("_at_least", "_kind", "_limit", "_noun")

    def __init__(self, keyword: str, pointer: str, limit: float) -> None:
        super().__init__(keyword, pointer)
        self._kind, self._at_least, self._noun = _SIZES[keyword]
        self._limit = limit

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is of another kind, or of the right size."""
        if type(value) is not self._kind:
            return True
        size = len(value)
        return size >= self._limit if self._at_least else size <= self._limit

    def message(self, value: Any, run: Run) -> str:
        """Name the limit."""
        words = "at least" if self._at_least else "at most"
        limit = _number(self._limit)
        return f"Expected {words} {limit} {self._noun}, not {len(value)}."


class Pattern(Check):
    """``pattern``: what must be found in a text."""

    __slots__ = ("_matcher",)

    def __init__(self, pointer: str, matcher: Matcher) -> None:
        super().__init__("pattern", pointer)
        self._matcher = matcher

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is no text, or the pattern is in it."""
        return type(value) is not str or self._matcher.search(value, run)

    def message(self, value: Any, run: Run) -> str:
        """Show the pattern."""
        pattern = shortened(self._matcher.text)
        return f"Expected a match of {pattern!r}, not {told(value)}."


class Format(Check):
    """``format``: how a text is written."""

    __slots__ = ("_name",)

    def __init__(self, pointer: str, name: str) -> None:
        super().__init__("format", pointer)
        self._name = name

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is no text, or of the format."""
        return type(value) is not str or has_format(self._name, value, run)

    def message(self, value: Any, run: Run) -> str:
        """Name the format."""
        return f"Expected the format {self._name}, not {told(value)}."


class UniqueItems(Check):
    """``uniqueItems``: no two items are equal."""

    __slots__ = ()

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is no array, or all of its items differ."""
        if type(value) is not list:
            return True
        return len({identity(item, run) for item in value}) == len(value)

    def message(self, value: Any, run: Run) -> str:
        """Name the first item that is there already."""
        places: dict[Any, int] = {}
        for i, item in enumerate(value):
            first = places.setdefault(identity(item, run), i)
            if first != i:
                return f"Expected items that differ, but item {i} equals item {first}."
        return "Expected items that differ."


class Required(Check):
    """``required``: names an object must have."""

    __slots__ = ("_names", "_set")

    def __init__(self, pointer: str, names: list[str]) -> None:
        super().__init__("required", pointer)
        self._names = names
        self._set = frozenset(names)

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is no object, or has all the names."""
        if type(value) is not dict:
            return True
        run.spend(len(self._names) // _NAMES_PER_STEP)
        return self._set <= value.keys()

    def message(self, value: Any, run: Run) -> str:
        """Name those that are missing."""
        return _missing(self._names, value)


class DependentRequired(Check):
    """``dependentRequired``: names an object must have if it has another one."""

    __slots__ = ("_names",)

    def __init__(self, keyword: str, pointer: str, names: dict[str, list[str]]) -> None:
        super().__init__(keyword, pointer)
        self._names = names

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is no object, or has all the names."""
        return type(value) is not dict or not any(self._broken(value, run))

    def _broken(self, value: dict[str, Any], run: Run) -> Iterator[str]:
        for name, needed in self._names.items():
            run.spend(1 + len(needed) // _NAMES_PER_STEP)
            if name in value and not all(one in value for one in needed):
                yield name

    def message(self, value: Any, run: Run) -> str:
        """Name those that are missing, and why they are needed."""
        name = next(self._broken(value, run))
        missing = _missing(self._names[name], value)
        return f"{missing[:-1]}, for it has {shortened(name)!r}."


def told(value: Any) -> str:
    """Show a value in short, integers of any size too."""
    if type(value) is int and value.bit_length() > _BITS_SHOWN:
        return f"an integer of {value.bit_length()} bits"
    return shown(value)


def listed(names: list[str], most: int = _NAMES_SHOWN) -> str:
    """Write names as an English list of alternatives, the first few of them."""
    some = [shortened(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(some)} or another one"
    if len(some) < 2:
        return "".join(some) or "nothing"
    return f"{', '.join(some[:-1])} or {some[-1]}"


def _missing(names: list[str], value: dict[str, Any]) -> str:
    missing = [name for name in names if name not in value]
    shown_names = ", ".join(repr(shortened(one)) for one in missing[:_NAMES_SHOWN])
    more = f" and {len(missing) - _NAMES_SHOWN} more"
    return f"Missing {shown_names}{more if len(missing) > _NAMES_SHOWN else ''}."


def _number(value: float) -> str:
    return told(value).removesuffix(" (number)")
