"""The names that types have: a closed list, and nothing is imported to find others.

DSPy itself would import a module of a name that it does not know.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from dspex.contracts.failures import nearest
from dspex.native.types.kinds import QUALIFIED, DspyType
from dspex.native.types.tokens import shortened
from dspex.native.types.tree import (
    SCALARS,
    Collection,
    DictType,
    Scalar,
    TupleType,
    TypeExpr,
)

if TYPE_CHECKING:
    from dspex.native.types.tokens import Cursor
    from dspex.native.types.wire import DspyName

DEPTH_LIMIT = 32
"""How deep types may be nested in one another."""

_QUALIFIED = {
    "datetime.date": "date",
    "datetime.datetime": "datetime",
    "datetime.time": "time",
    "datetime.timedelta": "timedelta",
    "decimal.Decimal": "Decimal",
    "uuid.UUID": "UUID",
    "typing.Any": "Any",
}
TYPING = {
    "List": "list",
    "Dict": "dict",
    "Tuple": "tuple",
    "Set": "set",
    "FrozenSet": "frozenset",
}
"""The names of ``typing`` that need types in brackets, and those without."""
# None is written for NoneType inside unions only; alone DSPy would read it as str.
BARE_NONE = Scalar("None")
"""What ``None`` is read as; inside of a union it becomes ``NoneType``."""
BARE: dict[str, TypeExpr] = {
    "list": Collection("list"),
    "set": Collection("set"),
    "frozenset": Collection("frozenset"),
    "tuple": TupleType(),
    "dict": DictType(),
    "None": BARE_NONE,
}
"""The types that stand for themselves without brackets, beside the scalars."""
SPECIAL = ("Literal", "Optional", "Union")
"""The names that mean nothing without brackets."""
_DSPY: dict[str, DspyName] = {qualified: n for n, qualified in QUALIFIED.items()}

ALLOWED = sorted(
    {*SCALARS, *BARE, *SPECIAL, *TYPING, *_QUALIFIED, *QUALIFIED.values()}
    - {"typing.Any", "None"}
)
"""Every name a type may use; those of ``typing`` also as ``typing.List``."""

TAKEN = frozenset(
    {name.partition(".")[0] for name in (*ALLOWED, *_QUALIFIED)}
    | {"None", "True", "False", "Ellipsis", "Annotated", "Field"}
)
"""Names that a client's own type may not have."""

_LANGUAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+#-]{0,39}")

_COMMON = ("str", "int", "float", "bool", "list", "dict", "Literal", "datetime")

_DECISION = "Use Literal, bool or float: decisions of DSPy have no form on the bus."

_HINTS = {
    "dspy.Type": "Describe the value in the types of the structured form.",
    "dspy.Noul": _DECISION,
    "dspy.Choice": _DECISION,
    "dspy.Score": _DECISION,
    "Annotated": "Give constraints in the structured form of the signature.",
    "complex": "It has no JSON form; use tuple[float, float].",
    "bytearray": "Use bytes.",
    "object": "Use Any.",
    "string": "Use str.",
    "text": "Use str.",
    "number": "Use float, or int for whole numbers.",
    "array": "Use list, such as list[str].",
    "Path": "Use str.",
    "pathlib.Path": "Use str.",
    "Sequence": "Use list.",
    "Mapping": "Use dict.",
}


def type_name(cursor: Cursor) -> str:
    """Read a name, its parts joined by dots, and bring it to its short form."""
    parts = [cursor.take().text]
    while cursor.sees("."):
        cursor.take()
        if cursor.token.kind != "name":
            cursor.fail(f"expected a name after the dot, found {cursor.token}.")
        parts.append(cursor.take().text)
    name = ".".join(parts)
    inner = name.removeprefix("typing.")
    if inner != name and inner in (*TYPING, *SPECIAL):
        return inner
    return _QUALIFIED.get(name, name)


def dspy_type(cursor: Cursor, name: str) -> DspyType | None:
    """Return the type of DSPy's of that name, if there is one."""
    known = _DSPY.get(name)
    if known is None:
        return None
    if known != "Code" or not cursor.skip("["):
        return DspyType(known)
    token = cursor.take()
    if token.kind != "string" or not _LANGUAGE.fullmatch(token.text):
        cursor.fail(
            f"dspy.Code takes the name of a language in quotes, found {token}.",
            "Write it like dspy.Code['java'].",
        )
    close(cursor, "]")
    return DspyType(known, token.text)


def close(cursor: Cursor, bracket: str) -> None:
    """Go past a closing bracket, or refuse what stands there instead."""
    if not cursor.skip(bracket):
        cursor.fail(f"expected {bracket!r}, found {cursor.token}.")


def refuse_name(cursor: Cursor, name: str) -> NoReturn:
    """Refuse a name that is not on the list, and say which may be meant."""
    shown = shortened(name)
    hint = _HINTS.get(name) or _HINTS.get(name.lower())
    if f"dspy.{name}" in _DSPY:
        hint = f"DSPy's own types are written with 'dspy.': dspy.{name}."
    # The one that was meant comes first: among all of them it would be overlooked.
    own = sorted(cursor.types)
    meant = nearest(shown, [*ALLOWED, *own]).partition("Allowed:")[0]
    common = (*own[:8], *_COMMON)
    cursor.fail(
        f"unknown type {shown!r}. {meant}Allowed: {', '.join(common)} "
        f"… and {len(ALLOWED) + len(own) - len(common)} more.",
        hint or f"Nothing is imported to find a type. Types: {', '.join(ALLOWED)}.",
    )


def example(name: str) -> str:
    """Show how a type that needs brackets is written."""
    examples = {
        "dict": "dict[str, int]",
        "Literal": "Literal['yes', 'no']",
        "Union": "Union[int, str]",
    }
    return examples.get(name, f"{name}[int]")
