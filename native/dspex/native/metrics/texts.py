"""How texts are compared: compiled where that was built, else in Python.

Both give the same, so nothing but the time tells which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from dspex.native.metrics import counting, letters, normalising, passages


class Words(Protocol):
    """The words of an answer."""

    def overlap(self, words: Any, /) -> counting.Overlap:
        """Return F1, precision and recall of the words of a prediction."""
        ...


class Texts(Struct, frozen=True):
    """One way to compare texts.

    Attributes:
        name: ``compiled`` or ``pure``.
        normalize_text: Returns a text as DSPy compares it, such as ``eiffel tower``.
        words_of: Returns the words of a prediction, for one answer.
        is_verdict: Says whether the only one of those is a verdict.
        counted: Returns them for many answers: each takes as long as it is itself.
        count: Makes the `Words` of a normalised answer.
        passage_words: Returns the tokens of a text, in which answers are looked for.
    """

    name: str
    normalize_text: Callable[[str], str]
    words_of: Callable[[str], Any]
    is_verdict: Callable[[Any], bool]
    counted: Callable[[Any], Any]
    count: Callable[[str], Words]
    passage_words: Callable[[str], str]


PURE = Texts(
    "pure",
    normalising.normalize_text,
    counting.words_of,
    counting.is_verdict,
    lambda words: words,
    counting.Words,
    lambda text: passages.split_tokens(normalising.normalize_text(text)),
)


def _compiled() -> Texts | None:
    try:
        from dspex.native.metrics import _text
    except ImportError:  # not built: there was no compiler, or it was not wanted
        return None
    normalize, slower = _text.normalize, normalising.normalize_text
    tokens = _text.tokens
    _text.learn_from(letters.describe)

    def normalize_text(text: str) -> str:
        found = normalize(text)
        return slower(text) if found is None else found

    def passage_words(text: str) -> str:
        normal = normalize_text(text)
        if normal.isascii() and normal.isprintable():
            return normal
        found = tokens(normal)
        return passages.split_tokens(normal) if found is None else found

    return Texts(
        "compiled",
        normalize_text,
        normalize_text,
        counting.VERDICTS.__contains__,
        _text.Words,
        _text.Words,
        passage_words,
    )


COMPILED = _compiled()
"""The compiled way, if it was built."""

TEXTS = COMPILED or PURE
"""The way taken."""

normalize_text = TEXTS.normalize_text
