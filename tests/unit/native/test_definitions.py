"""Types that a client describes as JSON Schema: what is taken and what they mean."""

from __future__ import annotations

from time import perf_counter, process_time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dspex.contracts.failures import InvalidSignature
from dspex.contracts.signatures import SignatureSpec
from dspex.native.checking.checking import Checked, Mode, check
from dspex.native.signatures.compiling import Compiled, compile_signature
from dspex.native.types.definitions import TYPE_LIMIT, read_types

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "age": {"type": "integer", "minimum": 0},
        "friends": {"type": "array", "items": {"$ref": "#/$defs/Person"}},
        "home": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}]},
    },
    "required": ["name"],
    "additionalProperties": False,
}
ADDRESS = {"type": "object", "properties": {"street": {"type": "string"}}}
COLOR = {"enum": ["red", "green"], "x-enum-varnames": ["RED", "GREEN"]}
TYPES = {"Person": PERSON, "Address": ADDRESS, "Color": COLOR}
AL = {"name": "Al", "age": 3, "friends": [{"name": "Bo"}], "home": {"street": "x"}}


def compiled(types: dict[str, Any], wanted: str) -> Compiled:
    fields = [
        {"name": "q", "kind": "input"},
        {"name": "a", "kind": "output", "type": wanted},
    ]
    spec = msgspec.convert({"fields": fields, "types": types}, SignatureSpec)
    return compile_signature(spec)


def checked(
    types: dict[str, Any], wanted: str, value: Any, mode: Mode = "strict"
) -> Checked:
    return check(compiled(types, wanted), {"a": value}, "outputs", mode)


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ("Person", AL),
        ("Person", {"name": "Al", "home": None}),
        ("list[Person]", [AL, AL]),
        ("Person | None", None),
        ("dict[Color, Person]", {"red": AL}),
        ("Color", "green"),
        ("set[Color]", ["red", "green"]),
        ("tuple[Color, Person]", ["red", AL]),
        ("Address", {"street": "x", "town": [1]}),
    ],
)
def test_values_that_fit(wanted: str, value: Any) -> None:
    """A type of the client's may stand wherever a type may, and takes its values."""
    found = checked(TYPES, wanted, value)

    assert found.errors == []
    assert found.values == {"a": value}


@pytest.mark.parametrize(
    ("wanted", "value", "paths"),
    [
        ("Person", {**AL, "age": -1}, ["a.age"]),
        ("Person", {"nam": 1, "age": "x"}, ["a.nam", "a.age", "a.name"]),
        ("Person", {"name": "Al", "friends": [{"name": "x"}, 3]},
         ["a.friends[0].name", "a.friends[1]"]),
        ("Person", {"name": "Al", "home": {"street": 3}}, ["a.home.street"]),
        ("list[Person]", [AL, {}], ["a[1].name"]),
        ("Color", "blue", ["a"]),
        ("dict[Color, Person]", {"blue": AL}, ["a.blue"]),
        ("set[Color]", ["red", "red"], ["a[1]"]),
        ("Person | Color", {"name": 3}, ["a.name"]),
    ],
)  # fmt: skip
def test_every_fault_has_its_place(wanted: str, value: Any, paths: list[str]) -> None:
    """Faults inside objects of the client's are found, all of them, with paths."""
    found = checked(TYPES, wanted, value)

    assert [fault.path for fault in found.errors] == [f"outputs.{p}" for p in paths]


@pytest.mark.parametrize(
    ("wanted", "value", "read"),
    [
        ("Person", {"name": "Al", "age": "3"}, {"name": "Al", "age": 3}),
        ("Color", "GREEN", "green"),
        ("list[Color]", ["RED", "red"], ["red", "red"]),
        ("Person | None", {"name": "Al", "age": 4.0}, {"name": "Al", "age": 4}),
    ],
)
def test_the_lax_mode_converts_inside(wanted: str, value: Any, read: Any) -> None:
    """The lax mode reads parts as it reads fields, and a name for its value."""
    assert checked(TYPES, wanted, value, "lax").values == {"a": read}
    assert not checked(TYPES, wanted, value).valid


SWAPPED = {"enum": ["A", "B"], "x-enum-varnames": ["B", "A"]}


def test_a_value_is_read_before_a_name() -> None:
    """What is the value of one member and the name of another is the value."""
    assert checked({"Odd": SWAPPED}, "Odd", "A", "lax").values == {"a": "A"}


def tagged(kind: str, *names: str) -> dict[str, Any]:
    integers = {name: {"type": "integer"} for name in names}
    properties = {"kind": {"const": kind}, **integers}
    return {"type": "object", "properties": properties, "required": ["kind", *names]}


def test_large_alternatives_take_little_time() -> None:
    """Whether alternatives can be told apart is not asked for each pair of keys."""
    types = {
        name: tagged(name, *(f"{name.lower()}{i}" for i in range(600)))
        for name in ("A", "B")
    }
    either = {"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}
    types |= {"C": objects(**{f"c{i}": either for i in range(200)})["T"]}
    begun = process_time()

    assert len(read_types(types)) == 3
    assert process_time() - begun < 2


@pytest.mark.parametrize(
    ("wanted", "value", "path"),
    [
        ("Cat | Dog", {"kind": "dog"}, "outputs.a.age"),
        ("Pet", {"pet": {"kind": "dog"}}, "outputs.a.pet.age"),
        ("list[Cat | Dog]", [{"kind": "cat"}], "outputs.a[0].lives"),
    ],
)
def test_alternatives_are_known_by_their_constants(
    wanted: str, value: Any, path: str
) -> None:
    """Faults of a union of objects are those of the one whose constant is there."""
    either = {"oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    types = {"Cat": tagged("cat", "lives"), "Dog": tagged("dog", "age")}
    types["Pet"] = {"type": "object", "properties": {"pet": either}}

    found = checked(types, wanted, value)

    assert [fault.path for fault in found.errors] == [path]


@pytest.mark.parametrize(
    "whole",
    [
        {**PERSON, "$defs": {"Address": ADDRESS}},
        {"$defs": {"Person": PERSON, "Address": ADDRESS}, "$ref": "#/$defs/Person"},
        {
            "$defs": {
                "Human": {
                    **PERSON,
                    "properties": {
                        **PERSON["properties"],
                        "friends": {
                            "type": "array",
                            "items": {"$ref": "#/$defs/Human"},
                        },
                    },
                },
                "Address": ADDRESS,
            },
            "$ref": "#/$defs/Human",
        },
        {
            **PERSON,
            "properties": {
                **PERSON["properties"],
                "friends": {"type": "array", "items": {"$ref": "#"}},
            },
            "$defs": {"Address": ADDRESS},
        },
    ],
)
def test_references_in_the_forms_of_pydantic(whole: dict[str, Any]) -> None:
    """Local definitions, a reference as the whole and ``#`` mean what they say."""
    assert checked({"Person": whole}, "Person", AL).valid
    wrong = {"name": "Al", "friends": [1]}
    assert not checked({"Person": whole}, "Person", wrong).valid


def test_the_answer_can_be_sent_back() -> None:
    """The types in an answer are those that are used, and mean the same again."""
    first = compiled({**TYPES, "Unused": COLOR}, "list[Person] | Color")
    again = compile_signature(
        msgspec.convert(msgspec.to_builtins(first.signature), SignatureSpec)
    )

    assert list(first.signature.types) == ["Address", "Color", "Person"]
    assert again.digest == first.digest
    assert again.signature == first.signature
    assert b"types" not in msgspec.json.encode(compile_signature("q -> a").signature)


def test_the_schema_of_a_field_is_complete() -> None:
    """The JSON Schema of a field holds all definitions that it refers to."""
    schema = compiled(TYPES, "dict[Color, list[Person]]").signature.fields[1].schema

    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid({"red": [AL]})
    assert not Draft202012Validator(schema).is_valid({"red": [{**AL, "age": -1}]})
    assert compiled(TYPES, "Address").signature.fields[1].schema == ADDRESS


def objects(**properties: Any) -> dict[str, Any]:
    return {"T": {"type": "object", "properties": properties}}


@pytest.mark.parametrize(
    ("types", "says"),
    [
        ({"str": COLOR}, "built in"),
        ({"dspy": COLOR}, "built in"),
        ({"List": COLOR}, "built in"),
        ({"a b": COLOR}, "identifier"),
        ({"_T": COLOR}, "identifier"),
        ({"T" * 200: COLOR}, "identifier"),
        ({"class": COLOR}, "Python"),
        ({"ﬁ": COLOR}, "Python"),
        ({"T": {}}, "neither an enumeration nor an object"),
        ({"T": {"type": "string"}}, "neither an enumeration nor an object"),
        ({"T": {"$ref": "#/$defs/T"}}, "neither an enumeration nor an object"),
        ({"T": {"enum": []}}, "list of values"),
        ({"T": {"enum": "ab"}}, "list of values"),
        ({"T": {"enum": [1, True]}}, "1 beside true"),
        ({"T": {"enum": ["a", "a"]}}, "twice"),
        ({"T": {"enum": [1.5]}}, "cannot be a value"),
        ({"T": {"enum": [[]]}}, "cannot be a value"),
        ({"T": {"enum": [2**63]}}, "64 bits"),
        ({"T": {"enum": ["a"], "type": "integer"}}, "not of its type"),
        ({"T": {"enum": ["a"], "minLength": 3}}, "does not go together"),
        ({"T": {"enum": ["a"], "x-enum-varnames": ["A", "B"]}}, "one name"),
        ({"T": {"enum": ["a"], "x-enum-varnames": ["1"]}}, "cannot name"),
        ({"T": {"enum": ["a"], "x-enum-varnames": ["mro"]}}, "cannot name"),
        ({"T": {"type": "object", "x-enum-varnames": ["a"]}}, "values of an enum"),
        ({"T": {"type": "object", "$defs": []}}, "object of schemas"),
        ({"T": {"type": "object", "patternProperties": {}}}, "not checked"),
        ({"T": {"type": "object", "required": ["a"], "additionalProperties": False}},
         "required and not allowed"),
        ({"T": {"type": "object", "required": "a"}}, "list of names"),
        ({"T": {"type": "object", "properties": []}}, "object of schemas"),
        ({"T": {"type": "object", "minProperties": -1}}, "must not be negative"),
        ({"T": {"type": "object", "minProperties": "1"}}, "Expected `int"),
        (objects(a=False), "expected a schema"),
        (objects(a={"type": "any"}), "no type"),
        (objects(a={"type": []}), "no type"),
        (objects(a={"type": ["string", "string"]}), "twice"),
        (objects(a={"minimum": 3}), "without a type"),
        (objects(a={"type": "string", "minimum": 3}), "does not apply"),
        (objects(a={"not": {}}), "'not' is not checked"),
        (objects(a={"allOf": [{}, {}]}), "allOf is not checked"),
        (objects(a={"anyOf": []}), "list of schemas"),
        (objects(a={"anyOf": [{}], "minLength": 3}), "does not go together"),
        (objects(a={"oneOf": [{"type": "string"}, {"const": "a"}]}), "fit two"),
        (objects(a={"oneOf": [{"type": "number"}, {"type": "integer"}]}), "fit two"),
        (objects(a={"oneOf": [{"type": "object"}, {"type": "object"}]}), "fit two"),
        (objects(a={"oneOf": [{}, {"type": "null"}]}), "fit two"),
        (objects(a={"type": "string", "format": "email"}), "'email' is not checked"),
        (objects(a={"type": "string", "format": "date", "minLength": 3}), "no other"),
        (objects(a={"type": "string", "pattern": "(?=a)"}), "cannot be used"),
        (objects(a={"type": "string", "pattern": "a{900}" * 12}), "cannot be used"),
        (objects(a={"type": "array", "prefixItems": [{}]}), "no fixed length"),
        (objects(a={"type": "array", "prefixItems": [{}], "minItems": 1}), "maxItems"),
        (objects(a={"type": "array", "uniqueItems": True, "items": {"type": "array"}}),
         "that have parts"),
        (objects(a={"$ref": "#/$defs/U"}), "not among the types"),
        (objects(a={"$ref": "https://example.com/s.json"}), "leads out"),
        (objects(a={"$ref": "file:///etc/passwd"}), "leads out"),
        (objects(a={"$ref": "#/properties/b"}), "leads out"),
        (objects(a={"type": "string", "default": {"$ref": "x"}}), "in a default"),
        ({"T": {**ADDRESS, "$defs": {"U": COLOR}}, "U": ADDRESS}, "in two ways"),
        ({f"T{i}": COLOR for i in range(TYPE_LIMIT + 1)}, "at most 64 types"),
        ({"T": {"enum": ["a" * 70_000]}}, "at most 65536"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_refused(types: dict[str, Any], says: str) -> None:
    """A description that is unsound, or not checked in full, is refused."""
    with pytest.raises(InvalidSignature) as caught:
        compiled(types, "str")

    assert says in caught.value.message
    assert str(caught.value.field).startswith("types")


def test_depth_is_bounded() -> None:
    """A description nested too deep is refused before anything walks through it."""
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"type": "array", "items": schema}

    with pytest.raises(InvalidSignature, match="nested too deep"):
        compiled(objects(a=schema), "str")


def test_the_types_of_all_fields_together_are_bounded() -> None:
    """A large type in many fields would make the answer many times the question."""
    big = {"enum": [f"value {i:06}" for i in range(3000)]}
    fields = [{"name": f"f{i}", "kind": "input", "type": "Big"} for i in range(200)]
    fields.append({"name": "a", "kind": "output"})
    spec = msgspec.convert({"fields": fields, "types": {"Big": big}}, SignatureSpec)

    with pytest.raises(InvalidSignature, match="each counted for each field"):
        compile_signature(spec)


NODE = {
    "anyOf": [
        {"type": "null"},
        {"type": "string"},
        {"$ref": "#/$defs/A"},
        {"$ref": "#/$defs/B"},
    ]
}
TREES = {
    name: {
        "type": "object",
        "properties": {"l": NODE, "r": NODE},
        "minProperties": 1,
        "maxProperties": 3,
    }
    for name in "AB"
}


def tree(depth: int, leaf: Any) -> Any:
    for _ in range(depth):
        leaf = {"l": leaf}
    return leaf


@pytest.mark.parametrize("mode", ["strict", "lax"])
def test_values_as_deep_as_may_be(mode: Mode) -> None:
    """At the greatest depth values are read, right and wrong; beyond it is a fault."""
    assert checked(TREES, "A", tree(63, "x"), mode).valid
    assert checked(TREES, "A", tree(63, 3), mode).errors
    beyond = checked(TREES, "A", tree(900, "x"), mode)
    assert "nested" in beyond.errors[0].message


@pytest.mark.parametrize("mode", ["strict", "lax"])
def test_hostile_values_take_bounded_work(mode: Mode) -> None:
    """Alternatives in alternatives, all wrong at the bottom, are given up in time."""
    value: Any = 3
    for _ in range(40):
        value = {"l": value, "r": value}
    start = perf_counter()

    assert not checked(TREES, "A | B", value, mode).valid
    assert perf_counter() - start < 2


def test_types_that_double_take_no_time() -> None:
    """Descriptions that each refer twice to the next come to an end with the value."""
    types = {
        f"T{i}": {
            "type": "object",
            "properties": {side: {"$ref": f"#/$defs/T{i + 1}"} for side in "lr"},
        }
        for i in range(60)
    }
    types["T60"] = ADDRESS

    assert checked(types, "T0", {"l": {}, "r": {"l": {}}}).valid


KEYS = st.sampled_from(["a", "b", "c"])
LEAVES = st.sampled_from(
    [
        {},
        {"type": "string", "minLength": 1, "maxLength": 3},
        {"type": "string", "pattern": "^a"},
        {"type": "integer", "minimum": -1, "exclusiveMaximum": 3},
        {"type": "number", "multipleOf": 0.5},
        {"type": ["boolean", "null"]},
        {"type": ["string", "array"], "minItems": 1, "maxLength": 2},
        {"enum": ["a", 1, None]},
        {"const": "a"},
        {"const": True},
        {"$ref": "#/$defs/T"},
    ]
)


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    shapes = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(KEYS, inner, max_size=3),
            "required": st.lists(st.sampled_from(["a", "b"]), unique=True),
            "additionalProperties": st.just(True) | inner,
            "maxProperties": st.integers(0, 3),
        },
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array"), "items": inner},
        optional={"minItems": st.integers(0, 1), "maxItems": st.integers(1, 3)},
    )
    unions = st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some})
    return shapes | arrays | unions


SCHEMAS = st.recursive(LEAVES, larger, max_leaves=6)
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -2, 0.5, 1.25, "", "a", "ab", "bcd"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(SCHEMAS, VALUES)
def test_the_check_agrees_with_json_schema(schema: Any, value: Any) -> None:
    """A value is valid exactly where a validator of JSON Schema says so."""
    types = {"T": {"type": "object", "properties": {"v": schema}, "required": ["v"]}}
    given_ = {"v": value}
    oracle = Draft202012Validator({**types["T"], "$defs": types})

    found = checked(types, "T", given_)

    assert found.valid == oracle.is_valid(given_)
    assert found.valid == (not found.errors)
    if found.valid:
        assert found.values == {"a": given_}
        assert checked(types, "T", given_, "lax").values == {"a": given_}
