"""What the commands print: plain text, with a little emphasis on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BOLD, _DIM, _GREEN, _YELLOW, _RED = "1", "2", "32", "33", "31"


class Console:
    """Writes to one stream.

    Args:
        stream: Where to.
        colour: Whether it understands ANSI sequences.
    """

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        self._stream = stream
        self._colour = colour

    def line(self, text: str = "") -> None:
        """Print one line, at once: it may be a pipe that somebody waits on."""
        print(text, file=self._stream, flush=True)

    def part(self, text: str) -> None:
        """Print without ending the line."""
        print(text, end="", file=self._stream, flush=True)

    def step(self, text: str) -> None:
        """Print a line of progress."""
        self.line(self.dim(f"· {text}"))

    def bold(self, text: str) -> str:
        """``text``, emphasised."""
        return self._in(_BOLD, text)

    def dim(self, text: str) -> str:
        """``text``, in the background."""
        return self._in(_DIM, text)

    def good(self, text: str) -> str:
        """``text``, green."""
        return self._in(_GREEN, text)

    def warning(self, text: str) -> str:
        """``text``, yellow."""
        return self._in(_YELLOW, text)

    def bad(self, text: str) -> str:
        """``text``, red."""
        return self._in(_RED, text)

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a table, its columns under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def console(environ: Mapping[str, str], stream: TextIO | None = None) -> Console:
    """The console of this process; ``NO_COLOR`` and pipes get plain text."""
    chosen: TextIO = sys.stdout if stream is None else stream
    plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return Console(chosen, colour=chosen.isatty() and not plain)
