"""Whether values are of a type, strictly: many at once, without looking at each.

A value is followed level by level: all elements of all the lists of a level are one
list for the next. What can be said of a whole list, such as which types are in it,
costs a hundredth of what it costs to say it of each element with its path. Where the
answer is no, `dspex.native.checking` looks for the place.
"""

from __future__ import annotations

import datetime
import math
import uuid
from itertools import chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts.walking import elements, way
from dspex.native.scalars import are_decimals, are_keys, tagged_bytes
from dspex.native.types import (
    ANY,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    TypeExpr,
    UnionType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dspex.native.work import Work

DEPTH_LIMIT = 64
"""How many arrays and objects may be nested in one another, a field's own included."""

_CALL = 40
_SLOW = 40
# Python's hash of a larger integer is its remainder: a sender can choose many that
# share one, and a set of them would take forever.
_HASHED_AS_THEY_ARE = 2**61 - 1


class Acceptor:
    """Says whether values are of a type.

    Args:
        expr: The type.
        depth: How many arrays and objects its values are nested in.

    Attributes:
        expr: The type.
        depth: See the arguments.
        parts: The acceptors of the types inside it; where none were written, of
            ``Any``.
        kinds: The Python types its values may have.
        is_open: Whether ``Any`` is in it, so that values may be nested at will.
    """

    kinds: frozenset[type] = frozenset()

    def __init__(self, expr: TypeExpr, depth: int = 0) -> None:
        self.expr = expr
        self.depth = depth
        inside = depth + (not isinstance(expr, UnionType))
        parts = expr.parts if _spelled_out(expr) else (ANY,)
        self.parts = tuple(acceptor(part, inside) for part in parts)
        self.is_open: bool = expr == ANY or any(part.is_open for part in self.parts)

    def accepts(self, values: list[Any], work: Work) -> bool:
        """Say whether all values are of the type, just as they are.

        Raises:
            TooMuch: It takes more than may be done.
        """
        work.spend(_CALL + len(values))
        return set(map(type, values)) <= self.kinds and self._inner(values, work)

    def _inner(self, values: list[Any], work: Work) -> bool:
        """Say the rest of values that have the right Python types."""
        raise NotImplementedError


def acceptor(expr: TypeExpr, depth: int = 0) -> Acceptor:
    """Make a type ready to say whether values are of it."""
    return _ACCEPTORS[type(expr)](expr, depth)


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


def _spelled_out(expr: TypeExpr) -> bool:
    if isinstance(expr, TupleType):
        return expr.items is not None
    return bool(expr.parts) or not isinstance(expr, (Collection, DictType))


class _Any(Acceptor):
    def accepts(self, values: list[Any], work: Work) -> bool:
        for _ in range(DEPTH_LIMIT - self.depth):
            work.spend(_CALL + len(values))
            values = elements(values)
            if not values:
                return True
        return not any(type(value) in (list, dict) for value in values)


class _Plain(Acceptor):
    def __init__(self, expr: Scalar, depth: int = 0) -> None:
        super().__init__(expr, depth)
        self._cost = _COSTS.get(expr.name, 4)
        self.kinds, self._all = _PLAIN[expr.name]

    def _inner(self, values: list[Any], work: Work) -> bool:
        if self._all is None:
            return True
        work.spend(self._cost * len(values))
        return self._all(values)


class _Collection(Acceptor):
    kinds = frozenset({list})

    def _inner(self, values: list[Any], work: Work) -> bool:
        kind, item = self.expr.kind, self.parts[0]  # type: ignore[attr-defined]
        elements = list(chain.from_iterable(values))
        if not item.accepts(elements, work):
            return False
        if kind == "list":
            return True
        if item.expr == ANY and list in set(map(type, elements)):
            return False
        work.spend(_CALL * len(values))
        return all(distinct(value, work) for value in values)


class _Tuple(Acceptor):
    kinds = frozenset({list})

    def _inner(self, values: list[Any], work: Work) -> bool:
        expr = self.expr
        if expr.variadic or expr.items is None:  # type: ignore[attr-defined]
            return self.parts[0].accepts(list(chain.from_iterable(values)), work)
        if not set(map(len, values)) <= {len(self.parts)}:
            return False
        return all(
            part.accepts(list(map(itemgetter(i), values)), work)
            for i, part in enumerate(self.parts)
        )


class _Dict(Acceptor):
    kinds = frozenset({dict})

    def __init__(self, expr: DictType, depth: int = 0) -> None:
        super().__init__(expr, depth)
        self._key = expr.key

    def _inner(self, values: list[Any], work: Work) -> bool:
        keys = list(chain.from_iterable(values))
        inner = list(chain.from_iterable(map(dict.values, values)))
        return self.takes(keys, work) and self.parts[-1].accepts(inner, work)

    def takes(self, keys: list[Any], work: Work) -> bool:
        """Say whether all keys are of the type of the keys."""
        if not set(map(type, keys)) <= {str}:
            return False
        key = self._key
        if isinstance(key, LiteralType):
            return frozenset(map(str, key.values)).issuperset(keys)
        if not isinstance(key, Scalar) or key.name in ("str", "Any"):
            return True
        work.spend(12 * len(keys))
        return are_keys(key.name, keys)


class _Literal(Acceptor):
    def __init__(self, expr: LiteralType, depth: int = 0) -> None:
        super().__init__(expr, depth)
        self.kinds = frozenset(map(type, expr.values))
        # By type as well: to Python 1 and True are the same.
        self._pairs = frozenset(zip(map(type, expr.values), expr.values, strict=True))
        self._texts = frozenset(v for v in expr.values if isinstance(v, str))

    def _inner(self, values: list[Any], work: Work) -> bool:
        if self.kinds == {str}:
            return self._texts.issuperset(values)
        work.spend(5 * len(values))
        pairs = zip(map(type, values), values, strict=True)
        return all(map(self._pairs.__contains__, pairs))


class _Union(Acceptor):
    def __init__(self, expr: UnionType, depth: int = 0) -> None:
        super().__init__(expr, depth)
        self._any = any(part.expr == ANY for part in self.parts)
        self.kinds = frozenset(chain.from_iterable(part.kinds for part in self.parts))
        self._by_kind = {
            kind: [part for part in self.parts if kind in part.kinds]
            for kind in self.kinds
        }

    def accepts(self, values: list[Any], work: Work) -> bool:
        if self._any:
            return acceptor(ANY, self.depth).accepts(values, work)
        return super().accepts(values, work)

    def _inner(self, values: list[Any], work: Work) -> bool:
        kinds = set(map(type, values))
        return all(
            self._one_kind(
                self._by_kind[kind],
                values if len(kinds) == 1 else [v for v in values if type(v) is kind],
                work,
            )
            for kind in kinds
        )

    def _one_kind(self, parts: list[Acceptor], values: list[Any], work: Work) -> bool:
        if len(parts) == 1:
            return parts[0].accepts(values, work)
        return all(
            any(part.accepts(some, work) for part in parts)
            or (len(some) > 1 and _each(parts, some, work))
            for some in _alike(values, work)
        )


def _alike(values: list[Any], work: Work) -> Iterable[list[Any]]:
    """Group values by what they begin with: those are mostly meant alike."""
    if type(values[0]) not in (list, dict):
        return [values]
    work.spend(5 * len(values))
    inner = values if type(values[0]) is list else map(dict.values, values)
    first = map(next, map(iter, inner), repeat(None))
    begun = list(map(type, first))
    return [
        [value for value, found in zip(values, begun, strict=True) if found is kind]
        for kind in set(begun)
    ]


def _each(parts: list[Acceptor], values: list[Any], work: Work) -> bool:
    return all(any(part.accepts([v], work) for part in parts) for v in values)


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


_COSTS = {"Decimal": 6, "bytes": 40}
_TEXT = frozenset({str})
_PLAIN: dict[str, tuple[frozenset[type], Callable[[list[Any]], bool] | None]] = {
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


def _scalar(expr: Scalar, depth: int = 0) -> Acceptor:
    return _Any(expr, depth) if expr == ANY else _Plain(expr, depth)


_ACCEPTORS: dict[type, Callable[[Any, int], Acceptor]] = {
    Scalar: _scalar,
    Collection: _Collection,
    TupleType: _Tuple,
    DictType: _Dict,
    LiteralType: _Literal,
    UnionType: _Union,
}
