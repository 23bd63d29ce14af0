"""Replies read as they are written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.native.incremental import Format, reader

CHAT = (
    "Sure!\n[[ ## a ## ]]\nParis [[ is\n[[nice\n\n"
    "[[ ## b ## ]] 7\n\n[[ ## a ## ]]\nagain\n[[ ## completed ## ]]\nbye"
)
JSON = (
    '```json\n{"a": "Pa\\"r\\nis\\u00e9\\ud83d\\ude00", '
    '"x": [1], "b": ["q,}", {}]}\n```'
)
XML = "Well <a>\nP<i>ari</i>s </ a></a>\n<b>7</b> <c>no</c>"


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
        ("json", JSON, {"a": 'Pa"r\nisé😀', "b": '["q,}", {}]'}),
        ("xml", XML, {"a": "\nP<i>ari</i>s </ a>", "b": "7"}),
    ],
)
def test_any_cut(
    written: Format, text: str, expected: dict[str, str], size: int
) -> None:
    """However a reply is cut, fields get their text and no markup."""
    assert read(written, text, size) == expected


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
