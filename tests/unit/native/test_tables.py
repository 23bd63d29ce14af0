"""Messages as Arrow streams: every value both ways, and streams from strangers."""

import subprocess
import sys
import time
import tracemalloc
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.contracts.failures import BadRequest, Failure, Unsupported
from dspex.contracts.native_requests import ScoreBatch
from dspex.native.metrics.catalog import score_batch
from dspex.native.tables.arrow import BATCH_LIMIT, COLUMN_LIMIT, ROW_LIMIT
from dspex.native.tables.messages import has_columns, read_table, write_table


def stream(table: pa.Table, *, batches: int | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    written = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, table.schema, options=written) as writer:
        writer.write_table(table, max_chunksize=batches)
    return bytes(sink.getvalue().to_pybytes())


def one(array: pa.Array) -> bytes:
    return stream(pa.table({"answers": array}))


def test_body() -> None:
    """The body of a batch has its lists in columns and the rest beside them."""
    body = {
        "metric": "f1",
        "parameters": {},
        "options": {"priority": 1},
        "predictions": ["x", "y"],
        "answers": [["x", "z"], ["y"]],
    }

    data = write_table(body)

    table = pa.ipc.open_stream(data).read_all()
    assert table.column_names == ["prediction", "answers"]
    assert msgspec.json.decode(table.schema.metadata[b"dspex"]) == {
        "metric": "f1",
        "parameters": {},
        "options": {"priority": 1},
    }
    assert read_table(data) == body
    assert msgspec.convert(read_table(data), ScoreBatch).predictions == ["x", "y"]


def test_reply() -> None:
    """A reply has the lists of its outputs in columns and the rest beside them."""
    reply = {
        "type": "done",
        "request": "r",
        "outputs": {"scores": [1.0, 0.5], "mean": 0.75},
        "metadata": {"worker": "w"},
    }

    data = write_table(reply)

    table = pa.ipc.open_stream(data).read_all()
    assert table.to_pydict() == {"score": [1.0, 0.5]}
    rest = msgspec.json.decode(table.schema.metadata[b"dspex"])
    assert rest == reply | {"outputs": {"mean": 0.75}}
    assert read_table(data) == reply


def test_has_columns() -> None:
    """Only messages with columns travel so; a failure does not."""
    assert has_columns({"predictions": [], "metric": "f1"})
    assert has_columns({"type": "done", "outputs": {"scores": []}})
    assert not has_columns({"type": "failed", "code": "bad_request"})
    assert not has_columns({"scores": 3, "outputs": {"mean": 1}})
    with pytest.raises(BadRequest, match="columns of one length"):
        write_table({"type": "failed"})
    with pytest.raises(BadRequest, match=r"\[1, 2\]"):
        write_table({"predictions": [1], "answers": [1, 2]})


def test_foreign_table() -> None:
    """Columns of no known name become fields of their own name."""
    table = pa.table({"predicton": ["x"]})

    assert read_table(stream(table)) == {"predicton": ["x"]}


def test_batches() -> None:
    """Several record batches, with dictionaries that change, are one column."""
    table = pa.concat_tables(
        [
            pa.table({"answers": pa.array(part).dictionary_encode()})
            for part in (["a", "b"], ["c", "a"], ["b", None])
        ]
    )
    wanted = ["a", "b", "c", "a", "b", None]

    assert read_table(stream(table, batches=2))["answers"] == wanted
    plain = pa.table({"answers": wanted})
    assert read_table(stream(plain, batches=1))["answers"] == wanted
    assert read_table(stream(plain.slice(0, 0)))["answers"] == []


def refused(data: bytes, kind: type[Failure] = BadRequest) -> str:
    begun = time.process_time()
    with pytest.raises(kind) as caught:
        read_table(data)
    assert time.process_time() - begun < 2
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("data", [b"", b"x", b"{}" * 20, b"\xff" * 64, bytes(64)])
def test_no_stream(data: bytes) -> None:
    """Bytes that are no stream are a bad request."""
    assert "Arrow stream" in refused(data)


WHOLE = write_table(
    {
        "metric": "f1",
        "predictions": ["long text number one", "x"],
        "answers": [["x"], ["a", "b"]],
    }
)


def test_truncated() -> None:
    """A stream cut anywhere is refused, or what came before the cut is read."""
    for end in range(0, len(WHOLE), 3):
        try:
            found = read_table(WHOLE[:end])
        except (BadRequest, Unsupported):
            continue
        assert found["answers"] in ([], [["x"], ["a", "b"]])


def outcome(data: bytes) -> str:
    try:
        read_table(data)
    except Failure as failure:
        return failure.code
    return "read"


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=6,
    )
)
def test_broken(changes: list[tuple[int, int]]) -> None:
    """Whatever bytes are changed, there is an answer or a failure with a name."""
    data = bytearray(WHOLE)
    for place, octet in changes:
        data[place] = octet

    assert outcome(bytes(data)) in ("read", "bad_request", "unsupported")


@pytest.mark.parametrize("at", range(0, len(WHOLE) - 8, 8))
def test_huge_lengths(at: int) -> None:
    """A length that says far too much takes no memory, wherever it stands."""
    tracemalloc.start()
    for size in (2**31 - 1, 2**40, 2**62):
        data = bytearray(WHOLE)
        data[at : at + 8] = size.to_bytes(8, "little")
        assert outcome(bytes(data)) in ("read", "bad_request", "unsupported")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_too_many() -> None:
    """Rows, columns, batches and the values inside lists all have an end."""
    rows = pa.table({"answers": pa.nulls(ROW_LIMIT + 1)})
    columns = pa.table({str(n): pa.array([1]) for n in range(COLUMN_LIMIT + 1)})
    many = pa.nulls(2**31 - 2)
    inside = pa.ListArray.from_arrays(pa.array([0, 2**31 - 2], pa.int32()), many)
    fixed = pa.FixedSizeListArray.from_arrays(many, 2**31 - 2)

    assert f"at most {ROW_LIMIT}" in refused(stream(rows))
    assert f"at most {COLUMN_LIMIT}" in refused(stream(columns))
    assert "values" in refused(one(inside))
    assert "values" in refused(one(fixed))
    tiny = pa.table({"answers": pa.nulls(BATCH_LIMIT + 1)})
    assert f"at most {BATCH_LIMIT}" in refused(stream(tiny, batches=1))


def test_bombs() -> None:
    """What is sent once and meant many times counts as often as it is meant."""
    text = "x" * 100_000
    repeated = pa.DictionaryArray.from_arrays(
        pa.array([0] * 100_000, pa.int32()), pa.array([text])
    )
    view = pa.array([text], pa.string_view())
    sixteen = view.buffers()[1].to_pybytes() * 100_000
    views = pa.Array.from_buffers(
        pa.string_view(),
        100_000,
        [None, pa.py_buffer(sixteen), *view.buffers()[2:]],
    )
    lists = pa.ListViewArray.from_arrays(
        pa.array([0] * 1000, pa.int32()),
        pa.array([100_000] * 1000, pa.int32()),
        pa.array([1] * 100_000, pa.int8()),
    )

    for array in (repeated, views, lists):
        assert "characters" in refused(one(array))
    for codec in ("lz4", "zstd"):
        table = pa.table({"answers": ["x" * 1_000_000] * 10})
        data = stream(table, compression=codec)
        assert "compressed" in refused(data, Unsupported)
        repeated_table = pa.table({"answers": repeated})
        assert "compressed" in refused(
            stream(repeated_table, compression=codec), Unsupported
        )


@pytest.mark.parametrize(
    "array",
    [
        pa.RunEndEncodedArray.from_arrays([2, 3], pa.array([1, 2])),
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        pa.array([[(1, 2, 3)]], pa.list_(pa.month_day_nano_interval())),
    ],
    ids=lambda array: str(array.type),
)
def test_types_that_are_not_read(array: pa.Array) -> None:
    """Types that JSON has nothing for, or that repeat themselves, are refused."""
    assert "type" in refused(one(array), Unsupported)


def test_values_that_are_not_read() -> None:
    """Values of a readable type that JSON cannot say are refused."""
    text = pa.array([b"\xff"]).view(pa.string())
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    entries = pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int8()))

    assert "UTF8" in refused(one(text))
    assert "same name" in refused(one(twice))
    assert "same key" in refused(one(entries))
    assert "no text" in refused(
        one(pa.array([[(1, 1)]], pa.map_(pa.int8(), pa.int8())))
    )
    assert refused(one(pa.array([2**40], pa.timestamp("s"))))
    assert refused(one(pa.array([2**31 - 1], pa.date32())))
    assert refused(one(pa.array(["{"], pa.string()).cast(pa.json_())))
    deep = "[" * 100_000
    assert refused(one(pa.array([deep], pa.string()).cast(pa.json_())))


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        (b"{", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"\xff", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        (b'{"answers": []}', "two of 'answers'"),
    ],
)
def test_metadata(metadata: bytes, told: str) -> None:
    """The rest of the body is a JSON object that names no column again."""
    table = pa.table({"answers": ["x"]}).replace_schema_metadata({"dspex": metadata})

    assert told in refused(stream(table))


def test_two_columns_of_a_name() -> None:
    """A column is named once, also where two names mean one field."""
    same = pa.table([pa.array([1]), pa.array([2])], names=["answers", "answers"])
    both = pa.table({"prediction": [1], "predictions": [2]})

    assert "same name" in refused(stream(same))
    assert "two of 'predictions'" in refused(stream(both))


def test_large_batch() -> None:
    """A hundred thousand rows are read, scored and written in bounded memory."""
    count = 100_000
    data = write_table(
        {
            "metric": "exact_match",
            "predictions": [f"The answer {n}" for n in range(count)],
            "answers": [f"answer {n % 50_000}" for n in range(count)],
        }
    )
    tracemalloc.start()
    outputs = score_batch(msgspec.convert(read_table(data), ScoreBatch))
    reply = write_table({"outputs": msgspec.to_builtins(outputs)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert read_table(reply)["outputs"]["mean"] == 0.5
    assert peak < 100_000_000


def test_without_pyarrow() -> None:
    """Where pyarrow is not installed, a failure says what to install."""
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from dspex.contracts.failures import Unsupported\n"
        "from dspex.native.tables import messages\n"
        "for call in (lambda: messages.read_table(b''),"
        " lambda: messages.write_table({'scores': [1.0]})):\n"
        "    try: call()\n"
        "    except Unsupported as failure: print(failure.hint)\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert ran.stdout.count("dspex[arrow]") == 2
