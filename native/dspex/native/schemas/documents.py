"""Finding one's way in a schema: its resources, anchors and references.

Nothing outside of the document is ever read: a reference leads to a part of it or is
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from jsonschema_rs import ValidationError, meta

from dspex.contracts.failures import BadRequest, Unsupported
from dspex.contracts.walking import path_of
from dspex.native.types.tokens import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.contracts.failures import Failure
    from dspex.native.schemas.nodes import Path

URI_LIMIT = 1000
"""The longest ``$id`` or reference, in characters."""


class Dialect(NamedTuple):
    """Where a draft has schemas inside of schemas.

    Attributes:
        uri: What ``$schema`` says.
        single: Keywords with one schema.
        several: Keywords with an array of schemas.
        named: Keywords with an object of schemas.
        is_old: Whether ``$ref`` hides what stands beside it, and ``$id`` may be an
            anchor.
    """

    uri: str
    single: frozenset[str]
    several: frozenset[str]
    named: frozenset[str]
    is_old: bool


_SINGLE = frozenset(
    ("additionalProperties", "contains", "else", "if", "items", "not")
) | {"propertyNames", "then"}
_SEVERAL = frozenset(("allOf", "anyOf", "oneOf"))
_NAMED = frozenset(("patternProperties", "properties"))

DRAFT_2020_12 = Dialect(
    uri="https://json-schema.org/draft/2020-12/schema",
    single=_SINGLE | {"contentSchema", "unevaluatedItems", "unevaluatedProperties"},
    several=_SEVERAL | {"prefixItems"},
    named=_NAMED | {"$defs", "definitions", "dependentSchemas"},
    is_old=False,
)
DRAFT_7 = Dialect(
    uri="http://json-schema.org/draft-07/schema",
    single=_SINGLE | {"additionalItems"},
    several=_SEVERAL | {"items"},
    named=_NAMED | {"definitions", "dependencies"},
    is_old=True,
)
DIALECTS = (DRAFT_2020_12, DRAFT_7)
"""The drafts that are checked."""


def dialect_of(schema: dict[str, Any] | bool) -> Dialect:
    """Return the draft of a schema; 2020-12 where it does not say.

    Raises:
        Unsupported: It is another one.
    """
    named = schema.get("$schema") if isinstance(schema, dict) else None
    if named is None:
        return DRAFT_2020_12
    for dialect in DIALECTS:
        if isinstance(named, str) and named.removesuffix("#") == dialect.uri:
            return dialect
    allowed = " and ".join(dialect.uri for dialect in DIALECTS)
    raise Unsupported(
        f"$schema is {shortened(repr(named))}. Allowed: {allowed}.",
        hint="Name one of these drafts, or leave $schema out for 2020-12.",
        field="schema.$schema",
    )


class Place(NamedTuple):
    """A schema in the document.

    Attributes:
        path: The way to it.
        base: URI of the resource it belongs to.
    """

    path: Path
    base: str


class Document:
    """A schema and all the schemas in it.

    Args:
        root: The schema.
        dialect: Its draft.

    Attributes:
        dialect: See the arguments.
        dynamic: By their name, the schemas with a ``$dynamicAnchor``, by resource.

    Raises:
        BadRequest: A URI in it cannot be read.
        Unsupported: A part of it is in another draft.
    """

    def __init__(self, root: dict[str, Any] | bool, dialect: Dialect) -> None:
        self.dialect = dialect
        self.dynamic: dict[str, dict[str, Place]] = {}
        self._root = root
        self._resources: dict[str, Place] = {"": Place((), "")}
        self._anchors: dict[tuple[str, str], Place] = {}
        self._bases: dict[Path, str] = {(): ""}
        self._schemas: set[Path] = set()
        self._index_all(Place((), ""))

    def at(self, path: Path) -> Any:
        """Return a part of the schema.

        Raises:
            LookupError: There is no such part.
        """
        found: Any = self._root
        for step in path:
            found = found[step]
        return found

    def entered(self, place: Place) -> str | None:
        """Return the resource that begins at a place, if one does."""
        return self._bases.get(place.path)

    def child(self, place: Place, steps: Path) -> Place:
        """Return the place of a schema below another one."""
        path = place.path + steps
        return Place(path, self._bases.get(path, place.base))

    def resolve(self, reference: str, place: Place, keyword: str) -> Place:
        """Return where a reference leads.

        Args:
            reference: A URI with a JSON Pointer or an anchor.
            place: The schema that it stands in.
            keyword: The keyword it is the value of.

        Raises:
            BadRequest: It leads to no schema.
            Unsupported: It leads out of the document.
        """
        path = (*place.path, keyword)
        uri, fragment = self._joined(reference, place.base, path)
        resource = self._resources.get(uri)
        if resource is None:
            raise Unsupported(
                f"{keyword} {shortened(reference)!r} leads out of the schema; nothing "
                "is fetched. Allowed: references to parts of the schema itself.",
                hint="Put the other schema under $defs and refer to it there.",
                field=_field(path),
            )
        if fragment and not fragment.startswith("/"):
            found = self._anchors.get((uri, fragment))
        else:
            found = self._follow(fragment, resource)
        if found is None or not isinstance(self.at(found.path), (dict, bool)):
            raise unsound(
                f"{keyword} {shortened(reference)!r} leads to no schema", path
            )
        if found.path not in self._schemas:
            self._index_all(found)
        return found

    def dynamic_anchor(self, reference: str, place: Place) -> str:
        """Return the name of the dynamic anchor that a reference names, if any."""
        _, fragment = self._joined(reference, place.base, place.path)
        return fragment if place.base in self.dynamic.get(fragment, {}) else ""

    def _follow(self, fragment: str, place: Place) -> Place | None:
        for written in fragment.split("/")[1:]:
            step: str | int = written.replace("~1", "/").replace("~0", "~")
            parent = self.at(place.path)
            if isinstance(parent, list):
                step = _index_of(written, parent)
            elif not isinstance(parent, dict) or step not in parent:
                return None
            if step == -1:
                return None
            place = self.child(place, (step,))
        return place

    def _index_all(self, first: Place) -> None:
        """Note the schema at a place and all below it, if it is sound."""
        require_sound(self.at(first.path), self.dialect, first.path)
        todo = [first]
        while todo:
            place = todo.pop()
            self._schemas.add(place.path)
            raw = self.at(place.path)
            if isinstance(raw, dict):
                base = self._index(raw, place)
                todo.extend(Place(p, base) for p in self._inner(raw, place.path))

    def _inner(self, raw: dict[str, Any], path: Path) -> Iterator[Path]:
        for keyword, value in raw.items():
            if keyword in self.dialect.single and isinstance(value, (dict, bool)):
                yield *path, keyword
            elif keyword in self.dialect.several and isinstance(value, list):
                yield from ((*path, keyword, i) for i in range(len(value)))
            elif keyword in self.dialect.named and isinstance(value, dict):
                yield from ((*path, keyword, name) for name in value)

    def _index(self, raw: dict[str, Any], place: Place) -> str:
        """Note what a schema is called; return the URI that its parts go by."""
        if self.dialect.is_old and "$ref" in raw:
            return place.base
        base = self._index_id(raw, place)
        self._refuse_mixture(raw, place)
        if self.dialect.is_old:
            return base
        here = Place(place.path, base)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if keyword in raw:
                self._anchor(base, raw[keyword], here)
        if "$dynamicAnchor" in raw:
            self.dynamic.setdefault(raw["$dynamicAnchor"], {})[base] = here
        return base

    def _index_id(self, raw: dict[str, Any], place: Place) -> str:
        named = raw.get("$id")
        if not isinstance(named, str):
            return place.base
        path = (*place.path, "$id")
        uri, fragment = self._joined(named, place.base, path)
        if self.dialect.is_old and named.startswith("#"):
            self._anchor(place.base, fragment, place)
            return place.base
        # Two references may lead to one schema, directly and through another one.
        known = self._resources.get(uri, place)
        if place.path and known.path != place.path:
            raise unsound(f"two schemas have the $id {shortened(named)!r}", path)
        found = Place(place.path, uri)
        self._resources[uri] = found
        self._bases[place.path] = uri
        if not place.path:
            self._resources[""] = found
        return uri

    def _anchor(self, base: str, name: str, place: Place) -> None:
        other = self._anchors.setdefault((base, name), place)
        if other.path != place.path:
            raise unsound(
                f"two schemas have the anchor {shortened(name)!r}", place.path
            )

    def _refuse_mixture(self, raw: dict[str, Any], place: Place) -> None:
        named = raw.get("$schema", self.dialect.uri)
        same = isinstance(named, str) and named.removesuffix("#") == self.dialect.uri
        if place.path and not same:
            path = (*place.path, "$schema")
            raise Unsupported(
                f"A part of the schema is in the draft {shortened(repr(named))}, the "
                f"whole is in {self.dialect.uri}.",
                hint="Write all of it in one draft.",
                field=_field(path),
            )

    def _joined(self, reference: str, base: str, path: Path) -> tuple[str, str]:
        if len(reference) > URI_LIMIT:
            raise unsound(f"a URI is longer than {URI_LIMIT} characters", path)
        try:
            uri, fragment = urldefrag(reference)
            return (urljoin(base, uri) if uri else base), unquote(fragment)
        except ValueError:
            message = f"{shortened(reference)!r} is no URI"
            raise unsound(message, path) from None


def require_sound(part: Any, dialect: Dialect, path: Path = ()) -> None:
    """Refuse a schema that its draft does not allow.

    Args:
        part: A schema, or a schema inside of one.
        dialect: Its draft.
        path: The way to it.

    Raises:
        BadRequest: A keyword of it has a wrong value.
    """
    named = part if isinstance(part, bool) else part | {"$schema": dialect.uri}
    try:
        meta.validate(named)
    except ValidationError as error:
        why = shortened(error.message, _MESSAGE_SHOWN).rstrip(".")
        raise unsound(why, (*path, *error.instance_path)) from None
    except UnicodeEncodeError:
        raise unsound("a text in it holds half of a surrogate pair", path) from None


_MESSAGE_SHOWN = 200


def unsound(why: str, path: Path) -> Failure:
    """Make the failure for a schema that cannot be used.

    Args:
        why: What is wrong, without a full stop.
        path: The way to it in the schema.
    """
    where = _field(path)
    return BadRequest(
        f"The schema cannot be used, at {shortened(where, 100)!r}: {why}.",
        hint="Compare with the draft that $schema names, 2020-12 if it names none.",
        field=where,
    )


_FIELD_SHOWN = 200


def _field(path: Path) -> str:
    return path_of(["schema", *path])[:_FIELD_SHOWN]


def _index_of(written: str, among: list[Any]) -> int:
    is_index = written.isascii() and written.isdecimal() and len(written) < 9
    return int(written) if is_index and int(written) < len(among) else -1
