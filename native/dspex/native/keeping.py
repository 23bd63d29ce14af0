"""What is made ready once and kept, within bounds."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Kept(Generic[T]):
    """A bounded cache, also for threads; the least recently used leave first.

    Args:
        entries: The most values kept.
        size: The most that the kept values weigh together.
    """

    def __init__(self, entries: int, size: int) -> None:
        self._entries = entries
        self._size = size
        self._used = 0
        self._found: OrderedDict[bytes, tuple[T, int]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: bytes) -> T | None:
        """Return what is kept under a key, if anything."""
        with self._lock:
            found = self._found.get(key)
            if found is None:
                return None
            self._found.move_to_end(key)
            return found[0]

    def keep(self, key: bytes, value: T, size: int) -> None:
        """Keep a value; others leave to make room, or itself if it is too large.

        Args:
            key: What it is found by.
            value: The value.
            size: What it weighs, bytes or so.
        """
        with self._lock:
            before = self._found.pop(key, None)
            self._used += size - (before[1] if before else 0)
            self._found[key] = value, size
            while len(self._found) > self._entries or self._used > self._size:
                _, (_, left) = self._found.popitem(last=False)
                self._used -= left


class Remembered(dict[str, T], Generic[T]):
    """What was made of texts, so that an answer asked for again is not made again.

    Args:
        make: What makes a value of a text.
        characters: How many characters the texts kept may have together; when they
            would have more, all are forgotten.
    """

    def __init__(self, make: Callable[[str], T], characters: int) -> None:
        super().__init__()
        self._make = make
        self._characters = characters
        self._used = 0

    def __missing__(self, text: str) -> T:
        value = self._make(text)
        if len(text) > _LONGEST_REMEMBERED:
            return value
        self._used += len(text) + _EACH
        if self._used > self._characters:
            self.clear()
            self._used = len(text) + _EACH
        self[text] = value
        return value


_LONGEST_REMEMBERED = 20_000
# What an entry weighs beyond its text, in characters.
_EACH = 64
