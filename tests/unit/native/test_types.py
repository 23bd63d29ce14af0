"""Types: what is printed, and which JSON values they describe."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dspex.native.signatures.compiling import compile_signature
from dspex.native.types.tree import Scalar, literal, quoted, spelled, union


@pytest.mark.parametrize(
    ("text", "value", "wrong"),
    [
        ("str", "a", 1),
        ("int", 1, "1"),
        ("float", 0.5, "0.5"),
        ("bool", True, 1),
        ("NoneType", None, 0),
        ("bytes", {"$t": "bytes", "data": "YQ=="}, "a"),
        ("Decimal", "1.5", 1.5),
        ("list[int]", [1, 2], ["1"]),
        ("list", [1, "a"], {}),
        ("set[str]", ["a"], ["a", "a"]),
        ("tuple[int, str]", [1, "a"], [1]),
        ("tuple[()]", [], [1]),
        ("tuple[int, ...]", [1, 2, 3], ["a"]),
        ("dict[str, int]", {"a": 1}, {"a": "1"}),
        ("dict[int, str]", {"-12": "a"}, {"a": "a"}),
        ("dict[Literal['a', 'b'], int]", {"a": 1}, {"c": 1}),
        ("Literal['a', 1, True, None]", 1, "1"),
        ("int | None", None, "1"),
    ],
)
def test_the_schema_tells_values_apart(text: str, value: Any, wrong: Any) -> None:
    """The JSON Schema of a type takes its values and refuses others."""
    schema = compile_signature(f"q -> a: {text}").signature.fields[1].schema

    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(value)
    assert not Draft202012Validator(schema).is_valid(wrong)


@pytest.mark.parametrize(
    "text", ["a\\b", "line\nbreak", "it's", '"it\'s"', "\x00é", ""]
)
def test_what_is_spelled_is_read_again(text: str) -> None:
    """Any string of a Literal comes back the same from the type as it is answered."""
    expr = literal([text])

    assert compile_signature(f"q -> a: {spelled(expr)}").outputs[0].type == expr


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a", "'a'"), ("it's", '"it\'s"'), ("a\"b'c", "'a\"b\\'c'"), ("a\nb", "'a\nb'")],
)
def test_strings_are_quoted_as_in_a_prompt(text: str, shown: str) -> None:
    """A string of a Literal is quoted as DSPy quotes it."""
    assert quoted(text) == shown


def test_a_union_is_flat_and_has_each_member_once() -> None:
    """Unions inside unions dissolve, and doubles go."""
    inner = union([Scalar("int"), Scalar("str")])

    assert union([Scalar("str"), inner]).describe() == "Union[str, int]"
    assert union([Scalar("int"), Scalar("int")]) == Scalar("int")


def test_true_is_not_one_in_a_literal() -> None:
    """A Literal keeps True beside 1, as Python does."""
    assert literal([1, True, 1]).describe() == "Literal[1, True]"
