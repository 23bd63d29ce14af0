"""Signatures described: text, JSON Schema of each side, and what is the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dspex.contracts.native_requests import DescribedSignature, DescribeSignature
from dspex.contracts.signatures import Signature, SignatureSpec
from dspex.native.signatures.compiling import compile_signature
from dspex.native.signatures.describing import describe_signature

LEAVES = st.sampled_from(
    [
        "str",
        "int",
        "Any",
        "bytes",
        "datetime.date",
        "Decimal",
        "list",
        "None | int",
        "Literal['a', \"it's\", 1, True, None, 'x\\n']",
        "dspy.Image",
        "dspy.Code['java']",
        "dspy.Reasoning",
        "dspy.experimental.Document",
    ]
)
TYPES = st.recursive(
    LEAVES,
    lambda inner: (
        inner.map("list[{}]".format)
        | inner.map("dict[str, {}]".format)
        | inner.map("Optional[{}]".format)
        | st.tuples(inner, inner).map(" | ".join)
        | st.tuples(inner, inner).map(lambda two: f"tuple[{', '.join(two)}]")
    ),
    max_leaves=4,
)
NAMES = st.from_regex(r"f_[a-z]{1,6}", fullmatch=True)


@st.composite
def texts(draw: st.DrawFn) -> str:
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    split = draw(st.integers(1, len(names) - 1))
    fields = [f"{name}: {draw(TYPES)}" for name in names]
    return f"{', '.join(fields[:split])} -> {', '.join(fields[split:])}"


def described(signature: Any, instructions: str | None = None) -> DescribedSignature:
    if not isinstance(signature, str):
        signature = msgspec.convert(signature, SignatureSpec)
    body = DescribeSignature(signature=signature, instructions=instructions)
    return describe_signature(body)


def sent_back(signature: Signature) -> SignatureSpec:
    return msgspec.json.decode(msgspec.json.encode(signature), type=SignatureSpec)


@given(texts())
def test_text_comes_back_the_same(text: str) -> None:
    """The text of a signature means the signature, and writes itself again."""
    first = described(text)
    assert first.text is not None

    again = described(first.text)

    assert again == first


@given(texts(), st.none() | st.text(max_size=20))
def test_an_answer_sent_back_means_the_same(text: str, said: str | None) -> None:
    """A signature that is sent back has the same digest, field by field."""
    first = compile_signature(text, said)
    again = compile_signature(sent_back(first.signature))

    assert again.digest == first.digest
    assert again.signature == first.signature


@given(texts())
def test_the_schemas_are_sound(text: str) -> None:
    """Both sides are described by sound JSON Schema that demands what is needed."""
    found = described(text)

    for side in (found.inputs, found.outputs):
        Draft202012Validator.check_schema(side)
        assert set(side["required"]) <= set(side["properties"])
        assert Draft202012Validator(side).is_valid({}) == (not side["required"])


FIELD = {"name": "q", "kind": "input"}
ANSWER = {"name": "a", "kind": "output"}


@pytest.mark.parametrize(
    "fields",
    [
        [{**FIELD, "default": "x"}, ANSWER],
        [{**FIELD, "description": "The question."}, ANSWER],
        [{**FIELD, "constraints": {"min_length": 1}}, ANSWER],
    ],
)
def test_text_that_cannot_say_it_all(fields: list[dict[str, Any]]) -> None:
    """A default, a description and a constraint have no text."""
    assert described({"fields": fields}).text is None
    assert described({"fields": [FIELD, ANSWER]}).text == "q -> a"


def test_instructions_and_types_have_no_text() -> None:
    """Text says neither other instructions nor what the client's types are."""
    person = {"type": "object", "properties": {"name": {"type": "string"}}}
    fields = [FIELD, {**ANSWER, "type": "list[Person]"}]

    assert described("q -> a", "Be brief.").text is None
    assert described("q -> a", "Given the fields `q`, produce the fields `a`.").text
    assert described({"fields": fields, "types": {"Person": person}}).text is None


def test_what_goes_in_and_what_comes_out() -> None:
    """Defaults and descriptions are told, and what may be left out is not required."""
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/Node"}},
        "additionalProperties": False,
    }
    found = described(
        {
            "types": {"Node": node},
            "fields": [
                {**FIELD, "type": "int", "default": 3, "constraints": {"ge": 1}},
                {"name": "n", "kind": "input", "type": "Node", "description": "N."},
                {"name": "o", "kind": "input", "type": "list[Node] | None"},
                ANSWER,
            ],
        }
    )

    assert found.inputs == {
        "type": "object",
        "properties": {
            "q": {"type": "integer", "minimum": 1, "default": 3},
            "n": {"$ref": "#/$defs/Node", "description": "N."},
            "o": {
                "anyOf": [
                    {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                    {"type": "null"},
                ]
            },
        },
        "required": ["n"],
        "additionalProperties": False,
        "$defs": {"Node": node},
    }
    assert Draft202012Validator(found.inputs).is_valid({"n": {"next": {}}})
    assert not Draft202012Validator(found.inputs).is_valid({"n": {"next": {"x": 1}}})
    assert found.outputs["properties"] == {"a": {"type": "string"}}
