"""Classes for the types that a client described as JSON Schema.

DSPy asks a class for its JSON Schema, which it shows to the model, and for a value
from what the model wrote. Here the first is the client's own words, and the second is
what native replies are read as.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypedDict

from pydantic_core import core_schema

from dspex.native.replies.validators import validator
from dspex.native.types.tree import DEFINITIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetJsonSchemaHandler

    from dspex.native.types.kinds import SchemaType

CACHE_LIMIT = 256
"""The most classes kept."""


@lru_cache(maxsize=CACHE_LIMIT)
def schema_class(expr: SchemaType) -> type:
    """Return the class that stands for a described type.

    An enumeration becomes an ``enum.Enum``. An object becomes a ``dict`` with a name:
    its values go out as they came in.

    Args:
        expr: The type.
    """
    made: Any = _enumeration(expr) if expr.kind == "enum" else _object(expr)
    made.__get_pydantic_core_schema__ = classmethod(
        lambda cls, *_: _core(expr, cls, expr.name, complete=True)
    )
    return made  # type: ignore[no-any-return]  # one of the two above


def _enumeration(expr: SchemaType) -> Any:
    members = list(zip(expr.members, expr.values, strict=True))
    return enum.Enum(expr.name, members)


class _Nested(type(TypedDict("_Empty", {}))):  # type: ignore[misc]  # what it is
    """The class of a ``TypedDict`` that can be made and asked for like any class.

    DSPy's XML adapter nests the elements of a ``TypedDict``, as it does those of a
    pydantic model; of another ``dict`` it writes JSON. But DSPy also asks whether
    inputs are of their class, which a ``TypedDict`` refuses to answer.
    """

    __new__: Any = type.__new__
    __call__ = type.__call__
    __instancecheck__ = type.__instancecheck__
    __subclasscheck__ = type.__subclasscheck__


def _object(expr: SchemaType) -> Any:
    return _Nested(expr.name, (dict,), {"__slots__": ()})


def _core(expr: SchemaType, cls: Any, name: str, *, complete: bool) -> Any:
    write = _writer(expr, name, complete=complete)
    metadata: Any = {"pydantic_js_functions": [write]}
    if isinstance(cls, enum.EnumMeta):
        members: list[Any] = list(cls)
        return core_schema.enum_schema(cls, members, ref=_ref(name), metadata=metadata)
    if cls is None:
        return core_schema.any_schema(ref=_ref(name), metadata=metadata)

    read = validator(expr.name, expr)

    def validate(value: Any) -> Any:
        return value if type(value) is cls else cls(read(value))

    return core_schema.no_info_plain_validator_function(
        validate, ref=_ref(name), metadata=metadata
    )


def _writer(
    expr: SchemaType, name: str, *, complete: bool
) -> Callable[[Any, GetJsonSchemaHandler], dict[str, Any]]:
    """Make what hands the client's description to pydantic's writer of JSON Schema."""

    def write(_: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        for other in expr.others if complete else ():
            if other != name:
                # Within a list it is written as whatever is met for the first time.
                stub = _core(expr, None, other, complete=False)
                handler(core_schema.list_schema(stub))
        found: dict[str, Any] = _linked(expr.printed[name], handler)
        return found

    return write


def _linked(value: Any, handler: GetJsonSchemaHandler) -> Any:
    if isinstance(value, list):
        return [_linked(item, handler) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _linked(item, handler) for key, item in value.items()}
    target = value.get("$ref")
    if isinstance(target, str):
        name = target.removeprefix(DEFINITIONS)
        found |= handler(core_schema.definition_reference_schema(_ref(name)))
    return found


def _ref(name: str) -> str:
    return f"types.{name}:{name}"
