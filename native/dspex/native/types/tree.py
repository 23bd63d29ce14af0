"""The types a field may have, as a tree.

A tree is built by `dspex.native.types.expressions` from a closed list of names and
never from anything imported, so a type is known completely by looking at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LiteralValue = str | int | bool | None


class TypeExpr(Struct, frozen=True):
    """A type. Its subclasses are the kinds of types there are."""

    @property
    def parts(self) -> tuple[TypeExpr, ...]:
        """The types inside it, in the order they are written."""
        return ()

    @property
    def definitions(self) -> dict[str, dict[str, Any]]:
        """The JSON Schemas that its own refers to as ``#/$defs/<name>``."""
        return {}

    @property
    def choices(self) -> tuple[LiteralValue, ...]:
        """The values it has, where they are listed."""
        return ()

    @property
    def is_plain(self) -> bool:
        """Whether its values have no parts and can be told apart by hash."""
        return False

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write the type as DSPy prints it in a prompt.

        Args:
            quote: Writes a string of a ``Literal``; with it the type is written so
                that it can be read again, without it as DSPy prints it.
        """
        raise NotImplementedError

    def shape(self) -> dict[str, Any]:
        """Describe its JSON values; types of the client's are only referred to."""
        raise NotImplementedError

    def json_schema(self) -> dict[str, Any]:
        """Describe the JSON values of the type as JSON Schema, complete in itself."""
        return completed(self, self.shape())


class Scalar(TypeExpr, frozen=True):
    """A type without parts, or ``Any``.

    Attributes:
        name: One of the keys of `SCALARS`.
    """

    name: str

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write its name."""
        return self.name

    @property
    def is_plain(self) -> bool:
        """Whether it is any other type than ``Any``."""
        return self.name != "Any"

    def shape(self) -> dict[str, Any]:
        """Describe its JSON values."""
        return dict(SCALARS[self.name])


class Collection(TypeExpr, frozen=True):
    """A list or a set; on the wire both are arrays.

    Attributes:
        kind: ``list``, ``set`` or ``frozenset``.
        item: Type of its elements; ``None`` where none was written.
    """

    kind: Literal["list", "set", "frozenset"]
    item: TypeExpr | None = None

    @property
    def parts(self) -> tuple[TypeExpr, ...]:
        """The element type, if there is one."""
        return () if self.item is None else (self.item,)

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write ``list[int]``, or ``list``."""
        return _bracketed(self.kind, self.parts or None, quote)

    def shape(self) -> dict[str, Any]:
        """Describe an array, of unique elements unless it is a list."""
        schema: dict[str, Any] = {"type": "array"}
        if self.item is not None:
            schema["items"] = self.item.shape()
        if self.kind != "list":
            schema["uniqueItems"] = True
        return schema


class TupleType(TypeExpr, frozen=True):
    """A tuple; on the wire an array.

    Attributes:
        items: Types of its elements; ``None`` where none were written.
        variadic: Whether it is ``tuple[X, ...]``: any number of the one type.
    """

    items: tuple[TypeExpr, ...] | None = None
    variadic: bool = False

    @property
    def parts(self) -> tuple[TypeExpr, ...]:
        """The element types."""
        return self.items or ()

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write ``tuple[int, str]``; DSPy prints ``tuple[int, Ellipsis]`` too."""
        if self.variadic:
            return f"tuple[{self.parts[0].describe(quote)}, Ellipsis]"
        return _bracketed("tuple", self.items, quote)

    def shape(self) -> dict[str, Any]:
        """Describe an array, of a fixed length unless it is variadic."""
        if self.items is None:
            return {"type": "array"}
        if self.variadic:
            return {"type": "array", "items": self.items[0].shape()}
        size = len(self.items)
        schema: dict[str, Any] = {"type": "array", "minItems": size, "maxItems": size}
        if size:
            schema["prefixItems"] = [item.shape() for item in self.items]
        return schema


class DictType(TypeExpr, frozen=True):
    """A mapping; on the wire an object, so its keys are written as strings.

    Attributes:
        key: Type of its keys; ``None`` where none was written.
        value: Type of its values; ``None`` where none was written.
    """

    key: TypeExpr | None = None
    value: TypeExpr | None = None

    @property
    def parts(self) -> tuple[TypeExpr, ...]:
        """The key type and the value type, if they are there."""
        return tuple(part for part in (self.key, self.value) if part is not None)

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write ``dict[str, int]``, or ``dict``."""
        return _bracketed("dict", self.parts or None, quote)

    def shape(self) -> dict[str, Any]:
        """Describe an object."""
        schema: dict[str, Any] = {"type": "object"}
        if self.value is not None:
            schema["additionalProperties"] = self.value.shape()
        names = _key_schema(self.key)
        return {**schema, "propertyNames": names} if names else schema


class LiteralType(TypeExpr, frozen=True):
    """One of some values.

    Attributes:
        values: The values, each once.
    """

    values: tuple[LiteralValue, ...]

    @property
    def choices(self) -> tuple[LiteralValue, ...]:
        """Its values."""
        return self.values

    @property
    def is_plain(self) -> bool:
        """Always true."""
        return True

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write ``Literal['a', 1, True]``."""
        write = quote or quoted
        spelled = (write(v) if isinstance(v, str) else str(v) for v in self.values)
        return f"Literal[{', '.join(spelled)}]"

    def shape(self) -> dict[str, Any]:
        """Describe an enumeration."""
        return {"enum": list(self.values)}


class UnionType(TypeExpr, frozen=True):
    """A value of any of at least two types.

    Attributes:
        members: The types, each once, none of them a union.
    """

    members: tuple[TypeExpr, ...]

    @property
    def parts(self) -> tuple[TypeExpr, ...]:
        """The types."""
        return self.members

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write ``Union[int, NoneType]``."""
        return _bracketed("Union", self.members, quote)

    def shape(self) -> dict[str, Any]:
        """Describe the alternatives."""
        return {"anyOf": [member.shape() for member in self.members]}


DEFINITIONS = "#/$defs/"
"""What a reference to a definition starts with."""

ANY = Scalar("Any")
NONE = Scalar("NoneType")

_BYTES = {
    "type": "object",
    "properties": {
        "$t": {"const": "bytes"},
        "data": {"type": "string", "contentEncoding": "base64"},
    },
    "required": ["$t", "data"],
    "additionalProperties": False,
}

SCALARS: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "NoneType": {"type": "null"},
    "Any": {},
    "bytes": _BYTES,
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
    "timedelta": {"type": "string", "format": "duration"},
    "Decimal": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    "UUID": {"type": "string", "format": "uuid"},
}
"""The JSON Schema of every type without parts, by its name."""

KEY_PATTERNS: dict[str, str] = {
    "int": r"^-?(0|[1-9][0-9]*)$",
    "float": r"^-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?$",
}
"""How the keys of an object spell numbers."""

KEYS = ("str", "int", "float", "date", "datetime", "UUID", "Any", "Literal")
"""The types that the keys of a ``dict`` may have."""


def union(members: Iterable[TypeExpr]) -> TypeExpr:
    """Join types as ``typing.Union`` does: flat, each once, one alone as itself."""
    found: dict[Any, TypeExpr] = {}
    for member in members:
        for part in member.members if isinstance(member, UnionType) else (member,):
            found.setdefault(_identity(part), part)
    flat = tuple(found.values())
    return flat[0] if len(flat) == 1 else UnionType(flat)


def _identity(expr: TypeExpr) -> Any:
    # To typing, the order of a union or a Literal makes no difference.
    if isinstance(expr, UnionType):
        return frozenset(map(_identity, expr.members))
    if isinstance(expr, LiteralType):
        return frozenset(map(repr, expr.values))
    if not expr.parts:
        return expr.describe(repr)
    shell = (type(expr), getattr(expr, "kind", None), getattr(expr, "variadic", None))
    return (*shell, *map(_identity, expr.parts))


def literal(values: Iterable[LiteralValue]) -> LiteralType:
    """Gather the values of a ``Literal``, each once; ``1`` and ``True`` differ."""
    return LiteralType(tuple({(type(v), v): v for v in values}.values()))


def accepts_none(expr: TypeExpr) -> bool:
    """Say whether a field of this type may be left empty."""
    return expr == NONE or (isinstance(expr, UnionType) and NONE in expr.members)


def hashable(expr: TypeExpr) -> bool:
    """Say whether every value of the type can be an element of a set."""
    if isinstance(expr, Collection):
        return expr.kind == "frozenset"
    if isinstance(expr, (TupleType, UnionType)):
        return bool(expr.parts) and all(hashable(part) for part in expr.parts)
    return expr.is_plain


def nodes(expr: TypeExpr) -> Iterator[TypeExpr]:
    """Yield a type and all the types inside it, from the outside in."""
    yield expr
    for part in expr.parts:
        yield from nodes(part)


def completed(expr: TypeExpr, shape: dict[str, Any]) -> dict[str, Any]:
    """Add to the JSON Schema of a type the definitions that it refers to.

    As pydantic does it: in ``$defs``, except for one that is the whole schema and
    does not refer to itself.
    """
    found: dict[str, dict[str, Any]] = {}
    for node in nodes(expr):
        found |= node.definitions
    whole = shape.get("$ref", "").removeprefix(DEFINITIONS)
    if len(shape) == 1 and whole in found and not refers(found, whole):
        shape = found.pop(whole)
    return {"$defs": found, **shape} if found else dict(shape)


def refers(value: Any, name: str) -> bool:
    """Say whether a JSON Schema refers to a definition anywhere in it."""
    if isinstance(value, list):
        return any(refers(item, name) for item in value)
    if not isinstance(value, dict):
        return False
    return value.get("$ref") == DEFINITIONS + name or any(
        refers(item, name) for item in value.values()
    )


def quoted(text: str) -> str:
    """Quote a string as DSPy does in a prompt: nothing but quotes is escaped."""
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    return "'" + text.replace("'", "\\'") + "'"


def spelled(expr: TypeExpr) -> str:
    """Write a type so that it can be read again, as DSPy prints it where it can be."""
    return expr.describe(_escaped)


def _escaped(text: str) -> str:
    if "\\" not in text and all(c >= " " and c != "\x7f" for c in text):
        return quoted(text)
    escapes = {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
    for code in (*range(32), 127):
        escapes.setdefault(code, f"\\x{code:02x}")
    return "'" + text.translate(escapes).replace("'", "\\'") + "'"


def _bracketed(
    name: str,
    parts: Iterable[TypeExpr] | None,
    quote: Callable[[str], str] | None,
) -> str:
    if parts is None:
        return name
    return f"{name}[{', '.join(part.describe(quote) for part in parts)}]"


def _key_schema(key: TypeExpr | None) -> dict[str, Any]:
    if isinstance(key, LiteralType):
        return {"enum": [str(value) for value in key.values]}
    if key is not None and key.choices:
        return key.shape()
    if not isinstance(key, Scalar) or key.name in ("str", "Any"):
        return {}
    if key.name in KEY_PATTERNS:
        return {"pattern": KEY_PATTERNS[key.name]}
    return key.shape()
