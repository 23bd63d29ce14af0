"""The sections of a reply in DSPy's chat format: ``[[ ## field ## ]]`` begins one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

COMPLETED = "completed"
"""What follows the last field is marked as."""

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_START = "[[ ## "
_END = " ## ]]"
_ODD = "\x85\u2028\u2029"
_LINE_STARTS = ("\n", "")
_LONG = 1000
_BRACKETS = 100


class Sections:
    """Finds the sections of the replies to one signature.

    Args:
        names: The fields, in order; what belongs to others is left out.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        first, *others = [f"{_START}{name}{_END}\n" for name in names] or [""]
        self._first = first
        self._start = len(first) - 1
        self._count = len(others) + 2
        marks = [f"\n{other}" for other in others]
        marks.append(f"\n{_START}{COMPLETED}{_END}")
        self._following = [
            # The newline that ends a header may be the one before the next.
            (name, mark, len(mark) - 1)
            for name, mark in zip(names, marks, strict=False)
        ]

    def find(self, text: str) -> dict[str, str]:
        """Return the first section of each field, as ``ChatAdapter.parse`` finds it.

        Args:
            text: The reply.
        """
        if _has_odd_lines(text):
            text = "\n".join(text.splitlines())
        return self.exact(text) or self._by_headers(text)

    def exact(self, text: str) -> dict[str, str] | None:
        """Return all sections of what most replies are, and nothing for the others.

        Those have exactly the headers asked for, in their order, and are short.

        Args:
            text: The reply.
        """
        if not text.startswith(self._first) or len(text) >= _LONG:
            return None
        if text.count(_START) != self._count or _has_odd_lines(text):
            return None
        found: dict[str, str] = {}
        start = self._start
        for name, mark, width in self._following:
            end = text.find(mark, start)
            if end < 0:
                return None
            found[name] = text[start:end].strip()
            start = end + width
        return found

    def _by_headers(self, text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        before, *parts = _split(text)
        for part in parts:
            name, mark, value = part.partition(_END)
            # Only a header that begins its line is as simple as this.
            if not mark or before[-1:] not in _LINE_STARTS:
                return by_lines(text, self._names)
            if name in self._names:
                if name not in found:
                    found[name] = _stripped(value)
            elif name != COMPLETED:
                return by_lines(text, self._names)
            before = part
        return found


def _has_odd_lines(text: str) -> bool:
    """Say whether a line ends with something else than a newline."""
    # Written out: a loop takes as long as all the rest of a short reply.
    if "\r" in text or "\v" in text or "\f" in text:
        return True
    if "\x1c" in text or "\x1d" in text or "\x1e" in text:
        return True
    return not text.isascii() and any(character in text for character in _ODD)


def _split(text: str) -> list[str]:
    """Split a text as ``text.split(_START)``."""
    if len(text) < _LONG:
        return text.split(_START)
    # In a long text one character is found fifty times as fast as several.
    parts: list[str] = []
    start, at = 0, text.find("[")
    for _ in range(_BRACKETS):
        if at < 0:
            return [*parts, text[start:]]
        if text.startswith(_START, at):
            parts.append(text[start:at])
            start = at + len(_START)
            at = start - 1
        at = text.find("[", at + 1)
    return text.split(_START)


def _stripped(value: str) -> str:
    if value[:1] != "\n":
        first, _, rest = value.partition("\n")
        value = f"{first.strip()}\n{rest}"
    return value.strip()


def by_lines(text: str, names: Collection[str]) -> dict[str, str]:
    """Return the first section of each field, looking at one line after another.

    Args:
        text: The reply.
        names: The fields.
    """
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        header = _HEADER.match(line.strip())
        if header is None:
            current.append(line)
            continue
        # DSPy looks at the stripped line and cuts the line as it is.
        rest = line[header.end() :].strip()
        current = [rest] if rest else []
        if header[1] in names and header[1] not in found:
            found[header[1]] = current
    return {name: "\n".join(lines).strip() for name, lines in found.items()}
