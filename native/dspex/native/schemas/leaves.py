"""What schemas ask of single values: equality, multiples, patterns, formats."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from jsonschema_rs import Draft202012Validator, RegexOptions

from dspex.native.schemas.nodes import DEPTH_LIMIT, TooDeep

if TYPE_CHECKING:
    from dspex.native.work import Work

FORMATS = (
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
)
"""The formats that are checked; any other one is a remark."""

PATTERN_LIMIT = 2000
"""The longest pattern, in characters."""

# How large a pattern may become, in bytes, and what a character of text may cost
# then, in steps: an automaton follows up to one way for each of its states.
_SIZES = ((4_000, 1), (16_000, 4), (64_000, 16), (256_000, 64))
_REMEMBERED = 256_000
_CHARACTERS_PER_STEP = 16
_DIGITS_PER_STEP = 64


class UnusablePattern(ValueError):
    """A pattern cannot be searched in a time that grows with the text alone."""


class Matcher(NamedTuple):
    """A pattern ready to search with.

    Attributes:
        text: The pattern.
        size: What it weighs in memory, bytes.
        price: Steps for each character.
        engine: What searches: Rust's ``regex``, which never goes back in the text.
    """

    text: str
    size: int
    price: int
    engine: Draft202012Validator

    def search(self, text: str, work: Work) -> bool:
        """Say whether it is found anywhere in a text.

        Raises:
            dspex.native.work.TooMuch: It could take too long to tell.
        """
        work.spend(1 + len(text) * self.price)
        return _asks(self.engine, text)


def matcher(text: str) -> Matcher:
    """Make a pattern ready.

    Raises:
        UnusablePattern: It is no regular expression, or looks around or back, or is
            too large.
    """
    if len(text) > PATTERN_LIMIT:
        raise UnusablePattern(f"it is longer than {PATTERN_LIMIT} characters")
    for size, price in _SIZES:
        options = RegexOptions(size_limit=size, dfa_size_limit=_REMEMBERED)
        try:
            engine = Draft202012Validator({"pattern": text}, pattern_options=options)
        except ValueError:
            continue
        return Matcher(text, size, price, engine)
    raise UnusablePattern(
        "it is no regular expression, or looks around or back, or has too large counts"
    )


_ENGINES = {
    name: Draft202012Validator({"format": name}, validate_formats=True, offline=True)
    for name in FORMATS
}


def has_format(name: str, text: str, work: Work) -> bool:
    """Say whether a text is of a format.

    Args:
        name: One of `FORMATS`.
        text: The text.
        work: What may be done.

    Raises:
        dspex.native.work.TooMuch: It could take too long to tell.
    """
    work.spend(1 + len(text) // _CHARACTERS_PER_STEP)
    return _asks(_ENGINES[name], text)


def _asks(engine: Draft202012Validator, text: str) -> bool:
    try:
        return engine.is_valid(text)
    except UnicodeEncodeError:
        return False  # Half of a surrogate pair is no character.


def identity(value: Any, work: Work, depth: int = 0) -> Any:
    """Return something that two JSON values share exactly if they are equal.

    Numbers go by value, so that 3 is 3.0, and true is not 1. They are written down,
    for a client can choose numbers that share a place in a set, but not texts.

    Raises:
        dspex.native.work.TooMuch: The value is too large.
        TooDeep: It is nested too deep.
    """
    work.spend(1)
    if isinstance(value, (str, bool)) or value is None:
        return value
    if isinstance(value, (int, float)):
        return _written(value, work)
    if depth >= DEPTH_LIMIT:
        raise TooDeep
    if isinstance(value, list):
        return "array", *(identity(item, work, depth + 1) for item in value)
    if isinstance(value, dict):
        pairs = ((n, identity(value[n], work, depth + 1)) for n in sorted(value))
        return "object", *pairs
    return "other", id(value)


def _written(number: float, work: Work) -> bytes:
    # Bytes are no text of the value, and nothing to look after for the collector.
    if isinstance(number, float):
        if not number.is_integer():
            return repr(number).encode()
        number = int(number)
    work.spend(number.bit_length() // _DIGITS_PER_STEP)
    return hex(number).encode()


def is_multiple(value: float, of: float, work: Work) -> bool:
    """Say whether a number is a multiple of another, by their decimal digits.

    So 0.3 is a multiple of 0.1, though not in binary.

    Raises:
        dspex.native.work.TooMuch: The numbers are too large.
    """
    if isinstance(value, int) and isinstance(of, int):
        work.spend(1 + (value.bit_length() + of.bit_length()) // _DIGITS_PER_STEP)
        return value % of == 0
    work.spend(_DIGITS_PER_STEP)
    number, divisor = _fraction(value), _fraction(of)
    return number is not None and divisor is not None and number % divisor == 0


def _fraction(number: float) -> Fraction | None:
    if isinstance(number, int):
        return Fraction(number)
    return Fraction(repr(number)) if math.isfinite(number) else None
