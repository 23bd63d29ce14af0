"""A model's reply as it is written: feed text, get the new text of its fields.

One reader per format that DSPy's adapters ask for. Each holds back what may turn out
to be markup, however the text is cut into chunks, so markup never shows in a field:
what has been given out is always a beginning of the field's text.
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

Format = Literal["chat", "json", "xml"]
Piece = tuple[str, str]
"""A field and more of its text."""

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_HEADER_START = "[[ ## "
_HEADER_END = " ## ]]"
_HEADER_LONGEST = 400
_NAME = re.compile(r"\w+")
_TAG = re.compile(r"<(\w+)>")
_TAG_LONGEST = 400
_ENTITY = re.compile(r"&(?:#[0-9]+|#x[0-9a-fA-F]+|amp|lt|gt|quot|apos);")
_ENTITY_LONGEST = 12
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
    DSPy splits a reply there and joins it with newlines. Of the line of the header it
    takes no space at the end, and of an indented one it cuts too little.
    """

    def __init__(self, fields: frozenset[str]) -> None:
        self._waiting = set(fields)
        self._field = ""
        self._line = ""
        self._plain = False  # this line cannot be a header any more
        self._headed = False  # this line began with one
        self._space = ""  # that may be at the end of the line of a header
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
            return self._release(part, ended)
        self._line += part
        shown = self._line.lstrip()
        if header := _HEADER.match(shown):
            self._begin(header.group(1))
            return self._release(self._line[header.end() :], ended)
        if not ended and _may_be_header(shown):
            return ""
        return self._release(self._line, ended)

    def _begin(self, field: str) -> None:
        # The first section of a field counts, as in DSPy.
        self._field = field if field in self._waiting else ""
        self._waiting.discard(field)
        self._headed = True

    def _release(self, text: str, ended: bool) -> str:
        if self._headed:
            text = self._space + text.removesuffix("\n")
            bare = text.rstrip()
            self._space = "" if ended else text[len(bare) :]
            text = f"{bare}\n" if ended else bare
        self._line = ""
        self._plain = not ended
        self._headed = self._headed and not ended
        return text if self._field else ""


def _may_be_header(line: str) -> bool:
    if len(line) < len(_HEADER_START):
        return _HEADER_START.startswith(line)
    if not line.startswith(_HEADER_START) or len(line) > _HEADER_LONGEST:
        return False
    name = _NAME.match(line, len(_HEADER_START))
    rest = line[name.end() :] if name else line[len(_HEADER_START) :]
    return not rest or (name is not None and _HEADER_END.startswith(rest))


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
        self._state: Callable[[str], str] = self._before

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
        elif character == "}":
            # Braces without a key in them were prose; those with one were the reply.
            self._state = self._after if self._key else self._before
        return ""

    def _after(self, _: str) -> str:
        return ""

    def _in_key(self, character: str) -> str:
        if self._escape:
            self._escape = ""
        elif character == "\\":
            self._escape = character
        elif character == '"':
            self._key = _unescaped(self._key)
            self._state = self._before_value
            return ""
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
            return self._between(character)
        self._quoted = character == '"'
        self._depth += (character in "[{") - (character in "]}")
        return self._give(character)

    def _end_field(self) -> None:
        self._field, self._state = "", self._between

    def _give(self, text: str) -> str:
        return text if self._field else ""


def _unescaped(key: str) -> str:
    try:
        return str(json.loads(f'"{key}"'))
    except ValueError:
        return key


class XmlReader:
    """``<field>`` to ``</field>``; up to a tag in between, entities are characters.

    From that tag on it is given as it stands, as DSPy does. What stands in other
    elements belongs to no field.
    """

    def __init__(self, fields: frozenset[str]) -> None:
        self._waiting = set(fields)
        self._field = ""
        self._closing = ""  # the tag that ends the element, in one
        self._nested = False  # a tag was met in the field
        self._held = ""
        self._entity = ""  # what may be the start of one
        self._return = ""  # a carriage return, until it is known what follows

    def feed(self, chunk: str) -> Iterator[Piece]:
        """Take more of the reply in; yields what it adds to which field."""
        text = self._return + chunk
        self._return = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r")
        self._held += text.replace("\r\n", "\n").replace("\r", "\n")
        while self._closing or self._open():
            at = self._held.find(self._closing)
            keep = 0 if at >= 0 else _tail_that_may_grow(self._held, self._closing)
            cut = at if at >= 0 else len(self._held) - keep
            found, self._held = self._held[:cut], self._held[cut:]
            if self._field and (found := self._decoded(found, ended=at >= 0)):
                yield self._field, found
            if at < 0:
                return
            self._held = self._held[len(self._closing) :]
            self._field = self._closing = ""

    def _open(self) -> bool:
        """Enter the next element, if it is there."""
        tag = _TAG.search(self._held)
        if tag is None:
            start = self._held.rfind("<")
            held = self._held[start:] if start >= 0 else ""
            self._held = held if len(held) < _TAG_LONGEST else ""
            return False
        name = tag[1]
        self._held = self._held[tag.end() :]
        self._closing, self._nested = f"</{name}>", False
        self._field = name if name in self._waiting else ""
        self._waiting.discard(name)
        return True

    def _decoded(self, text: str, *, ended: bool) -> str:
        text, self._entity = self._entity + text, ""
        if self._nested:
            return text
        plain, tag, rest = text.partition("<")
        self._nested = bool(tag)
        if not ended and not tag:
            start = _start_of_entity(plain)
            plain, self._entity = plain[:start], plain[start:]
        return _ENTITY.sub(lambda one: html.unescape(one[0]), plain) + tag + rest


def _start_of_entity(text: str) -> int:
    """Where an entity starts that may go on; the end of the text if none does."""
    start = text.rfind("&")
    open_ended = start >= 0 and ";" not in text[start:]
    return start if open_ended and len(text) - start < _ENTITY_LONGEST else len(text)


def _tail_that_may_grow(text: str, tag: str) -> int:
    """Length of the end of ``text`` that may be the start of the tag."""
    # Only what begins with the tag's one "<" may; no other place need be looked at.
    start = text.rfind("<")
    return len(text) - start if start >= 0 and tag.startswith(text[start:]) else 0


_READERS: dict[str, type[ChatReader | JsonReader | XmlReader]] = {
    "chat": ChatReader,
    "json": JsonReader,
    "xml": XmlReader,
}
