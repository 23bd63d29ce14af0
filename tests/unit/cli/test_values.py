"""``name=value`` on the command line becomes the inputs of a request."""

from typing import Any

import pytest

from dspex.cli import values
from dspex.contracts.failures import BadRequest


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("str", "42", "42"),
        ("str", '"quoted"', '"quoted"'),
        ("str", "null", "null"),
        ("int", "42", 42),
        ("float", "4.5", 4.5),
        ("bool", "true", True),
        ("list[str]", '["a", "b"]', ["a", "b"]),
        ("dict", '{"a": 1}', {"a": 1}),
        ("Literal['1', '2']", "1", "1"),
        ("str | None", "null", None),
        ("str | None", "42", "42"),
        ("int", "many", "many"),
        ("int", '"3"', "3"),
    ],
)
def test_text_is_read_as_its_field_wants(kind: str, text: str, expected: Any) -> None:
    """Text fields take a text as it is, others read it as JSON if it is JSON."""
    found = values.inputs(f"field: {kind} -> answer", {"field": text})

    assert found == {"field": expected}


def test_without_a_signature_json_is_json() -> None:
    """Without a readable signature a text is JSON if it can be."""
    assert values.inputs(None, {"a": "3"}) == {"a": 3}
    assert values.inputs("no arrow", {"a": "x"}) == {"a": "x"}


def test_value_may_hold_equals_signs() -> None:
    """Only the first = separates."""
    assert values.split(["q=a=b", "r="]) == {"q": "a=b", "r": ""}


@pytest.mark.parametrize("words", [["question"], ["=x"], ["a=1", "a=2"]])
def test_bad_words_are_refused(words: list[str]) -> None:
    """A word without a name, without =, or twice is refused."""
    with pytest.raises(BadRequest):
        values.split(words)


def test_body_is_an_object() -> None:
    """--body takes a JSON object, and nothing is an empty one."""
    assert values.body('{"a": 1}') == {"a": 1}
    assert values.body(None) == {}


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_other_bodies_are_refused(text: str) -> None:
    """A body that is no JSON object is refused."""
    with pytest.raises(BadRequest, match="--body"):
        values.body(text)
