"""What is said of a value that does not fit: where, and what is allowed there.

msgspec names neither the keys of a dict nor the values that are allowed. Both are
looked up here, from the value and the type, once something is wrong.
"""

from __future__ import annotations

import enum
import re
from functools import cache
from typing import Any, Literal, get_args, get_origin

import msgspec

from dspex.contracts.failures import BadRequest, nearest
from dspex.contracts.media import decoder
from dspex.contracts.walking import path_of

_AT = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\.\.\.|[0-9]+)\]")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(.*)`$", re.DOTALL)
_ENUM_VALUE = re.compile(r"Invalid (?:enum )?value '?(.*?)'?$", re.DOTALL)
_COMPARE = "Compare with the JSON Schema of the operation."
_SHOWN = 80
_PATH_SHOWN = 200
# Each costs a look at all that is inside.
_OPENED = 8
_UNKNOWN_KEY = "..."


def misfit(error: str, wanted: Any, value: Any, media: str = "") -> BadRequest:
    """Make the failure for a value that msgspec refused.

    Args:
        error: What msgspec said.
        wanted: The type.
        value: The value, or its bytes as `msgspec.Raw`.
        media: The encoding of the bytes.
    """
    at = _AT.search(error)
    told = error[: at.start()] if at else error
    steps = _STEP.findall(at.group(1)) if at else []
    way, inner = _follow(steps, wanted, value, media)
    unknown = _UNKNOWN_FIELD.search(told)
    if unknown is not None:
        return _unknown(unknown.group(1), way, inner)
    path = path_of(way)[:_PATH_SHOWN]
    where = f" at {path!r}" if path else ""
    absent = _MISSING_FIELD.search(told)
    allowed = _choices(_inside(inner, absent.group(1), "") if absent else inner)
    sent = _ENUM_VALUE.search(told)
    more = nearest(sent.group(1)[:_SHOWN] if sent else "", allowed) if allowed else ""
    message = told if len(told) <= _PATH_SHOWN else told[:_PATH_SHOWN] + "..."
    return BadRequest(
        f"The value does not fit{where}: {message}. {more}".rstrip(),
        field=path or None,
        hint=_hint(inner) if absent else _COMPARE,
    )


def _unknown(name: str, way: list[Any], inner: Any) -> BadRequest:
    full = path_of([*way, name[:_PATH_SHOWN]])
    return BadRequest(
        f"Unknown field {full[:_SHOWN]!r}. {nearest(name[:_SHOWN], _names(inner))}",
        field=full[:_PATH_SHOWN],
        hint="Leave it out or use one of the allowed names.",
    )


def _hint(inner: Any) -> str:
    required = [field.encode_name for field in _fields(inner) if field.required]
    if len(_alternatives(inner)) > 1 and (kinds := _kinds(inner)):
        required = list(kinds)  # which others depends on what it says there
    return f"Required there: {', '.join(required)}."


def _follow(
    steps: list[tuple[str, str]], wanted: Any, value: Any, media: str
) -> tuple[list[Any], Any]:
    """Return the keys and indices on the way to a part, and the type of the part."""
    way: list[Any] = []
    for i, (name, index) in enumerate(steps):
        parts = _opened(value, media) if i < _OPENED else None
        wanted = _inside(_of_its_kind(wanted, parts), name, index)
        key: Any = name or (... if index == _UNKNOWN_KEY else int(index))
        if key is ... and isinstance(parts, dict):
            key = _culprit(parts, wanted, media)
        value = _part(parts, key)
        way.append(key)
    if len(steps) < _OPENED and _kinds(wanted):
        wanted = _of_its_kind(wanted, _opened(value, media))
    return way, wanted


def _part(parts: Any, key: Any) -> Any:
    try:
        return parts[key]
    except (TypeError, LookupError):
        return None


def _culprit(parts: dict[str, Any], wanted: Any, media: str) -> Any:
    return next(
        (key for key, part in parts.items() if not _fits(part, wanted, media)), ...
    )


def _opened(value: Any, media: str) -> Any:
    if not isinstance(value, msgspec.Raw):
        return value
    for kind in (dict[str, msgspec.Raw], list[msgspec.Raw]):
        try:
            return decoder(media, kind).decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return None


def _fits(value: Any, wanted: Any, media: str) -> bool:
    try:
        if isinstance(value, msgspec.Raw):
            decoder(media, wanted).decode(value)
        else:
            msgspec.convert(value, wanted)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _inside(wanted: Any, name: str, index: str) -> Any:
    """Return the type of a part: of a field, of a list's or a dict's elements."""
    if name:
        if tags := _kinds(wanted).get(name):
            return Literal[tuple(tags)]
        return next((f.type for f in _fields(wanted) if f.encode_name == name), Any)
    kind = dict if index == _UNKNOWN_KEY else list
    found = (one for one in _alternatives(wanted) if get_origin(one) is kind)
    return (Any, *get_args(next(found, None)))[-1]


def _kinds(wanted: Any) -> dict[str, dict[str, Any]]:
    """Return the structs of a union that are told apart by a field: by it, by tag."""
    found: dict[str, dict[str, Any]] = {}
    for one in _alternatives(wanted):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            config = one.__struct_config__
            if config.tag_field is not None:
                found.setdefault(config.tag_field, {})[str(config.tag)] = one
    return found


def _of_its_kind(wanted: Any, parts: Any) -> Any:
    """Return the one struct of a union that a value says it is, if it does."""
    for name, tagged in _kinds(wanted).items():
        tag = _part(parts, name)
        if isinstance(tag, msgspec.Raw):
            tag = _fits_text(tag)
        if isinstance(tag, str) and tag in tagged:
            return tagged[tag]
    return wanted


def _fits_text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode("utf-8", "replace").strip('"')


def _names(wanted: Any) -> list[str]:
    """Return the names of the fields of a type."""
    return [field.encode_name for field in _fields(wanted)]


def _fields(wanted: Any) -> list[msgspec.structs.FieldInfo]:
    return [
        field
        for one in _alternatives(wanted)
        if isinstance(one, type) and issubclass(one, msgspec.Struct)
        for field in _fields_of(one)
    ]


# Each time it would evaluate the annotations anew.
_fields_of = cache(msgspec.structs.fields)


def _choices(wanted: Any) -> list[str]:
    """Return the values that a type consists of, if it does."""
    found: list[str] = []
    for one in _alternatives(wanted):
        if get_origin(one) is Literal:
            found += [str(value) for value in get_args(one)]
        elif isinstance(one, type) and issubclass(one, enum.Enum):
            found += [str(member.value) for member in one]
    return found


def _alternatives(wanted: Any) -> list[Any]:
    if get_origin(wanted) in (None, list, dict, Literal):
        return [wanted]
    return [one for part in get_args(wanted) for one in _alternatives(part)]
