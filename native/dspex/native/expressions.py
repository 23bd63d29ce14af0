"""Type expressions: ``list[str]``, ``Literal['a', 'b']``, ``int | None``.

Names come from a closed list. A name that is not on it is refused and never looked
up anywhere: DSPy itself would import a module of that name.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, NoReturn

from dspex.contracts.failures import nearest
from dspex.native.tokens import Cursor, shortened
from dspex.native.types import (
    KEYS,
    NONE,
    SCALARS,
    Collection,
    DictType,
    LiteralType,
    LiteralValue,
    Scalar,
    TupleType,
    TypeExpr,
    hashable,
    literal,
    union,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_Kind = Literal["list", "set", "frozenset"]

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
_TYPING = {
    "List": "list",
    "Dict": "dict",
    "Tuple": "tuple",
    "Set": "set",
    "FrozenSet": "frozenset",
}
# None is written for NoneType inside unions only; alone DSPy would read it as str.
_BARE_NONE = Scalar("None")
_BARE: dict[str, TypeExpr] = {
    "list": Collection("list"),
    "set": Collection("set"),
    "frozenset": Collection("frozenset"),
    "tuple": TupleType(),
    "dict": DictType(),
    "None": _BARE_NONE,
}
_SPECIAL = ("Literal", "Optional", "Union")

ALLOWED = sorted(
    {*SCALARS, *_BARE, *_SPECIAL, *_TYPING, *_QUALIFIED} - {"typing.Any", "None"}
)
"""Every name a type may use; those of ``typing`` also as ``typing.List``."""

_COMMON = ("str", "int", "float", "bool", "list", "dict", "Literal", "datetime")

_HINTS = {
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


def parse_type(cursor: Cursor) -> TypeExpr:
    """Read one type and leave the cursor behind it.

    Args:
        cursor: Where the type starts.

    Raises:
        InvalidSignature: There is no type there, or one that is not allowed.
    """
    found = _alternatives(cursor, 0)
    _refuse_bare_none(cursor, found)
    return found


def _alternatives(cursor: Cursor, depth: int) -> TypeExpr:
    members = [_operand(cursor, depth)]
    while cursor.skip("|"):
        members.append(_operand(cursor, depth))
    return members[0] if len(members) == 1 else union(_none_last(members))


def _none_last(members: list[TypeExpr]) -> list[TypeExpr]:
    # DSPy reads `NoneType | int` as Optional[int], which puts the None behind the
    # int, but keeps the order of `None | int`. The prompt shows the difference.
    lead = next((i for i, m in enumerate(members) if m not in (NONE, _BARE_NONE)), 0)
    if lead and members[:lead] != [_BARE_NONE]:
        members = [members[lead], NONE, *members[lead + 1 :]]
    return [NONE if member == _BARE_NONE else member for member in members]


def _operand(cursor: Cursor, depth: int) -> TypeExpr:
    if depth > DEPTH_LIMIT:
        cursor.fail(
            f"types are nested deeper than {DEPTH_LIMIT} levels.",
            "Use dict or Any for the inner part.",
        )
    if cursor.skip("("):
        found = _alternatives(cursor, depth + 1)
        _close(cursor, ")")
        return found
    if cursor.token.kind != "name":
        _refuse_token(cursor)
    name = _name(cursor)
    if cursor.skip("["):
        return _parametrised(cursor, name, depth + 1)
    return _bare(cursor, name)


def _name(cursor: Cursor) -> str:
    parts = [cursor.take().text]
    while cursor.sees("."):
        cursor.take()
        if cursor.token.kind != "name":
            cursor.fail(f"expected a name after the dot, found {cursor.token}.")
        parts.append(cursor.take().text)
    name = ".".join(parts)
    inner = name.removeprefix("typing.")
    if inner != name and inner in (*_TYPING, *_SPECIAL):
        return inner
    return _QUALIFIED.get(name, name)


def _bare(cursor: Cursor, name: str) -> TypeExpr:
    if name in SCALARS:
        return Scalar(name)
    if name in _BARE:
        return _BARE[name]
    if name in _TYPING:
        cursor.fail(
            f"{name} needs its types, such as {name}[str].",
            f"Without them write {_TYPING[name]}.",
        )
    if name in _SPECIAL:
        cursor.fail(f"{name} needs its types or values, such as {_example(name)}.")
    _refuse_name(cursor, name)


def _parametrised(cursor: Cursor, name: str, depth: int) -> TypeExpr:
    name = _TYPING.get(name, name)
    if name == "Literal":
        found: TypeExpr = literal(_literal_values(cursor, depth))
    elif name in _BUILDERS:
        found = _BUILDERS[name](cursor, depth)
    else:
        if name in SCALARS:
            cursor.fail(f"{name} takes no types in brackets.", f"Write {name}.")
        _refuse_name(cursor, name)
    _close(cursor, "]")
    return found


def _collection(name: _Kind) -> Callable[[Cursor, int], TypeExpr]:
    def build(cursor: Cursor, depth: int) -> TypeExpr:
        (item,) = _arguments(cursor, depth, name, 1)
        if name != "list" and item != Scalar("Any") and not hashable(item):
            cursor.fail(
                f"the elements of a {name} cannot be {item.describe()}, "
                "whose values cannot be told apart by hash.",
                f"Use list[{item.describe()}].",
            )
        return Collection(name, item)

    return build


def _dict(cursor: Cursor, depth: int) -> TypeExpr:
    key, value = _arguments(cursor, depth, "dict", 2)
    plain = isinstance(key, Scalar) and key.name in KEYS
    named = isinstance(key, LiteralType) and len({*map(str, key.values)}) == len(
        key.values
    )
    if not plain and not named:
        cursor.fail(
            f"the keys of a dict cannot be {key.describe()}: "
            "a JSON object has strings for keys.",
            f"Allowed for keys: {', '.join(KEYS)}. Or use list[tuple[...]].",
        )
    return DictType(key, value)


def _tuple(cursor: Cursor, depth: int) -> TypeExpr:
    if cursor.skip("("):
        _close(cursor, ")")
        return TupleType(())
    if cursor.sees("]"):
        return TupleType(())
    items: list[TypeExpr] = []
    while not cursor.sees("]"):
        if _is_ellipsis(cursor):
            if len(items) != 1:
                cursor.fail(
                    "'...' belongs after the only type of a tuple: tuple[X, ...]."
                )
            cursor.take()
            cursor.skip(",")
            return TupleType(tuple(items), variadic=True)
        items.append(_argument(cursor, depth))
        if not cursor.skip(","):
            break
    return TupleType(tuple(items))


def _optional(cursor: Cursor, depth: int) -> TypeExpr:
    (inner,) = _arguments(cursor, depth, "Optional", 1)
    return union([inner, NONE])


def _union(cursor: Cursor, depth: int) -> TypeExpr:
    return union(_arguments(cursor, depth, "Union", None))


_BUILDERS: dict[str, Callable[[Cursor, int], TypeExpr]] = {
    "list": _collection("list"),
    "set": _collection("set"),
    "frozenset": _collection("frozenset"),
    "dict": _dict,
    "tuple": _tuple,
    "Optional": _optional,
    "Union": _union,
}


def _arguments(
    cursor: Cursor, depth: int, name: str, count: int | None
) -> list[TypeExpr]:
    takes_none = name in ("Optional", "Union")
    found: list[TypeExpr] = []
    while not cursor.sees("]"):
        inner = _alternatives(cursor, depth)
        if not takes_none:
            _refuse_bare_none(cursor, inner)
        found.append(NONE if inner == _BARE_NONE else inner)
        if not cursor.skip(","):
            break
    if not found or (count is not None and len(found) != count):
        wanted = "at least one type" if count is None else f"{count} type(s)"
        cursor.fail(
            f"{name} takes {wanted} in brackets, found {len(found)}.",
            f"Write it like {_example(name)}.",
        )
    return found


def _argument(cursor: Cursor, depth: int) -> TypeExpr:
    found = _alternatives(cursor, depth)
    _refuse_bare_none(cursor, found)
    return found


def _literal_values(cursor: Cursor, depth: int) -> list[LiteralValue]:
    values: list[LiteralValue] = []
    while not cursor.sees("]"):
        if cursor.token.kind == "name" and cursor.token.text not in _CONSTANTS:
            values.extend(_nested_literal(cursor, depth))
        else:
            values.append(_literal_value(cursor))
        if not cursor.skip(","):
            break
    if not values:
        cursor.fail("Literal needs at least one value.", _example("Literal"))
    return values


_CONSTANTS: dict[str, LiteralValue] = {"True": True, "False": False, "None": None}


def _literal_value(cursor: Cursor) -> LiteralValue:
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


def _nested_literal(cursor: Cursor, depth: int) -> list[LiteralValue]:
    word = cursor.token
    name = _name(cursor)
    if name != "Literal" or not cursor.skip("[") or depth > DEPTH_LIMIT:
        cursor.fail(
            f"{word} is not a value of a Literal.",
            f"Put strings in quotes: Literal[{shortened(name)!r}].",
        )
    values = _literal_values(cursor, depth + 1)
    _close(cursor, "]")
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


def _is_ellipsis(cursor: Cursor) -> bool:
    token = cursor.token
    return token.kind == "ellipsis" or (
        token.kind == "name" and token.text == "Ellipsis"
    )


def _close(cursor: Cursor, bracket: str) -> None:
    if not cursor.skip(bracket):
        cursor.fail(f"expected {bracket!r}, found {cursor.token}.")


def _refuse_bare_none(cursor: Cursor, found: TypeExpr) -> None:
    if found == _BARE_NONE:
        cursor.fail(
            "None is not a type on its own; DSPy would read it as str.",
            "Write 'int | None' for an optional value, NoneType for always null.",
        )


def _refuse_token(cursor: Cursor) -> NoReturn:
    token = cursor.token
    hint = f"Types: {', '.join(ALLOWED)}."
    if token.kind == "string":
        hint = f"Write the type without quotes, or Literal[{shortened(token.text)!r}]."
    elif token.kind == "number":
        hint = f"For fixed values write Literal[{shortened(token.text)}]."
    elif cursor.sees("["):
        hint = "For a list write list[int]."
    cursor.fail(f"expected a type, found {token}.", hint)


def _refuse_name(cursor: Cursor, name: str) -> NoReturn:
    shown = shortened(name)
    if name.startswith("dspy."):
        cursor.fail(
            f"{shown} is not supported yet in a string signature.",
            "DSPy's own types are not taken over the bus so far; use str or dict.",
        )
    hint = _HINTS.get(name) or _HINTS.get(name.lower())
    # The one that was meant comes first: among all of them it would be overlooked.
    meant = nearest(shown, ALLOWED).partition("Allowed:")[0]
    cursor.fail(
        f"unknown type {shown!r}. {meant}Allowed: {', '.join(_COMMON)} "
        f"… and {len(ALLOWED) - len(_COMMON)} more.",
        hint or f"Nothing is imported to find a type. Types: {', '.join(ALLOWED)}.",
    )


def _example(name: str) -> str:
    examples = {
        "dict": "dict[str, int]",
        "Literal": "Literal['yes', 'no']",
        "Union": "Union[int, str]",
    }
    return examples.get(name, f"{name}[int]")
