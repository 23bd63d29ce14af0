"""Signature text and the structured form: what is read, what is refused and why."""

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts.failures import Failure, InvalidSignature
from dspex.contracts.signatures import (
    Constraints,
    FieldSpec,
    Signature,
    SignatureSpec,
)
from dspex.native.signatures.parsing import FIELD_LIMIT, from_spec, infer_prefix, parse
from dspex.native.types.names import ALLOWED


def outline(text: str) -> list[tuple[str, str, str]]:
    fields = parse(text).signature.fields
    return [(field.name, field.kind, field.type) for field in fields]


def spec(*fields: FieldSpec) -> SignatureSpec:
    return SignatureSpec(fields=[FieldSpec(name="q", kind="input"), *fields])


def answer(**more: object) -> SignatureSpec:
    made = {"name": "a", "kind": "output", **more}
    return spec(msgspec.convert(made, FieldSpec))


def test_fields_have_names_kinds_and_types() -> None:
    """Every field of the text comes back, in order, str where no type is written."""
    text = "question, context: list[str] -> answer: int | None"

    assert outline(text) == [
        ("question", "input", "str"),
        ("context", "input", "list[str]"),
        ("answer", "output", "Union[int, NoneType]"),
    ]


def test_an_arrow_in_quotes_is_a_value() -> None:
    """A Literal may hold an arrow; DSPy would refuse the text."""
    assert outline("q -> a: Literal['a->b']")[1][2] == "Literal['a->b']"


def test_negative_integers_are_values() -> None:
    """A Literal may hold negative integers; DSPy would refuse the text."""
    assert outline("q -> a: Literal[-1, 0x10]")[1][2] == "Literal[-1, 16]"


@pytest.mark.parametrize("name", ["date", "datetime", "time", "timedelta"])
def test_dates_need_no_module(name: str) -> None:
    """The types of datetime may be written with and without their module."""
    assert outline(f"q -> a: {name}") == outline(f"q -> a: datetime.{name}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found 0"),
        ("question", "found 0"),
        ("a -> b -> c", "found 2"),
        ("a => b", "Unexpected '>'"),
        ("-> a", "no input field"),
        ("a ->", "no output field"),
        ("->", "no output field"),
        ("a, /, b -> c", "found '/'"),
        ("a, *, b -> c", "found '*'"),
        ("*args -> c", "found '*'"),
        ("a, **kw -> c", "found '*'"),
        ("a: int = 3 -> c", "unexpected '='"),
        ("a b -> c", "unexpected 'b'"),
        ("a,, b -> c", "found ','"),
        (", -> c", "found ','"),
        ("1a -> c", "found '1a'"),
        ("q, q -> a", "more than once"),
        ("q -> a, a", "more than once"),
        ("q -> q", "both an input and an output"),
        ("class -> a", "keyword"),
        ("_q -> a", "underscore"),
        ("signature -> a", "in DSPy"),
        ("demos -> a", "in DSPy"),
        ("q -> schema", "in DSPy"),
        ("q -> model_dump", "in DSPy"),
        ("q" * 200 + " -> a", "longer than 128"),
        ("q # comment -> a", "Unexpected '#'"),
        ("q -> a: 'open", "quote is opened"),
        ("q€ -> a", "is not a name"),
        ("q -> a: 'int'", "expected a type"),
        ("q -> a: [int]", "expected a type"),
        ("q -> a: 3", "expected a type"),
        ("q -> a:", "expected a type, found the end"),
        ("q -> a: int]", "unexpected ']'"),
        ("q -> a: int or str", "unexpected 'or'"),
        ("q -> a: (int", "expected ')'"),
        ("q -> a: list[int", "expected ']'"),
        ("q -> a: datetime.", "after the dot"),
        ("q -> a: None", "None is not a type"),
        ("q -> a: list[None]", "None is not a type"),
        ("q -> a: tuple[None]", "None is not a type"),
        ("q -> a: List", "List needs its types"),
        ("q -> a: Optional", "Optional needs its types"),
        ("q -> a: Optional[int, str]", "1 type(s)"),
        ("q -> a: Union[]", "at least one type"),
        ("q -> a: dict[str]", "2 type(s)"),
        ("q -> a: list[int, str]", "1 type(s)"),
        ("q -> a: int[str]", "no types in brackets"),
        ("q -> a: tuple[...]", "'...' belongs"),
        ("q -> a: set[list[int]]", "elements of a set"),
        ("q -> a: dict[bool, int]", "keys of a dict"),
        ("q -> a: dict[Literal[1, '1'], int]", "keys of a dict"),
        ("q -> a: Literal[]", "at least one value"),
        ("q -> a: Literal[1.5]", "not an integer"),
        ("q -> a: Literal[99999999999999999999]", "64 bits"),
        ("q -> a: Literal[-'a']", "expected a number"),
        ("q -> a: Literal[word]", "not a value of a Literal"),
        ("q -> a: Literal[[1]]", "expected a value"),
        ("q -> a: Literal['a' 'b']", "side by side"),
        (r"q -> a: Literal['\q']", "Unknown escape"),
        (r"q -> a: Literal['\ud800']", "Unknown escape"),
        ("q -> a: Literal['\ud800']", "half a character"),
        ("q -> a: complex", "unknown type 'complex'"),
        ("q -> a: object", "unknown type 'object'"),
        ("q -> a: Annotated[int, 3]", "unknown type 'Annotated'"),
        ("q -> a: integer", "Did you mean"),
        ("q -> a: dspy.Choice", "unknown type 'dspy.Choice'"),
        ("q -> a: dspy.Type", "unknown type 'dspy.Type'"),
        ("q -> a: dspy.Predict", "unknown type 'dspy.Predict'"),
        ("q -> a: Image", "unknown type 'Image'"),
        ("q -> a: dspy.Image['png']", "unexpected '['"),
        ("q -> a: dspy.Code[java]", "a language in quotes"),
        ("q -> a: dspy.Code['a b']", "a language in quotes"),
        ("q -> a: dspy.Code['java'", "expected ']'"),
        ("q -> a: set[dspy.Image]", "elements of a set"),
        ("q -> a: dict[dspy.Code, int]", "keys of a dict"),
        ("q -> a: this", "unknown type 'this'"),
        ("q -> a: os.system", "unknown type 'os.system'"),
        ("q -> a: Person", "unknown type 'Person'"),
        ("q -> a: " + "list[" * 40 + "int" + "]" * 40, "nested deeper"),
        ("q -> a: " + "(" * 40 + "int" + ")" * 40, "nested deeper"),
        ("q" * 70_000, "at most 65536"),
        (", ".join(f"f{i}" for i in range(FIELD_LIMIT)) + " -> a", "at most 256"),
    ],
)
def test_unsound_text_is_refused_with_the_reason(text: str, says: str) -> None:
    """What DSPy would refuse, drop, mangle or import is refused, and it says why."""
    with pytest.raises(InvalidSignature) as caught:
        parse(text)

    assert says in caught.value.message


@pytest.mark.parametrize(
    "name", ["os.system", "this", "antigravity", "subprocess.Popen", "pathlib.Path"]
)
def test_no_type_is_ever_imported(name: str) -> None:
    """A module named as a type is refused like any unknown name, and not loaded."""
    before = set(sys.modules)

    with pytest.raises(InvalidSignature, match="unknown type") as caught:
        parse(f"q -> a: {name}")
    assert set(sys.modules) == before
    assert name in caught.value.message
    assert caught.value.field == "a"


def code_of(read: Callable[[Any], object], source: object) -> str:
    try:
        read(source)
    except Failure as failure:
        return failure.code
    return "read"


@given(st.text(alphabet="ab:,->[]()|.'\"\\ 1-*=/\nLiteralintsrdcNoue", max_size=60))
def test_random_marks_are_read_or_refused(text: str) -> None:
    """No text makes the reader fail in any way but the typed one."""
    assert code_of(parse, text) in ("read", "invalid_signature")


@given(st.text(max_size=40), st.text(max_size=40))
def test_random_text_is_read_or_refused(name: str, annotation: str) -> None:
    """No name and no type makes either reader fail but in the typed way."""
    source = spec(FieldSpec(name=name, kind="output", type=annotation))

    codes = {code_of(parse, f"q -> {name}: {annotation}"), code_of(from_spec, source)}
    assert codes <= {"read", "invalid_signature"}


@pytest.mark.parametrize(
    "text",
    [
        "q -> a: " + "int|" * 16_000 + "int",
        "q -> a: " + "|".join(f"Literal['{i}']" for i in range(4000)),
        "q -> a: " + "Union[int, " * 31 + "str" + "]" * 31,
        "q -> a: Literal[" + ",".join(map(str, range(10_000))) + "]",
        "q -> a: " + "x" * 65_000,
        "q -> a: Literal['" + "\\\\" * 32_000 + "']",
        "a," * 32_000,
    ],
)
def test_long_text_is_answered_soon(text: str) -> None:
    """No text within the limit keeps the reader busy for long."""
    started = time.monotonic()

    assert code_of(parse, text) in ("read", "invalid_signature")
    assert time.monotonic() - started < 5


def test_an_answer_can_be_sent_back() -> None:
    """The structured reply, as JSON, is read to the same signature again."""
    limits = Constraints(ge=0, le=1)
    source = answer(type="float", default=0.5, constraints=limits)
    first = from_spec(source, "Be exact.").signature

    again = msgspec.json.decode(msgspec.json.encode(first), type=SignatureSpec)
    assert from_spec(again).signature == first
    assert isinstance(first, Signature)


def test_the_structured_form_is_ordered_inputs_first() -> None:
    """Inputs come before outputs however they are listed, as in DSPy's prompts."""
    source = SignatureSpec(
        fields=[FieldSpec(name="a", kind="output"), FieldSpec(name="q", kind="input")]
    )

    assert [f.name for f in from_spec(source).signature.fields] == ["q", "a"]


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        ("strr", "Did you mean 'str'? Allowed: str, int, "),
        ("list[strr]", "Did you mean 'str'? Allowed: str, int, "),
        ("dict[str, intt]", "Did you mean 'int'? Allowed: str, int, "),
        ("list[foo]", "unknown type 'foo'. Allowed: str, int, "),
    ],
)
def test_unknown_types_show_the_nearest_first(annotation: str, says: str) -> None:
    """What was meant is not drowned by all that is allowed, inside brackets too."""
    with pytest.raises(InvalidSignature) as caught:
        parse(f"q -> a: {annotation}")

    assert says in caught.value.message
    assert caught.value.message.count(",") < 8
    assert all(name in caught.value.hint for name in ALLOWED)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"name": "a b"}, "not an identifier"),
        ({"name": "\ufb01eld"}, "NFKC"),
        ({"type": "int, b"}, "after the type"),
        ({"type": "x" * 70_000}, "together"),
        ({"description": "x" * 20_000}, "at most 16384"),
        ({"schema": {"type": "null"}}, "schema does not agree"),
        ({"prefix": "Reply:"}, "prefix does not agree"),
        ({"default": 3}, "default is 3 (number); allowed: str"),
        ({"type": "int", "default": 3, "constraints": {"ge": 4}}, "at least 4"),
        (
            {"type": "int", "constraints": {"min_length": 1}},
            "min_length does not apply",
        ),
        ({"type": "bool", "constraints": {"ge": 1}}, "ge does not apply to bool"),
        ({"type": "int | str", "constraints": {"ge": 1}}, "ge does not apply to str"),
        ({"type": "None | NoneType", "constraints": {"ge": 1}}, "does not apply"),
        ({"type": "tuple[int, int]", "constraints": {"max_length": 1}}, "not apply"),
        ({"constraints": {"min_length": -1}}, "must not be negative"),
        ({"type": "int", "constraints": {"multiple_of": 0}}, "greater than 0"),
        ({"type": "float", "constraints": {"gt": 1, "le": 1}}, "no value satisfies"),
        ({"constraints": {"min_length": 2, "max_length": 1}}, "no value satisfies"),
        ({"constraints": {"pattern": "(a"}}, "a group is not closed"),
        ({"constraints": {"pattern": "(?=a)"}}, "look-around"),
    ],
)
def test_unsound_fields_are_refused(more: dict[str, object], says: str) -> None:
    """A field of the structured form that contradicts itself is refused."""
    with pytest.raises(InvalidSignature) as caught:
        from_spec(answer(**more))

    assert says in caught.value.message


def test_the_patterns_of_a_signature_have_a_limit_together() -> None:
    """Many large patterns, each within its limit, are refused."""
    limits = Constraints(pattern="a{400}")
    inputs = [
        FieldSpec(name=f"q{i}", kind="input", constraints=limits) for i in range(20)
    ]
    with pytest.raises(InvalidSignature, match="10000 steps together"):
        from_spec(SignatureSpec(fields=[*inputs, FieldSpec(name="a", kind="output")]))


def test_constraints_are_part_of_the_schema() -> None:
    """The JSON Schema holds the constraints, in a union for all but null."""
    limits = {"min_length": 1, "pattern": "^a"}
    schema = from_spec(answer(type="str | None", constraints=limits)).signature

    assert schema.fields[1].schema == {
        "anyOf": [
            {"type": "string", "minLength": 1, "pattern": "^a"},
            {"type": "null"},
        ]
    }


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        (None, "Given the fields `q`, produce the fields `a`."),
        ("", "Given the fields `q`, produce the fields `a`."),
        (" \n ", "Given the fields `q`, produce the fields `a`."),
        ("\n  Be brief.\n    Be kind.\n", "Be brief.\n  Be kind."),
    ],
)
def test_instructions_are_given_or_made(given_text: str | None, kept: str) -> None:
    """Instructions lose their indentation; without any they name the fields."""
    assert parse("q -> a", given_text).signature.instructions == kept


def test_prefixes_are_readable_names() -> None:
    """A prefix splits a name into words and keeps capitals."""
    assert infer_prefix("rawHTML_text2speech") == "Raw HTML Text 2 Speech"
