"""Signature text, cut into tokens.

Written by hand rather than with ``ast``: text from a client is never handed to a
parser of programs, and a refusal can say what is allowed instead.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Literal, NoReturn

from msgspec import Struct

from dspex.contracts.failures import InvalidSignature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.native.types.tree import TypeExpr

TEXT_LIMIT = 64 * 1024
"""The longest signature text, in characters."""

Kind = Literal["name", "number", "string", "arrow", "ellipsis", "mark", "end"]

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\f\r\n]+)
    | (?P<arrow>->)
    | (?P<ellipsis>\.\.\.)
    | (?P<number>[0-9][0-9A-Za-z_.]*)
    | (?P<name>[A-Za-z_\u0080-\U0010ffff][0-9A-Za-z_\u0080-\U0010ffff]*)
    | (?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    | (?P<mark>[][(),:|*/=.-])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL
)
_SIMPLE_ESCAPES = {
    "\\": "\\",
    "'": "'",
    '"': '"',
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}


class Token(Struct, frozen=True):
    """One word or mark of signature text.

    Attributes:
        kind: What it is.
        text: Its characters; of a string, its value.
        at: Where it starts, in characters from 1.
    """

    kind: Kind
    text: str
    at: int

    def __str__(self) -> str:
        """Say what stands there, for a message."""
        if self.kind == "end":
            return "the end"
        return f"{shortened(self.text)!r} at character {self.at}"


class Cursor:
    """A place in a row of tokens.

    Args:
        tokens: The tokens; the last one is an ``end``.
        types: The client's own types, by their names.

    Attributes:
        field: The field that is being read, if it is known.
        types: See the arguments.
    """

    def __init__(
        self, tokens: list[Token], types: Mapping[str, TypeExpr] | None = None
    ) -> None:
        self._tokens = tokens
        self._index = 0
        self.field: str | None = None
        self.types: Mapping[str, TypeExpr] = types or {}

    @property
    def token(self) -> Token:
        """The token at this place."""
        return self._tokens[self._index]

    def take(self) -> Token:
        """Return the token at this place and go past it; the end stays."""
        token = self.token
        if token.kind != "end":
            self._index += 1
        return token

    def skip(self, text: str) -> bool:
        """Go past a mark if it is here, and say whether it was."""
        found = self.sees(text)
        if found:
            self._index += 1
        return found

    def sees(self, text: str) -> bool:
        """Say whether a mark is at this place."""
        return self.token.kind == "mark" and self.token.text == text

    def fail(self, message: str, hint: str = "") -> NoReturn:
        """Refuse the signature, naming the field that is being read."""
        of = f"Field {self.field!r}: " if self.field else ""
        raise InvalidSignature(f"{of}{message}", hint=hint, field=self.field)


def tokenize(text: str) -> list[Token]:
    """Cut text into tokens.

    Args:
        text: A signature, or the type of one field.

    Returns:
        The tokens and a last one of kind ``end``.

    Raises:
        InvalidSignature: The text is too long or holds what no signature has.
    """
    bounded(text, TEXT_LIMIT, "The signature text")
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _unexpected(text, at)
        if found.lastgroup != "space":
            tokens.append(_token(found))
        at = found.end()
    tokens.append(Token("end", "", at + 1))
    return tokens


def bounded(text: str, limit: int, what: str) -> str:
    """Return text that is short enough and can be written as UTF-8.

    Raises:
        InvalidSignature: It is longer than ``limit``, or holds half a character.
    """
    if len(text) > limit:
        raise InvalidSignature(
            f"{what} has {len(text)} characters; at most {limit} are allowed.",
            hint="Put examples into demos and long texts into inputs.",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidSignature(
            f"{what} holds half a character (a lone surrogate) at {error.start + 1}.",
            hint="Send well-formed Unicode.",
        ) from error
    return text


def shortened(text: str, limit: int = 60) -> str:
    """Cut a text for a message."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _token(found: re.Match[str]) -> Token:
    kind, text, at = found.lastgroup, found.group(), found.start() + 1
    if kind == "name":
        # Python reads identifiers in their NFKC form, and so does DSPy.
        name = unicodedata.normalize("NFKC", text)
        if not name.isidentifier():
            raise InvalidSignature(
                f"{shortened(text)!r} at character {at} is not a name.",
                hint="Names are letters, digits and underscores.",
            )
        return Token("name", name, at)
    if kind == "string":
        return Token("string", _unescaped(text[1:-1], at), at)
    return Token(kind, text, at)  # type: ignore[arg-type]  # the groups are the kinds


def _unescaped(body: str, at: int) -> str:
    def value(found: re.Match[str]) -> str:
        escape = found.group()[1:]
        code = int(escape[1:], 16) if len(escape) > 1 else None
        if code is not None and code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
            return chr(code)
        if escape in _SIMPLE_ESCAPES:
            return _SIMPLE_ESCAPES[escape]
        raise InvalidSignature(
            f"Unknown escape {found.group()!r} in the string at character {at}.",
            hint="Allowed: \\\\ \\' \\\" \\n \\r \\t \\a \\b \\f \\v \\xHH \\uHHHH "
            "\\UHHHHHHHH; write a backslash itself as two.",
        )

    return _ESCAPE.sub(value, body) if "\\" in body else body


def _unexpected(text: str, at: int) -> InvalidSignature:
    character = text[at]
    if character in "'\"":
        message, hint = "A quote is opened", "Close the quote on the same line."
    else:
        message = f"Unexpected {character!r}"
        hint = "A signature reads 'question, context: list[str] -> answer: int'."
    return InvalidSignature(f"{message} at character {at + 1}.", hint=hint)
