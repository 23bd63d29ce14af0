"""The journal as a file: JSON lines, or Parquet, to be shared and taken in again.

Each row is one entry: where and when it was stored, and its message as it was. What was
stored apart, because it was large, travels in the same row.
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from dspex.bus.journal import Damaged, Entry, Reader
from dspex.contracts import encoding
from dspex.contracts.envelope import Event, Requested
from dspex.contracts.failures import BadRequest, Failure, Unsupported
from dspex.contracts.records import LmCall, Record, ToolCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from dspex.bus.connection import NatsBus
    from dspex.bus.selecting import Wanted
    from dspex.contracts.subjects import Subjects

ROWS = 1000
"""Rows that are written or read together."""


class Row(Struct, kw_only=True):
    """One entry in a file.

    Attributes:
        sequence: Where in the stream it was.
        stored: Unix milliseconds by the server's clock.
        subject: Where it was told.
        data: Its message, a text of JSON.
        blob: What was stored apart, base64; empty: nothing.
    """

    sequence: int
    stored: float
    subject: str
    data: str
    blob: str = ""


class Taken(Struct, kw_only=True):
    """How much was taken in.

    Attributes:
        entries: What is new.
        known: What was there already.
    """

    entries: int = 0
    known: int = 0


async def chosen(
    reader: Reader,
    wanted: Wanted,
    keys: set[tuple[str, str]] | None,
    damaged: Callable[[Damaged], None],
) -> AsyncIterator[Row]:
    """The rows of the requests that are wanted; ``keys``: their tenants and ids."""
    async for entry in reader.entries(since=wanted.since, until=wanted.until):
        if isinstance(entry, Damaged):
            damaged(entry)
            continue
        if keys is not None and (entry.tenant, entry.said.request) not in keys:
            continue
        yield await _row(reader, entry, damaged)


async def write(path: Path, rows: AsyncIterator[Row]) -> int:
    """Write rows to a file; returns how many.

    Raises:
        BadRequest: Its name ends in none of the endings.
    """
    ending = _ending(path)
    written = 0
    with path.open("wb") as file:
        writer = _Parquet(file) if ending == ".parquet" else _Lines(file)
        some: list[Row] = []
        async for row in rows:
            some.append(row)
            written += 1
            if len(some) == ROWS:
                writer.write(some)
                some = []
        writer.write(some)
        writer.close()
    return written


async def take_in(
    bus: NatsBus,
    subjects: Subjects,
    path: Path,
    damaged: Callable[[Damaged], None],
) -> Taken:
    """Tell what a file holds, under the prefix of ``subjects``.

    What the journal has already is left as it is, so a file may be taken in twice.
    """
    reader = Reader(bus, subjects)
    there = _There(reader)
    taken = Taken()
    for number, row in enumerate(_read(path), 1):
        try:
            if isinstance(row, str):
                raise BadRequest(row)
            subject = subjects.journaled_again(row.subject)
            said, data = _said(row), row.data.encode()
            if await there.has(said.request, subject, data):
                taken.known += 1
                continue
            if row.blob and (cut := _cut(said)) is not None:
                await reader.blobs.put(cut.blob, base64.b64decode(row.blob))
            await bus.publish(subject, data)
            taken.entries += 1
        except (Failure, ValueError) as problem:
            why = problem.message if isinstance(problem, Failure) else str(problem)
            damaged(Damaged(sequence=number, why=f"row {number}: {why}"))
    await bus.flush()
    return taken


class _There:
    """What a journal had of each request before anything was taken in.

    Args:
        reader: Of that journal.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._found: dict[tuple[str, str], set[bytes]] = {}

    async def has(self, request: str, subject: str, data: bytes) -> bool:
        """Whether it had this very message."""
        tenant = self._reader.subjects.read_journaled(subject)[0]
        key = (tenant, request)
        if key not in self._found:
            entries = self._reader.of_request(request, tenant)
            self._found[key] = {
                _digest(one.subject, one.data)
                async for one in entries
                if isinstance(one, Entry)
            }
        return _digest(subject, data) in self._found[key]


def _digest(subject: str, data: bytes) -> bytes:
    return blake2b(subject.encode() + b" " + data, digest_size=16).digest()


async def _row(reader: Reader, entry: Entry, damaged: Callable[[Damaged], None]) -> Row:
    blob = ""
    cut = _cut(entry.said)
    if cut is not None and cut.blob:
        try:
            blob = base64.b64encode(await reader.blobs.get(cut.blob)).decode()
        except Failure as failure:
            damaged(Damaged(sequence=entry.sequence, why=failure.message))
    return Row(
        sequence=entry.sequence,
        stored=entry.stored,
        subject=entry.subject,
        data=entry.data.decode(),
        blob=blob,
    )


def _cut(said: Event | Record) -> Any:
    return said.cut if isinstance(said, Requested | LmCall | ToolCall) else None


def _said(row: Row) -> Event | Record:
    wanted = Record if ".record." in row.subject else Event
    found: Event | Record = encoding.decode(row.data.encode(), wanted)
    return found


class _Lines:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            self._file.write(msgspec.json.encode(row) + b"\n")

    def close(self) -> None:
        return


class _Parquet:
    def __init__(self, file: Any) -> None:
        pyarrow, parquet = _arrow()
        self._arrow = pyarrow
        self._schema = pyarrow.schema(
            [
                ("sequence", pyarrow.int64()),
                ("stored", pyarrow.float64()),
                ("subject", pyarrow.string()),
                ("data", pyarrow.string()),
                ("blob", pyarrow.string()),
            ]
        )
        self._writer = parquet.ParquetWriter(file, self._schema)

    def write(self, rows: list[Row]) -> None:
        plain = [msgspec.to_builtins(row) for row in rows]
        table = self._arrow.Table.from_pylist(plain, schema=self._schema)
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()


def _read(path: Path) -> Iterator[Row | str]:
    """The rows of a file; in place of one that is none, why."""
    if not path.is_file():
        raise BadRequest(f"{path} is no file.", hint="Name what was exported.")
    if _ending(path) == ".parquet":
        yield from _read_parquet(path)
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield msgspec.json.decode(line, type=Row)
            except msgspec.DecodeError as error:
                yield str(error)


def _read_parquet(path: Path) -> Iterator[Row | str]:
    _, parquet = _arrow()
    try:
        with parquet.ParquetFile(path) as file:
            for some in file.iter_batches(batch_size=ROWS):
                for plain in some.to_pylist():
                    yield msgspec.convert(plain, Row)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        yield str(error)


def _ending(path: Path) -> str:
    if path.suffix not in (".jsonl", ".parquet"):
        raise BadRequest(
            f"{path} ends in neither .jsonl nor .parquet.",
            hint="Name it so that its ending says what it holds.",
        )
    return path.suffix


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise Unsupported(
            "Parquet files need pyarrow, which is not installed here.",
            hint="Install dspex[worker], or write to a .jsonl file.",
        ) from None
    return pyarrow, parquet
