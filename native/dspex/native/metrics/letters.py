"""What characters become when texts are compared, for `_text.c` to remember."""

from __future__ import annotations

import string
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Letter = tuple[bytes, int, int, int, int]
"""A character in NFD and lower case, as UTF-8; what its characters are in a text and
what in a passage, two bits each; combining classes of its first one and its last."""

OTHER, WORD, BLANK, NOTHING = range(4)
"""What a character may be: it stays, it makes words, it parts them, it is dropped."""

MOST_BYTES = 11
"""Longer ones, which are signs of music, are left to `normalising`."""


def describe(code: int) -> Letter | None:
    """Return what a character becomes; ``None``: that depends on its neighbours."""
    parts = unicodedata.normalize("NFD", chr(code))
    lower = parts.lower()
    written = lower.encode()
    # A capital sigma becomes another letter at the end of a word.
    if "\u03a3" in parts or len(lower) != len(parts) or len(written) > MOST_BYTES:
        return None
    return (
        written,
        _packed(map(_in_text, lower)),
        _packed(map(_in_passage, parts)),
        unicodedata.combining(parts[0]),
        unicodedata.combining(parts[-1]),
    )


def _in_text(character: str) -> int:
    if character in string.punctuation:
        return NOTHING
    if character.isspace():
        return BLANK
    return WORD if character.isalnum() else OTHER


def _in_passage(character: str) -> int:
    kind = unicodedata.category(character)[0]
    if kind in "ZC":
        return BLANK
    return WORD if kind in "LNM" else OTHER


def _packed(kinds: Iterable[int]) -> int:
    return sum(kind << 2 * place for place, kind in enumerate(kinds))
