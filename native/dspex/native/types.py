"""The types a field may have, as a tree.

A tree is built by `dspex.native.expressions` from a closed list of names and never
from anything imported, so a type is known completely by looking at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LiteralValue = str | int | bool | None


class TypeExpr(Struct, frozen=True):
    """A type. Its subclasses are the kinds of types there are."""

    @property
    def parts(self) -> tuple[TypeExpr, ...]:
        """The types inside it, in the order they are written."""
        return ()

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write the type as DSPy prints it in a prompt.

        Args:
            quote: Writes a string of a ``Literal``; by default as DSPy does.
        """
        raise NotImplementedError

    def json_schema(self) -> dict[str, Any]:
        """Describe the JSON values of the type as JSON Schema."""
        raise NotImplementedError


class Scalar(TypeExpr, frozen=True):
    """A type without parts, or ``Any``.

    Attributes:
        name: One of the keys of `SCALARS`.
    """

    name: str

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write its name."""
        return self.name

    def json_schema(self) -> dict[str, Any]:
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

    def json_schema(self) -> dict[str, Any]:
        """Describe an array, of unique elements unless it is a list."""
        schema: dict[str, Any] = {"type": "array"}
        if self.item is not None:
            schema["items"] = self.item.json_schema()
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

    def json_schema(self) -> dict[str, Any]:
        """Describe an array, of a fixed length unless it is variadic."""
        if self.items is None:
            return {"type": "array"}
        if self.variadic:
            return {"type": "array", "items": self.items[0].json_schema()}
        size = len(self.items)
        schema: dict[str, Any] = {"type": "array", "minItems": size, "maxItems": size}
        if size:
            schema["prefixItems"] = [item.json_schema() for item in self.items]
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

    def json_schema(self) -> dict[str, Any]:
        """Describe an object."""
        schema: dict[str, Any] = {"type": "object"}
        if self.value is not None:
            schema["additionalProperties"] = self.value.json_schema()
        names = _key_schema(self.key)
        return {**schema, "propertyNames": names} if names else schema


class LiteralType(TypeExpr, frozen=True):
    """One of some values.

    Attributes:
        values: The values, each once.
    """

    values: tuple[LiteralValue, ...]

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write ``Literal['a', 1, True]``."""
        write = quote or quoted
        spelled = (write(v) if isinstance(v, str) else str(v) for v in self.values)
        return f"Literal[{', '.join(spelled)}]"

    def json_schema(self) -> dict[str, Any]:
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

    def json_schema(self) -> dict[str, Any]:
        """Describe the alternatives."""
        return {"anyOf": [member.json_schema() for member in self.members]}


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
    found: dict[str, TypeExpr] = {}
    for member in members:
        for part in member.members if isinstance(member, UnionType) else (member,):
            found.setdefault(part.describe(repr), part)
    flat = tuple(found.values())
    return flat[0] if len(flat) == 1 else UnionType(flat)


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
    return not isinstance(expr, DictType) and expr != ANY


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
    if not isinstance(key, Scalar) or key.name in ("str", "Any"):
        return {}
    if key.name in KEY_PATTERNS:
        return {"pattern": KEY_PATTERNS[key.name]}
    return key.json_schema()
