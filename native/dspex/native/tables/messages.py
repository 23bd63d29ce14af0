"""Messages as Arrow streams: their columns as columns, the rest as JSON beside them.

A body such as that of ``metric.batch`` has its lists in columns, everything else as
JSON in the schema's metadata under the key ``dspex``. A reply has the lists of its
``outputs`` in columns. It does not matter which operation it is: which fields are
columns, and what those are called, is said once, in `COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import asdict

from dspex.contracts.failures import BadRequest
from dspex.native.tables.arrow import Foreign, batches_of, stream_of
from dspex.native.tables.columns import (
    Bounds,
    as_json,
    check_type,
    read_column,
    write_column,
)

COLUMNS = {
    "predictions": "prediction",
    "answers": "answers",
    "scores": "score",
    "dataset": "example",
    "results": "result",
}
"""For each field that travels as a column, what the column is called."""

_KEY = "dspex"
_FIELDS = {column: field for field, column in COLUMNS.items()}


def read_table(data: bytes) -> dict[str, Any]:
    """Read a message from an Arrow stream.

    Columns that are not in `COLUMNS` become fields of their own name, so that an
    unknown one is found where unknown fields are.

    Returns:
        The message as plain JSON values, except that NaN and infinities stay.

    Raises:
        BadRequest: The bytes are no such stream, not within bounds, or hold what JSON
            cannot say.
        Unsupported: It is compressed or has columns of types that are not read, or
            pyarrow is not installed.
    """
    schema, batches = batches_of(data)
    with Foreign():
        message = _rest(schema)
        for field in schema:
            check_type(field.type)
        columns = _columns(schema, batches)
    fields = _holder(message)
    for name, values in columns.items():
        field = _FIELDS.get(name, name)
        if field in fields:
            raise BadRequest(
                f"There are two of {field[:80]!r}: name a field once, in a column or "
                "in the metadata.",
                field=field[:200],
                hint=f"Leave it out of the metadata key {_KEY!r}.",
            )
        fields[field] = values
    return message


def write_table(message: Mapping[str, Any] | msgspec.Struct) -> bytes:
    """Write a message that has columns as an Arrow stream.

    Values that JSON has no form for become what JSON has for them: tuples arrays,
    dates texts, keys that are numbers texts.

    Raises:
        BadRequest: It has no columns, or of different lengths, or a value that has no
            form there.
        Unsupported: pyarrow is not installed.
    """
    rest = _plain(message)
    fields = _holder(rest)
    names = _names(fields)
    columns = {COLUMNS[name]: fields.pop(name) for name in names}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise BadRequest(
            f"An Arrow stream has columns of one length; these have {sorted(lengths)}.",
            hint=f"Send lists of one length, or JSON. Columns: {', '.join(COLUMNS)}.",
        )
    try:
        written = {name: write_column(values) for name, values in columns.items()}
    except UnicodeEncodeError as error:
        raise _formless(error) from None
    return stream_of(written, {_KEY: as_json(rest)})


def has_columns(message: Mapping[str, Any] | msgspec.Struct) -> bool:
    """Say whether a message has anything that travels as a column."""
    plain = message if isinstance(message, Mapping) else asdict(message)
    return bool(_names(_holder(plain)))


class ArrowTables:
    """What `dspex.contracts.encoding` reads and writes Arrow streams with."""

    def read(self, data: bytes) -> dict[str, Any]:
        """Read a message, as `read_table`."""
        return read_table(data)

    def write(self, message: Any) -> bytes:
        """Write a message that has columns, as `write_table`."""
        return write_table(message)

    def has_columns(self, message: Any) -> bool:
        """Whether a message has any, as `has_columns`."""
        return has_columns(message)


def _names(fields: Mapping[str, Any]) -> list[str]:
    return [name for name in COLUMNS if isinstance(fields.get(name), list)]


def _holder(message: Any) -> Any:
    outputs = message.get("outputs")
    return outputs if isinstance(outputs, dict) else message


def _plain(message: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = _listed(
            msgspec.to_builtins(message, str_keys=True, builtin_types=(bytes,))
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise _formless(error) from None
    return found


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(part) for key, part in value.items()}
    return (
        [_listed(part) for part in value] if isinstance(value, (list, tuple)) else value
    )


def _formless(error: Exception) -> BadRequest:
    return BadRequest(
        f"A value has no form in an Arrow stream: {str(error)[:200]}.",
        hint="Send texts, numbers, booleans, bytes, null, arrays and objects.",
    )


def _rest(schema: Any) -> dict[str, Any]:
    text = (schema.metadata or {}).get(_KEY.encode(), b"{}")
    try:
        rest = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        rest, told = None, f": {error}"
    else:
        told = ""
    if isinstance(rest, dict):
        return rest
    raise BadRequest(
        f"The metadata key {_KEY!r} of the Arrow schema is no JSON object{told}.",
        hint="It holds the body without its columns, such as "
        '{"metric": "exact_match"}.',
    )


def _columns(schema: Any, batches: Any) -> dict[str, list[Any]]:
    if len(set(schema.names)) < len(schema):
        raise BadRequest(
            "The Arrow stream has two columns of the same name.",
            hint="Name each column once.",
        )
    bounds = Bounds()
    found: dict[str, list[Any]] = {name: [] for name in schema.names}
    for batch in batches:
        for field, array in zip(schema, batch.columns, strict=True):
            found[field.name] += read_column(field, array, bounds)
    return found
