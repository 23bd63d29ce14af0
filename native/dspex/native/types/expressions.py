"""Type expressions: ``list[str]``, ``Literal['a', 'b']``, ``int | None``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NoReturn

from dspex.native.types.kinds import SchemaType
from dspex.native.types.literals import literal_values
from dspex.native.types.names import (
    ALLOWED,
    BARE,
    BARE_NONE,
    DEPTH_LIMIT,
    SPECIAL,
    TYPING,
    close,
    dspy_type,
    example,
    refuse_name,
    type_name,
)
from dspex.native.types.tokens import Cursor, shortened
from dspex.native.types.tree import (
    KEYS,
    NONE,
    SCALARS,
    Collection,
    DictType,
    Scalar,
    TupleType,
    TypeExpr,
    hashable,
    literal,
    spelled,
    union,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_Kind = Literal["list", "set", "frozenset"]


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
    lead = next((i for i, m in enumerate(members) if m not in (NONE, BARE_NONE)), 0)
    if lead and members[:lead] != [BARE_NONE]:
        members = [members[lead], NONE, *members[lead + 1 :]]
    return [NONE if member == BARE_NONE else member for member in members]


def _operand(cursor: Cursor, depth: int) -> TypeExpr:
    if depth > DEPTH_LIMIT:
        cursor.fail(
            f"types are nested deeper than {DEPTH_LIMIT} levels.",
            "Use dict or Any for the inner part.",
        )
    if cursor.skip("("):
        found = _alternatives(cursor, depth + 1)
        close(cursor, ")")
        return found
    if cursor.token.kind != "name":
        _refuse_token(cursor)
    name = type_name(cursor)
    own = dspy_type(cursor, name)
    if own is not None:
        return own
    if cursor.skip("["):
        return _parametrised(cursor, name, depth + 1)
    return _bare(cursor, name)


def _bare(cursor: Cursor, name: str) -> TypeExpr:
    if name in SCALARS:
        return Scalar(name)
    if name in BARE:
        return BARE[name]
    if name in cursor.types:
        return cursor.types[name]
    if name in TYPING:
        cursor.fail(
            f"{name} needs its types, such as {name}[str].",
            f"Without them write {TYPING[name]}.",
        )
    if name in SPECIAL:
        cursor.fail(f"{name} needs its types or values, such as {example(name)}.")
    refuse_name(cursor, name)


def _parametrised(cursor: Cursor, name: str, depth: int) -> TypeExpr:
    name = TYPING.get(name, name)
    if name == "Literal":
        found: TypeExpr = literal(literal_values(cursor, depth))
    elif name in _BUILDERS:
        found = _BUILDERS[name](cursor, depth)
    else:
        if name in SCALARS or name in cursor.types:
            cursor.fail(f"{name} takes no types in brackets.", f"Write {name}.")
        refuse_name(cursor, name)
    close(cursor, "]")
    return found


def _collection(name: _Kind) -> Callable[[Cursor, int], TypeExpr]:
    def build(cursor: Cursor, depth: int) -> TypeExpr:
        (item,) = _arguments(cursor, depth, name, 1)
        if name != "list" and item != Scalar("Any") and not hashable(item):
            cursor.fail(
                f"the elements of a {name} cannot be {spelled(item)}, "
                "whose values cannot be told apart by hash.",
                f"Use list[{spelled(item)}].",
            )
        return Collection(name, item)

    return build


def _dict(cursor: Cursor, depth: int) -> TypeExpr:
    key, value = _arguments(cursor, depth, "dict", 2)
    plain = isinstance(key, Scalar) and key.name in KEYS
    names = {*map(str, key.choices)}
    if isinstance(key, SchemaType):
        names &= {*key.choices}  # Of an enumeration, only its own strings are keys.
    if not plain and not (names and len(names) == len(key.choices)):
        cursor.fail(
            f"the keys of a dict cannot be {spelled(key)}: "
            "a JSON object has strings for keys.",
            f"Allowed for keys: {', '.join(KEYS)}. Or use list[tuple[...]].",
        )
    return DictType(key, value)


def _tuple(cursor: Cursor, depth: int) -> TypeExpr:
    if cursor.skip("("):
        close(cursor, ")")
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
        found.append(NONE if inner == BARE_NONE else inner)
        if not cursor.skip(","):
            break
    if not found or (count is not None and len(found) != count):
        wanted = "at least one type" if count is None else f"{count} type(s)"
        cursor.fail(
            f"{name} takes {wanted} in brackets, found {len(found)}.",
            f"Write it like {example(name)}.",
        )
    return found


def _argument(cursor: Cursor, depth: int) -> TypeExpr:
    found = _alternatives(cursor, depth)
    _refuse_bare_none(cursor, found)
    return found


def _is_ellipsis(cursor: Cursor) -> bool:
    token = cursor.token
    return token.kind == "ellipsis" or (
        token.kind == "name" and token.text == "Ellipsis"
    )


def _refuse_bare_none(cursor: Cursor, found: TypeExpr) -> None:
    if found == BARE_NONE:
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
