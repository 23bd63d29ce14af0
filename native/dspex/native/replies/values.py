"""One value of a reply, as ``dspy.adapters.utils.parse_value`` reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.native.replies.json_text import candidate
from dspex.native.replies.validators import validator
from dspex.native.types.kinds import DspyType, SchemaType
from dspex.native.types.tree import NONE, LiteralType, Scalar, TypeExpr, UnionType

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.replies.dialects import Reading
    from dspex.native.work import Work

    Reader = Callable[[Any, Work], Any]

STR = Scalar("str")


def reader(name: str, expr: TypeExpr, reading: Reading) -> Reader:
    """Return what reads the values of a field.

    Args:
        name: The field, for a message.
        expr: Its type.
        reading: What the release of DSPy reads.

    Returns:
        A function of a value, a text or another value of JSON, and of what may be
        done to repair it. It raises a ``ValueError`` where DSPy does, and what
        `dspex.native.replies.json_text.candidate` raises.

    Raises:
        Unsupported: It holds a type of DSPy's that is not read here.
    """
    if expr == STR:
        return _text
    if isinstance(expr, SchemaType) and expr.kind == "enum":
        return _enumeration(expr)
    if isinstance(expr, LiteralType):
        return _literal(name, expr, reading)
    return _converted(name, expr, reading)


def _text(value: Any, _: Work) -> Any:
    return value if type(value) is str else str(value)


def _enumeration(expr: SchemaType) -> Reader:
    names = dict(zip(expr.names, expr.values, strict=True))

    def read(value: Any, _: Work) -> Any:
        # Before the names: the value of one may be the name of another.
        for one in expr.values:
            if one == value:
                return one
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"it is neither a value nor a name of {expr.name}")
        return names[value]

    return read


def _literal(name: str, expr: LiteralType, reading: Reading) -> Reader:
    convert = _converted(name, expr, reading)

    def read(value: Any, work: Work) -> Any:
        if value in expr.values:
            return value
        if isinstance(value, str):
            value = _unwrapped(value)
            if value in expr.values:
                return value
        if not reading.literal_json:
            raise ValueError(f"it is not one of {expr.describe()}")
        return convert(value, work)

    return read


def _unwrapped(text: str) -> str:
    text = text.strip()
    if text.startswith(("Literal[", "str[")) and text.endswith("]"):
        text = text[text.find("[") + 1 : -1]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text


def _converted(name: str, expr: TypeExpr, reading: Reading) -> Reader:
    validate = validator(name, expr)
    members = expr.members if isinstance(expr, UnionType) else ()
    open_text = NONE in members and STR in members
    if open_text and reading.union_text:
        return lambda value, _: validate(value)
    # What is no JSON may still be code, or the like.
    again = isinstance(expr, DspyType)
    printed = open_text and reading.union_printed

    def read(value: Any, work: Work) -> Any:
        if type(value) is not str:
            return validate(value)
        found = candidate(value, work)
        try:
            return validate(found)
        except ValueError:
            if again:
                return validate(value)
            if printed:
                return str(found)
            raise

    return read
