"""The fields of a reply in DSPy's XML format: ``<field>`` to ``</field>``."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_OPENING = re.compile(r"<(\w+)>")
_CLOSING = re.compile(r"</(\w+)>")
DEPTH_LIMIT = 200
"""The most elements nested in one another."""

Element = ET.Element
Schema = dict[str, Any]


def flat(text: str, names: Collection[str]) -> dict[str, str]:
    r"""Return the first text of each field, as releases before 3.3.1 find it.

    They look for ``<(\w+)>(.*?)</\1>`` again and again; so does this, in one pass.

    Args:
        text: The reply.
        names: The fields.
    """
    ends: dict[str, list[int]] = {}
    for tag in _CLOSING.finditer(text):
        ends.setdefault(tag[1], []).append(tag.start())
    found: dict[str, str] = {}
    at = 0
    for tag in _OPENING.finditer(text):
        name, start = tag[1], tag.end()
        if tag.start() < at or name not in ends:
            continue
        following = bisect_left(ends[name], start)
        if following == len(ends[name]):
            continue
        end = ends[name][following]
        if name in names and name not in found:
            found[name] = text[start:end].strip()
        at = end + len(name) + len("</>")
    return found


def elements(text: str) -> dict[str, list[Element]]:
    """Return the outermost elements of a reply by their names.

    Raises:
        ValueError: It is not well-formed, or nested too deep.
    """
    parser: ET.XMLPullParser[Any] = ET.XMLPullParser(("start", "end"))
    try:
        # A document type, and with it entities, cannot stand inside of an element.
        parser.feed(f"<dspy_root>{text}</dspy_root>")
        parser.close()
        root = _root(parser)
    except ET.ParseError as error:
        raise ValueError(f"it is not well-formed XML: {error}") from None
    return _grouped(root)


def value_of(found: Sequence[Element], schema: Schema, known: Schema) -> Any:
    """Return what elements of one name stand for: texts, lists and objects.

    Args:
        found: The elements.
        schema: JSON Schema of the type, as pydantic writes it.
        known: The schemas it refers to, by their names.
    """
    schema = _resolved(schema, known)
    if "anyOf" in schema:
        if {"type": "null"} in schema["anyOf"] and _is_empty(found[0]):
            return None
        schema = _chosen(found[0], schema["anyOf"])
    if schema.get("type") == "array":
        return _array(found, schema, known)
    first = found[0]
    if schema.get("type") == "string" and len(first):
        return (first.text or "") + "".join(
            ET.tostring(child, encoding="unicode") for child in first
        )
    inner = _grouped(first)
    if inner:
        return _object(inner, schema, known)
    if schema.get("type") == "object" and _is_empty(first):
        return {}
    texts = [(element.text or "").strip() for element in found]
    return texts[0] if len(texts) == 1 else texts


def _root(parser: ET.XMLPullParser[Any]) -> Element:
    depth = 0
    root: Any = None
    events: Any = parser.read_events()
    for event, element in events:
        root = element if root is None else root
        depth += 1 if event == "start" else -1
        if depth > DEPTH_LIMIT:
            raise ValueError(f"more than {DEPTH_LIMIT} elements are nested")
    return cast("Element", root)


def _grouped(element: Element) -> dict[str, list[Element]]:
    found: dict[str, list[Element]] = defaultdict(list)
    for child in element:
        name = child.get("key", child.tag) if child.tag == "entry" else child.tag
        found[name].append(child)
    return found


def _is_empty(element: Element) -> bool:
    return not len(element) and not (element.text or "").strip()


def _resolved(schema: Schema, known: Schema) -> Schema:
    found: Schema = known.get(schema.get("$ref", "").rsplit("/", 1)[-1], schema)
    return found


def _chosen(element: Element, choices: list[Schema]) -> Schema:
    choices = [choice for choice in choices if choice.get("type") != "null"]
    if len(element):
        for choice in choices:
            if choice.get("type") != "string":
                return choice
    return choices[0]


def _array(found: Sequence[Element], schema: Schema, known: Schema) -> Any:
    if len(found) == 1:
        if not len(found[0]):
            text = (found[0].text or "").strip()
            if not text or text.startswith("["):
                return text or []
        found = _grouped(found[0]).get("item") or found
    return [value_of([element], schema.get("items", {}), known) for element in found]


def _object(
    inner: dict[str, list[Element]], schema: Schema, known: Schema
) -> dict[str, Any]:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", {})
    others = others if isinstance(others, dict) else {}
    return {
        name: value_of(items, properties.get(name, others), known)
        for name, items in inner.items()
    }
