"""Templates, cut into tokens in a time that grows with their length alone.

The lexer of the Liquid library goes back in the text where a delimiter is not closed:
thirty kilobytes of ``{{`` take it a minute. This one never does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from liquid.exceptions import LiquidSyntaxError
from liquid.token import (
    TOKEN_CONTENT,
    TOKEN_EXPRESSION,
    TOKEN_OUTPUT,
    TOKEN_TAG,
    Token,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPRESSION_LIMIT = 1000
"""The longest tag or output, in characters."""

_OPEN = re.compile(r"\{[{%]")
_NAME = re.compile(r"#|\w+")
_END_RAW = re.compile(r"\{%-?\s*endraw\s*-?%\}")
_COMMENT = re.compile(r"\{%-?\s*(comment|endcomment)\s*-?%\}")


def tokens(source: str) -> Iterator[Token]:
    """Cut a template.

    Args:
        source: Its text.

    Raises:
        LiquidSyntaxError: A delimiter is not closed, or a tag has no name or is too
            long.
    """
    return _Lexer(source).tokens()


class _Lexer:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._trims = False

    def tokens(self) -> Iterator[Token]:
        while self._at < len(self._source):
            found = _OPEN.search(self._source, self._at)
            start = found.start() if found else len(self._source)
            yield from self._content(start)
            if found:
                yield from self._markup(start)

    def _content(self, end: int) -> Iterator[Token]:
        start, text = self._at, self._source[self._at : end]
        text = text.lstrip() if self._trims else text
        text = text.rstrip() if self._source.startswith("-", end + 2) else text
        if text:
            yield self._token(TOKEN_CONTENT, text, start)
        self._at = end

    def _markup(self, start: int) -> Iterator[Token]:
        is_output = self._source[start + 1] == "{"
        end = self._source.find("}}" if is_output else "%}", start + 2)
        if end < 0:
            self._refuse("it is never closed", start)
        if end - start > EXPRESSION_LIMIT:
            self._refuse(f"it has more than {EXPRESSION_LIMIT} characters", start)
        inner = self._source[start + 2 : end].removeprefix("-")
        self._trims = inner.endswith("-")
        self._at = end + 2
        inner = inner.removesuffix("-").strip()
        if is_output:
            yield self._token(TOKEN_OUTPUT, "{{", start)
            yield self._token(TOKEN_EXPRESSION, inner, start + 2)
        else:
            yield from self._tag(inner, start)

    def _tag(self, inner: str, start: int) -> Iterator[Token]:
        found = _NAME.match(inner)
        if found is None:
            self._refuse("a tag begins with its name", start)
        name, rest = found.group(), inner[found.end() :].strip()
        if name == "raw":
            yield from self._raw(start)
            return
        yield self._token(TOKEN_TAG, name, start)
        if name == "comment":
            self._skip_comment(start)
            yield self._token(TOKEN_TAG, "endcomment", start)
        elif rest:
            yield self._token(TOKEN_EXPRESSION, rest, start)

    def _raw(self, start: int) -> Iterator[Token]:
        found = _END_RAW.search(self._source, self._at)
        if found is None:
            self._refuse("it is never closed by {% endraw %}", start)
        text = self._source[self._at : found.start()]
        if text:
            yield self._token(TOKEN_CONTENT, text, self._at)
        self._at = found.end()
        self._trims = self._source.startswith("-", found.end() - 3)

    def _skip_comment(self, start: int) -> None:
        depth = 1
        while depth:
            found = _COMMENT.search(self._source, self._at)
            if found is None:
                self._refuse("it is never closed by {% endcomment %}", start)
            depth += 1 if found.group(1) == "comment" else -1
            self._at = found.end()
            self._trims = self._source.startswith("-", found.end() - 3)

    def _token(self, kind: str, value: str, start: int) -> Token:
        return Token(kind, value, start, self._source)

    def _refuse(self, why: str, start: int) -> NoReturn:
        raise LiquidSyntaxError(why, token=self._token(TOKEN_TAG, "", start))
