"""Replies read as they are written."""

from __future__ import annotations

import json
from xml.sax import saxutils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts.failures import ParseFailed
from dspex.contracts.native_requests import ParseResponse
from dspex.native.replies.incremental import Format, reader
from dspex.native.replies.parsing import parse_response
from dspex.native.replies.sections import by_lines

CHAT = (
    "Sure!\n[[ ## a ## ]]\nParis [[ is\n[[nice\n\n"
    "[[ ## b ## ]] 7\n\n[[ ## a ## ]]\nagain\n[[ ## completed ## ]]\nbye"
)
JSON = (
    '```json\n{"a": "Pa\\"r\\nis\\u00e9\\ud83d\\ude00", '
    '"x": [1], "b": ["q,}", {}]}\n```'
)
XML = "Well <a>\nP<i>ari</i>s </ a></a>\n<b>7</b> <c>no</c>"
INDENTED = "  [[ ## a ## ]] one  \n two \n[[ ## b ## ]]\nx [[ ## a ## ]]\n"
ENTITIES = (
    "<t>not <a>this</a></t><a>x &amp; &#60;y&gt;\r\n<i>&amp;</i></a><b>R&D;</b><a>2</a>"
)
KEYS = '{so} {"\\\\": "no", "c\\"a": 1, "\\u0061": "x"} and "b": "y"'


def read(written: Format, text: str, size: int) -> dict[str, str]:
    """Feed a reply in chunks of one size and join what comes out."""
    found: dict[str, str] = {}
    taken = reader(written, ["a", "b"])
    for start in range(0, len(text), size):
        for name, piece in taken.feed(text[start : start + size]):
            found[name] = found.get(name, "") + piece
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("written", "text", "expected"),
    [
        ("chat", CHAT, {"a": "\nParis [[ is\n[[nice\n\n", "b": " 7\n\n"}),
        ("chat", INDENTED, {"a": "]] one\n two \n", "b": "\nx [[ ## a ## ]]\n"}),
        ("json", JSON, {"a": 'Pa"r\nisé😀', "b": '["q,}", {}]'}),
        ("xml", XML, {"a": "\nP<i>ari</i>s </ a>", "b": "7"}),
        ("xml", ENTITIES, {"a": "x & <y>\n<i>&amp;</i>", "b": "R&D;"}),
        ("json", KEYS, {"a": "x"}),
    ],
)
def test_any_cut(
    written: Format, text: str, expected: dict[str, str], size: int
) -> None:
    """However a reply is cut, fields get their text and no markup."""
    assert read(written, text, size) == expected


lines = st.sampled_from(
    ["", " ", "x", " y ", "[", "[[ ## ", "\t[[ ## a ## ]] z", "&", "<"]
)
ends = st.sampled_from(["\n", "\n", "\r\n", "\r", "\x0b", "\u2028"])
headers = st.sampled_from([f"[[ ## {name} ## ]]" for name in ("a", "b", "x", "ab")])


@given(
    st.lists(st.tuples(lines | headers | st.text(max_size=3), ends), max_size=12),
    st.integers(min_value=1, max_value=9),
)
def test_chat_as_it_is_read(parts: list[tuple[str, str]], size: int) -> None:
    """What is given out for a field is what is read once the reply is complete."""
    text = "".join(line + end for line, end in parts) + "\n[[ ## completed ## ]]\n"
    found = read("chat", text, size)

    expected = by_lines(text, ["a", "b"])
    assert {name: found.get(name, "").strip() for name in expected} == expected
    assert found.keys() <= expected.keys()


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.text(alphabet="x &<>;\n\"'é#", max_size=12).map(saxutils.escape),
    ),
    st.integers(min_value=1, max_value=9),
)
def test_xml_as_it_is_read(values: dict[str, str], size: int) -> None:
    """What is given out for a field is what is read once the reply is complete."""
    text = "\n".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    body = ParseResponse(signature="q -> a, b", text=text, adapter="xml")
    found = read("xml", text, size)

    try:
        expected = parse_response(body).fields
    except ParseFailed:
        assert not {"a", "b"} <= values.keys()
        return
    assert {name: found.get(name, "").strip() for name in "ab"} == expected


@given(
    st.dictionaries(st.sampled_from("ab"), st.text() | st.integers() | st.none()),
    st.integers(min_value=1, max_value=9),
)
def test_json_of_any_values(values: dict[str, object], size: int) -> None:
    """What is given out for an object is what a JSON parser makes of it."""
    found = read("json", json.dumps(values), size)

    for name, value in values.items():
        expected = value if isinstance(value, str) else json.dumps(value)
        assert found.get(name, "") == expected


@given(st.text(), st.sampled_from(["chat", "json", "xml"]))
def test_never_fails(text: str, written: Format) -> None:
    """Any text can be fed; what is no reply gives no fields or some, never an error."""
    read(written, text, 3)


def test_nothing_is_held_back_longer_than_needed() -> None:
    """Text that cannot be the start of markup is given out at once."""
    taken = reader("chat", ["a"])
    list(taken.feed("[[ ## a ## ]]\n"))

    assert list(taken.feed("Hel")) == [("a", "Hel")]
    assert list(taken.feed("lo\n[")) == [("a", "lo\n")]
    assert list(taken.feed("x]")) == [("a", "[x]")]


def test_a_line_that_cannot_be_a_header_is_not_waited_for() -> None:
    """Text is given out as soon as it differs from what a header would be."""
    taken = reader("chat", ["a"])
    list(taken.feed("[[ ## a ## ]]\n"))

    assert list(taken.feed("[[ ## see ")) == []
    assert list(taken.feed("there")) == [("a", "[[ ## see there")]
