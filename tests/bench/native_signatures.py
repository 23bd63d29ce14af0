"""How much sooner than DSPy a signature's text is read."""

from __future__ import annotations

import time
from itertools import islice, product, repeat
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy
from tests.bench.measure import middle
from tests.bench.results import Bar, Findings, Result

from dspex.contracts.native_requests import ParseSignature
from dspex.native.operations import parse_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.rig import Rig

ROUNDS = 9
CALLS = 20
"""Calls of DSPy in a round."""

_theirs: Any = dspy.Signature  # its metaclass reads a text that its type does not take


class Case(NamedTuple):
    """A signature.

    Attributes:
        name: What kind of one.
        text: Its text, with ``#`` where letters make it a new one.
    """

    name: str
    text: str


CASES = (
    Case("short", "question# -> answer"),
    Case("typed", "question#, context: list[str] -> answer: str, confidence: float"),
    Case(
        "nested",
        "text#: str, limit: int -> entities: dict[str, list[str]], "
        "kind: Literal['person', 'place', 'other'], score: Optional[float]",
    ),
)


async def native_signatures(_: Rig | None) -> Findings:
    """Signatures seen for the first time and seen before, against DSPy's own reader."""
    return Findings(
        results=[_compared(case, cold=cold) for case in CASES for cold in (True, False)]
    )


def _compared(case: Case, *, cold: bool) -> Result:
    new = map("".join, product(ascii_lowercase, repeat=5)) if cold else repeat("")
    ratios, spent = [], []
    for _ in range(ROUNDS + 1):
        many = CALLS * (10 if cold else 100)
        native = _timed(_ours, _texts(case, many, new))
        slow = _timed(_theirs, _texts(case, CALLS, new))
        ratios.append(slow / native)
        spent.append(native)
    value, spread = middle(ratios[1:])
    typical, _ = middle(spent[1:])
    seen = "each seen for the first time" if cold else "seen before"
    return Result(
        name=f"native_signature_{case.name}_{'cold' if cold else 'cached'}",
        value=value,
        unit="x",
        bar=Bar(50.0, at_least=True),
        spread=spread,
        how=f"CPU time of `dspy.Signature(text)` over that of `signature.parse`, texts "
        f"{seen}, in turns in one process, {ROUNDS} rounds; ours takes "
        f"{typical * 1e6:.2f} µs.",
    )


def _texts(case: Case, many: int, letters: Iterator[str]) -> list[str]:
    return [case.text.replace("#", one) for one in islice(letters, many)]


def _ours(text: str) -> object:
    return parse_signature(ParseSignature(signature=text))


def _timed(call: Callable[[str], object], texts: list[str]) -> float:
    begun = time.process_time_ns()
    for text in texts:
        call(text)
    return (time.process_time_ns() - begun) / 1e9 / len(texts)
