"""Classes for the client's own types: what DSPy shows of them and reads as them."""

from __future__ import annotations

import enum
from typing import Any

import dspy
import msgspec
import pydantic
import pytest
from dspy.adapters.utils import _get_json_schema, get_annotation_name, parse_value
from dspy.utils import DummyLM
from jsonschema import Draft202012Validator

from dspex.contracts.native_requests import ParseResponse, RenderPrompt
from dspex.contracts.signatures import SignatureSpec
from dspex.native.prompts.rendering import render_prompt
from dspex.native.replies.parsing import parse_response
from dspex.native.signatures.compiling import Compiled, compile_signature
from dspex.native.types.tree import Collection
from dspex.services.worker.convert import demo_to_python, to_python, to_wire
from dspex.services.worker.described import schema_class
from dspex.services.worker.signatures import annotation, dspy_signature

pytestmark = pytest.mark.dspy


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Address(pydantic.BaseModel):
    street: str


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str = pydantic.Field(description="In full.", min_length=2)
    age: int = pydantic.Field(ge=0, default=1)
    home: Address | None = None
    friends: list[Person] = []
    color: Color = Color.RED


TYPES: dict[str, dict[str, Any]] = {
    "Color": {
        **pydantic.TypeAdapter(Color).json_schema(),
        "x-enum-varnames": ["RED", "GREEN"],
    },
    "Address": Address.model_json_schema(),
    "Person": Person.model_json_schema()["$defs"]["Person"],
}
AL: dict[str, Any] = Person(name="Al").model_dump(mode="json")
"""What DSPy would read as a person from a reply that only says the name."""
WRITTEN: list[tuple[str, Any]] = [
    ("Color", Color),
    ("Address", Address),
    ("Person", Person),
    ("list[Address]", list[Address]),
    ("list[Person]", list[Person]),
    ("dict[str, list[Color]]", dict[str, list[Color]]),
    ("Person | None", Person | None),
    ("tuple[Address, Person, Color]", tuple[Address, Person, Color]),
]


def compiled(written: str, types: dict[str, Any] | None = None) -> Compiled:
    fields = [
        {"name": "q", "kind": "input", "type": written},
        {"name": "a", "kind": "output", "type": written},
    ]
    whole = {"fields": fields, "types": types or TYPES}
    return compile_signature(msgspec.convert(whole, SignatureSpec))


def spec_of(found: Compiled) -> SignatureSpec:
    """What was compiled, as a client would send what it was answered."""
    return msgspec.convert(msgspec.to_builtins(found.signature), SignatureSpec)


def shown(adapter: str) -> Any:
    if adapter == "json":
        return dspy.JSONAdapter(use_native_function_calling=False)
    return dspy.XMLAdapter() if adapter == "xml" else dspy.ChatAdapter()


@pytest.mark.parametrize(("written", "theirs"), WRITTEN)
def test_the_prompt_is_that_of_pydantic_models(written: str, theirs: Any) -> None:
    """Types that pydantic described look to a model like pydantic's own classes."""
    made: Any = dspy.Signature
    expected = made(
        {
            "q": (theirs, dspy.InputField()),
            "a": (theirs, dspy.OutputField()),
        },
        "Answer.",
    )
    ours = dspy_signature(compile_signature(spec_of(compiled(written)), "Answer."))

    for adapter in (dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()):
        assert adapter.format(ours, [], {}) == adapter.format(expected, [], {})


def test_the_clients_words_are_shown_as_they_are() -> None:
    """Whatever annotations a description has, the model sees them, and no others."""
    thing = {
        "type": "object",
        "properties": {"x": {"type": "integer", "x-unit": "cm", "examples": [3]}},
        "description": "A thing.",
    }
    expr = compiled("Thing", {"Thing": thing}).outputs[0].type

    shown = _get_json_schema(annotation(expr))

    assert shown == thing
    assert get_annotation_name(annotation(Collection("list", expr))) == "list[Thing]"


def test_one_name_is_one_definition() -> None:
    """A type that is used alone and inside another one is defined once."""
    shown: Any = _get_json_schema(tuple[Address, Person, Color])
    ours = annotation(compiled("tuple[Address, Person, Color]").outputs[0].type)

    assert _get_json_schema(ours) == shown
    assert set(shown["$defs"]) == {"Address", "Person", "Color"}
    Draft202012Validator.check_schema(shown)


@pytest.mark.parametrize(
    ("written", "reply", "value"),
    [
        ("Color", "green", "green"),
        ("Color", "GREEN", "green"),
        ("Address", '{"street": "x", "town": "y"}', {"street": "x"}),
        ("Person", '{"name": "Al", "age": "3"}', {**AL, "age": 3}),
        ("list[Color]", '["red"]', ["red"]),
        ("Person | None", "null", None),
        ("dict[Color, Address]", '{"red": {"street": "x"}}', {"red": {"street": "x"}}),
    ],
)
def test_replies_arrive_as_plain_json(written: str, reply: str, value: Any) -> None:
    """What DSPy reads from a reply goes out as the JSON that the client described."""
    made = annotation(compiled(written).outputs[0].type)

    assert to_wire(parse_value(reply, made)) == value


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        ('{"name": "A"}', "name"),
        ('{"age": 3}', "name"),
        ('{"name": "Al", "friends": [{"name": 3}]}', "friends.0.name"),
        ("[]", "valid dictionary"),
        ("blue", "valid dictionary"),
    ],
)
def test_replies_are_checked(reply: str, wrong: str) -> None:
    """A reply that breaks the description is refused, with the place in it."""
    made = annotation(compiled("Person").outputs[0].type)

    with pytest.raises(pydantic.ValidationError, match=rf"\n *{wrong}\n|{wrong}"):
        parse_value(reply, made)


VALUES: list[tuple[str, Any]] = [
    ("Color", "red"),
    ("Person", {"name": "Al", "home": {"street": "<b> & c"}, "more": [1]}),
    ("list[Address]", [{"street": "x"}, {"street": ""}]),
    ("dict[str, list[Color]]", {"a b": ["red"], "c": []}),
    ("Person | None", {"name": "Al", "friends": [{"name": "Bo"}]}),
]


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
@pytest.mark.parametrize(("written", "value"), VALUES)
def test_prompts_are_those_of_prompt_render(
    adapter: Any, written: str, value: Any
) -> None:
    """What DSPy sends to a model here is what the native operation answers."""
    found = compiled(written)
    demo = {"q": value, "a": value}

    sent = shown(adapter).format(
        dspy_signature(found),
        [demo_to_python(found, demo)],
        to_python(found, {"q": value}),
    )
    native = render_prompt(
        RenderPrompt(
            signature=spec_of(found), inputs={"q": value}, demos=[demo], adapter=adapter
        )
    )

    assert sent == msgspec.to_builtins(native.messages)


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
@pytest.mark.parametrize(("written", "value"), VALUES)
def test_replies_are_read_as_by_response_parse(
    adapter: Any, written: str, value: Any
) -> None:
    """What DSPy reads here is what the native operation reads."""
    found = compiled(written)
    signature = dspy_signature(found)
    reply = shown(adapter).format_assistant_message_content(signature, {"a": value})

    read = shown(adapter).parse(signature, reply)
    native = parse_response(
        ParseResponse(signature=spec_of(found), text=reply, adapter=adapter)
    )

    assert to_wire(read) == native.fields


def test_inputs_are_shown_as_they_came() -> None:
    """An object of the client's goes into the prompt as its JSON, keys in order."""
    signature = compiled("list[Person]")
    sent = [{"name": "Al", "more": {"b": 1, "a": [None]}}]

    values = to_python(signature, {"q": sent})
    message = dspy.ChatAdapter().format(dspy_signature(signature), [], values)[-1]

    assert '[{"name": "Al", "more": {"b": 1, "a": [null]}}]' in message["content"]
    assert to_wire(values["q"]) == sent


async def test_a_program_answers_with_them() -> None:
    """Predict asks for described types and answers with values of them."""
    signature = compiled("dict[str, Person]")
    predict = dspy.Predict(dspy_signature(signature))
    inputs = to_python(signature, {"q": {"x": {"name": "Al"}}})

    with dspy.context(lm=DummyLM([{"a": '{"y": {"name": "Bo", "color": "green"}}'}])):
        found = await predict.acall(**inputs)

    assert to_wire(found.a) == {"y": {**AL, "name": "Bo", "color": "green"}}


@pytest.mark.parametrize(
    "name", ["", "_x", "__x__", "mro", "1", "a b", "name", "value_1"]
)
def test_any_text_can_be_a_value(name: str) -> None:
    """A value that cannot name a member of an enumeration gets another name."""
    expr = compiled("Odd", {"Odd": {"enum": ["x", name]}}).outputs[0].type
    made: Any = schema_class(expr)

    assert [member.value for member in made] == ["x", name]
    assert made(name).value == name


def test_values_whose_texts_are_the_same() -> None:
    """Values that would name two members alike are two members."""
    values = ["1", 1, "_x", "value_2", None, "None"]
    expr = compiled("Odd", {"Odd": {"enum": values}}).outputs[0].type
    made: Any = schema_class(expr)

    assert [member.value for member in made] == values


def test_classes_are_made_once() -> None:
    """The same description gives the same class."""
    first, again = compiled("Person"), compiled("list[Person]")

    (listed,) = annotation(again.outputs[0].type).__args__
    assert annotation(first.outputs[0].type) is listed
