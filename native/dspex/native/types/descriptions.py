"""JSON Schema, read as a type: the part of it whose values can be checked in full."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from dspex.contracts.failures import InvalidSignature, nearest
from dspex.contracts.signatures import Constraints
from dspex.native.types.constraints import pattern_size, verify_values
from dspex.native.types.kinds import Reference, Scope
from dspex.native.types.parts import Limited, ObjectType, Property
from dspex.native.types.tokens import shortened
from dspex.native.types.tree import (
    ANY,
    DEFINITIONS,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    TypeExpr,
    UnionType,
    hashable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_ANNOTATIONS = frozenset(
    "title description default examples deprecated readOnly writeOnly $comment "  # noqa: SIM905 - words
    "discriminator".split()
)
_NUMBER = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
_TEXT = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
_SIZES = {"minItems": "min_length", "maxItems": "max_length"}
_COUNTS = {"minProperties": "min_length", "maxProperties": "max_length"}
_FORMATS = {
    "date": "date",
    "date-time": "datetime",
    "time": "time",
    "duration": "timedelta",
    "uuid": "UUID",
}
_OF_TYPE: dict[str, tuple[str, ...]] = {
    "string": (*_TEXT, "format"),
    "integer": (*_NUMBER,),
    "number": (*_NUMBER,),
    "boolean": (),
    "null": (),
    "array": (*_SIZES, "items", "prefixItems", "uniqueItems"),
    "object": (*_COUNTS, "properties", "required", "additionalProperties"),
}
_ALONE = ("$ref", "anyOf", "oneOf", "allOf", "const", "enum")
_KEYWORDS = sorted({*_ALONE, "type"}.union(*_OF_TYPE.values()))
_SCALARS = {"boolean": "bool", "null": "NoneType", "integer": "int", "number": "float"}
_TYPES_OF: dict[type, tuple[str, ...]] = {
    str: ("string",),
    bool: ("boolean",),
    int: ("integer", "number"),
    type(None): ("null",),
}


def is_annotation(word: str) -> bool:
    """Say whether a keyword says nothing about which values are right."""
    return word in _ANNOTATIONS or word.startswith("x-")


def refuse(place: str, message: str, hint: str = "") -> NoReturn:
    """Refuse a description, naming the place."""
    raise InvalidSignature(
        f"Type {shortened(place, 200)!r}: {message}",
        hint=hint,
        field=f"types.{shortened(place, 200)}",
    )


class Reader:
    """Reads the descriptions of one signature.

    Args:
        scope: Where references lead.

    Attributes:
        patterns: How many steps the patterns come to so far.
        exclusive: The alternatives of each ``oneOf`` and its place: whether they
            exclude one another can be said once all descriptions are read.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.patterns = 0
        self.exclusive: list[tuple[UnionType, str]] = []

    def read(self, schema: Any, place: str) -> TypeExpr:
        """Return the type of the values that a schema allows.

        Args:
            schema: JSON Schema.
            place: Where it stands, such as ``Person.properties.age``.

        Raises:
            InvalidSignature: It is not sound, or not all of it can be checked.
        """
        if schema is True:
            return ANY
        if not isinstance(schema, dict):
            refuse(place, "expected a schema, which is an object of keywords.")
        words = {word: v for word, v in schema.items() if not is_annotation(word)}
        self._verify_known(words, place)
        alone = next((word for word in _ALONE if word in words), None)
        if alone is not None:
            self._verify_only(words, alone, place)
            return _FORMS[alone](self, words, place)
        if "type" in words:
            return self._typed(words, place)
        if words:
            hint = "Such as 'type': 'string', or a list of types."
            refuse(place, f"{', '.join(words)} without a type.", hint)
        return ANY

    def _verify_known(self, words: dict[str, Any], place: str) -> None:
        for word in words:
            if word not in _KEYWORDS:
                near = nearest(shortened(word), _KEYWORDS)
                refuse(place, f"the keyword {shortened(word)!r} is not checked.", near)

    def _verify_only(self, words: dict[str, Any], alone: str, place: str) -> None:
        allowed = {alone, "type"} if alone in ("enum", "const") else {alone}
        others = sorted(words.keys() - allowed)
        if others:
            hint = f"Put {', '.join(others)} into the schemas that they are about."
            refuse(place, f"{alone} does not go together with {others[0]}.", hint)

    def _typed(self, words: dict[str, Any], place: str) -> TypeExpr:
        kinds = words["type"] if isinstance(words["type"], list) else [words["type"]]
        if not kinds or not all(isinstance(k, str) and k in _OF_TYPE for k in kinds):
            hint = f"Types: {', '.join(_OF_TYPE)}."
            refuse(place, f"{shortened(str(words['type']))!r} is no type.", hint)
        if len(set(kinds)) < len(kinds):
            refuse(place, "a type is named twice.")
        fitting = {word for kind in kinds for word in _OF_TYPE[kind]} | {"type"}
        for word in words:
            if word not in fitting:
                refuse(place, f"{word} does not apply to {', '.join(kinds)}.")
        members = [self._one(kind, words, place) for kind in kinds]
        return members[0] if len(members) == 1 else UnionType(tuple(members))

    def _one(self, kind: str, words: dict[str, Any], place: str) -> TypeExpr:
        if kind == "string":
            return self._string(words, place)
        if kind == "array":
            return self._array(words, place)
        if kind == "object":
            return self._object(words, place)
        return self._limited(Scalar(_SCALARS[kind]), words, _NUMBER, place)

    def _string(self, words: dict[str, Any], place: str) -> TypeExpr:
        if "format" not in words:
            return self._limited(Scalar("str"), words, _TEXT, place)
        form = words["format"]
        if not isinstance(form, str) or form not in _FORMATS:
            hint = f"Formats: {', '.join(_FORMATS)}. For others give a pattern."
            refuse(place, f"the format {shortened(str(form))!r} is not checked.", hint)
        if any(word in words for word in _TEXT):
            refuse(place, "format goes together with no other limit of a string.")
        return Scalar(_FORMATS[form])

    def _array(self, words: dict[str, Any], place: str) -> TypeExpr:
        if "prefixItems" in words:
            return self._tuple(words, place)
        item = self.read(words.get("items", True), f"{place}.items")
        unique = self._flag(words, "uniqueItems", place)
        if unique and item != ANY and not hashable(item):
            hint = "Only elements without parts can be unique."
            refuse(place, "uniqueItems of elements that have parts.", hint)
        expr = Collection("set" if unique else "list", item)
        return self._limited(expr, words, _SIZES, place)

    def _tuple(self, words: dict[str, Any], place: str) -> TypeExpr:
        parts = words["prefixItems"]
        if not isinstance(parts, list) or not parts:
            refuse(place, "prefixItems is a list of schemas.")
        size = len(parts)
        if words.get("minItems") != size or words.get("maxItems", size) != size:
            hint = f"Give minItems and maxItems, both {size}."
            refuse(place, "prefixItems of an array of no fixed length.", hint)
        if words.get("items", False) is not False or "uniqueItems" in words:
            refuse(place, "prefixItems goes with minItems and maxItems only.")
        if "maxItems" not in words and "items" not in words:
            refuse(place, f"prefixItems needs maxItems: {size}.")
        read = [self.read(p, f"{place}.prefixItems[{i}]") for i, p in enumerate(parts)]
        return TupleType(tuple(read))

    def _object(self, words: dict[str, Any], place: str) -> TypeExpr:
        known = words.get("properties", {})
        needed = words.get("required", [])
        if not isinstance(known, dict):
            refuse(place, "properties is an object of schemas.")
        if not isinstance(needed, list) or not all(isinstance(n, str) for n in needed):
            refuse(place, "required is a list of names.")
        more = words.get("additionalProperties", True)
        at = f"{place}.additionalProperties"
        rest = None if more is False else self.read(more, at)
        if not known and not needed and rest is not None:
            return self._limited(DictType(Scalar("str"), rest), words, _COUNTS, place)
        required = dict.fromkeys(needed)
        properties = [
            Property(name, self.read(inner, f"{place}.{name}"), name in required)
            for name, inner in known.items()
        ]
        for name in required:
            if name not in known:
                if rest is None:
                    refuse(place, f"{shortened(name)!r} is required and not allowed.")
                properties.append(Property(name, rest))
        expr = ObjectType(tuple(properties), rest)
        return self._limited(expr, words, _COUNTS, place)

    def _limited(
        self, expr: TypeExpr, words: dict[str, Any], names: dict[str, str], place: str
    ) -> TypeExpr:
        given = {names[word]: words[word] for word in names if word in words}
        if not given:
            return expr
        try:
            limits = msgspec.convert(given, Constraints)
        except msgspec.ValidationError as error:
            refuse(place, f"{error}.")
        at = shortened(place, 200)
        verify_values(f"Type {at!r}", f"types.{at}", limits)
        self.patterns += pattern_size(limits)
        return Limited(expr, limits)

    def _flag(self, words: dict[str, Any], word: str, place: str) -> bool:
        value = words.get(word, False)
        if not isinstance(value, bool):
            refuse(place, f"{word} is true or false.")
        return value

    def reference(self, words: dict[str, Any], place: str) -> TypeExpr:
        """Read ``$ref``; whether it leads anywhere is said once all is read."""
        target = words["$ref"]
        if not isinstance(target, str) or not target.startswith(DEFINITIONS):
            hint = f"References start with '{DEFINITIONS}'; nothing is fetched."
            refuse(place, f"{shortened(str(target))!r} leads out of the types.", hint)
        return Reference(target.removeprefix(DEFINITIONS), self._scope)

    def alternatives(self, words: dict[str, Any], place: str) -> TypeExpr:
        """Read ``anyOf`` and ``oneOf``."""
        word = next(iter(words))
        parts = words[word]
        if not isinstance(parts, list) or not parts:
            refuse(place, f"{word} is a list of schemas.")
        members: list[TypeExpr] = []
        for i, part in enumerate(parts):
            member = self.read(part, f"{place}.{word}[{i}]")
            members += member.parts if isinstance(member, UnionType) else (member,)
        found = UnionType(tuple(members))
        if word == "oneOf":
            self.exclusive.append((found, place))
        return found if len(members) > 1 else members[0]

    def only(self, words: dict[str, Any], place: str) -> TypeExpr:
        """Read ``allOf`` of one schema, as which some write a reference."""
        parts = words["allOf"]
        if not isinstance(parts, list) or len(parts) != 1:
            refuse(place, "allOf is not checked.", "Write one schema that says it all.")
        return self.read(parts[0], f"{place}.allOf[0]")

    def constant(self, words: dict[str, Any], place: str) -> TypeExpr:
        """Read ``const``."""
        return self.choice({**words, "enum": [words["const"]]}, place)

    def choice(self, words: dict[str, Any], place: str) -> TypeExpr:
        """Read ``enum``."""
        values = words["enum"]
        if not isinstance(values, list) or not values:
            refuse(place, "enum is a list of values.", "Name at least one value.")
        kinds = words.get("type")
        allowed = kinds if isinstance(kinds, list) else [kinds]
        for value in values:
            self._verify_value(value, allowed if kinds is not None else None, place)
        # 1 and true would be one member of an enumeration of Python's.
        if len(set(values)) < len(values):
            refuse(place, "a value of enum is there twice, or 1 beside true.")
        return LiteralType(tuple(values))

    def _verify_value(self, value: Any, kinds: list[Any] | None, place: str) -> None:
        names = _TYPES_OF.get(type(value))
        if names is None:
            hint = "Values are strings, whole numbers, true, false and null."
            refuse(place, f"{shortened(str(value))!r} cannot be a value here.", hint)
        if isinstance(value, int) and not -sys.maxsize - 1 <= value <= sys.maxsize:
            refuse(place, "a value of enum does not fit into 64 bits.")
        if kinds is not None and not set(names) & {k for k in kinds if k in _OF_TYPE}:
            refuse(place, f"the value {shortened(str(value))!r} is not of its type.")


_FORMS: dict[str, Callable[[Reader, dict[str, Any], str], TypeExpr]] = {
    "$ref": Reader.reference,
    "anyOf": Reader.alternatives,
    "oneOf": Reader.alternatives,
    "allOf": Reader.only,
    "const": Reader.constant,
    "enum": Reader.choice,
}
