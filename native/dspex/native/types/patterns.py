"""Regular expressions whose time grows with the text, never exponentially.

The ``re`` module backtracks: ``(a+)+$`` against thirty characters takes minutes, so
a pattern from a client must not reach it. This one follows all the ways a pattern
can go on at the same time (Thompson's construction), and has no look-around and no
back-references, which cannot be matched so.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NoReturn

from msgspec import Struct

from dspex.native.types.matching import Automaton, Step, is_word
from dspex.native.work import MATCH_LIMIT, Work

if TYPE_CHECKING:
    from collections.abc import Callable

PATTERN_LIMIT = 256
"""The longest pattern, in characters."""
PROGRAM_LIMIT = 1000
"""The most steps a pattern may come to, counted repeats written out."""
# A text so short for its pattern is matched with what earlier texts have taught;
# a longer one starts afresh, so that no answer depends on the texts before it.
_SHORT = 10_000
_KEPT = 1000
_REPEAT_LIMIT = 1000
_GROUP_LIMIT = 32


class PatternError(ValueError):
    """The pattern cannot be used; the message says why."""


class _Node(Struct, frozen=True):
    kind: Literal["one", "assert", "all", "any", "repeat"]
    parts: tuple[_Node, ...] = ()
    test: object = None
    where: str = ""
    least: int = 0
    most: int | None = None


class Pattern:
    """A pattern ready to search with.

    Args:
        text: The pattern.

    Raises:
        PatternError: It is too long, or uses what cannot be matched safely.
    """

    def __init__(self, text: str) -> None:
        if len(text) > PATTERN_LIMIT:
            raise PatternError(f"it is longer than {PATTERN_LIMIT} characters")
        self._steps: list[Step] = []
        self._emit(_Reader(text).whole())
        self._append(Step("match"))
        self._kept = Automaton(self._steps)

    @property
    def size(self) -> int:
        """How many steps it comes to."""
        return len(self._steps)

    @property
    def remembered(self) -> int:
        """How much of earlier texts is remembered."""
        return self._kept.size

    def search(self, text: str, work: Work | None = None) -> bool:
        """Say whether the pattern is found anywhere in the text.

        Args:
            text: Where to search.
            work: What may be done; by default what one check may do.

        Raises:
            dspex.native.types.matching.TooLong: It could take too long to tell.
        """
        work = work or Work(MATCH_LIMIT)
        most = len(text) * len(self._steps)
        if most > min(_SHORT, work.left):
            return Automaton(self._steps, work).search(text)
        work.spend(most)
        if self._kept.size > _KEPT:
            self._kept.forget()
        return self._kept.search(text)

    def _append(self, step: Step) -> int:
        if len(self._steps) >= PROGRAM_LIMIT:
            raise PatternError("it repeats too much; use smaller counts")
        self._steps.append(step)
        return len(self._steps) - 1

    def _emit(self, node: _Node) -> None:
        match node.kind:
            case "one":
                self._emit_one(node)
            case "assert":
                self._emit_assert(node)
            case "all":
                self._emit_all(node)
            case "any":
                self._emit_any(node)
            case "repeat":
                self._emit_repeat(node)

    def _emit_one(self, node: _Node) -> None:
        at = self._append(Step("match"))
        self._steps[at] = Step("one", test=node.test, ways=(at + 1,))  # type: ignore[arg-type]  # "one" nodes hold tests

    def _emit_assert(self, node: _Node) -> None:
        at = self._append(Step("match"))
        self._steps[at] = Step("assert", where=node.where, ways=(at + 1,))

    def _emit_all(self, node: _Node) -> None:
        for part in node.parts:
            self._emit(part)

    def _emit_any(self, node: _Node) -> None:
        fork = self._append(Step("match"))
        starts, ends = [], []
        for part in node.parts:
            starts.append(len(self._steps))
            self._emit(part)
            ends.append(self._append(Step("match")))
        self._steps[fork] = Step("split", ways=tuple(starts))
        for end in ends:
            self._steps[end] = Step("split", ways=(len(self._steps),))

    def _emit_repeat(self, node: _Node) -> None:
        for _ in range(node.least):
            self._copy(node)
        if node.most is None:
            fork = self._append(Step("match"))
            self._copy(node)
            again = self._append(Step("match"))
            self._steps[again] = Step("split", ways=(fork,))
            self._steps[fork] = Step("split", ways=(fork + 1, again + 1))
            return
        forks = []
        for _ in range(node.most - node.least):
            forks.append(self._append(Step("match")))
            self._copy(node)
        for fork in forks:
            self._steps[fork] = Step("split", ways=(fork + 1, len(self._steps)))

    def _copy(self, node: _Node) -> None:
        # One step of its own, so that repeating nothing counts as well.
        at = self._append(Step("match"))
        self._steps[at] = Step("split", ways=(at + 1,))
        self._emit(node.parts[0])


@lru_cache(maxsize=256)
def pattern(text: str) -> Pattern:
    """Prepare a pattern, or find it prepared.

    Raises:
        PatternError: It is too long, or uses what cannot be matched safely.
    """
    return Pattern(text)


_CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "w": is_word,
    "s": str.isspace,
    "D": lambda c: not c.isdecimal(),
    "W": lambda c: not is_word(c),
    "S": lambda c: not c.isspace(),
}
_ASSERTIONS = {"b": "border", "B": "inside", "A": "start", "Z": "end", "z": "end"}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}


class _Reader:
    """Reads a pattern into nodes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> _Node:
        found = self._choices()
        if self._at < len(self._text):
            self._refuse("there is a ')' too many")
        return found

    def _refuse(self, why: str) -> NoReturn:
        raise PatternError(f"{why} (at character {self._at + 1})")

    def _sees(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _skip(self, text: str) -> bool:
        found = self._sees(text)
        if found:
            self._at += len(text)
        return found

    def _take(self) -> str:
        if self._at >= len(self._text):
            self._refuse("it ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _choices(self) -> _Node:
        parts = [self._sequence()]
        while self._skip("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Node("any", tuple(parts))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return _Node("all", tuple(parts))

    def _repeated(self, node: _Node) -> _Node:
        counts = self._counts()
        if counts is None:
            return node
        if node.kind == "assert":
            self._refuse("a repeat has nothing to repeat")
        if self._sees("+"):
            self._refuse("possessive repeats are not supported")
        self._skip("?")  # A lazy repeat finds the same texts.
        if self._counts() is not None:
            self._refuse("a repeat is repeated")
        least, most = counts
        return _Node("repeat", (node,), least=least, most=most)

    def _counts(self) -> tuple[int, int | None] | None:
        for mark, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._skip(mark):
                return counts
        if not self._sees("{"):
            return None
        end = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : max(end, 0)].partition(",")
        if not _is_count(least) or (most and not _is_count(most)):
            self._refuse("a '{' must be \\{ or start a count such as {2} or {1,3}")
        low = int(least)
        high = int(most) if most else None if comma else low
        if max(low, high or 0) > _REPEAT_LIMIT or (high is not None and high < low):
            self._refuse(f"counts go upwards and up to {_REPEAT_LIMIT}")
        self._at = end + 1
        return low, high

    def _atom(self) -> _Node:
        if self._skip("("):
            return self._group()
        if self._skip("["):
            return _Node("one", test=self._class())
        character = self._take()
        if character in "^$":
            return _Node("assert", where="start" if character == "^" else "end")
        if character == ".":
            return _Node("one", test=lambda c: c != "\n")
        if character in "*+?{":
            self._refuse(f"{character!r} repeats nothing; write \\{character}")
        if character == "\\":
            return self._escape()
        return _Node("one", test=character.__eq__)

    def _group(self) -> _Node:
        self._depth += 1
        if self._depth > _GROUP_LIMIT:
            self._refuse(f"groups are nested deeper than {_GROUP_LIMIT}")
        if self._skip("?") and not self._skip(":"):
            self._refuse(
                "look-around, named groups and flags are not supported; "
                "a group is (...) or (?:...)"
            )
        found = self._choices()
        if not self._skip(")"):
            self._refuse("a group is not closed")
        self._depth -= 1
        return found

    def _escape(self) -> _Node:
        character = self._take()
        if character in _ASSERTIONS:
            return _Node("assert", where=_ASSERTIONS[character])
        if character in _CLASSES:
            return _Node("one", test=_CLASSES[character])
        return _Node("one", test=self._escaped(character).__eq__)

    def _escaped(self, character: str) -> str:
        if character in ("x", "u"):
            size = 2 if character == "x" else 4
            digits = self._text[self._at : self._at + size]
            if len(digits) != size or not all(d in _HEX for d in digits):
                self._refuse(f"\\{character} needs {size} hexadecimal digits")
            self._at += size
            return chr(int(digits, 16))
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character.isalnum():
            self._refuse(f"\\{character} is not supported")
        return character

    def _class(self) -> Callable[[str], bool]:
        negated = self._skip("^")
        tests: list[Callable[[str], bool]] = []
        first = True
        while first or not self._sees("]"):
            first = False
            tests.append(self._member())
        self._at += 1
        return lambda c: any(test(c) for test in tests) != negated

    def _member(self) -> Callable[[str], bool]:
        low = self._end_of_range()
        if not isinstance(low, str):
            return low
        if not self._sees("-") or self._sees("-]"):
            return low.__eq__
        self._at += 1
        high = self._end_of_range()
        if not isinstance(high, str) or high < low:
            self._refuse("a range of characters goes from the lower to the higher")
        return lambda c: low <= c <= high

    def _end_of_range(self) -> str | Callable[[str], bool]:
        character = self._take()
        if character != "\\":
            return character
        character = self._take()
        if character == "b":
            return "\b"
        return _CLASSES.get(character) or self._escaped(character)


_HEX = "0123456789abcdefABCDEF"


def _is_count(text: str) -> bool:
    return 0 < len(text) <= 4 and text.isascii() and text.isdecimal()
