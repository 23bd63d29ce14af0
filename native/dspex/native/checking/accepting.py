"""Whether values are of a type, strictly: many at once, without looking at each.

A value is followed level by level: all elements of all the lists of a level are one
list for the next. What can be said of a whole list, such as which types are in it,
costs a hundredth of what it costs to say it of each element with its path. Where the
answer is no, `dspex.native.checking.checking` looks for the place.
"""

from __future__ import annotations

import re
from itertools import chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from dspex.contracts.walking import elements
from dspex.native.types.batches import COSTS, DEPTH_LIMIT, PLAIN, distinct
from dspex.native.types.constraints import broken
from dspex.native.types.definitions import scope_of
from dspex.native.types.kinds import DspyType, Reference, SchemaType
from dspex.native.types.parts import TEXTS, Limited, ObjectType, Text
from dspex.native.types.scalars import are_keys
from dspex.native.types.tree import (
    ANY,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    TypeExpr,
    UnionType,
)
from dspex.native.work import MATCH_LIMIT, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CALL = 40
_SLOW = 40
# A step of matching a pattern takes as long as so many steps of checking.
_MATCHING = 20


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
        self._cost = COSTS.get(expr.name, 4)
        self.kinds, self._all = PLAIN[expr.name]

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
        if key is not None and key.choices:
            return frozenset(map(str, key.choices)).issuperset(keys)
        if not isinstance(key, Scalar) or key.name in ("str", "Any"):
            return True
        work.spend(12 * len(keys))
        return are_keys(key.name, keys)


class _Literal(Acceptor):
    def __init__(self, expr: TypeExpr, depth: int = 0) -> None:
        super().__init__(expr, depth)
        values = expr.choices
        self.kinds = frozenset(map(type, values))
        # By type as well: to Python 1 and True are the same.
        self._pairs = frozenset(zip(map(type, values), values, strict=True))
        self._texts = frozenset(v for v in values if isinstance(v, str))

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
        work.spend(_CALL + len(values))
        kinds = set(map(type, values))
        if not kinds <= self.kinds:
            return False
        # Loops, here and below: every generator would be a frame more on each level.
        for kind in kinds:
            some = values if len(kinds) == 1 else [v for v in values if type(v) is kind]
            if not self._one_kind(self._by_kind[kind], some, work):
                return False
        return True

    def _one_kind(self, parts: list[Acceptor], values: list[Any], work: Work) -> bool:
        if len(parts) == 1:
            return parts[0].accepts(values, work)
        for some in _alike(values, work):
            if _fits_one(parts, some, work):
                continue
            if len(some) == 1 or not _each(parts, some, work):
                return False
        return True


def _fits_one(parts: list[Acceptor], values: list[Any], work: Work) -> bool:
    for part in parts:  # noqa: SIM110 - a generator would be a frame more
        if part.accepts(values, work):
            return True
    return False


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
    for value in values:  # noqa: SIM110 - a generator would be a frame more
        if not _fits_one(parts, [value], work):
            return False
    return True


class _Object(Acceptor):
    kinds = frozenset({dict})

    def __init__(self, expr: ObjectType, depth: int = 0) -> None:
        super().__init__(expr, depth)
        pairs = list(zip(expr.properties, self.parts, strict=False))
        # Those first that tell alternatives apart: a union asks one after another.
        self._known = sorted(
            ((one.name, part) for one, part in pairs),
            key=lambda pair: not isinstance(pair[1], _Literal),
        )
        self.by_name = dict(self._known)
        self.rest = self.parts[-1] if expr.rest is not None else None
        self._required = {one.name for one in expr.properties if one.required}

    def _inner(self, values: list[Any], work: Work) -> bool:
        work.spend(5 * sum(map(len, values)) + len(self._known) * (5 + len(values)))
        if not set(map(type, chain.from_iterable(values))) <= {str}:
            return False
        if not all(value.keys() >= self._required for value in values):
            return False
        for name, part in self._known:
            if not part.accepts([v[name] for v in values if name in v], work):
                return False
        others = [v[key] for v in values for key in v.keys() - self.by_name.keys()]
        return not others or (self.rest is not None and self.rest.accepts(others, work))


class _Limited(Acceptor):
    def __init__(self, expr: Limited, depth: int = 0) -> None:
        super().__init__(expr, depth - 1)
        self.limits = expr.limits
        self.kinds = self.parts[0].kinds

    def accepts(self, values: list[Any], work: Work) -> bool:
        return self.parts[0].accepts(values, work) and self.fits(values, work)

    def fits(self, values: list[Any], work: Work) -> bool:
        """Say whether values of the type satisfy the constraints."""
        work.spend(_SLOW * len(values))
        matching = Work(min(MATCH_LIMIT, work.left // _MATCHING))
        before = matching.left
        found = all(not any(broken(v, self.limits, matching)) for v in values)
        work.spend(_MATCHING * (before - matching.left))
        return found


class _Text(Acceptor):
    kinds = frozenset({str})

    def __init__(self, expr: Text, depth: int = 0) -> None:
        super().__init__(expr, depth)
        self._pattern = re.compile(TEXTS[expr.name][1])

    def _inner(self, values: list[Any], work: Work) -> bool:
        work.spend(sum(map(len, values)) // 8)
        return all(map(self._pattern.fullmatch, values))


class _Named(Acceptor):
    """What a client described: a type that may contain itself, so made when needed."""

    def __init__(self, expr: SchemaType | Reference, depth: int = 0) -> None:
        super().__init__(expr, depth)
        self._scope = scope_of(expr)
        self._name = expr.name
        self._known = self._scope.types[expr.name]
        values = self._known.choices
        self.kinds = frozenset(map(type, values) if values else {dict})
        # A reference is part of what has looked at the depth already.
        self._entry = _Any(ANY, depth) if isinstance(expr, SchemaType) else None
        self.is_open = not values

    @property
    def target(self) -> Acceptor:
        """What says whether values are as described."""
        ready, name = self._scope.ready, self._name
        if name not in ready:
            ready[name] = acceptor(self._known)
        made: Acceptor = ready[name]
        return made

    def accepts(self, values: list[Any], work: Work) -> bool:
        work.spend(_CALL)
        if not values:
            return True  # Here a description that refers to itself comes to an end.
        if self._entry and self.is_open and not self._entry.accepts(values, work):
            return False
        return self.target.accepts(values, work)


class _Dspy(Acceptor):
    def __init__(self, expr: DspyType, depth: int = 0) -> None:
        super().__init__(expr, depth)
        self.target = acceptor(expr.wire, depth)
        self.kinds = self.target.kinds
        self.is_open = self.target.is_open

    def accepts(self, values: list[Any], work: Work) -> bool:
        return self.target.accepts(values, work)


def _scalar(expr: Scalar, depth: int = 0) -> Acceptor:
    return _Any(expr, depth) if expr == ANY else _Plain(expr, depth)


_ACCEPTORS: dict[type, Callable[[Any, int], Acceptor]] = {
    Scalar: _scalar,
    Collection: _Collection,
    TupleType: _Tuple,
    DictType: _Dict,
    LiteralType: _Literal,
    UnionType: _Union,
    ObjectType: _Object,
    Limited: _Limited,
    Text: _Text,
    SchemaType: _Named,
    Reference: _Named,
    DspyType: _Dspy,
}
