"""Types beyond those of Python: what a client described itself, and DSPy's own.

A client describes an enumeration or an object as JSON Schema.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from msgspec import field

from dspex.native.types.parts import ObjectType
from dspex.native.types.tree import DEFINITIONS, LiteralValue, TypeExpr, UnionType
from dspex.native.types.wire import DspyName, wire_type

if TYPE_CHECKING:
    from collections.abc import Callable


class Scope:
    """The client's descriptions that refer to one another.

    Attributes:
        types: The type that each describes, by their names.
        ready: What was made of them so far, by their names; kept here because it
            may contain itself.
    """

    def __init__(self) -> None:
        self.types: dict[str, TypeExpr] = {}
        self.ready: dict[str, Any] = {}


class SchemaType(TypeExpr, frozen=True, dict=True, eq=False):
    """An enumeration or an object that the client described as JSON Schema.

    Attributes:
        name: Its name.
        schema: Its description, without ``$defs``: other descriptions, and itself,
            are referred to as ``#/$defs/<name>``.
        others: The descriptions it refers to, by their names; its own among them
            exactly if it refers to itself.
        scope: What it and they stand for, if that is known.
    """

    name: str
    schema: dict[str, Any]
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    scope: Scope | None = None

    @property
    def kind(self) -> Literal["enum", "object"]:
        """Whether it is an enumeration or an object."""
        return "enum" if "enum" in self.schema else "object"

    @property
    def values(self) -> tuple[LiteralValue, ...]:
        """The values of an enumeration."""
        return tuple(self.schema.get("enum", ()))

    @property
    def members(self) -> tuple[str, ...]:
        """The same, but ``value_0``, … where Python could not name a member so."""
        found: dict[str, None] = {}
        for i, name in enumerate(self.names):
            if not name or name.startswith("_") or name == "mro" or name in found:
                name = f"value_{i}"
            while name in found:
                name += "_"
            found[name] = None
        return tuple(found)

    @property
    def choices(self) -> tuple[LiteralValue, ...]:
        """The values of an enumeration."""
        return self.values

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the values of an enumeration; by default the values as text."""
        given = self.schema.get("x-enum-varnames")
        return tuple(given or map(str, self.values))

    @property
    def definitions(self) -> dict[str, dict[str, Any]]:
        """Its own description and those it refers to."""
        return {self.name: self.schema, **self.others}

    @property
    def printed(self) -> dict[str, dict[str, Any]]:
        """The same as a prompt shows them: ``x-enum-varnames`` are for programs."""
        return {
            name: {k: v for k, v in schema.items() if k != "x-enum-varnames"}
            for name, schema in self.definitions.items()
        }

    @property
    def size(self) -> int:
        """How many characters its description and those it refers to have."""
        return len(self._content[1])

    @property
    def is_plain(self) -> bool:
        """Whether it is an enumeration."""
        return self.kind == "enum"

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write its name."""
        return self.name

    def shape(self) -> dict[str, Any]:
        """Refer to its description."""
        return {"$ref": DEFINITIONS + self.name}

    @cached_property
    def _content(self) -> tuple[str, str]:
        found = json.dumps([self.schema, self.others], sort_keys=True)
        return self.name, found

    def __eq__(self, other: object) -> bool:
        """Say whether the other has the same name and says the same."""
        return isinstance(other, SchemaType) and self._content == other._content

    def __hash__(self) -> int:
        """Make equal ones alike."""
        return hash(self._content)


class Reference(TypeExpr, frozen=True):
    """A description of the client's, by its name; it is part of others only.

    Attributes:
        name: The name.
        scope: Where it is found.
    """

    name: str
    scope: Scope

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write the name."""
        return self.name

    def shape(self) -> dict[str, Any]:
        """Refer to the description."""
        return {"$ref": DEFINITIONS + self.name}


class DspyType(TypeExpr, frozen=True):
    """A type of DSPy's own, such as ``dspy.Image``.

    Attributes:
        name: Its name in DSPy.
        language: The language of ``Code["java"]``; empty where none was written.
    """

    name: DspyName
    language: str = ""

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write ``Image``, ``Code_java``; to be read again, ``dspy.Image``.

        DSPy prints ``Reasoning`` as ``str``.
        """
        if quote is not None:
            language = f"[{quote(self.language)}]" if self.language else ""
            return f"{QUALIFIED[self.name]}{language}"
        if self.name == "Reasoning":
            return "str"
        return f"{self.name}_{self.language}" if self.language else self.name

    @property
    def wire(self) -> TypeExpr:
        """The type of its JSON values; of ``Code`` and ``Reasoning`` also a string."""
        return wire_type(self.name, self.language)

    @property
    def tagged(self) -> ObjectType:
        """The type of those of its JSON values that are objects."""
        wire = self.wire
        if isinstance(wire, UnionType):
            wire = wire.members[-1]
        assert isinstance(wire, ObjectType)  # by the table of them
        return wire

    def shape(self) -> dict[str, Any]:
        """Describe its form on the wire."""
        return self.wire.shape()


_EXPERIMENTAL = ("Citations", "Document")
_NAMES: tuple[DspyName, ...] = DspyName.__args__  # type: ignore[attr-defined]  # a Literal
QUALIFIED: dict[DspyName, str] = {
    name: f"dspy.{'experimental.' * (name in _EXPERIMENTAL)}{name}" for name in _NAMES
}
"""How signature text names DSPy's types."""
