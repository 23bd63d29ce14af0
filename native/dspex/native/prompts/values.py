"""Values as DSPy writes them into a prompt.

DSPy turns a Python value into JSON, as pydantic does it, and prints that: a text as
it is, a list or an object as JSON, anything else with ``str``. Here the Python value
is built only where its JSON is not what came in: dates, sets, bytes and the like.
"""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts.failures import InvalidInputs
from dspex.native.checking.accepting import acceptor
from dspex.native.prompts.dspy_values import dspy_value
from dspex.native.prompts.markers import START, SUSPECT, neutralised
from dspex.native.types.batches import DEPTH_LIMIT, deepest
from dspex.native.types.kinds import DspyType, SchemaType
from dspex.native.types.scalars import tagged_bytes
from dspex.native.types.tokens import shortened
from dspex.native.types.tree import (
    ANY,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    UnionType,
    nodes,
    spelled,
)
from dspex.native.work import CHECK_LIMIT, TooMuch, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.checking.accepting import Acceptor
    from dspex.native.prompts.dialects import Dialect
    from dspex.native.types.tree import TypeExpr

STR = Scalar("str")

_UNIONS = 256
"""The most unions whose checks are kept."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False)


def dumps(value: Any) -> str:
    """Write JSON as DSPy does, on one line."""
    if type(value) is list and {*map(type, value)} == _TEXTS:
        # By far the most common: several times faster than the encoder.
        return f"[{', '.join(map(encode_basestring, value))}]"
    return _ENCODER.encode(value)


_TEXTS = {str}
_SHORT = 2 * DEPTH_LIMIT
"""What is no longer in JSON cannot be nested too deep."""


class Values:
    """Writes the values of one field.

    Args:
        name: The field.
        expr: Its type.
        dialect: The release of DSPy.
    """

    __slots__ = ("_dialect", "_expr", "_is_str", "_name", "_node", "_plain")

    def __init__(self, name: str, expr: TypeExpr, dialect: Dialect) -> None:
        self._name = name
        self._expr = expr
        self._dialect = dialect
        self._plain = _is_plain(expr)
        self._is_str = expr == STR
        self._node: Acceptor | None = None if self._plain else acceptor(expr)

    def text(self, value: Any) -> str:
        """Write a value as text.

        Raises:
            InvalidInputs: DSPy could not, or only at great cost.
        """
        if type(value) is str and self._plain:
            return neutralised(value) if SUSPECT in value else value
        if self._is_str and isinstance(value, list):
            return _listed(self._name, neutralised(value))
        if self._plain and isinstance(value, (dict, list)):
            return self._dumped(value)
        found = self.jsonable(value)
        return dumps(found) if isinstance(found, (dict, list)) else str(found)

    def jsonable(self, value: Any) -> Any:
        """Return the JSON that DSPy makes of a value; the value itself if it can.

        A value that is not of the field's type is written as it came.
        """
        built = self.python(value)
        if type(built) in _JSON_LEAVES:
            return built
        try:
            return jsonable(built)
        except UnicodeDecodeError:
            # Bytes that are no text: then DSPy prints all of the value as Python.
            return str(built)

    def python(self, value: Any) -> Any:
        """Return the Python value that stands for a JSON value."""
        if type(value) in _JSON_LEAVES and self._plain:
            return neutralised(value)
        self._refuse_depth(value)
        value = neutralised(value)
        if self._node is None:
            return value
        if not self._fits(self._node, value):
            return self._unfit(value)
        return _python(self._expr, value, self._dialect)

    def _dumped(self, value: Any) -> str:
        try:
            text = dumps(value)
        except (TypeError, RecursionError):
            # MessagePack carries bytes as they are; or it is very deep.
            self._refuse_depth(value)
            text = START
        if len(text) > _SHORT and text.count("[") + text.count("{") > DEPTH_LIMIT:
            self._refuse_depth(value)
        if SUSPECT not in text:
            return text
        found = self.jsonable(value)
        return dumps(found) if isinstance(found, (dict, list)) else str(found)

    def _fits(self, node: Acceptor, value: Any) -> bool:
        try:
            return node.accepts([value], Work(CHECK_LIMIT))
        except TooMuch:
            raise InvalidInputs(
                f"The value of {self._name!r} has too many parts.",
                hint="Send fewer parts, or give the field a simpler type.",
                field=self._name,
            ) from None

    def _unfit(self, value: Any) -> Any:
        """Return a value of another type; DSPy writes it as it is."""
        own = any(isinstance(node, DspyType) for node in nodes(self._expr))
        if own and isinstance(value, (dict, list)):
            raise InvalidInputs(
                f"The value of {self._name!r} is not of the type "
                f"{shortened(spelled(self._expr))}.",
                hint="DSPy's own types have a form on the wire, such as "
                '{"$t": "Image", "url": "https://…"}.',
                field=self._name,
            )
        return value

    def _refuse_depth(self, value: Any) -> None:
        if isinstance(value, (dict, list)) and deepest(value) is not None:
            raise InvalidInputs(
                f"The value of {self._name!r} is nested deeper than "
                f"{DEPTH_LIMIT} levels.",
                hint="Flatten the value, or send its inner part as a string of JSON.",
                field=self._name,
            )


def jsonable(value: Any) -> Any:
    """Return the JSON of a Python value as pydantic makes it.

    Raises:
        UnicodeDecodeError: Bytes in it are no text.
    """
    kind = type(value)
    if kind in _JSON_LEAVES:
        return value
    if kind is dict:
        return {_key(key): jsonable(item) for key, item in value.items()}
    if kind in (list, tuple, set, frozenset):
        return [jsonable(item) for item in value]
    return _LEAVES.get(kind, str)(value)


_JSON_LEAVES = frozenset({str, int, float, bool, type(None)})


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return key if isinstance(key, str) else str(jsonable(key))


def _bytes(value: bytes) -> str:
    # Only now can be seen what they say.
    text: str = neutralised(value.decode())
    return text


def _zoned(value: datetime.datetime | datetime.time) -> str:
    text = value.isoformat()
    offset = value.utcoffset()
    if offset is None:
        return text
    return text if offset else text.removesuffix("+00:00") + "Z"


def _duration(value: datetime.timedelta) -> str:
    if not value:
        return "PT0S"
    size = abs(value)
    years, days = divmod(size.days, 365)
    minutes, seconds = divmod(size.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(years, "Y"), (days, "D")]
    date = "".join(f"{count}{unit}" for count, unit in parts if count)
    time = "".join(
        f"{count}{unit}" for count, unit in ((hours, "H"), (minutes, "M")) if count
    )
    fraction = f".{size.microseconds:06d}".rstrip("0") if size.microseconds else ""
    if seconds or fraction:
        time += f"{seconds}{fraction}S"
    return f"{'-' * (value.days < 0)}P{date}{'T' * bool(time)}{time}"


_LEAVES: dict[type, Callable[[Any], str]] = {
    bytes: _bytes,
    datetime.date: datetime.date.isoformat,
    datetime.datetime: _zoned,
    datetime.time: _zoned,
    datetime.timedelta: _duration,
}

_PLAIN = ("str", "int", "float", "bool", "NoneType", "Any")


def _is_plain(expr: TypeExpr) -> bool:
    """Whether the JSON of its Python values is the JSON that stands for them."""
    if isinstance(expr, Scalar):
        return expr.name in _PLAIN
    if isinstance(expr, Collection) and expr.kind != "list":
        return False
    if isinstance(expr, DictType) and not _plain_keys(expr.key):
        return False
    return not isinstance(expr, DspyType) and all(map(_is_plain, expr.parts))


def _plain_keys(key: TypeExpr | None) -> bool:
    if isinstance(key, LiteralType):
        return all(isinstance(value, str) for value in key.values)
    return key is None or isinstance(key, SchemaType) or key in (STR, ANY)


def _listed(name: str, values: list[Any]) -> str:
    if not all(isinstance(value, str) for value in values):
        raise InvalidInputs(
            f"DSPy takes a list for the str field {name!r} only if it is one of texts.",
            hint="Send texts, or give the field the type list.",
            field=name,
        )
    if not values:
        return "N/A"
    if len(values) == 1:
        return _quoted(values[0])
    return "\n".join(f"[{i}] {_quoted(value)}" for i, value in enumerate(values, 1))


def _quoted(text: str) -> str:
    if not any(sign in text for sign in "\n«»"):
        return f"«{text}»"
    indented = text.replace("\n", "\n    ")
    return f"«««\n    {indented}\n»»»"


def _python(expr: TypeExpr, value: Any, dialect: Dialect) -> Any:
    build = _BUILDERS.get(type(expr))
    return value if build is None else build(expr, value, dialect)


def _scalar(expr: Scalar, value: Any, _: Dialect) -> Any:
    if expr.name == "bytes":
        return value if isinstance(value, bytes) else tagged_bytes(value)
    kind = _KINDS.get(expr.name)
    return value if kind is None else msgspec.convert(value, kind, strict=False)


def _collection(expr: Collection, value: list[Any], dialect: Dialect) -> Any:
    items = [_python(expr.item or ANY, item, dialect) for item in value]
    return items if expr.kind == "list" else _SETS[expr.kind](_spread(items))


def _tuple(expr: TupleType, value: list[Any], dialect: Dialect) -> Any:
    types = expr.parts * len(value) if expr.variadic else expr.items
    if types is None:
        return tuple(value)
    pairs = zip(types, value, strict=True)
    return tuple(_python(part, item, dialect) for part, item in pairs)


def _dict(expr: DictType, value: dict[str, Any], dialect: Dialect) -> Any:
    key, inner = expr.key or ANY, expr.value or ANY
    keys = _spread([_python_key(key, k) for k in value])
    items = (_python(inner, item, dialect) for item in value.values())
    return dict(zip(keys, items, strict=True))


def _spread(items: list[Any]) -> list[Any]:
    """Return what goes into a set, if not too much of it shares its places there.

    Of numbers and UUIDs a sender can choose many with the same hash, and each would be
    compared with all before it.

    Raises:
        ValueError: Too many do.
    """
    if len(items) - len(set(map(hash, items))) > _SHARED:
        raise ValueError(f"more than {_SHARED} elements of a set have one hash.")
    return items


_SHARED = 1000


def _python_key(expr: TypeExpr, key: str) -> Any:
    if isinstance(expr, LiteralType):
        return next(value for value in expr.values if str(value) == key)
    if isinstance(expr, Scalar) and expr.name in _NUMBERS:
        return _NUMBERS[expr.name](key)
    if isinstance(expr, Scalar) and expr.name in _KINDS:
        return msgspec.convert(key, _KINDS[expr.name])
    return key


def _union(expr: UnionType, value: Any, dialect: Dialect) -> Any:
    found = (
        member
        for member, node in _members(expr)
        if node.accepts([value], Work(CHECK_LIMIT))
    )
    return _python(next(found), value, dialect)


@lru_cache(maxsize=_UNIONS)
def _members(expr: UnionType) -> tuple[tuple[TypeExpr, Acceptor], ...]:
    return tuple((member, acceptor(member)) for member in expr.members)


_SETS: dict[str, Any] = {"set": set, "frozenset": frozenset}
_NUMBERS: dict[str, Any] = {"int": int, "float": float}
_KINDS: dict[str, Any] = {
    "date": datetime.date,
    "datetime": datetime.datetime,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "Decimal": Decimal,
    "UUID": uuid.UUID,
}
_BUILDERS: dict[type, Callable[[Any, Any, Dialect], Any]] = {
    Scalar: _scalar,
    Collection: _collection,
    TupleType: _tuple,
    DictType: _dict,
    UnionType: _union,
    DspyType: dspy_value,
}
