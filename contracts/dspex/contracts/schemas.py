"""JSON Schema (draft 2020-12) of every message, for clients in any language.

Generated from the types and their docstrings: what ``Attributes:`` says of a field
becomes the description of its property. The files under ``contracts/schemas`` are
written from ``documents`` here, and a test compares them. Requests refuse fields
they do not know; schemas of replies and events allow them, for those may grow.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts import envelope
from dspex.contracts.catalog import OPERATIONS, Operation
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

DIALECT = "https://json-schema.org/draft/2020-12/schema"
LOCAL = "#/$defs/{name}"
"""Where a file of its own keeps the types it refers to."""

_ATTRIBUTE = re.compile(r"(\w+): (.*)")

Schema = dict[str, Any]


def documents() -> dict[str, Schema]:
    """Every JSON Schema, by the name of its file."""
    found: dict[str, Schema] = {}
    for one in OPERATIONS.values():
        found[f"{one.name}.request.json"] = request(one)
        found[f"{one.name}.reply.json"] = reply(one)
    found["event.json"] = event()
    found["heartbeat.json"] = heartbeat()
    found["record.json"] = record()
    return found


def request(one: Operation) -> Schema:
    """What ``one`` takes as its body."""
    (root,), kept = components([one.request])
    return _document(f"{one.name} request", one.summary, root, kept)


def reply(one: Operation) -> Schema:
    """What ``one`` answers: ``Done`` with its outputs, or ``Failed``."""
    wanted = [envelope.Done, envelope.Failed, one.outputs]
    (done, failed, outputs), kept = components(wanted, lenient=True)
    if "$ref" in outputs:
        properties = kept["Done"]["properties"]
        properties["outputs"] = described(outputs, properties["outputs"])
    said = f"The answer to a {one.name} request: its outputs, or why there are none."
    return _document(f"{one.name} reply", said, {"anyOf": [done, failed]}, kept)


def event() -> Schema:
    """What is told on the event subjects and, if asked for, to the inbox."""
    (root,), kept = components([envelope.Event], lenient=True)
    return _document("event", "One step in the life of a request.", root, kept)


def heartbeat() -> Schema:
    """What a process that answers requests says about itself every second."""
    (root,), kept = components([Heartbeat], lenient=True)
    return _document("heartbeat", "Capacity and state of one process.", root, kept)


def record() -> Schema:
    """What the journal keeps beside the events."""
    (root,), kept = components([Record], lenient=True)
    return _document("record", "One call of a model or of a tool.", root, kept)


def components(
    wanted: Iterable[Any], *, ref: str = LOCAL, lenient: bool = False
) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of some types, and of the types these refer to by name.

    Args:
        wanted: The types.
        ref: How references look; ``{name}`` stands for the name of a type.
        lenient: Allow unknown fields everywhere, as readers of replies do.
    """
    types = list(wanted)
    roots, kept = msgspec.json.schema_components(types, ref_template=ref)
    for name, struct in _structs(types).items():
        _describe(kept[name], struct)
        if lenient:
            kept[name].pop("additionalProperties", None)
    # msgspec adds a mapping of tags as OpenAPI has it; JSON Schema knows no such thing.
    plain = [
        {key: root[key] for key in root if key != "discriminator"} for root in roots
    ]
    return plain, {name: kept[name] for name in sorted(kept)}


def described(schema: Schema, by: Schema) -> Schema:
    """``schema`` with the description of another one."""
    return schema | {key: by[key] for key in ("description",) if key in by}


def summary(struct: type[Any]) -> str:
    """What the docstring of a type says of it as a whole."""
    text = inspect.cleandoc(struct.__doc__ or "")
    return _prose(text.partition("Attributes:")[0])


def attributes(struct: type[Any]) -> dict[str, str]:
    """What the docstrings of a type and of its bases say of each field."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:")[2]
        found |= _attributes(section)
    return found


def _attributes(section: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(section).splitlines():
        if match := _ATTRIBUTE.fullmatch(line):
            name, found[name] = match.group(1), match.group(2)
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return {name: _prose(text) for name, text in found.items()}


def _prose(text: str) -> str:
    """Docstring text on one line, with Markdown's backticks."""
    return " ".join(text.split()).replace("``", "`")


def _describe(schema: Schema, struct: type[Any]) -> None:
    schema["description"] = summary(struct)
    said = attributes(struct)
    for name, one in schema["properties"].items():
        if name in said:
            one["description"] = said[name]


def _structs(wanted: Iterable[Any]) -> dict[str, type[Any]]:
    """Every Struct that ``wanted`` leads to, by name."""
    found: dict[str, type[Any]] = {}
    waiting = list(wanted)
    while waiting:
        one = waiting.pop()
        waiting.extend(getattr(one, "__args__", ()))
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            if one.__name__ not in found:
                waiting.extend(field.type for field in msgspec.structs.fields(one))
            found[one.__name__] = one
    return found


def _document(
    title: str, description: str, root: Schema, kept: dict[str, Schema]
) -> Schema:
    head = {"$schema": DIALECT, "title": title, "description": description}
    return head | root | {"$defs": kept}
