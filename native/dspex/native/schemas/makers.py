"""What becomes of each keyword of a schema that is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from dspex.native.schemas.children import (
    AdditionalProperties,
    Contains,
    Items,
    PatternProperties,
    PrefixItems,
    Properties,
    PropertyNames,
)
from dspex.native.schemas.combining import (
    Choice,
    Conditional,
    DynamicRef,
    InPlace,
    Ref,
    Unevaluated,
)
from dspex.native.schemas.documents import DRAFT_7, DRAFT_2020_12
from dspex.native.schemas.keywords import (
    Bound,
    DependentRequired,
    Format,
    MultipleOf,
    OneOfValues,
    Pattern,
    Required,
    Size,
    Type,
    UniqueItems,
)
from dspex.native.schemas.leaves import FORMATS
from dspex.native.schemas.nodes import Check, Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.schemas.compiling import Site
    from dspex.native.schemas.documents import Dialect, Place


def _type(site: Site, keyword: str) -> Check:
    names = site.raw[keyword]
    is_list = isinstance(names, list)
    return Type(site.pointer(keyword), names if is_list else [names])


def _values(site: Site, keyword: str) -> Check:
    raw = site.raw[keyword]
    values = raw if keyword == "enum" else [raw]
    return OneOfValues(keyword, site.pointer(keyword), values, site.compiler.work)


def _bound(site: Site, keyword: str) -> Check:
    return Bound(keyword, site.pointer(keyword), site.raw[keyword])


def _multiple(site: Site, keyword: str) -> Check:
    return MultipleOf(site.pointer(keyword), site.raw[keyword])


def _size(site: Site, keyword: str) -> Check:
    return Size(keyword, site.pointer(keyword), site.raw[keyword])


def _pattern(site: Site, keyword: str) -> Check:
    found = site.matcher(site.raw[keyword], keyword)
    return Pattern(site.pointer(keyword), found)


def _format(site: Site, keyword: str) -> Check | None:
    name = site.raw[keyword]
    return Format(site.pointer(keyword), name) if name in FORMATS else None


def _unique(site: Site, keyword: str) -> Check | None:
    return UniqueItems(keyword, site.pointer(keyword)) if site.raw[keyword] else None


def _required(site: Site, keyword: str) -> Check:
    return Required(site.pointer(keyword), site.raw[keyword])


def _dependent_required(site: Site, keyword: str) -> Check:
    return DependentRequired(keyword, site.pointer(keyword), site.raw[keyword])


def _properties(site: Site, keyword: str) -> Check:
    nodes = {name: site.below(keyword, name) for name in site.raw[keyword]}
    return Properties(site.pointer(keyword), nodes)


def _pattern_properties(site: Site, keyword: str) -> Check:
    nodes = [
        (site.matcher(text, keyword, text), site.below(keyword, text))
        for text in site.raw[keyword]
    ]
    return PatternProperties(site.pointer(keyword), nodes)


def _additional_properties(site: Site, keyword: str) -> Check:
    patterns = "patternProperties"
    return AdditionalProperties(
        site.pointer(keyword),
        site.below(keyword),
        frozenset(site.raw.get("properties", ())),
        [site.matcher(text, patterns, text) for text in site.raw.get(patterns, ())],
    )


def _property_names(site: Site, keyword: str) -> Check:
    return PropertyNames(site.pointer(keyword), site.below(keyword))


def _items(site: Site, keyword: str) -> Check:
    start = len(site.raw.get("prefixItems", ()))
    return Items(keyword, site.pointer(keyword), site.below(keyword), start)


def _prefix_items(site: Site, keyword: str) -> Check:
    nodes = [site.below(keyword, i) for i in range(len(site.raw[keyword]))]
    return PrefixItems(keyword, site.pointer(keyword), nodes)


def _old_items(site: Site, keyword: str) -> Check:
    if isinstance(site.raw[keyword], list):
        return _prefix_items(site, keyword)
    return Items(keyword, site.pointer(keyword), site.below(keyword))


def _additional_items(site: Site, keyword: str) -> Check | None:
    first = site.raw.get("items")
    if not isinstance(first, list):
        return None
    return Items(keyword, site.pointer(keyword), site.below(keyword), len(first))


def _contains(site: Site, keyword: str) -> Check:
    is_old = site.compiler.document.dialect.is_old
    least = 1 if is_old else site.raw.get("minContains", 1)
    most = None if is_old else site.raw.get("maxContains")
    return Contains(site.pointer(keyword), site.below(keyword), least, most)


def _unevaluated(site: Site, keyword: str) -> Check:
    return Unevaluated(keyword, site.pointer(keyword), site.below(keyword), site.node)


def _all_of(site: Site, keyword: str) -> Check:
    count = range(len(site.raw[keyword]))
    nodes: list[tuple[str | None, Node]] = [
        (None, site.below(keyword, i)) for i in count
    ]
    return InPlace(keyword, site.pointer(keyword), nodes)


def _choice(site: Site, keyword: str) -> Check:
    count = range(len(site.raw[keyword]))
    return Choice(
        keyword, site.pointer(keyword), [site.below(keyword, i) for i in count]
    )


def _not(site: Site, keyword: str) -> Check:
    return Choice(keyword, site.pointer(keyword), [site.below(keyword)])


def _if(site: Site, keyword: str) -> Check:
    then, otherwise = site.optional("then"), site.optional("else")
    return Conditional(site.pointer(keyword), site.below(keyword), then, otherwise)


def _dependent_schemas(site: Site, keyword: str) -> Check:
    nodes = [(name, site.below(keyword, name)) for name in site.raw[keyword]]
    return InPlace(keyword, site.pointer(keyword), nodes)


def _dependencies(site: Site, keyword: str) -> Check:
    nodes: list[tuple[str | None, Node]] = []
    for name, needed in site.raw[keyword].items():
        if isinstance(needed, list):
            node = Node(site.pointer(keyword))
            check = DependentRequired(keyword, site.pointer(keyword), {name: needed})
            node.fill((check,))
        else:
            node = site.below(keyword, name)
        nodes.append((name, node))
    return InPlace(keyword, site.pointer(keyword), nodes)


def _ref(site: Site, keyword: str) -> Check:
    document = site.compiler.document
    target = document.resolve(site.raw[keyword], site.place, keyword)
    node = _entering(site, target)
    return Ref(site.pointer(keyword), node)


def _dynamic_ref(site: Site, keyword: str) -> Check:
    document, reference = site.compiler.document, site.raw[keyword]
    target = document.resolve(reference, site.place, keyword)
    name = document.dynamic_anchor(reference, target)
    others = document.dynamic.get(name, {})
    return DynamicRef(
        site.pointer(keyword),
        _entering(site, target),
        {base: site.compiler.node(place) for base, place in others.items()},
    )


def _entering(site: Site, target: Place) -> Node:
    """Return the schema at a place so that its resource counts as come through."""
    node = site.compiler.node(target)
    if node.entered is not None or target.base == site.place.base:
        return node
    through = Node(node.pointer, target.base)
    through.fill((Ref(node.pointer, node),))
    return through


Maker: TypeAlias = "Callable[[Site, str], Check | None]"

_COMMON: dict[str, Maker] = {
    "$ref": _ref,
    "type": _type,
    "enum": _values,
    "const": _values,
    "multipleOf": _multiple,
    "minimum": _bound,
    "maximum": _bound,
    "exclusiveMinimum": _bound,
    "exclusiveMaximum": _bound,
    "minLength": _size,
    "maxLength": _size,
    "minItems": _size,
    "maxItems": _size,
    "minProperties": _size,
    "maxProperties": _size,
    "pattern": _pattern,
    "format": _format,
    "uniqueItems": _unique,
    "required": _required,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "propertyNames": _property_names,
    "contains": _contains,
    "allOf": _all_of,
    "anyOf": _choice,
    "oneOf": _choice,
    "not": _not,
    "if": _if,
}
_MAKERS = {
    DRAFT_2020_12.uri: _COMMON
    | {
        "$dynamicRef": _dynamic_ref,
        "items": _items,
        "prefixItems": _prefix_items,
        "dependentRequired": _dependent_required,
        "dependentSchemas": _dependent_schemas,
        "unevaluatedItems": _unevaluated,
        "unevaluatedProperties": _unevaluated,
    },
    DRAFT_7.uri: _COMMON
    | {
        "items": _old_items,
        "additionalItems": _additional_items,
        "dependencies": _dependencies,
    },
}


def makers_of(dialect: Dialect) -> dict[str, Maker]:
    """Return what makes the checks of a draft, by keyword."""
    return _MAKERS[dialect.uri]
