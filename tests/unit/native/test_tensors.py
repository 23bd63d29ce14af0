"""Tensors and tables as values: exact both ways; nothing from strangers is believed."""

from __future__ import annotations

import datetime
import random
import sys
from base64 import b64decode, b64encode
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy

from dspex.contracts import encoding
from dspex.contracts.failures import (
    Failure,
    InvalidInputs,
    OutputInvalid,
    Unsupported,
)
from dspex.native.tables import tensors
from dspex.native.tables.tensors import is_foreign, to_objects, to_wire

ONE: dict[str, Any] = {
    "$t": "tensor",
    "dtype": "F32",
    "shape": [2, 1],
    "data": b64encode(np.array([1, -2], "<f4").tobytes()).decode(),
}
TABLE = pa.table({"n": [1, None], "text": ["a", "b"], "in": [[1.5], []]})


def packed(data: bytes) -> str:
    return b64encode(data).decode()


def arrow_tensor(array: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pa.ipc.write_tensor(pa.Tensor.from_numpy(array), sink)
    found: bytes = sink.getvalue().to_pybytes()
    return found


@pytest.mark.parametrize("name", tensors._NUMPY)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (1, 2, 3)])
def test_every_type_comes_back(name: str, shape: tuple[int, ...]) -> None:
    """An array of any type and shape is the same to the bit, also over JSON."""
    size = int(np.prod(shape))
    kind = np.dtype(tensors._NUMPY[name])
    octets = random.Random(1).randbytes(size * kind.itemsize)
    if name == "BOOL":
        octets = bytes(one & 1 for one in octets)
    array = np.frombuffer(octets, kind).reshape(shape)

    said = encoding.decode(encoding.encode(to_wire(array)), dict[str, Any])
    found = to_objects({"x": [said]}, "inputs")["x"][0]

    assert (said["$t"], said["dtype"], said["shape"]) == ("tensor", name, [*shape])
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize(("name", "written"), tensors._SMALL.items())
def test_small_floats(name: str, written: str) -> None:
    """What numpy has with ml_dtypes alone comes back exactly with it."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([1.5, -2, 0], getattr(ml_dtypes, written))

    said = to_wire(array)

    assert said["dtype"] == name
    assert to_objects(said, "x").tobytes() == array.tobytes()


def test_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a bfloat16 is refused, not read as something else."""
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)

    with pytest.raises(Unsupported, match="no type for BF16") as caught:
        to_objects(ONE | {"dtype": "BF16", "shape": [4]}, "inputs.x")

    assert caught.value.field == "inputs.x"


def test_how_it_lies_in_memory() -> None:
    """Rows, little endian: whatever the array is a view of."""
    array = np.arange(6, dtype=">i2").reshape(2, 3).T

    said = to_wire(array)

    assert b64decode(said["data"]) == np.array([0, 3, 1, 4, 2, 5], "<i2").tobytes()
    assert (to_objects(said, "x") == array).all()


def test_safetensors() -> None:
    """A file of safetensors is its tensors by name."""
    arrays = {"a": np.eye(3, dtype="f2"), "b": np.arange(4)}
    value = {"$t": "safetensors", "data": packed(safetensors.numpy.save(arrays))}

    found = to_objects(value, "x")

    assert found.keys() == arrays.keys()
    assert all((found[name] == arrays[name]).all() for name in arrays)
    assert found["a"].dtype == np.float16


def test_tables() -> None:
    """A table comes back with its types and nulls; a batch is a table."""
    said = to_wire(TABLE)

    assert said["$t"] == "arrow"
    assert to_objects(said, "x").equals(TABLE)
    assert to_objects(to_wire(TABLE.to_batches()[0]), "x").equals(TABLE)
    assert pa.ipc.open_stream(b64decode(said["data"])).read_all().equals(TABLE)


def test_arrow_tensors() -> None:
    """A tensor as Arrow writes one is an array, and leaves as any other."""
    array = np.arange(6.0).reshape(2, 3)
    value = {"$t": "arrow_tensor", "data": packed(arrow_tensor(array))}

    assert (to_objects(value, "x") == array).all()
    assert to_wire(pa.Tensor.from_numpy(array)) == to_wire(array)


def test_bytes_of_messagepack() -> None:
    """What MessagePack holds as bytes need not be base64."""
    value = ONE | {"data": b64decode(ONE["data"])}
    data = encoding.encode(value, encoding.MSGPACK)

    found = encoding.decode(data, dict[str, Any], encoding.MSGPACK)

    assert to_objects(found, "x").tolist() == [[1.0], [-2.0]]


def test_other_values_stay() -> None:
    """What has no such tag is left as it is."""
    value = {"$t": "Image", "url": "x", "n": [1, None, "a", {"$t": 3}]}

    assert to_objects(value, "x") == value


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.float64(1.5), 1.5),
        (np.int8(-3), -3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.datetime64("2024-05-31"), datetime.date(2024, 5, 31)),
    ],
)
def test_scalars(value: Any, found: Any) -> None:
    """A scalar of numpy's is Python's, of the same kind."""
    assert is_foreign(value)
    assert (to_wire(value), type(to_wire(value))) == (found, type(found))


@pytest.mark.parametrize(
    "value",
    [np.array(["a"]), np.array([None]), np.array(["2024-05-31"], "M8[D]"), pa.int8()],
)
def test_what_has_no_form(value: Any) -> None:
    """Arrays of other things are refused, never written as they print."""
    with pytest.raises(OutputInvalid, match="no form on the wire"):
        to_wire(value)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"dtype": "F31"}, "dtype"),
    ({"dtype": 3}, "dtype"),
    ({"shape": [3, 1]}, "data"),
    ({"shape": [-1, 2]}, "shape"),
    ({"shape": [True, 2]}, "shape"),
    ({"shape": [1 << 62, 1 << 62]}, "data"),
    ({"shape": [10**4000] * 2}, "shape"),
    ({"shape": [1] * 33}, "shape"),
    ({"shape": "2x1"}, "shape"),
    ({"data": "?"}, "data"),
    ({"data": None}, "data"),
    ({"dtype": "BOOL", "shape": [8]}, "data"),
    ({"$t": "safetensors", "data": packed(b"\xff" * 16)}, "data"),
    ({"$t": "arrow", "data": packed(b"not arrow")}, "data"),
    ({"$t": "arrow_tensor", "data": packed(b"not arrow")}, "data"),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG)
def test_what_is_refused(wrong: dict[str, Any], field: str) -> None:
    """A tag that is not what it says is refused, with the path of what is wrong."""
    with pytest.raises(InvalidInputs) as caught:
        to_objects({"a": [ONE | wrong]}, "inputs.x")

    assert caught.value.field == f"inputs.x.a[0].{field}"


@pytest.mark.parametrize("tag", ["arrow", "arrow_tensor", "safetensors"])
def test_anything_is_read_or_refused(tag: str) -> None:
    """Of bytes that somebody changed an array or a table comes, or a failure."""
    whole = {
        "arrow": b64decode(to_wire(TABLE)["data"]),
        "arrow_tensor": arrow_tensor(np.arange(6.0).reshape(2, 3)),
        "safetensors": safetensors.numpy.save({"a": np.eye(3, dtype="f2")}),
    }[tag]
    chance = random.Random(tag)
    outcomes = set()
    for _ in range(500):
        octets = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            octets[chance.randrange(len(octets))] = chance.randrange(256)
        try:
            to_objects({"$t": tag, "data": packed(bytes(octets))}, "x")
            outcomes.add("read")
        except Failure as failure:
            outcomes.add(failure.category)

    assert outcomes == {"read", "caller"}
