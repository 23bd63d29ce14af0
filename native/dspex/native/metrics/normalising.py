"""Texts made comparable, exactly as DSPy's ``normalize_text`` does it.

That is: Unicode NFD, lower case, no ASCII punctuation, no English article, one space
between words. Most texts are ASCII, and there one table does almost all of it.
`_text.c` does the same faster, for all but a few of the others too.
"""

from __future__ import annotations

import re
import string
import unicodedata

ARTICLES = frozenset(("a", "an", "the"))
"""The words that do not count."""


def normalize_text(text: str) -> str:
    """Return a text as DSPy compares it, such as ``eiffel tower``."""
    plain = _plain(text)
    if plain is None:
        return " ".join(_normalized(text).split())
    if " " not in plain:
        return "" if plain in ARTICLES else plain
    plain = f" {plain} "
    if "  " in plain:
        plain = f" {' '.join(plain.split())} "
    # Again while there are some: of two neighbours one pass sees the first only.
    while " a " in plain:
        plain = plain.replace(" a ", " ")
    while " an " in plain:
        plain = plain.replace(" an ", " ")
    while " the " in plain:
        plain = plain.replace(" the ", " ")
    return plain[1:-1]


def split_words(text: str) -> list[str]:
    """Return the words of a normalised text; articles may still be among them."""
    plain = _plain(text)
    return _normalized(text).split() if plain is None else plain.split()


_PUNCTUATION = string.punctuation.encode()


def _table() -> bytes:
    # Lower case, every white space a space, and every other control a NUL.
    table = bytearray(bytes(range(256)).lower())
    for code in range(128):
        if chr(code).isspace():
            table[code] = ord(" ")
        elif not chr(code).isprintable():
            table[code] = 0
    return bytes(table)


_TABLE = _table()


def _plain(text: str) -> str | None:
    """Return an ASCII text in lower case without punctuation; ``None`` for others."""
    if not text.isascii():
        return None
    plain = text.encode().translate(_TABLE, _PUNCTUATION).decode()
    # Words end at controls too, but controls stay: that needs the longer way.
    return None if "\0" in plain else plain


# Each begins with letters, which the search for them is fastest with.
_WORD_THE = re.compile(r"the\b(?<=\bthe)")
_WORD_AN = re.compile(r"an\b(?<=\ban)")
_WORD_A = re.compile(r"a\b(?<=\ba)")


def _normalized(text: str) -> str:
    """Return any text normalised, but for its white space."""
    lower = unicodedata.normalize("NFD", text).lower()
    # In UTF-8 no byte of ASCII is part of another character.
    kept = lower.encode("utf-8", "surrogatepass").translate(None, _PUNCTUATION)
    plain = kept.decode("utf-8", "surrogatepass")
    plain = _WORD_THE.sub(" ", plain)
    plain = _WORD_AN.sub(" ", plain)
    return _WORD_A.sub(" ", plain)
