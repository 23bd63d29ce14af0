"""Following a pattern through a text, all the ways at the same time.

Ways that have met before lead on as they did then, so that a long text mostly costs
one look-up for each character, and the number of new meetings bounds the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from dspex.native.work import TooMuch

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.work import Work


# So many ways weigh as much as one character that is remembered.
_WAYS = 4


class TooLong(ValueError):
    """The text is too long for the pattern."""


class Step(NamedTuple):
    """One step of a pattern.

    Attributes:
        kind: ``one`` takes a character, ``split`` goes on in several ways, ``assert``
            takes nothing and looks around, ``match`` is the end.
        test: Whether a character is taken.
        where: What is asserted.
        ways: The steps that come next.
    """

    kind: Literal["one", "split", "assert", "match"]
    test: Callable[[str], bool] | None = None
    where: str = ""
    ways: tuple[int, ...] = ()


class _Found(Exception):
    """The pattern is in the text; the rest of it does not matter."""


class _Row(dict[str, "_Row"]):
    """Where the ways are after a character, and where each next one leads them."""

    __slots__ = ("before", "follow", "kinds", "live")

    def __init__(
        self,
        live: frozenset[int],
        before: str,
        follow: Callable[[_Row, str], _Row],
    ) -> None:
        super().__init__()
        self.live = live
        self.before = before
        self.follow = follow
        self.kinds: dict[tuple[bool, ...], _Row] = {}

    def __missing__(self, character: str) -> _Row:
        return self.follow(self, character)


class Automaton:
    """Searches, and remembers the ways.

    Args:
        steps: The steps of the pattern.
        work: What may be done to find ways that are not remembered yet; by default
            whatever it takes.

    Attributes:
        size: How much is remembered.
    """

    def __init__(self, steps: list[Step], work: Work | None = None) -> None:
        self.size = 0
        self._steps = steps
        self._work = work
        # Only a border asks what stood before, once the text has begun.
        self._borders = any(s.where in ("border", "inside") for s in steps)
        tests = dict.fromkeys(step.test for step in steps if step.test)
        if self._borders:
            tests[is_word] = None
        self._tests = tuple(tests)
        self._rows: dict[tuple[frozenset[int], str], _Row] = {}
        self._kinds: dict[str, tuple[bool, ...]] = {}
        self._first = self._row(frozenset(), "")

    def search(self, text: str) -> bool:
        """Say whether the pattern is found anywhere in the text.

        Raises:
            TooLong: There is more to follow than may be done.
        """
        row = self._first
        try:
            for character in text:
                row = row[character]
            self._closure(row, "")
        except _Found:
            return True
        except TooMuch:
            raise TooLong(f"{len(text)} characters") from None
        return False

    def forget(self) -> None:
        """Forget all ways; also in the midst of a search, which then finds them anew.

        Rows lead to one another: left alone they would stay until Python looks for
        rings.
        """
        for row in [self._first, *self._rows.values()]:
            row.clear()
            row.kinds.clear()
        self._rows.clear()
        self._kinds.clear()
        self.size = 0

    def _row(self, live: frozenset[int], before: str) -> _Row:
        row = self._rows.get((live, before))
        if row is None:
            self.size += len(live) // _WAYS
            row = self._rows[live, before] = _Row(live, before, self._follow)
        return row

    def _follow(self, row: _Row, character: str) -> _Row:
        self.size += 1
        kind = self._kind(character)
        found = row.kinds.get(kind)
        if found is None:
            waiting = self._closure(row, character)
            live = frozenset(w for test, w in waiting if test(character))
            found = row.kinds[kind] = self._row(live, self._before(character))
        row[character] = found
        return found

    def _before(self, character: str) -> str:
        # One character stands for all that are no different to a border.
        return "a" if self._borders and is_word(character) else " "

    def _kind(self, character: str) -> tuple[bool, ...]:
        kind = self._kinds.get(character)
        if kind is None:
            self._spend(2 + len(self._tests) // 2)
            kind = tuple(test(character) for test in self._tests)
            self._kinds[character] = kind
        return kind

    def _closure(
        self, row: _Row, after: str
    ) -> list[tuple[Callable[[str], bool], int]]:
        waiting: list[tuple[Callable[[str], bool], int]] = []
        todo = [0, *row.live]
        seen = set(todo)
        while todo:
            step = self._steps[todo.pop()]
            if step.kind == "match":
                raise _Found
            if step.test:
                waiting.append((step.test, step.ways[0]))
            elif step.kind == "split" or _holds(step.where, row.before, after):
                fresh = [way for way in step.ways if way not in seen]
                seen.update(fresh)
                todo.extend(fresh)
        self._spend(10 + len(seen))
        return waiting

    def _spend(self, steps: int) -> None:
        if self._work is not None:
            self._work.spend(steps)


def is_word(character: str) -> bool:
    r"""Say whether a character belongs to words, as ``\w`` does."""
    return character.isalnum() or character == "_"


def _holds(where: str, before: str, after: str) -> bool:
    if where == "start":
        return not before
    if where == "end":
        return not after
    border = bool(before and is_word(before)) != bool(after and is_word(after))
    return border == (where == "border")
