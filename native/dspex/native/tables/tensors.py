"""Tensors and tables as values: numpy arrays and Arrow tables, tagged on the wire.

A tensor is ``{"$t": "tensor", "dtype": "F32", "shape": [2, 3], "data": <base64>}``:
its elements in rows, little endian, with the names of safetensors for their types.
``{"$t": "safetensors", "data": …}`` stands for tensors by name, ``{"$t": "arrow", …}``
for a table, as an Arrow stream, and ``{"$t": "arrow_tensor", …}`` for a tensor as Arrow
writes one. What is read here may have been written by anybody.

The only file that imports numpy and safetensors, each where it is needed first.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from functools import cache
from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import (
    BadRequest,
    InvalidInputs,
    OutputInvalid,
    Unsupported,
)
from dspex.native.tables.arrow import Foreign, arrow, batches_of

if TYPE_CHECKING:
    from collections.abc import Callable

TAG = "$t"
DIMENSIONS = 32
"""The most of a tensor."""

_NUMPY = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
    "C128": "<c16",
}
_SMALL = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
"""Types that numpy has with ml_dtypes alone."""


def to_objects(value: Any, path: str) -> Any:
    """A value of the wire with arrays and tables in place of what stands for them.

    Args:
        value: Any JSON value; tags are found at any depth.
        path: Of it, for messages.

    Raises:
        InvalidInputs: A tag is not what it says.
        Unsupported: Its type, or what reads it, is not there.
    """
    if isinstance(value, list):
        return [to_objects(one, f"{path}[{i}]") for i, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    tag = value.get(TAG)
    read = _READERS.get(tag) if isinstance(tag, str) else None
    if read is None:
        return {key: to_objects(one, f"{path}.{key}") for key, one in value.items()}
    return read(value, path)


def is_foreign(value: Any) -> bool:
    """Whether a value is of numpy's or Arrow's, without importing either."""
    return type(value).__module__.partition(".")[0] in ("numpy", "pyarrow")


def to_wire(value: Any) -> Any:
    """The form on the wire of an array or a table; a scalar of numpy's as Python's.

    Raises:
        OutputInvalid: It has none.
    """
    np = numpy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _tensor(value)
    found = _columns(value)
    if found is None:
        raise OutputInvalid(
            f"The program returned a {type(value).__name__}, which has no form on the "
            "wire.",
            hint="Return arrays, tables, or what JSON has.",
        )
    return found


@cache
def numpy() -> Any:
    """Return numpy.

    Raises:
        Unsupported: It is not installed.
    """
    try:
        import numpy
    except ImportError:
        raise Unsupported(
            "Tensors are not read here: numpy is not installed.",
            hint="Install numpy for the workers.",
        ) from None
    return numpy


def _dtype(name: Any, path: str) -> Any:
    if name in _NUMPY:
        return numpy().dtype(_NUMPY[name])
    if name in _SMALL:
        try:
            import ml_dtypes
        except ImportError:
            raise Unsupported(
                f"{path}: numpy has no type for {name}.",
                field=path,
                hint="Install ml_dtypes for the workers, or send F32.",
            ) from None
        return numpy().dtype(getattr(ml_dtypes, _SMALL[name]))
    raise InvalidInputs(
        f"{path}.dtype {str(name)[:40]!r} is no type of a tensor. "
        f"Allowed: {', '.join((*_NUMPY, *_SMALL))}.",
        field=f"{path}.dtype",
        hint="Use the names of safetensors.",
    )


def _array(dtype: Any, shape: Any, data: bytes, path: str) -> Any:
    kind = _dtype(dtype, path)
    sizes = isinstance(shape, list) and len(shape) <= DIMENSIONS
    if not sizes or not all(type(one) is int and 0 <= one < 2**63 for one in shape):
        raise InvalidInputs(
            f"{path}.shape is not a list of at most {DIMENSIONS} sizes.",
            field=f"{path}.shape",
            hint="Send such as [2, 3]; [] is a single value.",
        )
    wanted = math.prod(shape) * kind.itemsize
    if len(data) != wanted:
        raise InvalidInputs(
            f"{path}.data has {len(data)} bytes; {dtype} of the shape {shape} has "
            f"{wanted}.",
            field=f"{path}.data",
            hint="Send the elements in rows, little endian, as base64.",
        )
    if dtype == "BOOL" and data.strip(b"\0\1"):
        raise InvalidInputs(
            f"{path}.data of BOOL has bytes other than 0 and 1.", field=f"{path}.data"
        )
    return numpy().frombuffer(data, dtype=kind).reshape(shape).copy()


def _octets(value: dict[str, Any], path: str) -> bytes:
    data = value.get("data")
    if isinstance(data, dict) and data.get(TAG) == "bytes":  # MessagePack's own bytes
        data = data.get("data")
    try:
        return b64decode(data if isinstance(data, str) else "?", validate=True)
    except ValueError as error:
        raise InvalidInputs(
            f"{path}.data is not base64: {error}.",
            field=f"{path}.data",
            hint="Send base64 with padding; in MessagePack, bytes.",
        ) from None


def _read_tensor(value: dict[str, Any], path: str) -> Any:
    data = _octets(value, path)
    return _array(value.get("dtype"), value.get("shape"), data, path)


def _read_safetensors(value: dict[str, Any], path: str) -> dict[str, Any]:
    try:
        import safetensors
    except ImportError:
        raise Unsupported(
            f"{path}: safetensors is not installed here.",
            field=path,
            hint='Install `dspex[worker]`, or send {"$t": "tensor", …}.',
        ) from None
    library: Any = safetensors  # which has types for some of its functions only
    try:
        found = library.deserialize(_octets(value, path))
    except library.SafetensorError as error:
        raise InvalidInputs(
            f"{path}.data is no safetensors: {str(error)[:200]}.",
            field=f"{path}.data",
            hint="Send what the safetensors library of your language saves.",
        ) from None
    return {
        name: _array(one["dtype"], list(one["shape"]), bytes(one["data"]), path)
        for name, one in found
    }


def _read_arrow(value: dict[str, Any], path: str) -> Any:
    data = _octets(value, path)
    with _In(path):
        schema, batches = batches_of(data)
        return arrow().Table.from_batches(list(batches), schema=schema)


def _read_arrow_tensor(value: dict[str, Any], path: str) -> Any:
    data = _octets(value, path)
    with _In(path), Foreign():
        pa = arrow()
        return pa.ipc.read_tensor(pa.py_buffer(data)).to_numpy().copy()


class _In:
    """Where what is wrong with a body is wrong with a value in it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, Unsupported):
            error.field = self._path
        if isinstance(error, BadRequest):
            raise InvalidInputs(
                f"{self._path}.data: {error.message}",
                field=f"{self._path}.data",
                hint="Send what Arrow's IPC writes: a stream, or one tensor.",
            ) from None


def _tensor(array: Any) -> dict[str, Any]:
    np = numpy()
    name = _name(array.dtype)
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        TAG: "tensor",
        "dtype": name,
        "shape": list(array.shape),
        "data": b64encode(flat.tobytes()).decode(),
    }


def _name(dtype: Any) -> str:
    little = dtype.newbyteorder("<").str
    for name, written in _NUMPY.items():
        if numpy().dtype(written).str == little:
            return name
    for name, written in _SMALL.items():
        if dtype.name == written:
            return name
    raise OutputInvalid(
        f"The program returned an array of {dtype}, which has no form on the wire.",
        hint="Return numbers or booleans, or `array.tolist()`.",
    )


def _columns(value: Any) -> dict[str, Any] | None:
    pa = arrow()
    if isinstance(value, pa.RecordBatch):
        value = pa.Table.from_batches([value])
    if isinstance(value, pa.Tensor):
        return _tensor(value.to_numpy())
    if not isinstance(value, pa.Table):
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write_table(value)
    return {TAG: "arrow", "data": b64encode(sink.getvalue()).decode()}


_READERS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "tensor": _read_tensor,
    "safetensors": _read_safetensors,
    "arrow": _read_arrow,
    "arrow_tensor": _read_arrow_tensor,
}
