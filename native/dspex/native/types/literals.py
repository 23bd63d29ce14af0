"""The values of a ``Literal`` type: ``'a', 1, True, None``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dspex.native.types.names import DEPTH_LIMIT, close, example, type_name
from dspex.native.types.tokens import shortened

if TYPE_CHECKING:
    from dspex.native.types.tokens import Cursor
    from dspex.native.types.tree import LiteralValue

_CONSTANTS: dict[str, LiteralValue] = {"True": True, "False": False, "None": None}


def literal_values(cursor: Cursor, depth: int) -> list[LiteralValue]:
    """Read what stands in the brackets of a ``Literal``, up to the last bracket.

    Args:
        cursor: Where the first value starts.
        depth: How deep the ``Literal`` is nested in other types.

    Raises:
        InvalidSignature: There is no value, or one that is not allowed.
    """
    values: list[LiteralValue] = []
    while not cursor.sees("]"):
        if cursor.token.kind == "name" and cursor.token.text not in _CONSTANTS:
            values.extend(_nested(cursor, depth))
        else:
            values.append(_value(cursor))
        if not cursor.skip(","):
            break
    if not values:
        cursor.fail("Literal needs at least one value.", example("Literal"))
    return values


def _value(cursor: Cursor) -> LiteralValue:
    negative = cursor.skip("-")
    token = cursor.take()
    if token.kind == "number":
        return (
            -_integer(cursor, token.text) if negative else _integer(cursor, token.text)
        )
    if negative:
        cursor.fail(f"expected a number after '-', found {token}.")
    if token.kind == "name":
        return _CONSTANTS[token.text]
    if token.kind != "string":
        cursor.fail(
            f"expected a value of the Literal, found {token}.",
            "Values are strings in quotes, integers, True, False or None.",
        )
    if cursor.token.kind == "string":
        cursor.fail(
            f"two strings stand side by side, the second at {cursor.token.at}.",
            "Put a comma between the values of a Literal.",
        )
    return token.text


def _nested(cursor: Cursor, depth: int) -> list[LiteralValue]:
    word = cursor.token
    name = type_name(cursor)
    if name != "Literal" or not cursor.skip("[") or depth > DEPTH_LIMIT:
        cursor.fail(
            f"{word} is not a value of a Literal.",
            f"Put strings in quotes: Literal[{shortened(name)!r}].",
        )
    values = literal_values(cursor, depth + 1)
    close(cursor, "]")
    return values


def _integer(cursor: Cursor, text: str) -> int:
    try:
        value = int(text, 0) if len(text) <= 80 else sys.maxsize + 2
    except ValueError:
        cursor.fail(
            f"{shortened(text)} is not an integer.",
            "The numbers of a Literal are integers; for others use float.",
        )
    if value > sys.maxsize + 1:
        cursor.fail(f"{shortened(text)} does not fit into 64 bits.")
    return value
