"""A model's reply as it is written: feed text, get the new text of its fields.

One reader per format that DSPy's adapters ask for. Each holds back what may turn out
to be markup, however the text is cut into chunks, so markup never shows in a field:
what has been given out is always a beginning of the field's text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Format = Literal["chat", "json", "xml"]
Piece = tuple[str, str]
"""A field and more of its text."""

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_HEADER_START = "[[ ## "
_HEADER_LONGEST = 200
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SURROGATES = range(0xD800, 0xE000)


class Reader(Protocol):
    """Takes a reply in, piece by piece."""

    def feed(self, chunk: str) -> Iterator[Piece]:
        """Take more of the reply in; yields what it adds to which field."""
        ...


def reader(written: Format, fields: Collection[str]) -> Reader:
    """A reader for one reply.

    Args:
        written: The format the adapter asked for.
        fields: Names of the output fields; text of others is dropped.
    """
    return _READERS[written](frozenset(fields))


class ChatReader:
    """``[[ ## field ## ]]`` at the start of a line begins a field.

    What ends a line for ``str.splitlines`` does so here and is given as a newline:
    DSPy splits a reply there and joins it with newlines.
    """

    def __init__(self, fields: frozenset[str]) -> None:
        self._waiting = set(fields)
        self._field = ""
        self._line = ""
        self._plain = False  # this line cannot be a header any more
        self._return = ""  # a carriage return, until it is known what follows

    def feed(self, chunk: str) -> Iterator[Piece]:
        """Take more of the reply in; yields what it adds to which field."""
        text = self._return + chunk
        self._return = "\r" if text.endswith("\r") else ""
        for line in text.removesuffix("\r").splitlines(keepends=True):
            bare = line.splitlines()[0]
            ended = len(bare) < len(line)
            if found := self._part(f"{bare}\n" if ended else bare, ended):
                yield self._field, found

    def _part(self, part: str, ended: bool) -> str:
        if self._plain:
            self._plain = not ended
            return part if self._field else ""
        self._line += part
        shown = self._line.lstrip()
        if header := _HEADER.match(shown):
            self._begin(header.group(1))
            return self._release(shown[header.end() :], ended)
        if not ended and _may_be_header(shown):
            return ""
        return self._release(self._line, ended)

    def _begin(self, field: str) -> None:
        # The first section of a field counts, as in DSPy.
        self._field = field if field in self._waiting else ""
        self._waiting.discard(field)

    def _release(self, text: str, ended: bool) -> str:
        self._line = ""
        self._plain = not ended
        return text if self._field else ""


def _may_be_header(line: str) -> bool:
    if len(line) < len(_HEADER_START):
        return _HEADER_START.startswith(line)
    return line.startswith(_HEADER_START) and len(line) < _HEADER_LONGEST


class JsonReader:
    """Members of the outermost object: texts unescaped, other values as JSON."""

    def __init__(self, fields: frozenset[str]) -> None:
        self._fields = fields
        self._field = ""
        self._key = ""
        self._escape = ""
        self._high = ""
        self._depth = 0
        self._quoted = False
        self._state = self._before

    def feed(self, chunk: str) -> Iterator[Piece]:
        """Take more of the reply in; yields what it adds to which field."""
        text = ""
        for character in chunk:
            field = self._field
            found = self._state(character)
            if field != self._field and text:
                yield field, text
                text = ""
            text += found
        if text and self._field:
            yield self._field, text

    def _before(self, character: str) -> str:
        if character == "{":
            self._state = self._between
        return ""

    def _between(self, character: str) -> str:
        if character == '"':
            self._key, self._state = "", self._in_key
        return ""

    def _in_key(self, character: str) -> str:
        if character == '"' and not self._key.endswith("\\"):
            self._state = self._before_value
        else:
            self._key += character
        return ""

    def _before_value(self, character: str) -> str:
        if character == ":" or character.isspace():
            return ""
        self._field = self._key if self._key in self._fields else ""
        if character == '"':
            self._state = self._in_text
            return ""
        self._depth, self._quoted, self._state = 0, False, self._in_value
        return self._in_value(character)

    def _in_text(self, character: str) -> str:
        if self._escape:
            return self._unescape(character)
        if character == "\\":
            self._escape = character
        elif character == '"':
            self._end_field()
        else:
            return self._give(character)
        return ""

    def _unescape(self, character: str) -> str:
        self._escape += character
        if self._escape[1] != "u":
            self._escape = ""
            return self._give(_ESCAPES.get(character, character))
        if len(self._escape) < len("\\u0000"):
            return ""
        digits, self._escape = self._escape[2:], ""
        try:
            code = int(digits, 16)
        except ValueError:
            return ""
        if code not in _SURROGATES:
            return self._give(chr(code))
        return self._surrogate(code)

    def _surrogate(self, code: int) -> str:
        """Two escapes make one character beyond the first 65,536."""
        if not self._high:
            self._high = chr(code)
            return ""
        pair, self._high = self._high + chr(code), ""
        text = pair.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._give(text)

    def _in_value(self, character: str) -> str:
        if self._quoted:
            if self._escape:
                self._escape = ""
            elif character == "\\":
                self._escape = character
            elif character == '"':
                self._quoted = False
            return self._give(character)
        if self._depth == 0 and character in ",}":
            self._end_field()
            return ""
        self._quoted = character == '"'
        self._depth += (character in "[{") - (character in "]}")
        return self._give(character)

    def _end_field(self) -> None:
        self._field, self._state = "", self._between

    def _give(self, text: str) -> str:
        return text if self._field else ""


class XmlReader:
    """``<field>`` to ``</field>``; what is between is given as it stands."""

    def __init__(self, fields: frozenset[str]) -> None:
        self._opening = {f"<{name}>": name for name in fields}
        self._field = ""
        self._held = ""

    def feed(self, chunk: str) -> Iterator[Piece]:
        """Take more of the reply in; yields what it adds to which field."""
        self._held += chunk
        while True:
            field, text, again = self._field, *self._advance()
            if field and text:
                yield field, text
            if not again:
                return

    def _advance(self) -> tuple[str, bool]:
        """Release text up to the next tag that counts, and whether one was met."""
        tags = {f"</{self._field}>": ""} if self._field else self._opening
        at, tag = min(
            ((self._held.find(tag), tag) for tag in tags if tag in self._held),
            default=(-1, ""),
        )
        if at < 0:
            keep = _tail_that_may_grow(self._held, tags)
            cut = len(self._held) - keep
            text, self._held = self._held[:cut], self._held[cut:]
            return text, False
        text, self._held = self._held[:at], self._held[at + len(tag) :]
        self._field = tags[tag]
        return text, True


def _tail_that_may_grow(text: str, tags: Collection[str]) -> int:
    """Length of the end of ``text`` that may be the start of one of the tags."""
    longest = max(map(len, tags), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(tag.startswith(text[-length:]) for tag in tags):
            return length
    return 0


_READERS: dict[str, type[ChatReader | JsonReader | XmlReader]] = {
    "chat": ChatReader,
    "json": JsonReader,
    "xml": XmlReader,
}
