"""Bytes to values and back: JSON by default, MessagePack by content type.

JSON values stay what they are: 3 is not 3.0, and integers keep all digits. An
integer that MessagePack cannot hold travels there as ``{"$t": "int", "digits": …}``
and is an integer again once read. Bytes, which JSON cannot hold, are
``{"$t": "bytes", "data": <base64>}``: those of MessagePack are, too, once read.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any, Protocol

import msgspec

from dspex.contracts.failures import BadRequest, Unsupported
from dspex.contracts.media import ARROW as ARROW
from dspex.contracts.media import JSON as JSON
from dspex.contracts.media import MSGPACK as MSGPACK
from dspex.contracts.media import decoder
from dspex.contracts.misfits import misfit
from dspex.contracts.walking import path_of, unsayable

CONTENT_TYPES = (JSON, MSGPACK, ARROW)


class Tables(Protocol):
    """What reads and writes messages that have columns as Arrow streams."""

    def read(self, data: bytes) -> dict[str, Any]:
        """Read a message."""
        ...

    def write(self, message: Any) -> bytes:
        """Write a message that has columns."""
        ...

    def has_columns(self, message: Any) -> bool:
        """Whether a message has any."""
        ...


_tables: list[Tables] = []


def read_tables_with(tables: Tables) -> None:
    """Let this process read and write Arrow streams; the others only pass them on."""
    _tables[:] = [tables]


def said_in(message: Any, media: str) -> str:
    """The encoding in which a message can be said: without columns, Arrow is JSON."""
    if media != ARROW:
        return media
    return ARROW if _tables and _tables[0].has_columns(message) else JSON


_JSON_ENCODER = msgspec.json.Encoder()
_MSGPACK_ENCODER = msgspec.msgpack.Encoder()
_SIGNS = (b"$t", b"\xc4", b"\xc5", b"\xc6")
"""What MessagePack with tagged integers or with bytes holds, as other texts may."""
# Python refuses to convert more digits than this, against slow attacks.
_DIGITS = re.compile(r"-?[0-9]{1,4300}")


def content_type(header: str | None) -> str:
    """The encoding a ``Content-Type`` header asks for; JSON when absent.

    Raises:
        BadRequest: It is neither JSON nor MessagePack nor Arrow.
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


def decode(data: bytes, wanted: Any, media: str = JSON) -> Any:
    """Read ``data`` as a value of type ``wanted``.

    Raises:
        BadRequest: The bytes are not of that encoding or not of that shape, or hold
            what JSON could not; the failure's ``field`` is the path of the part at
            fault.
    """
    try:
        if media == ARROW:
            plain = _arrow().read(data)
            _refuse_unsayable(plain)
            return read(plain, wanted)
        if media == MSGPACK:
            plain = decoder(media, Any).decode(data)
            _refuse_unsayable(plain)
            if any(sign in data for sign in _SIGNS):
                plain = _as_json(plain)
            return read(plain, wanted)
        return decoder(media, wanted).decode(data)
    except msgspec.ValidationError as error:
        raise misfit(str(error), wanted, msgspec.Raw(data), media) from None
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
        raise misfit(str(error), wanted, value) from None


def encode(value: Any, media: str = JSON) -> bytes:
    """Write ``value`` in the encoding ``media``.

    Raises:
        BadRequest: It holds something that has no form there, such as half of a
            surrogate pair, or a key that is no text.
    """
    try:
        if media == JSON:
            return _JSON_ENCODER.encode(value)
        if media == ARROW:
            return _arrow().write(value)
        return _MSGPACK_ENCODER.encode(value)
    except OverflowError:
        return _MSGPACK_ENCODER.encode(_tag_integers(msgspec.to_builtins(value)))
    except (UnicodeEncodeError, TypeError, ValueError) as error:
        raise BadRequest(
            f"A value has no form in {media}: {error}.",
            hint="Send texts, numbers, booleans, null, arrays and objects.",
        ) from None


def tag_bytes(value: bytes) -> dict[str, str]:
    """Return the object that stands for bytes in every message."""
    return {"$t": "bytes", "data": b64encode(value).decode()}


def _arrow() -> Tables:
    if not _tables:
        raise Unsupported(
            "Arrow streams are read by native-ops and workers alone.",
            field="Content-Type",
            hint="Send metric.batch and program.evaluate as Arrow, all else as JSON.",
        )
    return _tables[0]


def _refuse_unsayable(plain: Any) -> None:
    # Every request must be readable in JSON too: that is what streams and logs hold.
    found = unsayable(plain)
    if found is not None:
        path = path_of(found[0])[:200]
        where = f" at {path!r}" if path else ""
        raise BadRequest(
            f"The body holds {found[1]}{where}, which has no form in JSON.",
            field=path or None,
            hint="Send texts, finite numbers, booleans, null, arrays and objects with "
            "texts for keys; big integers as their tagged objects.",
        )


def _tag_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tag_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tag_integers(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return {"$t": "int", "digits": str(value)}
    return value


def _as_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, bytes):
        return tag_bytes(value)
    if not isinstance(value, dict):
        return value
    if value.get("$t") == "int" and _DIGITS.fullmatch(str(value.get("digits"))):
        return int(value["digits"])
    return {key: _as_json(item) for key, item in value.items()}
