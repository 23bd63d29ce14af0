"""What a metric is, and what all of them ask of predictions and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from dspex.contracts.failures import BadRequest

Score = Callable[[Any, Any], float]
"""Gives the score of a prediction, held against an answer or a list of them."""

Explain = Callable[[Any, Any], tuple[float, dict[str, Any]]]
"""Gives the score and what else there is to say."""

Summarise = Callable[[Sequence[Any], Sequence[Any]], dict[str, Any]]
"""Says something of all predictions and all answers together."""


class NoParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metric that lets one choose nothing."""


class Metric(Struct, frozen=True, kw_only=True):
    """One metric.

    Attributes:
        name: What a request calls it.
        takes: What the prediction and the answers are, for the documentation.
        gives: What the score says, for the documentation.
        source: Where its rules come from, for the documentation.
        make: Given parameters, makes what scores.
        parameters: What it lets one choose.
        explain: Makes what also gives the details of one score, if there are any.
        details: What those are, for the documentation.
        summarise: Makes what gives the details of a batch, if there are any.
        summary: What those are, for the documentation.
    """

    name: str
    takes: str
    gives: str
    source: str
    make: Callable[[Any], Score]
    parameters: type[Struct] = NoParameters
    explain: Callable[[Any], Explain] | None = None
    details: str = ""
    summarise: Callable[[Any], Summarise] | None = None
    summary: str = ""


def text_of(prediction: Any) -> str:
    """Return a prediction that is to be a text.

    Raises:
        BadRequest: It is none.
    """
    if type(prediction) is str:
        return prediction
    raise misfit("prediction", prediction, "a text")


def alternatives(answers: Any) -> list[Any]:
    """Return a list of answers, or a single answer as a list.

    Raises:
        BadRequest: The list is empty.
    """
    if type(answers) is not list:
        return [answers]
    if answers:
        return answers
    raise BadRequest(
        "There is no answer to hold the prediction against; at least one is needed.",
        field="answers",
        hint="Send a value, or a list of alternatives.",
    )


def texts_of(answers: Any) -> list[str]:
    """Return the answers, which are to be a text or a list of texts.

    Raises:
        BadRequest: They are not, or there is none.
    """
    found = answers if type(answers) is list and answers else alternatives(answers)
    for answer in found:
        if type(answer) is not str:
            raise misfit("answers", answer, "a text or a list of texts")
    return found


def misfit(side: str, value: Any, wanted: str) -> BadRequest:
    """Make the failure for a value that a metric cannot be asked about.

    Args:
        side: Where it is: ``prediction`` or ``answers``.
        value: The value.
        wanted: What is allowed, such as ``a text``.
    """
    return BadRequest(
        f"This metric takes {wanted} there, not {_kind(value)}.",
        field=side,
        hint="See what the metric takes in the documentation of the metrics.",
    )


class Budget:
    """How many pairs of characters or words one request may have compared."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = PAIR_LIMIT

    def spend(self, one: int, other: int) -> None:
        """Take what comparing two sequences costs from what is left.

        Args:
            one: Length of the one.
            other: Length of the other.

        Raises:
            BadRequest: There was not so much.
        """
        # The machine compares 64 pairs at a time; a call costs as well.
        self._take(one * max(other, 64) + _CALL)

    def search(self, text: str, answers: int) -> None:
        """Take what looking for some answers in one text costs.

        Raises:
            BadRequest: As above.
        """
        # The first is free: texts themselves are bounded by the size of messages.
        self._take(len(text) * (answers - 1) * _CHARACTER)

    def look(self, fields: int) -> None:
        """Take what looking for fields costs that an answer does not have itself.

        Raises:
            BadRequest: As above.
        """
        self._take(max(0, fields) * _FIELD)

    def _take(self, pairs: int) -> None:
        self._left -= pairs
        if self._left < 0:
            raise BadRequest(
                "The values are too long to compare: the lengths of each two, "
                f"multiplied, may together be at most {PAIR_LIMIT:,}.",
                field="prediction",
                hint="Send fewer or shorter values, or fewer `fields`, in one request.",
            )


PAIR_LIMIT = 10_000_000_000
"""The most pairs compared for one request, which takes about a second."""

_CALL = 1000
_CHARACTER = 16
_FIELD = 10_000


_KINDS = {
    str: "a text",
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    type(None): "null",
    list: "an array",
    dict: "an object",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def same(one: Any, other: Any) -> bool:
    """Say whether two JSON values are equal: 3 is 3.0, but true is not 1."""
    # A stack of our own: nested values may be deeper than Python's.
    pairs = [(one, other)]
    while pairs:
        one, other = pairs.pop()
        if type(one) is dict and type(other) is dict:
            if one.keys() != other.keys():
                return False
            pairs += [(part, other[key]) for key, part in one.items()]
        elif type(one) is list and type(other) is list:
            if len(one) != len(other):
                return False
            pairs += zip(one, other, strict=True)
        elif not _alike(one, other):
            return False
    return True


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (dict, list)) or isinstance(other, (dict, list)):
        return False
    return bool(one == other)


def parsed(text: str) -> Any:
    """Read a text as JSON; ``msgspec.UNSET`` where it is none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.UNSET
