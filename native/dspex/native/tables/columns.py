"""Columns of Arrow to JSON values and back, value by value.

A column becomes what our JSON says of its values: texts for dates, times, UUIDs and
decimals with digits after the point, whole numbers of any size as they are, a tagged
object for bytes, UTC for a time of any zone. NaN and infinities stay, though JSON has
none; who needs JSON refuses them.
"""

from __future__ import annotations

import datetime
import uuid
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts.encoding import tag_bytes
from dspex.contracts.failures import BadRequest, Unsupported
from dspex.contracts.walking import path_of, unsayable
from dspex.native.tables.arrow import arrow
from dspex.native.work import TooMuch, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PART_LIMIT = 4_000_000
"""The most values of a stream, those inside lists and structs counted too."""
CHARACTER_LIMIT = 256_000_000
"""The most characters and bytes of its values, those it holds once and repeats
counted each time."""

JSON_TYPE = "arrow.json"
"""The extension type of texts that are JSON, one of Arrow's own."""


class Bounds:
    """What may still be made of a stream."""

    __slots__ = ("_characters", "_parts")

    def __init__(self) -> None:
        self._parts = Work(PART_LIMIT)
        self._characters = Work(CHARACTER_LIMIT)

    def spend(self, parts: int, characters: int = 0) -> None:
        """Take values and their characters from what is left.

        Raises:
            BadRequest: There was not so much.
        """
        try:
            self._parts.spend(parts)
            self._characters.spend(characters)
        except TooMuch:
            raise BadRequest(
                f"The Arrow stream holds more than {PART_LIMIT} values or "
                f"{CHARACTER_LIMIT} characters.",
                hint="Send several requests.",
            ) from None


def read_column(field: Any, array: Any, bounds: Bounds) -> list[Any]:
    """Return the values of a column.

    Args:
        field: Its field.
        array: Its array, checked by ``validate(full=True)``.
        bounds: What may still be made of the stream.

    Raises:
        BadRequest: It has values that JSON cannot say.
        Unsupported: It is of a type that is not read.
    """
    found = _values(array, bounds)
    said = (field.metadata or {}).get(b"ARROW:extension:name", b"")
    # Older releases of pyarrow do not know the type: to them it is a text.
    if said == JSON_TYPE.encode() and array.type == arrow().string():
        return [_parsed(text) for text in found]
    return found


def check_type(kind: Any) -> None:
    """Refuse types of columns that are not read, before anything is read of them.

    Raises:
        Unsupported: Such a type is the type or in it.
    """
    if isinstance(kind, arrow().BaseExtensionType):
        kind = kind.storage_type
    if kind.id not in _readers():
        raise Unsupported(
            f"Arrow columns of the type {str(kind)[:80]} are not read.",
            hint="Send texts, numbers, booleans, bytes, times, lists and structs.",
        )
    if kind.id == arrow().lib.Type_DICTIONARY:
        check_type(kind.value_type)
    for number in range(kind.num_fields):
        check_type(kind.field(number).type)


def _values(array: Any, bounds: Bounds) -> list[Any]:
    bounds.spend(len(array))
    if isinstance(array.type, arrow().BaseExtensionType):
        return _extension(array, bounds)
    return _readers()[array.type.id](array, bounds)


@cache
def _readers() -> dict[int, Callable[[Any, Bounds], list[Any]]]:
    # By number, for which releases name them differently; some have not all.
    lib = arrow().lib
    return {
        getattr(lib, f"Type_{name}"): read
        for names, read in _BY_NAME.items()
        for name in names.split()
        if hasattr(lib, f"Type_{name}")
    }


def _plain(array: Any, _: Bounds) -> list[Any]:
    found: list[Any] = array.to_pylist()
    return found


def _view(array: Any, bounds: Bounds) -> list[Any]:
    # A view takes sixteen bytes, however long a text it shows; many may show one.
    octets = memoryview(array.buffers()[1]).cast("i") if len(array) else []
    start = 4 * array.offset
    bounds.spend(0, sum(octets[start : start + 4 * len(array) : 4]))
    if array.type.id == arrow().lib.Type_BINARY_VIEW:
        return _binary(array, bounds)
    return _plain(array, bounds)


def _each(array: Any, convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in array.to_pylist()]


def _binary(array: Any, _: Bounds) -> list[Any]:
    return _each(array, tag_bytes)


def _decimal(array: Any, _: Bounds) -> list[Any]:
    if array.type.scale <= 0:
        return _each(array, int)
    return _each(array, lambda value: format(value, "f"))


def _date(array: Any, _: Bounds) -> list[Any]:
    return _each(array, datetime.date.isoformat)


_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime.datetime(1970, 1, 1)
_MIDNIGHT = datetime.datetime.min


def _whole(array: Any) -> Any:
    # As counts since something: Python's own times end at microseconds.
    pa = arrow()
    return array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())


def _since(array: Any, start: datetime.datetime) -> list[Any]:
    per = _PER_SECOND[array.type.unit]
    is_time = start is _MIDNIGHT
    ending = "Z" if not is_time and array.type.tz is not None else ""

    def said(count: int) -> str:
        seconds, rest = divmod(count, per)
        moment = start + datetime.timedelta(seconds=seconds)
        text = (moment.time() if is_time else moment).isoformat()
        return f"{text}{_fraction(rest, per)}{ending}"

    return _each(_whole(array), said)


def _fraction(rest: int, per: int) -> str:
    if not rest:
        return ""
    nanoseconds = rest * 10**9 // per
    digits = f"{nanoseconds:09}"
    return f".{digits}" if nanoseconds % 1000 else f".{digits[:6]}"


def _timestamp(array: Any, _: Bounds) -> list[Any]:
    return _since(array, _EPOCH)


def _time(array: Any, _: Bounds) -> list[Any]:
    return _since(array, _MIDNIGHT)


def _duration(array: Any, _: Bounds) -> list[Any]:
    per = _PER_SECOND[array.type.unit]

    def said(count: int) -> str:
        seconds, rest = divmod(abs(count), per)
        days, seconds = divmod(seconds, 86_400)
        time = f"T{seconds}{_fraction(rest, per)}S" if seconds or rest else ""
        day = f"{days}D" if days or not time else ""
        return f"{'-' if count < 0 else ''}P{day}{time}"

    return _each(_whole(array), said)


def _dictionary(array: Any, bounds: Bounds) -> list[Any]:
    values = _values(array.dictionary, bounds)
    indices = array.indices.to_pylist()
    sizes = [len(msgspec.json.encode(value)) for value in values]
    bounds.spend(0, sum(sizes[index] for index in indices if index is not None))
    return [None if index is None else values[index] for index in indices]


def _list(array: Any, bounds: Bounds) -> list[Any]:
    lengths = arrow().compute.list_value_length(array).to_pylist()
    total = sum(length for length in lengths if length)
    # Before the parts are laid side by side: lists may share them.
    bounds.spend(total)
    parts = _values(array.flatten(), bounds)
    ends = accumulate((length or 0 for length in lengths), initial=0)
    return [
        None if length is None else parts[start:end]
        for length, (start, end) in zip(lengths, pairwise(ends), strict=True)
    ]


def _map(array: Any, bounds: Bounds) -> list[Any]:
    pa = arrow()
    key, item = array.type.key_type, array.type.item_type
    entry = pa.struct([pa.field("key", key, nullable=False), pa.field("item", item)])
    rows = _list(array.cast(pa.list_(entry)), bounds)
    return [None if row is None else _object(row) for row in rows]


def _object(entries: list[dict[str, Any]]) -> dict[str, Any]:
    found = {entry["key"]: entry["item"] for entry in entries if _is_text(entry["key"])}
    if len(found) == len(entries):
        return found
    raise BadRequest(
        "An Arrow map has a key that is no text, or the same key twice.",
        hint="JSON objects have texts for keys, each once.",
    )


def _is_text(key: Any) -> bool:
    return type(key) is str


def _struct(array: Any, bounds: Bounds) -> list[Any]:
    kind = array.type
    names = [kind.field(number).name for number in range(kind.num_fields)]
    if len(set(names)) < len(names):
        raise BadRequest(
            "An Arrow struct has two fields of the same name.",
            hint="Name each field once.",
        )
    there = array.is_valid().to_pylist()
    if not names:
        return [{} if valid else None for valid in there]
    parts = [_values(part, bounds) for part in array.flatten()]
    rows = zip(there, zip(*parts, strict=True), strict=True)
    return [
        dict(zip(names, row, strict=True)) if valid else None for valid, row in rows
    ]


def _extension(array: Any, bounds: Bounds) -> list[Any]:
    name = getattr(array.type, "extension_name", "")
    if name == "arrow.uuid":
        return _each(array.storage, lambda octets: str(uuid.UUID(bytes=octets)))
    found = _values(array.storage, bounds)
    if name == JSON_TYPE:
        return [_parsed(text) for text in found]
    if name == "arrow.bool8":
        return [None if value is None else value != 0 for value in found]
    return found


def _parsed(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


_BY_NAME: dict[str, Callable[[Any, Bounds], list[Any]]] = {
    "NA BOOL INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64": _plain,
    "HALF_FLOAT FLOAT DOUBLE STRING LARGE_STRING": _plain,
    "STRING_VIEW BINARY_VIEW": _view,
    "BINARY LARGE_BINARY FIXED_SIZE_BINARY": _binary,
    "DECIMAL32 DECIMAL64 DECIMAL128 DECIMAL256": _decimal,
    "DATE32 DATE64": _date,
    "TIMESTAMP": _timestamp,
    "TIME32 TIME64": _time,
    "DURATION": _duration,
    "DICTIONARY": _dictionary,
    "LIST LARGE_LIST FIXED_SIZE_LIST LIST_VIEW LARGE_LIST_VIEW": _list,
    "MAP": _map,
    "STRUCT": _struct,
}


def write_column(values: Sequence[Any]) -> tuple[Any, dict[str, str]]:
    """Make a column of JSON values.

    Values of one kind become a column of its type; for others, such as 3 beside 3.0,
    each becomes a text of JSON, and the field says so.

    Returns:
        An array, and the metadata of its field.

    Raises:
        BadRequest: A value has no form there.
    """
    pa = arrow()
    kind = _type_of(values, _DEPTH)
    if kind is not None:
        return pa.array(values, type=kind), {}
    texts = [None if value is None else as_json(value).decode() for value in values]
    return pa.array(texts, type=pa.string()), _AS_JSON


_AS_JSON = {
    "ARROW:extension:name": JSON_TYPE,
    "ARROW:extension:metadata": "",
}
# Deeper lists and structs are written as JSON.
_DEPTH = 16


def _type_of(values: Sequence[Any], depth: int) -> Any:
    """Return the type that holds values just as they are; ``None`` if there is none."""
    pa = arrow()
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.null()
    if len(kinds) > 1 or not depth:
        return None
    kind = kinds.pop()
    if kind not in (int, list, dict):
        scalars = {bool: pa.bool_, float: pa.float64, str: pa.string, bytes: pa.binary}
        return scalars[kind]()
    there = [value for value in values if value is not None]
    if kind is int:
        return _integers(there)
    return _lists(there, depth) if kind is list else _structs(there, depth)


def _integers(values: list[int]) -> Any:
    pa = arrow()
    low, high = min(values), max(values)
    if low >= -(2**63) and high < 2**63:
        return pa.int64()
    if low >= 0 and high < 2**64:
        return pa.uint64()
    return pa.decimal256(76, 0) if low > -(10**76) and high < 10**76 else None


def _lists(values: list[list[Any]], depth: int) -> Any:
    inner = _type_of([part for value in values for part in value], depth - 1)
    return None if inner is None else arrow().list_(inner)


def _structs(values: list[dict[str, Any]], depth: int) -> Any:
    names = values[0].keys()
    if not names or any(value.keys() != names for value in values):
        return None
    fields = [
        (name, _type_of([value[name] for value in values], depth - 1)) for name in names
    ]
    whole = all(kind is not None for _, kind in fields)
    return arrow().struct(fields) if whole else None


def as_json(value: Any) -> bytes:
    """Write a value as JSON, bytes as their tagged object.

    Raises:
        BadRequest: It holds what JSON cannot say.
    """
    found = unsayable(value)
    if found is not None:
        raise BadRequest(
            f"A value holds {found[1]}, which has no form in JSON.",
            field=path_of(found[0])[:200] or None,
            hint="Send values that JSON has.",
        )
    return msgspec.json.encode(_tagged(value))


def _tagged(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tagged(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_tagged(part) for part in value]
    return tag_bytes(value) if isinstance(value, bytes) else value
