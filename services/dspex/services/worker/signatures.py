"""Compiled signatures -> classes of ``dspy.Signature``.

Built from types, never from text: DSPy's own reader of signature text imports any
module that a client names.
"""

from __future__ import annotations

import datetime
import inspect
import operator
import uuid
from decimal import Decimal
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Union, cast

import dspy
import msgspec
from cachetools import LRUCache, cached
from msgspec import UNSET

from dspex.native.checking.checking import fits
from dspex.native.types.constraints import given
from dspex.native.types.kinds import DspyType, SchemaType
from dspex.native.types.scalars import tagged_bytes
from dspex.native.types.tree import (
    ANY,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    TypeExpr,
    UnionType,
)
from dspex.services.worker.described import schema_class
from dspex.services.worker.own_types import own_class, own_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.contracts.signatures import Field
    from dspex.native.signatures.compiling import Compiled

CACHE_LIMIT = 256
"""The most classes kept; each costs a pydantic model."""

_cache: LRUCache[str, type[dspy.Signature]] = LRUCache(CACHE_LIMIT)


@cached(_cache, key=operator.attrgetter("digest"), lock=Lock())
def dspy_signature(compiled: Compiled) -> type[dspy.Signature]:
    """Return the class of a signature; the same one for the same digest.

    The class is shared: derive from it (``with_instructions``, ``prepend``), as DSPy
    itself does, and never change it.

    Args:
        compiled: The signature, read natively.

    Raises:
        Unsupported: The installed release of DSPy lacks a type that it uses.
    """
    return _build(compiled)


def annotation(expr: TypeExpr) -> Any:
    """Return a type as Python annotates it, such as ``list[str]``."""
    return _ANNOTATIONS[type(expr)](expr)


def python_value(expr: TypeExpr, value: Any) -> Any:
    """Turn a checked JSON value into the Python value of its type.

    Dates, decimals, UUIDs and bytes become objects, arrays the list, tuple or set
    they stand for, the keys of an object what they spell, what stands for a value of
    DSPy's that value. An object that the client described stays a ``dict``.

    Args:
        expr: The type.
        value: A value that ``dspex.native.checking.checking.check`` found valid for it.
    """
    return _VALUES[type(expr)](expr, value)


def _build(compiled: Compiled) -> type[dspy.Signature]:
    slots = (*compiled.inputs, *compiled.outputs)
    fields = {
        field.name: (annotation(expr), _field(field, expr)) for field, expr in slots
    }
    instructions = compiled.signature.instructions
    if inspect.cleandoc(instructions) != instructions:
        # DSPy strips the indentation of a first line again, but not of a second.
        instructions = "\n" + instructions
    # Called on the base class itself, DSPy's metaclass makes a class, not an instance.
    make: Callable[..., type[dspy.Signature]] = cast("Any", dspy.Signature)
    return make(fields, instructions)


def _field(field: Field, expr: TypeExpr) -> Any:
    # A pattern is checked natively: DSPy neither shows nor enforces it, and pydantic
    # reads another dialect and would refuse some.
    extras = given(field.constraints)
    extras.pop("pattern", None)
    if field.description != f"${{{field.name}}}":
        extras["desc"] = field.description
    if field.default is not UNSET:
        extras["default"] = python_value(expr, field.default)
    make = dspy.InputField if field.kind == "input" else dspy.OutputField
    return make(**extras)


def _collection(expr: Collection) -> Any:
    plain = _GENERICS[expr.kind]
    return plain if expr.item is None else plain[annotation(expr.item)]


def _tuple(expr: TupleType) -> Any:
    plain = _GENERICS["tuple"]
    if expr.items is None:
        return plain
    parts = tuple(map(annotation, expr.items))
    return plain[(*parts, ...)] if expr.variadic else plain[parts]


def _dict(expr: DictType) -> Any:
    plain = _GENERICS["dict"]
    if expr.key is None or expr.value is None:
        return plain
    return plain[annotation(expr.key), annotation(expr.value)]


def _union(expr: UnionType) -> Any:
    return _uncached(Union, tuple(map(annotation, expr.members)))


def _scalar_value(expr: Scalar, value: Any) -> Any:
    if expr.name == "bytes":
        return _without_markers(tagged_bytes(value) or b"")
    if expr.name in _PARSED:
        return msgspec.convert(value, _SCALARS[expr.name], strict=False)
    return value


def _without_markers(data: bytes) -> bytes:
    # DSPy decodes bytes into its prompt, where it would read markers as its own.
    return data.replace(b"<<CUSTOM-TYPE-", b"< <CUSTOM-TYPE-")


def _collection_value(expr: Collection, value: list[Any]) -> Any:
    items = [python_value(expr.item or ANY, item) for item in value]
    return items if expr.kind == "list" else _GENERICS[expr.kind](items)


def _tuple_value(expr: TupleType, value: list[Any]) -> Any:
    types = expr.parts * len(value) if expr.variadic else expr.items
    if types is None:
        return tuple(value)
    return tuple(map(python_value, types, value))


def _dict_value(expr: DictType, value: dict[str, Any]) -> Any:
    key, inner = expr.key or ANY, expr.value or ANY
    return {_key(key, k): python_value(inner, v) for k, v in value.items()}


def _key(expr: TypeExpr, key: str) -> Any:
    if isinstance(expr, LiteralType):
        return next(value for value in expr.values if str(value) == key)
    if isinstance(expr, Scalar) and expr.name in ("int", "float"):
        return _SCALARS[expr.name](key)
    return python_value(expr, key)


def _schema_value(expr: SchemaType, value: Any) -> Any:
    return schema_class(expr)(value)


def _union_value(expr: UnionType, value: Any) -> Any:
    return python_value(next(m for m in expr.members if fits(m, value)), value)


# To the cache of `typing`, list[int | str] is the list[str | int] of an earlier
# signature: the prompt of the one would depend on the other having been there.
_uncached: Callable[[Any, Any], Any] = getattr(
    getattr(type(Union), "__getitem__", None), "__wrapped__", operator.getitem
)

_GENERICS: dict[str, Any] = {
    "list": list,
    "set": set,
    "frozenset": frozenset,
    "tuple": tuple,
    "dict": dict,
}

_SCALARS: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "NoneType": type(None),
    "Any": Any,
    "bytes": bytes,
    "date": datetime.date,
    "datetime": datetime.datetime,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "Decimal": Decimal,
    "UUID": uuid.UUID,
}

_PARSED = ("date", "datetime", "time", "timedelta", "Decimal", "UUID")

_ANNOTATIONS: dict[type, Callable[[Any], Any]] = {
    Scalar: lambda expr: _SCALARS[expr.name],
    Collection: _collection,
    TupleType: _tuple,
    DictType: _dict,
    LiteralType: lambda expr: Literal[expr.values],
    UnionType: _union,
    SchemaType: schema_class,
    DspyType: own_class,
}

_VALUES: dict[type, Callable[[Any, Any], Any]] = {
    Scalar: _scalar_value,
    Collection: _collection_value,
    TupleType: _tuple_value,
    DictType: _dict_value,
    LiteralType: lambda _, value: value,
    UnionType: _union_value,
    SchemaType: _schema_value,
    DspyType: own_value,
}
