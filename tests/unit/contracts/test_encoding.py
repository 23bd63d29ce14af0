"""Bytes to values and back, and what bad bytes get."""

from __future__ import annotations

import datetime
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts import encoding, requests
from dspex.contracts.encoding import JSON, MSGPACK
from dspex.contracts.failures import BadRequest
from dspex.contracts.native_requests import ValidateSignature

BIG = 123456789012345678901234567890
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def refused(data: bytes, wanted: Any = requests.Predict, media: str = JSON) -> Any:
    with pytest.raises(BadRequest) as found:
        encoding.decode(data, wanted, media)
    return found.value


def body(**more: Any) -> bytes:
    plain = {"signature": "a -> b", "inputs": {"a": "x"}}
    return msgspec.json.encode(plain | more)


@pytest.mark.parametrize(
    ("header", "media"),
    [
        (None, JSON),
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        (" application/msgpack ", MSGPACK),
    ],
)
def test_content_types(header: str | None, media: str) -> None:
    """JSON is the default; parameters and case do not matter."""
    assert encoding.content_type(header) == media


@pytest.mark.parametrize("header", ["text/html", "", "application/x-msgpack", "json"])
def test_other_content_types(header: str) -> None:
    """Any other content type is refused with the two that are read."""
    with pytest.raises(BadRequest) as found:
        encoding.content_type(header)

    assert found.value.field == "Content-Type"
    assert "application/json, application/msgpack" in found.value.message
    assert found.value.hint


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nonsense", b'{"a": "\xff"}', b'{"a":' * 5000, b"{}x"]
)
def test_not_json(data: bytes) -> None:
    """Bytes that are no JSON are refused as such."""
    assert "is not application/json" in refused(data, dict[str, Any]).message


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x82\xa1a"])
def test_not_messagepack(data: bytes) -> None:
    """Bytes that are no MessagePack are refused as such."""
    found = refused(data, dict[str, Any], MSGPACK)

    assert "is not application/msgpack" in found.message


@pytest.mark.parametrize(
    ("more", "path", "nearest"),
    [
        ({"sgnature": 1}, "sgnature", "signature"),
        ({"config": {"temprature": 1}}, "config.temprature", "temperature"),
        ({"options": {"acept": 1}}, "options.acept", "accept"),
        (
            {"signature": {"fields": [{"name": "a", "kind": "input", "typ": "int"}]}},
            "signature.fields[0].typ",
            "type",
        ),
        (
            {
                "signature": {
                    "fields": [
                        {"name": "a", "kind": "input", "constraints": {"mim": 1}}
                    ]
                }
            },
            "signature.fields[0].constraints.mim",
            "",
        ),
    ],
)
def test_unknown_fields(more: dict[str, Any], path: str, nearest: str) -> None:
    """An unknown field is named by its whole path, with the nearest allowed one."""
    found = refused(body(**more))

    assert found.field == path
    assert f"Unknown field {path!r}." in found.message
    assert f"Did you mean {nearest!r}?" in found.message or not nearest
    assert "Allowed: " in found.message


def test_unknown_fields_list_what_is_allowed_there() -> None:
    """The allowed names are those of the place where the unknown one was."""
    found = refused(body(config={"zzz": 1}))

    assert "max_tokens" in found.message
    assert "signature" not in found.message


@pytest.mark.parametrize(
    ("data", "path", "said"),
    [
        (body(inputs=[1]), "inputs", "Expected `object`, got `array`"),
        (body(adapter="yaml"), "adapter", "Invalid enum value 'yaml'"),
        (body(config={"temperature": 3}), "config.temperature", "<= 2.0"),
        (body(config={"stop": ["a", 1]}), "config.stop[1]", "got `int`"),
        (body(demos={"a": 1}), "demos", "Expected `array`"),
        (b"[]", None, "Expected `object`, got `array`"),
    ],
)
def test_wrong_types(data: bytes, path: str | None, said: str) -> None:
    """A value of the wrong type is refused with its path and what is expected."""
    found = refused(data)

    assert found.field == path
    assert said in found.message
    assert "JSON Schema" in found.hint


def test_missing_fields() -> None:
    """What is missing is named, with what is allowed there and what else must be."""
    data = encoding.encode({"signature": "a -> b", "values": {}})

    with pytest.raises(BadRequest) as failed:
        encoding.decode(data, ValidateSignature)

    assert "missing required field `side`. Allowed: inputs, outputs." in (
        failed.value.message
    )
    assert failed.value.hint == "Required there: signature, values, side."


@pytest.mark.parametrize("media", [encoding.JSON, encoding.MSGPACK])
@pytest.mark.parametrize("value", [3, 3.0, -0.5, True, None, "3", 2**63, BIG, -BIG])
def test_values_stay_what_they_are(value: Any, media: str) -> None:
    """3 is not 3.0, and integers keep every digit, in both encodings."""
    data = encoding.encode({"inputs": {"a": [value]}}, media)

    found = encoding.decode(data, dict[str, Any], media)["inputs"]["a"][0]

    assert found == value
    assert type(found) is type(value)


def test_bytes_in_messagepack() -> None:
    """Bytes are what they would be in JSON, however deep, and never a bare text."""
    data = msgspec.msgpack.encode({"Ä": [b"\x00\xff", {"b": b"", "c": b"x" * 70_000}]})

    found = encoding.decode(data, dict[str, Any], MSGPACK)["Ä"]

    assert found[0] == {"$t": "bytes", "data": "AP8="}
    assert found[1]["b"] == {"$t": "bytes", "data": ""}
    assert len(found[1]["c"]["data"]) > 70_000


def test_big_integers_in_json() -> None:
    """JSON shows a big integer with all of its digits."""
    assert encoding.encode([BIG, 3, 3.0]) == b"[%d,3,3.0]" % BIG


def test_big_integers_in_messagepack() -> None:
    """MessagePack cannot hold a big integer, so it travels as its digits."""
    data = encoding.encode({"a": BIG}, MSGPACK)

    assert msgspec.msgpack.decode(data) == {"a": {"$t": "int", "digits": str(BIG)}}


def test_big_integers_in_a_request() -> None:
    """A request in MessagePack may hold one where any value is allowed."""
    sent = requests.Predict(signature="a: int -> b", inputs={"a": BIG})

    data = encoding.encode(sent, MSGPACK)

    assert encoding.decode(data, requests.Predict, MSGPACK) == sent


@pytest.mark.parametrize("digits", ["", "1e5", "1_0", " 1", "٣", "9" * 5000, None, []])
def test_tags_that_are_no_integers(digits: Any) -> None:
    """What only looks like a tagged integer is left alone."""
    value = {"a": {"$t": "int", "digits": digits}}
    data = msgspec.msgpack.encode(value)

    assert encoding.decode(data, dict[str, Any], MSGPACK) == value


def test_faults_behind_a_tag() -> None:
    """A request with a tagged integer is checked like any other."""
    tagged = {"signature": 3, "inputs": {"a": {"$t": "int", "digits": "1"}}}

    found = refused(msgspec.msgpack.encode(tagged), media=MSGPACK)

    assert found.field == "signature"


@given(VALUES)
def test_json_round_trip(value: Any) -> None:
    """Any JSON value comes back as it went."""
    found = encoding.decode(encoding.encode(value), Any)

    assert found == value


@given(VALUES)
def test_messagepack_round_trip(value: Any) -> None:
    """Any JSON value comes back from MessagePack as it went."""
    found = encoding.decode(encoding.encode(value, MSGPACK), Any, MSGPACK)

    assert found == value


def test_not_a_number_is_null() -> None:
    """JSON has no NaN, so null is written, which every reader can read."""
    assert encoding.encode([math.nan]) == b"[null]"


def test_read_plain_values() -> None:
    """Values that are decoded already are read as a type, with the same refusals."""
    found = encoding.read({"temperature": 1}, requests.LmConfig)

    assert found == requests.LmConfig(temperature=1.0)
    with pytest.raises(BadRequest) as refusal:
        encoding.read({"temprature": 1}, requests.LmConfig)
    assert refusal.value.field == "temprature"


def test_long_names_are_cut() -> None:
    """An unknown field as long as a novel is not sent back whole."""
    found = refused(body(**{"x" * 10_000: 1}))

    assert len(found.message) < 400
    assert len(found.field) == 200


@pytest.mark.parametrize(
    ("more", "path", "said"),
    [
        (
            {"adapter": "jsn"},
            "adapter",
            "Did you mean 'json'? Allowed: chat, json, xml.",
        ),
        ({"adapter": 3}, "adapter", "Allowed: chat, json, xml."),
        (
            {"options": {"accept": "text/html"}},
            "options.accept",
            "Allowed: application/json, application/msgpack, ",
        ),
        ({"config": {"reasoning_effort": "hgh"}}, "config.reasoning_effort", "'high'"),
    ],
)
def test_wrong_choices(more: dict[str, Any], path: str, said: str) -> None:
    """A value that is none of a few is answered with them and the nearest one."""
    found = refused(body(**more))

    assert found.field == path
    assert said in found.message


@pytest.mark.parametrize("number", [b"1e400", b"-1e999", b"9" * 5000])
@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (b"", b"", "inputs.q"),
        (b'{"x": 1, "two words": [0, ', b"]}", 'inputs.q["two words"][1]'),
        (b'{"a": ' * 20, b"}" * 20, "inputs.q" + ".a" * 6 + "[...]" * 14),
    ],
)
def test_the_keys_of_a_wrong_number(
    number: bytes, before: bytes, after: bytes, path: str
) -> None:
    """A number that is out of range is named by the real keys, up to some depth."""
    inputs = b'{"p": 1, "q": ' + before + number + after + b"}"

    found = refused(b'{"signature": "q -> a", "inputs": ' + inputs + b"}")
    assert found.field == path
    assert "out of range" in found.message


def test_the_keys_of_plain_values() -> None:
    """Values that are decoded already are named by their keys as well."""
    with pytest.raises(BadRequest) as caught:
        encoding.read({"one": 1, "two": "x"}, dict[str, int])

    assert caught.value.field == "two"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (msgspec.msgpack.Ext(5, b"x"), "a MessagePack extension"),
        (datetime.datetime(2024, 5, 31, tzinfo=datetime.UTC), "extension"),
        ({1: 2}, "a key that is no text (1)"),
        ({b"a": 2}, "a key that is no text"),
        ({None: 2}, "a key that is no text (None)"),
    ],
)
def test_messagepack_that_json_could_not_say(value: Any, said: str) -> None:
    """What has no form in JSON is refused where it stands, and by its path."""
    inputs = {"a": [0.5, {}], "q": {"x": [1, {"y": value}], "z": b"raw"}}
    data = msgspec.msgpack.encode({"signature": "q -> a", "inputs": inputs})

    found = refused(data, media=MSGPACK)
    assert found.field == "inputs.q.x[1].y"
    assert said in found.message


def test_long_values_are_cut() -> None:
    """A wrong choice as long as a novel is not sent back whole."""
    found = refused(body(adapter="x" * 100_000))

    assert len(found.message) < 500
