"""Apache Arrow, where it is installed, and streams of it from strangers.

The only file that imports pyarrow. What is read here may have been written by
anybody, so everything has a bound before memory is taken for it.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts.failures import BadRequest, Failure, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

ROW_LIMIT = 1_000_000
"""The most rows of a stream."""
COLUMN_LIMIT = 64
"""The most columns of a stream."""
BATCH_LIMIT = 10_000
"""The most record batches and dictionaries of a stream."""


@cache
def arrow() -> Any:
    """Return pyarrow, its parts imported.

    Raises:
        Unsupported: It is not installed.
    """
    try:
        import pyarrow.compute
        import pyarrow.ipc
    except ImportError:
        raise Unsupported(
            "Arrow streams are not read here: pyarrow is not installed.",
            hint="Install `dspex[arrow]` where requests are answered, or send JSON.",
            field="Content-Type",
        ) from None
    return pyarrow


def stream_of(columns: dict[str, tuple[Any, Any]], metadata: dict[str, bytes]) -> bytes:
    """Write a stream of one record batch.

    Args:
        columns: For each name an array and the metadata of its field.
        metadata: That of the schema.
    """
    pa = arrow()
    fields = [
        pa.field(name, array.type, metadata=said)
        for name, (array, said) in columns.items()
    ]
    schema = pa.schema(fields, metadata=metadata)
    arrays = [array for array, _ in columns.values()]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    found: bytes = sink.getvalue().to_pybytes()
    return found


def batches_of(data: bytes) -> tuple[Any, Iterator[Any]]:
    """Read a stream.

    Returns:
        Its schema, and its record batches; each is checked before it is handed out,
        so also the reading of them may fail.

    Raises:
        BadRequest: It is none, or not within bounds.
        Unsupported: It is compressed, or pyarrow is not installed.
    """
    pa = arrow()
    with Foreign():
        _check_messages(data)
        reader = pa.ipc.open_stream(data)
        if len(reader.schema) > COLUMN_LIMIT:
            raise _beyond(f"{len(reader.schema)} columns", COLUMN_LIMIT)
        return reader.schema, _checked(reader)


class Foreign:
    """Where what pyarrow and Python raise says that the sender is at fault."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if error is None or isinstance(error, Failure):
            return
        if isinstance(error, (*_FOREIGN, arrow().ArrowException)):
            raise BadRequest(
                f"The body is no Arrow stream that can be read: {str(error)[:200]}.",
                hint="Send an Arrow IPC stream, as `pyarrow.ipc.new_stream` writes it.",
            ) from None


_FOREIGN = (
    ArithmeticError,
    MemoryError,
    OSError,
    RecursionError,
    ValueError,
    msgspec.DecodeError,
    struct.error,
)


def _checked(reader: Any) -> Iterator[Any]:
    while True:
        with Foreign():
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
            batch.validate(full=True)
        yield batch


def _check_messages(data: bytes) -> None:
    """Look at what the messages declare, before anything is made of them."""
    reader = arrow().ipc.MessageReader.open_stream(data)
    rows = batches = 0
    for message in _messages(reader):
        if message.type == "schema":
            continue
        if message.type not in ("record batch", "dictionary"):
            raise BadRequest(
                f"The Arrow stream holds a {message.type}; only record batches and "
                "dictionaries are read.",
                hint="Send columns.",
            )
        length, compressed = _declared(message)
        if compressed:
            raise Unsupported(
                "The Arrow stream is compressed, which is not read here.",
                hint="Write it without compression.",
            )
        rows += length
        batches += 1
        if rows > ROW_LIMIT or length < 0:
            raise _beyond(f"{rows} rows", ROW_LIMIT)
        if batches > BATCH_LIMIT:
            raise _beyond(f"more than {BATCH_LIMIT} batches", BATCH_LIMIT)


def _messages(reader: Any) -> Iterator[Any]:
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _declared(message: Any) -> tuple[int, bool]:
    """Return how many rows a batch says it has, and whether it is compressed."""
    # Message.fbs of Arrow: fields are known by their number. pyarrow has verified
    # the offsets by now, and says neither without reading the batch.
    octets = memoryview(message.metadata)
    root = _offset(octets, 0)
    batch = _child(octets, root, 2)
    if message.type == "dictionary":
        batch = _child(octets, batch, 1)
    length = _field(octets, batch, 0)
    rows = struct.unpack_from("<q", octets, length)[0] if length else 0
    return rows, bool(_field(octets, batch, 3))


def _offset(octets: memoryview, at: int) -> int:
    return at + int(struct.unpack_from("<I", octets, at)[0])


def _field(octets: memoryview, table: int, number: int) -> int:
    """Return where a field of a flatbuffer's table lies; 0 if it is not there."""
    vtable = table - struct.unpack_from("<i", octets, table)[0]
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", octets, vtable)[0]:
        return 0
    found = struct.unpack_from("<H", octets, vtable + slot)[0]
    return table + int(found) if found else 0


def _child(octets: memoryview, table: int, number: int) -> int:
    found = _field(octets, table, number)
    if not found:
        raise ValueError("a message without contents")
    return _offset(octets, found)


def _beyond(found: str, limit: int) -> BadRequest:
    return BadRequest(
        f"The Arrow stream holds {found}; at most {limit} are read.",
        hint="Send several requests.",
    )
