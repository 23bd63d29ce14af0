"""JSON as language models write it: read if it is sound, else repaired.

DSPy repairs JSON with the library ``json_repair``, so what comes out is what DSPy
would see. Its time grows with the square of what a hostile text repeats, so a long
text is read through a meter.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import json_repair
import msgspec

from dspex.native.work import TooMuch, Work

REPAIR_LIMIT = 65_536
"""The longest text that is repaired, in characters."""
REPAIR_STEPS = 200_000
"""The most characters looked at to repair the texts of one reply, together."""

_UNMETERED = 512
_LITERAL_LIMIT = 8192
_PAGE = 4096

# Without one of these no value of JSON starts for `json_repair`.
_STARTS = re.compile("[\\[{(\"'\u201c\u201d#/]")
_FENCED = re.compile(r"\s*```(?:json)?\s*(\{.*\})\s*```\s*", re.DOTALL)
_BRACES = re.compile("[{}]")
_CONSTANTS = {"True": True, "False": False, "None": None}

_decode = msgspec.json.Decoder().decode


def loads(text: str, work: Work) -> Any:
    """Read JSON, repaired if need be, as ``json_repair.loads`` does.

    Args:
        text: The text.
        work: What may be done to repair it.

    Returns:
        The value; an empty string if there is none.

    Raises:
        TooMuch: The text is too long or too knotty to be repaired.
        ValueError: It is nested too deep.
        RecursionError: Likewise.
    """
    found = sound(text)
    if found is not None or text == "null":
        return found
    if not _STARTS.search(text):
        return _plain(text)
    fenced = _FENCED.fullmatch(text)
    found = sound(fenced[1]) if fenced else None
    return _repaired(text, work) if found is None else found


def sound(text: str) -> Any:
    """Return the value of sound JSON; None for ``null``, and for all else.

    Some that Python takes for JSON, such as ``NaN``, is not sound.
    """
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        return None


def candidate(text: str, work: Work) -> Any:
    """Read JSON, else a literal of Python, else the text itself.

    Args:
        text: The text.
        work: What may be done to repair it.

    Raises:
        TooMuch: The text is too long or too knotty to be repaired.
        ValueError: It is nested too deep.
        RecursionError: Likewise.
        MemoryError: Likewise.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    found = loads(text, work)
    if found != "" or text == "":
        return found
    if len(text) > _LITERAL_LIMIT or (text.isascii() and text.isidentifier()):
        return text
    try:
        # It reads literals and runs nothing; its depth is bounded by the length.
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def braces(text: str) -> str | None:
    """Return the first part of a text with as many ``}`` as ``{``, if there is one."""
    opened: list[int] = []
    found: tuple[int, int] | None = None
    for brace in _BRACES.finditer(text):
        at = brace.start()
        if text[at] == "{":
            opened.append(at)
        elif opened:
            start = opened.pop()
            if found is None or start < found[0]:
                found = start, at + 1
            if not opened:
                break
    return None if found is None else text[found[0] : found[1]]


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return ""


def _repaired(text: str, work: Work) -> Any:
    if len(text) <= _UNMETERED:
        work.spend(len(text))
        return json_repair.loads(text)
    if len(text) > REPAIR_LIMIT:
        raise TooMuch
    return _bare(json_repair.loads(_metered(text, work)))


class _Metered(str):
    """A text that counts how often it is looked at."""

    __slots__ = ("work",)

    work: Work

    def __getitem__(self, key: Any) -> str:
        found = str.__getitem__(self, key)
        if not isinstance(key, slice):
            self.work.spend(1)
            return found
        self.work.spend(1 + len(found) // _PAGE)
        # `json_repair` mends a text by joining its beginning with something else.
        return found if key.start is not None else _metered(found, self.work)

    def __add__(self, more: str) -> str:
        return _metered(str.__add__(self, more), self.work)


def _metered(text: str, work: Work) -> _Metered:
    found = _Metered(text)
    found.work = work
    return found


def _bare(value: Any) -> Any:
    """Return a value whose texts are plain ones."""
    if isinstance(value, dict):
        return {_bare(key): _bare(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return str(value) if isinstance(value, _Metered) else value
