"""Bytes to values and back: JSON by default, MessagePack by content type.

JSON values stay what they are: 3 is not 3.0, and integers keep all digits. An
integer that MessagePack cannot hold travels there as ``{"$t": "int", "digits": …}``
and is an integer again once read.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from dspex.contracts.failures import BadRequest, nearest

JSON = "application/json"
MSGPACK = "application/msgpack"
CONTENT_TYPES = (JSON, MSGPACK)

_JSON_ENCODER = msgspec.json.Encoder()
_MSGPACK_ENCODER = msgspec.msgpack.Encoder()
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*?)`")
_TAG = b"$t"
# Python refuses to convert more digits than this, against slow attacks.
_DIGITS = re.compile(r"-?[0-9]{1,4300}")
_AT = re.compile(r" - at `\$\.?(.*)`$")


def content_type(header: str | None) -> str:
    """The encoding a ``Content-Type`` header asks for; JSON when absent.

    Raises:
        BadRequest: It is neither JSON nor MessagePack.
    """
    if header is None:
        return JSON
    media = header.partition(";")[0].strip().lower()
    if media not in CONTENT_TYPES:
        raise BadRequest(
            f"Content-Type {header[:80]!r} is not read here. "
            f"Allowed: {', '.join(CONTENT_TYPES)}.",
            field="Content-Type",
            hint="Leave the header out to send JSON.",
        )
    return media


@cache
def _decoder(
    media: str, wanted: Any
) -> msgspec.json.Decoder[Any] | msgspec.msgpack.Decoder[Any]:
    # A reused decoder is ten times faster than msgspec.json.decode(type=...).
    if media == MSGPACK:
        return msgspec.msgpack.Decoder(wanted)
    return msgspec.json.Decoder(wanted)


def decode(data: bytes, wanted: Any, media: str = JSON) -> Any:
    """Read ``data`` as a value of type ``wanted``.

    Raises:
        BadRequest: The bytes are not of that encoding or not of that shape; the
            failure's ``field`` is the path of the part at fault.
    """
    try:
        if media == MSGPACK and _TAG in data:
            plain = _untag_integers(_decoder(media, Any).decode(data))
            return msgspec.convert(plain, wanted)
        return _decoder(media, wanted).decode(data)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), wanted) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"The body is not {media}: {error}.",
            hint="Send one object in the encoding that Content-Type names.",
        ) from None


def read(value: Any, wanted: Any) -> Any:
    """Read plain dicts and lists as a value of type ``wanted``.

    Raises:
        BadRequest: As ``decode``.
    """
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), wanted) from None


def encode(value: Any, media: str = JSON) -> bytes:
    """Write ``value`` in the encoding ``media``.

    Raises:
        BadRequest: It holds something that has no form there, such as half of a
            surrogate pair, or a key that is no text.
    """
    try:
        if media == JSON:
            return _JSON_ENCODER.encode(value)
        return _MSGPACK_ENCODER.encode(value)
    except OverflowError:
        return _MSGPACK_ENCODER.encode(_tag_integers(msgspec.to_builtins(value)))
    except (UnicodeEncodeError, TypeError, ValueError) as error:
        raise BadRequest(
            f"A value has no form in {media}: {error}.",
            hint="Send texts, numbers, booleans, null, arrays and objects.",
        ) from None


def _tag_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tag_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tag_integers(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return {"$t": "int", "digits": str(value)}
    return value


def _untag_integers(value: Any) -> Any:
    if isinstance(value, list):
        return [_untag_integers(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("$t") == "int" and _DIGITS.fullmatch(str(value.get("digits"))):
        return int(value["digits"])
    return {key: _untag_integers(item) for key, item in value.items()}


def _misfit(text: str, wanted: Any) -> BadRequest:
    at = _AT.search(text)
    path = at.group(1) if at else ""
    unknown = _UNKNOWN_FIELD.search(text)
    if unknown is None:
        message = text[: at.start()] if at else text
        where = f" at {path!r}" if path else ""
        return BadRequest(
            f"The value does not fit{where}: {message}.",
            field=path or None,
            hint="Compare with the JSON Schema of the operation.",
        )
    name = unknown.group(1)
    full = f"{path}.{name}" if path else name
    # msgspec writes "[...]" for any key of a dict.
    steps = path.replace("[...]", "[]").split(".") if path else []
    fields = _fields(wanted, steps)
    return BadRequest(
        f"Unknown field {full[:80]!r}. {nearest(name, fields)}",
        field=full[:200],
        hint="Leave it out or use one of the allowed names.",
    )


def _fields(wanted: Any, path: list[str]) -> list[str]:
    """Names that are allowed where an unknown field was met."""
    for name in path:
        wanted = _member(wanted, name.partition("[")[0])
    try:
        return [one.encode_name for one in msgspec.structs.fields(wanted)]
    except TypeError:
        return []


def _member(wanted: Any, name: str) -> Any:
    try:
        found = next(
            one.type for one in msgspec.structs.fields(wanted) if one.name == name
        )
    except (TypeError, StopIteration):
        return None
    return next(
        (
            one
            for one in _alternatives(found)
            if isinstance(one, type) and issubclass(one, msgspec.Struct)
        ),
        found,
    )


def _alternatives(annotation: Any) -> list[Any]:
    inner = getattr(annotation, "__args__", ())
    return [annotation, *inner]
