"""Types that a client describes as JSON Schema: enumerations and objects.

All descriptions of a signature share their names: ``#/$defs/Address`` means the one
``Address`` there is, be it among the types or among the ``$defs`` of one of them.
A description that cannot be checked in full is refused.
"""

from __future__ import annotations

import keyword
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts.failures import InvalidSignature
from dspex.contracts.walking import elements, path_of, unsayable
from dspex.native.types.batches import deepest
from dspex.native.types.descriptions import Reader, is_annotation, refuse
from dspex.native.types.kinds import Reference, SchemaType, Scope
from dspex.native.types.names import TAKEN
from dspex.native.types.parts import Limited, ObjectType
from dspex.native.types.tokens import TEXT_LIMIT, shortened
from dspex.native.types.tree import ANY, DEFINITIONS, TypeExpr, UnionType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Schemas = dict[str, dict[str, Any]]

TYPE_LIMIT = 64
"""The most types of a signature, those in ``$defs`` included."""
NAME_LIMIT = 128
"""The longest name of a type, in characters."""
PATTERNS_LIMIT = 10_000
"""The most steps that the patterns of the types may come to, together."""

_BELOW = {
    "items": "one",
    "additionalProperties": "one",
    "prefixItems": "list",
    "anyOf": "list",
    "oneOf": "list",
    "allOf": "list",
    "properties": "names",
}


def read_types(types: Mapping[str, dict[str, Any]]) -> dict[str, SchemaType]:
    """Read the types of a signature.

    Args:
        types: JSON Schema by name; each may bring ``$defs`` of its own.

    Returns:
        A type for each of the names, and for each of those in ``$defs``.

    Raises:
        InvalidSignature: One is not sound, or cannot be checked in full.
    """
    if not types:
        return {}
    _verify_size(types)
    schemas = _gathered(types)
    scope = _scope(schemas)
    return {
        name: SchemaType(name, schema, _others(name, schemas), scope)
        for name, schema in schemas.items()
    }


def scope_of(expr: SchemaType | Reference) -> Scope:
    """Return the types that a description and those it refers to stand for."""
    return expr.scope or _scope_of(expr)


@lru_cache(maxsize=64)
def _scope_of(expr: SchemaType) -> Scope:
    return _scope({**expr.others, expr.name: expr.schema})


def _verify_size(types: Mapping[str, Any]) -> None:
    odd = unsayable(types)
    if odd is not None:
        refuse(path_of(odd[0]), f"it holds {odd[1]}, which JSON cannot say.")
    if deepest(types) is not None:
        refuse(next(iter(types)), "the types are nested too deep.")
    try:
        size = len(msgspec.json.encode(types))
    except UnicodeEncodeError as error:
        raise InvalidSignature("The types hold half a character.") from error
    if size > TEXT_LIMIT:
        raise InvalidSignature(
            f"The types have {size} bytes; at most {TEXT_LIMIT} are allowed.",
            hint="Leave descriptions out, or use dict for inner objects.",
            field="types",
        )


def _gathered(types: Mapping[str, dict[str, Any]]) -> Schemas:
    found: Schemas = {}
    for name, whole in types.items():
        for inner, schema in _unpacked(name, whole):
            _verify_name(inner)
            schema = _renamed(schema, name)
            if _encoded(found.setdefault(inner, schema)) != _encoded(schema):
                hint = "One name means one thing in all of a signature."
                refuse(inner, "it is described in two ways.", hint)
    if len(found) > TYPE_LIMIT:
        raise InvalidSignature(
            f"A signature has at most {TYPE_LIMIT} types, found {len(found)}.",
            hint="Use dict for some of the inner objects.",
            field="types",
        )
    return found


def _unpacked(name: str, whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    local = whole.get("$defs", {})
    if not isinstance(local, dict):
        refuse(name, "$defs is an object of schemas.")
    for inner, schema in local.items():
        if not isinstance(schema, dict):
            refuse(inner, "expected a schema, which is an object of keywords.")
        yield inner, schema
    body = {k: v for k, v in whole.items() if k not in ("$defs", "$schema")}
    target = body.get("$ref")
    # As pydantic describes what refers to itself: all of it is in `$defs`.
    if isinstance(target, str) and target.removeprefix(DEFINITIONS) in local:
        if not all(word == "$ref" or is_annotation(word) for word in body):
            refuse(name, "a reference goes together with no other keyword.")
        body = local[target.removeprefix(DEFINITIONS)]
    yield name, body


def _verify_name(name: str) -> None:
    hint = "Names of types are identifiers, such as Person."
    if not name.isidentifier() or len(name) > NAME_LIMIT or name.startswith("_"):
        refuse(name, "the name is not an identifier, or starts with '_'.", hint)
    if unicodedata.normalize("NFKC", name) != name or keyword.iskeyword(name):
        refuse(name, "Python would not read the name as it is.", hint)
    if name in TAKEN:
        refuse(name, "a type of that name is built in.", "Choose another name.")


def _renamed(schema: Any, name: str) -> Any:
    """The schema with ``#``, which means all of ``name``, written as its name."""
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    if found.get("$ref") == "#":
        found["$ref"] = DEFINITIONS + name
    for word, form in _BELOW.items():
        below = found.get(word)
        if form == "one":
            found |= {word: _renamed(below, name)} if word in found else {}
        elif isinstance(below, list):
            found[word] = [_renamed(inner, name) for inner in below]
        elif isinstance(below, dict):
            found[word] = {key: _renamed(v, name) for key, v in below.items()}
    return found


def _scope(schemas: Schemas) -> Scope:
    scope = Scope()
    reader = Reader(scope)
    for name, schema in schemas.items():
        if "enum" not in schema and schema.get("type") != "object":
            hint = "A type has an enum, or the type object. Name others in fields."
            refuse(name, "it is neither an enumeration nor an object.", hint)
        _verify_names(name, schema)
        _verify_data(name, schema)
        scope.types[name] = reader.read(schema, name)
    if reader.patterns > PATTERNS_LIMIT:
        raise InvalidSignature(
            f"The patterns come to more than {PATTERNS_LIMIT} steps together.",
            hint="Use smaller counts, or fewer patterns.",
            field="types",
        )
    for name, schema in schemas.items():
        for other in _references(schema):
            if other not in schemas:
                hint = f"There are: {shortened(', '.join(schemas), 400)}."
                refuse(name, f"{shortened(other)!r} is not among the types.", hint)
    for union, place in reader.exclusive:
        _verify_exclusive(union, place, scope)
    return scope


def _verify_names(name: str, schema: dict[str, Any]) -> None:
    names = schema.get("x-enum-varnames")
    if names is None:
        return
    values = schema.get("enum")
    if not isinstance(names, list) or not isinstance(values, list):
        refuse(name, "x-enum-varnames is a list of names for the values of an enum.")
    if len(names) != len(values) or len(set(map(str, names))) != len(names):
        refuse(name, "x-enum-varnames has one name of its own for each value.")
    for one in names:
        sound = isinstance(one, str) and one.isidentifier() and one[0] != "_"
        if not sound or keyword.iskeyword(one) or one in ("mro", "name", "value"):
            refuse(name, f"{shortened(str(one))!r} cannot name a value.")


def _verify_data(name: str, schema: dict[str, Any]) -> None:
    # Whoever looks for references looks everywhere; one in an example leads nowhere.
    level: list[Any] = [schema]
    below = [s for s in _schemas(schema) if isinstance(s, dict)]
    sound = {id(s) for s in below}
    while level:
        for value in level:
            if isinstance(value, bytes):
                refuse(name, "it holds bytes, which JSON cannot say.")
            odd = isinstance(value, dict) and id(value) not in sound
            if odd and isinstance(value.get("$ref"), str):
                refuse(name, "'$ref' in a default or an example.", "Leave it out.")
        level = elements(level)


def _schemas(schema: Any) -> Iterator[Any]:
    """Yield a schema and all schemas inside it."""
    yield schema
    if not isinstance(schema, dict):
        return
    for word, form in _BELOW.items():
        below = schema.get(word)
        parts: Iterable[Any] = [below] if form == "one" else below or ()
        if isinstance(below, dict) and form == "names":
            parts = below.values()
        for part in parts if isinstance(below, (list, dict)) else ():
            yield from _schemas(part)


def _references(schema: Any) -> Iterator[str]:
    for inner in _schemas(schema):
        if isinstance(inner, dict) and isinstance(inner.get("$ref"), str):
            yield inner["$ref"].removeprefix(DEFINITIONS)


def _others(name: str, schemas: Schemas) -> Schemas:
    found: Schemas = {}
    left = list(_references(schemas[name]))
    while left:
        other = left.pop()
        if other not in found:
            found[other] = schemas[other]
            left += _references(schemas[other])
    return {other: found[other] for other in schemas if other in found}


def _verify_exclusive(union: UnionType, place: str, scope: Scope) -> None:
    """Refuse alternatives of a ``oneOf`` of which a value may fit two."""
    members = [_resolved(member, scope) for member in union.members]
    objects = [expr for expr in members if isinstance(expr, ObjectType)]
    plain = [word for expr in members if expr not in objects for word in _sorts(expr)]
    plain += ["object"] * bool(objects)
    overlaps = any(word.partition(" ")[0] in plain for word in plain if " " in word)
    if overlaps or len(set(plain)) < len(plain) or not _told_apart(objects):
        hint = "Write anyOf, or give each object a constant of its own to know it by."
        refuse(place, "a value may fit two alternatives of this oneOf.", hint)


def _sorts(expr: TypeExpr) -> Iterator[str]:
    """Yield what sorts of values a type has: ``number``, ``string 'a'``."""
    sorts = {str: "string", bool: "boolean", int: "number", type(None): "null"}
    for value in expr.choices:
        yield f"{sorts[type(value)]} {value!r}"
    if not expr.choices:
        kind = str(expr.shape().get("type", "object"))
        yield "number" if kind == "integer" else kind
        if expr == ANY:
            yield kind  # Twice: it overlaps with everything.


def _resolved(expr: TypeExpr, scope: Scope) -> TypeExpr:
    if isinstance(expr, Reference):
        expr = scope.types[expr.name]
    return expr.type if isinstance(expr, Limited) else expr


def _told_apart(objects: list[ObjectType]) -> bool:
    if len(objects) < 2:
        return True
    told = [
        {one.name: one.type.choices for one in expr.properties if one.required}
        for expr in objects
    ]
    for name in set.intersection(*map(set, told)):
        values = [one[name] for one in told]
        flat = [repr(value) for some in values for value in some]
        if all(values) and len({*flat}) == len(flat):
            return True
    return False


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
