"""The faults of a check, gathered within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import nearest
from dspex.contracts.signatures import Fault
from dspex.native.types.scalars import NO
from dspex.native.types.showing import expected, shown
from dspex.native.types.tokens import shortened
from dspex.native.work import CHECK_LIMIT, MATCH_LIMIT, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dspex.native.checking.accepting import Acceptor

FAULT_LIMIT = 20
"""The most faults listed; at the next one checking stops and says so."""

_STRETCH = 256
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
        matching: What may be done to match patterns.

    Attributes:
        lax: See the arguments.
        faults: The faults listed so far.
        work: See the arguments.
        matching: See the arguments.
    """

    def __init__(
        self,
        *,
        lax: bool = False,
        limit: int = FAULT_LIMIT,
        work: Work | None = None,
        matching: Work | None = None,
    ) -> None:
        self.lax = lax
        self.faults: list[Fault] = []
        self.work = work or Work(CHECK_LIMIT)
        self.matching = matching or Work(MATCH_LIMIT)
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


def suspects(
    values: Sequence[Any], fine: Callable[[Sequence[Any]], bool]
) -> Iterator[int]:
    """Yield the indices of all values but those of stretches that are fine."""
    for start in range(0, len(values), _STRETCH):
        stretch = values[start : start + _STRETCH]
        if len(values) == 1 or not fine(stretch):
            yield from range(start, start + len(stretch))
