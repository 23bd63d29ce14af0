"""The tokens of passages, in which answers are looked for as DSPy does it."""

from __future__ import annotations

import unicodedata


def split_tokens(normal: str) -> str:
    """Return the tokens in which DSPy looks for an answer, a space between them.

    They are those of the tokeniser of DPR, dense passage retrieval: letters, digits
    and marks together, everything else that shows alone.

    Args:
        normal: A normalised text.
    """
    if normal.isascii() and normal.isprintable():
        return normal
    # Without punctuation marks may stand in another order than NFD has them in.
    spaced = unicodedata.normalize("NFD", normal).translate(_SPACED)
    return " ".join(spaced.lower().split())


class _Spaced(dict[int, str]):
    """What each character becomes before a text is split into tokens."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)[0]
        if kind in "LNM":
            found = character
        else:
            found = " " if kind in "ZC" else f" {character} "
        if len(self) < _CHARACTERS_REMEMBERED:
            self[code] = found
        return found


_CHARACTERS_REMEMBERED = 20_000
_SPACED = _Spaced()
