"""Columns of Arrow: every kind of value, both ways."""

import datetime
import math
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.contracts.failures import BadRequest
from dspex.native.tables.messages import read_table, write_table

UTC = datetime.UTC


def values(array: pa.Array) -> Any:
    schema = pa.schema([pa.field("answers", array.type)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([array], schema=schema))
    return read_table(sink.getvalue().to_pybytes())["answers"]


def again(column: list[Any]) -> Any:
    return read_table(write_table({"answers": column}))["answers"]


def exactly(value: Any) -> Any:
    """What tells 3 from 3.0, 0.0 from -0.0, and one NaN from no NaN."""
    if isinstance(value, list):
        return [exactly(part) for part in value]
    if isinstance(value, dict):
        return {key: exactly(part) for key, part in value.items()}
    return type(value), repr(value)


@pytest.mark.parametrize(
    "column",
    [
        [],
        [None, None],
        [3, 4, None],
        [3, 3.0],
        [2**53 + 1, -(2**63), 2**63 - 1],
        [2**64 - 1, 0],
        [2**64, -1],
        [2**70, None, -(10**75)],
        [10**76],
        [True, False, None],
        [True, 1, 1.0],
        [0.1, -0.0, 5e-324, None],
        [math.nan, math.inf, -math.inf],
        ["", "ü\U0001f600\x00", None],
        ["1", 1],
        [[], [1], None, [None]],
        [["x"], "x"],
        [[], []],
        [[[["deep"]]], [[]], []],
        [[1], [1.0]],
        [{"a": 1, "b": None}, None, {"a": 2, "b": ["x"]}],
        [{"a": 1}, {"b": 1}, {}],
        [{}, {}],
        [{"a": {"b": {"c": None}}}],
        [{"a": 1}, {"a": "1"}],
        [{"$t": "bytes", "data": "AP8="}],
        ["text", 1, 2**80, None, [1, {"a": None}]],
    ],
    ids=repr,
)
def test_json_values(column: list[Any]) -> None:
    """JSON values come back as they were, also those of several kinds at once."""
    assert exactly(again(column)) == exactly(column)


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        ([(1, 2), (3,)], [[1, 2], [3]]),
        ([b"\x00\xff", None], [{"$t": "bytes", "data": "AP8="}, None]),
        ([[b"x"], "y"], [[{"$t": "bytes", "data": "eA=="}], "y"]),
        ([{1: 2}], [{"1": 2}]),
        ([Decimal("1.50"), Decimal(2)], ["1.50", "2"]),
        ([datetime.date(2024, 5, 31)], ["2024-05-31"]),
        ([datetime.datetime(2024, 5, 31, tzinfo=UTC)], ["2024-05-31T00:00:00Z"]),
        ([datetime.timedelta(minutes=90)], ["PT5400S"]),
        ([uuid.UUID(int=5)], ["00000000-0000-0000-0000-000000000005"]),
    ],
    ids=repr,
)
def test_python_values(column: list[Any], wanted: list[Any]) -> None:
    """Values of Python become what our JSON makes of them."""
    assert exactly(again(column)) == exactly(wanted)


@pytest.mark.parametrize(
    "column",
    [["\ud800"], [{(1, 2): 3}], [object()], [math.nan, "x"], [[math.inf], "x"]],
    ids=["surrogate", "tuple for a key", "object", "nan", "infinity"],
)
def test_values_without_a_form(column: list[Any]) -> None:
    """What has no form is refused, and never changed."""
    with pytest.raises(BadRequest, match="no form"):
        write_table({"answers": column})


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (pa.array([-(2**31), None], pa.int32()), [-(2**31), None]),
        (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
        (pa.array([1.1], pa.float32()), [1.100000023841858]),
        (pa.array([1.5], pa.float16()), [1.5]),
        (pa.array(["x", None], pa.large_string()), ["x", None]),
        (pa.array(["x", "y" * 20, None], pa.string_view()), ["x", "y" * 20, None]),
        (pa.array(["b", "a", "b", None]).dictionary_encode(), ["b", "a", "b", None]),
        (pa.array([b"a"], pa.large_binary()), [{"$t": "bytes", "data": "YQ=="}]),
        (pa.array([b"ab"], pa.binary(2)), [{"$t": "bytes", "data": "YWI="}]),
        (pa.array([b"a"], pa.binary_view()), [{"$t": "bytes", "data": "YQ=="}]),
        (pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)), ["1.50", None]),
        (pa.array([Decimal("0E-9")], pa.decimal128(20, 9)), ["0.000000000"]),
        (pa.array([Decimal(10**60)], pa.decimal256(76, 0)), [10**60]),
        (pa.array([1], pa.date32()), ["1970-01-02"]),
        (pa.array([86_400_000], pa.date64()), ["1970-01-02"]),
        (pa.array([1], pa.timestamp("s")), ["1970-01-01T00:00:01"]),
        (pa.array([-1], pa.timestamp("us", "UTC")), ["1969-12-31T23:59:59.999999Z"]),
        (
            pa.array([1_577_836_800_123_456_789, None], pa.timestamp("ns", "+02:00")),
            ["2020-01-01T00:00:00.123456789Z", None],
        ),
        (pa.array([3_723_004], pa.time32("ms")), ["01:02:03.004000"]),
        (pa.array([1], pa.time64("ns")), ["00:00:00.000000001"]),
        (pa.array([90, 0, -86_403], pa.duration("s")), ["PT90S", "P0D", "-P1DT3S"]),
        (pa.array([86_400 * 10**9 + 1], pa.duration("ns")), ["P1DT0.000000001S"]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
        (pa.array([[1, 2], None, []], pa.list_view(pa.int8())), [[1, 2], None, []]),
        (pa.array([["x"], None], pa.large_list(pa.string())), [["x"], None]),
        (
            pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.date32())),
            [{"a": "1970-01-02"}, None, {}],
        ),
        (
            pa.array(
                [{"d": 1, "x": [1]}, None],
                pa.struct({"d": pa.date32(), "x": pa.list_(pa.duration("s"))}),
            ),
            [{"d": "1970-01-02", "x": ["PT1S"]}, None],
        ),
        (pa.array([{}, None], pa.struct([])), [{}, None]),
        (pa.array([uuid.UUID(int=5).bytes], pa.uuid()), [str(uuid.UUID(int=5))]),
        (
            pa.array(['{"a":[1.0]}', None, "null"], pa.json_()),
            [{"a": [1.0]}, None, None],
        ),
        (
            pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None], pa.int8())),
            [True, None],
        ),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_columns_of_others(array: pa.Array, wanted: list[Any]) -> None:
    """Columns as other programs write them become what our JSON says of them."""
    assert exactly(values(array)) == exactly(wanted)
    # Parts of an array lie elsewhere in its buffers.
    assert exactly(values(pa.concat_arrays([array, array]).slice(1, len(array)))) == (
        exactly((wanted + wanted)[1 : len(wanted) + 1])
    )


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**80), 10**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        *(st.lists(kind, max_size=4) for kind in (VALUES, st.integers(), st.text())),
        st.lists(st.lists(st.none() | st.text(max_size=2), max_size=3), max_size=4),
        st.lists(st.fixed_dictionaries({"a": SCALARS, "b": st.integers()}), max_size=3),
    )
)
def test_any_json(column: list[Any]) -> None:
    """Whatever JSON can say comes back exactly."""
    assert exactly(again(column)) == exactly(column)
