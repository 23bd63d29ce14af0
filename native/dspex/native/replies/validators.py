"""Validators of types, as pydantic makes them: DSPy reads replies with those.

What pydantic takes for what (``"yes"`` for true, ``"1_000"`` for 1000, which member
of a union) is decided by its core, so the core itself is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from pydantic_core import SchemaValidator, core_schema

from dspex.contracts.failures import Unsupported
from dspex.native.prompts.dspy_values import code_in
from dspex.native.replies.wire import wire
from dspex.native.types.constraints import broken
from dspex.native.types.definitions import scope_of
from dspex.native.types.kinds import DspyType, Reference, SchemaType
from dspex.native.types.parts import Limited, ObjectType, Property
from dspex.native.types.tree import (
    NONE,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    TypeExpr,
    UnionType,
)
from dspex.native.work import MATCH_LIMIT, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import CoreSchema

OWN_TEXTS = {"Code": "code", "Reasoning": "content"}
"""DSPy's own types that are read here, and the key of the text that each holds."""


def validator(name: str, expr: TypeExpr) -> Callable[[Any], Any]:
    """Return what turns a value into one of a type, as pydantic does.

    Args:
        name: The field, for a message.
        expr: Its type.

    Returns:
        A function that raises a ``ValueError`` where pydantic would.

    Raises:
        Unsupported: It holds a type of DSPy's that is not read here.
    """
    builder = _Builder(name)
    schema = builder.build(expr)
    if builder.definitions:
        found = [one for one in builder.definitions.values() if one is not None]
        schema = core_schema.definitions_schema(schema, found)
    return SchemaValidator(schema).validate_python


class _Builder:
    """Builds the schema of one type.

    Attributes:
        definitions: Schemas of the types that a client described, by their names;
            None while one is being built, for it may contain itself.
    """

    def __init__(self, name: str) -> None:
        self.definitions: dict[str, CoreSchema | None] = {}
        self._name = name
        self._described: dict[str, dict[str, Any]] = {}

    def build(self, expr: TypeExpr) -> CoreSchema:
        """Build the schema of a type."""
        return _BUILDERS[type(expr)](self, expr)

    def collection(self, expr: Collection) -> CoreSchema:
        """Build the schema of a list or a set."""
        item = core_schema.any_schema() if expr.item is None else self.build(expr.item)
        return _COLLECTIONS[expr.kind](item)

    def row(self, expr: TupleType) -> CoreSchema:
        """Build the schema of a tuple."""
        if expr.items is None:
            anything: list[CoreSchema] = [core_schema.any_schema()]
            return core_schema.tuple_schema(anything, variadic_item_index=0)
        items = [self.build(item) for item in expr.items]
        variadic = 0 if expr.variadic else None
        return core_schema.tuple_schema(items, variadic_item_index=variadic)

    def mapping(self, expr: DictType) -> CoreSchema:
        """Build the schema of a mapping."""
        parts = [
            core_schema.any_schema() if part is None else self.build(part)
            for part in (expr.key, expr.value)
        ]
        return core_schema.dict_schema(*parts)

    def union(self, expr: UnionType) -> CoreSchema:
        """Build the schema of a union; ``None`` stands outside, as in pydantic."""
        parts = [self.build(part) for part in expr.members if part != NONE]
        schema = parts[0] if len(parts) == 1 else core_schema.union_schema([*parts])
        return core_schema.nullable_schema(schema) if NONE in expr.members else schema

    def described(self, expr: SchemaType | Reference) -> CoreSchema:
        """Build the schema of what a client described, and refer to it."""
        if isinstance(expr, SchemaType):
            self._described |= expr.definitions
        name = expr.name
        if name not in self.definitions:
            self.definitions[name] = None
            whole = scope_of(expr).types[name]
            if isinstance(whole, ObjectType):
                schema = self.object(whole, self._described.get(name))
            else:
                schema = self.build(whole)
            named: Any = {**schema, "ref": name}
            self.definitions[name] = named
        return core_schema.definition_reference_schema(name)

    def object(
        self, expr: ObjectType, described: dict[str, Any] | None = None
    ) -> CoreSchema:
        """Build the schema of an object.

        Args:
            expr: Its type.
            described: Its description, if it is that of a class: such an object has
                its defaults, and drops the keys that the description is silent on.
        """
        said: dict[str, Any] = described or {}
        defaults = {
            key: one["default"]
            for key, one in said.get("properties", {}).items()
            if isinstance(one, dict) and "default" in one
        }
        fields = {one.name: self._property(one, defaults) for one in expr.properties}
        if expr.rest is None:
            return core_schema.typed_dict_schema(fields, extra_behavior="forbid")
        if described is not None and "additionalProperties" not in described:
            return core_schema.typed_dict_schema(fields, extra_behavior="ignore")
        return core_schema.typed_dict_schema(
            fields, extra_behavior="allow", extras_schema=self.build(expr.rest)
        )

    def limited(self, expr: Limited) -> CoreSchema:
        """Build the schema of a type under constraints."""

        def check(value: Any) -> Any:
            for wanted in broken(wire(value), expr.limits, Work(MATCH_LIMIT)):
                raise ValueError(f"expected {wanted}")
            return value

        inner = self.build(expr.type)
        return core_schema.no_info_after_validator_function(check, inner)

    def own(self, expr: DspyType) -> CoreSchema:
        """Build the schema of a type of DSPy's own."""
        key = OWN_TEXTS.get(expr.name)
        if key is None:
            raise Unsupported(
                f"The output {self._name!r} cannot be of dspy.{expr.name}: "
                "how DSPy reads such an output is not known here.",
                hint="Give the output a type of your own, or let a worker with DSPy "
                "answer.",
                field=self._name,
            )
        tags: dict[str, Any] = {"$t": expr.name}
        if expr.name == "Code":
            tags["language"] = expr.language or "python"

        def read(value: Any) -> Any:
            found = value.get(key) if isinstance(value, dict) else value
            if not isinstance(found, str):
                _refuse(expr)
            return {**tags, key: code_in(found) if expr.name == "Code" else found}

        return core_schema.no_info_plain_validator_function(read)

    def _property(
        self, one: Property, defaults: dict[str, Any]
    ) -> core_schema.TypedDictField:
        schema = self.build(one.type)
        if one.name in defaults:
            # A copy each time: the schema is shared.
            default = defaults[one.name]
            schema = core_schema.with_default_schema(
                schema, default_factory=lambda: msgspec.to_builtins(default)
            )
        return core_schema.typed_dict_field(schema, required=one.required)


def _refuse(expr: DspyType) -> NoReturn:
    raise ValueError(f"expected a text, or an object with one, for dspy.{expr.name}")


_COLLECTIONS: dict[str, Callable[[Any], CoreSchema]] = {
    "list": core_schema.list_schema,
    "set": core_schema.set_schema,
    "frozenset": core_schema.frozenset_schema,
}

_SCALARS: dict[str, CoreSchema] = {
    "str": core_schema.str_schema(),
    "int": core_schema.int_schema(),
    "float": core_schema.float_schema(),
    "bool": core_schema.bool_schema(),
    "NoneType": core_schema.none_schema(),
    "Any": core_schema.any_schema(),
    "bytes": core_schema.bytes_schema(),
    "date": core_schema.date_schema(),
    "datetime": core_schema.datetime_schema(),
    "time": core_schema.time_schema(),
    "timedelta": core_schema.timedelta_schema(),
    "Decimal": core_schema.decimal_schema(),
    "UUID": core_schema.uuid_schema(),
}

_BUILDERS: dict[type, Callable[[_Builder, Any], CoreSchema]] = {
    Scalar: lambda _, expr: _SCALARS[expr.name],
    LiteralType: lambda _, expr: core_schema.literal_schema([*expr.values]),
    Collection: _Builder.collection,
    TupleType: _Builder.row,
    DictType: _Builder.mapping,
    UnionType: _Builder.union,
    ObjectType: _Builder.object,
    Limited: _Builder.limited,
    SchemaType: _Builder.described,
    Reference: _Builder.described,
    DspyType: _Builder.own,
}
