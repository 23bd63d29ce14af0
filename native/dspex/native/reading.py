"""Looking for what is wrong with a value, and converting it in the ``lax`` mode.

Only what `dspex.native.accepting` refused comes here, and of a long list only the
stretches that it refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import nearest
from dspex.contracts.signatures import Fault
from dspex.native.accepting import identity
from dspex.native.scalars import NO, read
from dspex.native.showing import expected, shown, under
from dspex.native.tokens import shortened
from dspex.native.types import (
    ANY,
    NONE,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    UnionType,
)
from dspex.native.work import CHECK_LIMIT, MATCH_LIMIT, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dspex.native.accepting import Acceptor

FAULT_LIMIT = 20
"""The most faults listed; at the next one checking stops and says so."""

_STRETCH = 256
_SLOW = 40
# Comparing two names may take a third of a millisecond.
_COMPARISONS = 100


class Enough(Exception):
    """There are more faults than are listed."""


class Run:
    """The faults of one check, or of one alternative of a union.

    Args:
        lax: Whether to convert what can be converted without a guess.
        limit: How many faults are listed; none to stop at the first one.
        work: What may be done.

    Attributes:
        lax: See the arguments.
        faults: The faults listed so far.
        work: See the arguments.
        matching: What may be done to match patterns.
    """

    def __init__(
        self, *, lax: bool = False, limit: int = FAULT_LIMIT, work: Work | None = None
    ) -> None:
        self.lax = lax
        self.faults: list[Fault] = []
        self.work = work or Work(CHECK_LIMIT)
        self.matching = Work(MATCH_LIMIT)
        self._limit = limit
        self._comparisons = _COMPARISONS
        self._expected: dict[int, str] = {}

    def fault(
        self,
        path: str,
        found: Any,
        allowed: str | Acceptor,
        more: Callable[[], str] = str,
    ) -> None:
        """Note a fault.

        Args:
            path: Where.
            found: The value there; ``NO`` for none.
            allowed: What is allowed there, in words or as a type.
            more: Says what to do about it.

        Raises:
            Enough: So many are listed already.
        """
        if len(self.faults) >= self._limit:
            raise Enough
        words = allowed if isinstance(allowed, str) else self._words(allowed)
        there = "nothing" if found is NO else shown(found)
        is_there = "is missing" if found is NO else f"is {there}"
        message = f"{path} {is_there}; allowed: {words}. {more()}".rstrip()
        self.faults.append(
            Fault(path=path, found=there, expected=words, message=message)
        )

    def near(self, name: str, names: Sequence[str]) -> str:
        """Say which of some names is meant, as long as there is time to compare."""
        names = [one for one in names if len(one) <= 80][: self._comparisons]
        self._comparisons -= len(names)
        return nearest(shortened(name), names) if names else ""

    def _words(self, allowed: Acceptor) -> str:
        # A type may be as long as a novel, and be broken at every element.
        words = self._expected.get(id(allowed))
        if words is None:
            words = self._expected[id(allowed)] = expected(allowed.expr)
        return words


def read_value(run: Run, node: Acceptor, value: Any, path: str) -> Any:
    """Read a value of a type and note its faults.

    Returns:
        The value in its JSON form; without a meaning if there are faults.

    Raises:
        Enough: There are more faults than are listed.
        TooMuch: It takes more than may be done.
    """
    run.work.spend(_SLOW)
    return _READERS[type(node.expr)](run, node, value, path)


def _scalar(run: Run, node: Any, value: Any, path: str) -> Any:
    name = node.expr.name
    found = read(name, value, lax=run.lax)
    if found is NO:
        run.fault(path, value, node, lambda: "" if run.lax else _lenient(name, value))
    return found


def _lenient(name: str, value: Any) -> str:
    found = read(name, value, lax=True)
    return "" if found is NO else f"The lax mode reads it as {shown(found)}."


def suspects(
    values: Sequence[Any], fine: Callable[[Sequence[Any]], bool]
) -> Iterator[int]:
    """Yield the indices of all values but those of stretches that are fine."""
    for start in range(0, len(values), _STRETCH):
        stretch = values[start : start + _STRETCH]
        if len(values) == 1 or not fine(stretch):
            yield from range(start, start + len(stretch))


def _each(
    run: Run, node: Acceptor, values: list[Any], path: Callable[[int], str]
) -> list[Any]:
    found = list(values)
    for i in suspects(values, lambda some: node.accepts(list(some), run.work)):
        found[i] = read_value(run, node, values[i], path(i))
    return found


def _collection(run: Run, node: Acceptor, value: Any, path: str) -> Any:
    if not isinstance(value, list):
        run.fault(path, value, node)
        return NO
    item = node.parts[0]
    found = _each(run, item, value, lambda i: f"{path}[{i}]")
    if node.expr.kind == "list":  # type: ignore[attr-defined]  # a Collection
        return found
    for i, element in enumerate(found if item.expr == ANY else ()):
        # Read as it is, an array becomes a list, which no set can hold.
        if isinstance(element, list):
            run.fault(f"{path}[{i}]", element, "a value without parts, in a set")
    return _unique(run, found, path)


def _unique(run: Run, values: list[Any], path: str) -> list[Any]:
    seen: dict[str, int] = {}
    found: list[Any] = []
    for i, value in enumerate(values):
        run.work.spend(_SLOW)
        if value is NO:
            continue
        key = identity(value)
        if key is None:
            run.fault(f"{path}[{i}]", value, "a value without parts, in a set")
        elif key not in seen:
            seen[key] = i
            found.append(value)
        elif not run.lax:
            first = f"{path}[{seen[key]}]"
            run.fault(f"{path}[{i}]", value, f"an element unlike {first}, in a set")
    return found


def _tuple(run: Run, node: Any, value: Any, path: str) -> Any:
    items = node.expr.items
    if not isinstance(value, list):
        run.fault(path, value, node)
        return NO
    if items is None or node.expr.variadic:
        return _each(run, node.parts[0], value, lambda i: f"{path}[{i}]")
    if len(items) != len(value):
        run.fault(path, value, node)
        return NO
    pairs = zip(node.parts, value, strict=True)
    return [
        read_value(run, part, v, f"{path}[{i}]") for i, (part, v) in enumerate(pairs)
    ]


def _dict(run: Run, node: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        run.fault(path, value, node)
        return NO
    keys = list(value)

    def where(i: int) -> str:
        return under(path, str(keys[i]))

    def fine(some: Sequence[Any]) -> bool:
        run.work.spend(_SLOW)
        return bool(node.takes(some, run.work))

    for i in suspects(keys, fine):
        if not fine([keys[i]]):
            wanted = node.expr.key.describe() if node.expr.key else "str"
            run.fault(where(i), keys[i], f"a key that spells {shortened(wanted, 200)}")
    found = _each(run, node.parts[-1], list(value.values()), where)
    return dict(zip(keys, found, strict=True))


def _literal(run: Run, node: Any, value: Any, path: str) -> Any:
    if node.accepts([value], run.work):
        return value
    names = [v for v in node.expr.values if isinstance(v, str)]

    def guess() -> str:
        near = run.near(value, names) if isinstance(value, str) else ""
        return near.partition(" Allowed:")[0] if near.startswith("Did") else ""

    run.fault(path, value, node, guess)
    return NO


def _union(run: Run, node: Acceptor, value: Any, path: str) -> Any:
    meant = _meant(node, value)
    if meant is not None and type(value) in (list, dict):
        return read_value(run, meant, value, path)
    for lax in (False, True) if run.lax else (False,):
        for part in node.parts:
            found = _attempt(run, part, value, lax=lax)
            if found is not NO:
                return found
    if meant is None:
        run.fault(path, value, node)
        return NO
    return read_value(run, meant, value, path)


def _attempt(run: Run, part: Acceptor, value: Any, *, lax: bool) -> Any:
    if part.accepts([value], run.work):
        return value
    try:
        return read_value(Run(lax=lax, limit=0, work=run.work), part, value, "")
    except Enough:
        return NO


def _meant(node: Acceptor, value: Any) -> Acceptor | None:
    # The faults inside the one alternative that was meant say more than "neither".
    alike = [part for part in node.parts if type(value) in part.kinds]
    others = [part for part in node.parts if part.expr != NONE]
    if len(alike) == 1 and type(value) in (list, dict):
        return alike[0]
    return others[0] if len(others) == 1 else None


_READERS: dict[type, Callable[[Run, Any, Any, str], Any]] = {
    Scalar: _scalar,
    Collection: _collection,
    TupleType: _tuple,
    DictType: _dict,
    LiteralType: _literal,
    UnionType: _union,
}
