"""Values against JSON Schemas: faults, exact numbers, drafts, references, bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dspex.contracts.failures import BadRequest, Unsupported
from dspex.contracts.native_requests import ValidateSchema
from dspex.native.schemas import validating as schemas
from dspex.native.schemas.leaves import FORMATS, matcher
from dspex.native.schemas.nodes import FAULT_LIMIT, Run
from dspex.native.schemas.validating import faults, ready, validate_schema

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "a/b": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def places(schema: Any, value: Any) -> list[tuple[str, str, str]]:
    return [(one.path, one.keyword, one.schema_path) for one in faults(schema, value)]


def valid(schema: Any, value: Any) -> bool:
    return not faults(schema, value)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_outputs() -> None:
    """The outputs say whether the value is valid, and what is wrong with it."""
    right = validate_schema(ValidateSchema(schema=PERSON, value={"name": "Ann"}))
    wrong = validate_schema(ValidateSchema(schema=PERSON, value={"name": ""}))

    assert (right.valid, right.errors) == (True, [])
    assert not wrong.valid
    assert wrong.errors[0].message == "Expected at least 1 characters, not 0."


def test_long_places_end_the_list_early() -> None:
    """A name of a hundred thousand characters is not repeated for every fault."""
    value = {"x" * 100_000: [*range(50)]}
    schema = {"additionalProperties": {"items": {"type": "string"}}}

    assert len(faults(schema, value)) == 1


@pytest.mark.parametrize("named", [5, None, {}, "http://json-schema.org/schema#"])
def test_a_part_in_no_draft_is_refused(named: Any) -> None:
    """What a reference leads to may not name another draft, or something else."""
    with pytest.raises(Unsupported, match="A part of the schema is in the draft"):
        ready({"$ref": "#/x", "x": {"$schema": named}})


@pytest.mark.parametrize("order", [1, -1])
def test_a_resource_may_be_found_twice(order: int) -> None:
    """A schema with an ``$id`` is referred to, and so is the one that it is in."""
    refs = [{"$ref": "#/x"}, {"$ref": "#/x/properties/y"}][::order]
    inner = {"$id": "http://example.com/y", "type": "integer"}
    schema = {"properties": {"v": {"allOf": refs}}, "x": {"properties": {"y": inner}}}

    assert valid(schema, {"v": 1})
    assert not valid(schema, {"v": "1"})


def test_all_faults_have_their_places() -> None:
    """Each fault has a JSON Pointer into the value and one into the schema."""
    value = {"a/b": 1.5, "tags": ["x", "z"], "more": 1}

    assert places(PERSON, value) == [
        ("/a~1b", "type", "/properties/a~1b/type"),
        ("/tags/1", "enum", "/properties/tags/items/enum"),
        ("", "required", "/required"),
        ("/more", "additionalProperties", "/additionalProperties"),
    ]


def test_places_of_references_are_in_the_schema() -> None:
    """A fault behind a reference has the place of the keyword itself, once."""
    schema = {
        "$defs": {"small": {"maximum": 3}},
        "allOf": [{"$ref": "#/$defs/small"}, {"$ref": "#/$defs/small"}],
    }

    assert places(schema, 5) == [("", "maximum", "/$defs/small/maximum")]


def test_the_first_hundred_faults() -> None:
    """A long wrong value is left after a hundred faults."""
    found = faults({"items": {"type": "string"}}, list(range(100_000)))

    assert len(found) == FAULT_LIMIT
    assert found[-1].path == f"/{FAULT_LIMIT - 1}"


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": ["integer", "null"]}, "a", 'Expected integer or null, not "a"'),
        ({"const": {"a": 1}}, 1, 'Expected {"a":1}, not 1'),
        ({"enum": list(range(9))}, None, "Expected 0, 1, 2, 3, 4 or another one"),
        ({"maximum": 2**70}, 2**70 + 1, f"at most {2**70}, not {2**70 + 1}"),
        ({"required": list("abcdefg")}, {}, "Missing 'a', 'b', 'c', 'd', 'e' and 2"),
        ({"uniqueItems": True}, [1, 2, 1.0], "item 2 equals item 0"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "'b', for it has 'a'"),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, 'The name "ab"'),
        ({"contains": {"const": 1}, "maxContains": 2}, [1, 1, 1], "at most 2"),
        ({"oneOf": [{}, {}, False]}, 1, "but 0 and 1 do"),
        ({"oneOf": [False]}, 1, "None of the 1 schemas"),
        ({"anyOf": [False, False]}, 1, "None of the 2 schemas"),
        ({"not": {}}, 1, "not allowed: 1"),
        ({"format": "date"}, "x", "the format date"),
        ({"multipleOf": 0.1}, 0.25, "a multiple of 0.1"),
        (False, 1, "Nothing is allowed"),
    ],
)
def test_messages_say_what_is_allowed(schema: Any, value: Any, message: str) -> None:
    """Every message is a sentence that names what is allowed."""
    (fault,) = faults(schema, value)

    assert message in fault.message
    assert fault.message.endswith(".")


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, 3.0, True),
        ({"type": "integer"}, 3.5, False),
        ({"type": "integer"}, 1e300, True),
        ({"const": 3}, 3.0, True),
        ({"const": 1}, True, False),
        ({"const": [0]}, [False], False),
        ({"const": 2**53}, 2**53 + 1, False),
        ({"const": 2.0**53}, 2**53 + 1, False),
        ({"const": 2**70}, 2.0**70, True),
        ({"enum": [{"a": 1, "b": 2}]}, {"b": 2.0, "a": 1}, True),
        ({"minimum": 2**70}, 2**70 - 1, False),
        ({"exclusiveMaximum": 1e308}, 10**400, False),
        ({"multipleOf": 0.01}, 19.99, True),
        ({"multipleOf": 1e-300}, 1e300, True),
        ({"multipleOf": 0.1}, 10**4000, True),
        ({"multipleOf": 3}, 10**4000, False),
        ({"multipleOf": 0.5}, math.inf, False),
        ({"uniqueItems": True}, [1, True, "1", None, [1], {"a": 1}], True),
        ({"maxLength": 1}, "\U0001f600", True),
        ({"type": "null"}, None, True),
    ],
)
def test_numbers_are_exact(schema: Any, value: Any, expected: bool) -> None:
    """Numbers are compared by value, however large, and are no booleans."""
    assert valid(schema, value) is expected


def test_drafts() -> None:
    """``$schema`` says which of the two drafts it is, 2020-12 if absent."""
    old = {"$schema": DRAFT_7, "items": [{"type": "string"}]}

    assert not valid(old, [1])
    assert valid({"prefixItems": [{"type": "string"}], "items": False}, ["a"])
    with pytest.raises(Unsupported, match=r"draft/2020-12/schema and http.*draft-07"):
        faults({"$schema": "http://json-schema.org/draft-04/schema#"}, 1)


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"$ref": "http://127.0.0.1:9/x"}, 'schema["$ref"]'),
        ({"$ref": "file:///etc/passwd"}, 'schema["$ref"]'),
        ({"items": {"$ref": "other.json#/a"}}, 'schema.items["$ref"]'),
        ({"$dynamicRef": "urn:x#y"}, 'schema["$dynamicRef"]'),
        ({"$defs": {"a": {"$schema": DRAFT_7}}}, "schema"),
    ],
)
def test_nothing_outside_is_read(schema: Any, field: str) -> None:
    """What leads out of the schema, or into another draft, is not supported."""
    with pytest.raises(Unsupported) as caught:
        faults(schema, 1)
    assert str(caught.value.field).startswith(field)


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"properties": {"a": {"type": "text"}}}, "schema.properties.a.type"),
        ({"$ref": "#/nowhere"}, 'schema["$ref"]'),
        ({"$ref": "#nowhere"}, 'schema["$ref"]'),
        ({"$ref": "#/x", "x": {"minimum": "a"}}, "schema.x.minimum"),
        ({"$ref": "#/x/0", "x": []}, 'schema["$ref"]'),
        ({"$ref": "#/x", "x": 1}, 'schema["$ref"]'),
        ({"$id": "http://a/b", "$ref": "//[x"}, 'schema["$ref"]'),
        ({"$ref": "a" * 2000}, 'schema["$ref"]'),
        ({"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}, "schema"),
        ({"$defs": {"a": {"$id": "x"}, "b": {"$id": "x"}}}, "schema"),
        ({"pattern": "(?=a)b"}, "schema.pattern"),
        ({"pattern": "(a)\\1"}, "schema.pattern"),
        ({"pattern": "[a"}, "schema.pattern"),
        ({"pattern": "a" * 3000}, "schema.pattern"),
        ({"pattern": "(\\w{500}){500}"}, "schema.pattern"),
        ({"patternProperties": {"(?=a)": {}}}, "schema.patternProperties"),
        ({"const": math.nan, "minimum": "a"}, "schema"),
        ({"const": "\ud800"}, "schema"),
        ({"const": "a" * 300_000}, "schema"),
        ({"const": nested(70)}, "schema"),
        ({"const": nested(5000)}, "schema"),
        ({"allOf": [True] * 6000}, "schema"),
        ({"allOf": [{"pattern": f"\\p{{L}}{i}"} for i in range(400)]}, "schema"),
    ],
)
def test_unsound_schemas(schema: Any, field: str) -> None:
    """A schema that cannot be used is refused at the place of its fault."""
    with pytest.raises(BadRequest) as caught:
        faults(schema, 1)
    assert str(caught.value.field).startswith(field)
    assert caught.value.hint


def doubling(keyword: str) -> dict[str, Any]:
    names = [f"a{i}" for i in range(40)]
    parts: dict[str, Any] = {
        name: {keyword: [{"$ref": f"#/$defs/{after}"}] * 2}
        for name, after in zip(names, [*names[1:], "end"], strict=True)
    }
    return {"$defs": {**parts, "end": {"type": "integer"}}, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$ref": "#"}, 1),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, 1),
        ({"not": {"$ref": "#"}}, 1),
        ({"$ref": "#", "unevaluatedProperties": False}, {"a": 1}),
        ({"$dynamicAnchor": "x", "allOf": [{"$dynamicRef": "#x"}]}, 1),
        ({"items": {"$ref": "#"}}, nested(900)),
        ({"uniqueItems": True}, [nested(900)]),
        (doubling("allOf"), 1),
        (doubling("anyOf"), "a"),
        (doubling("oneOf"), 1),
        ({"uniqueItems": True}, list(range(600_000))),
        ({"items": {"enum": [1]}}, [list(range(300_000))] * 3),
        ({"pattern": "[01]*1[01]{500}c"}, "01" * 100_000),
        ({"patternProperties": {"a.*b": {}}}, {"a" * 600_000: 1}),
        (
            {"items": {"allOf": [{"additionalProperties": False}] * 4000}},
            [{}] * 10_000,
        ),
        (
            {
                "properties": {f"x{i}": {} for i in range(2000)},
                "allOf": [{"additionalProperties": {}}] * 100,
            },
            {f"x{i}": 1 for i in range(20_000)},
        ),
    ],
)
def test_checks_without_end_are_refused(schema: Any, value: Any) -> None:
    """A check that would take too long, or goes round, is refused by its steps."""
    with pytest.raises(BadRequest, match="more than"):
        faults(schema, value)


def test_large_right_values_are_far_from_the_limit() -> None:
    """Twenty thousand right objects leave a good part of what is allowed."""
    run = Run()
    element = {"name": "Ann", "tags": ["x"]}

    assert ready({"items": PERSON}).root.accepts([element] * 20_000, run)
    assert run.left > 50_000


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "((a*)*)*b", "(a|aa)+c", "^(a?){30}a{30}$", "(.*){1,20}x"]
)
def test_patterns_never_go_back(pattern: str) -> None:
    """Patterns that take others forever are decided by the length of the text."""
    run = Run()

    assert not matcher(pattern).search("a" * 29 + "!", run)
    assert run.left > 499_000


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_checked(name: str) -> None:
    """Every format refuses something, and says nothing of what is no text."""
    assert valid({"format": name}, 12)
    assert not valid({"format": name}, "[\\ \ud800")


def test_unknown_formats_are_remarks() -> None:
    """A format that nobody knows, and contents of texts, are not checked."""
    assert valid({"format": "colour", "contentMediaType": "application/json"}, "x")


def test_schemas_are_kept() -> None:
    """The same content is made ready once, and 3 is another content than 3.0."""
    assert ready({"const": 3}) is ready({"const": 3})
    assert ready({"const": 3}) is not ready({"const": 3.0})
    assert len(schemas._KEPT) <= schemas.ENTRY_LIMIT


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, -2.0, 2**70, 2.0**70]),
    st.sampled_from(["", "a", "ab", "b"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b", "ab"]), inner, max_size=3),
    ),
    max_leaves=6,
)
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
NAMES = st.sampled_from(["a", "b", "ab"])


def one_keyword(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=2)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": st.one_of(
            st.sampled_from(TYPES),
            st.lists(st.sampled_from(TYPES), min_size=1, unique=True, max_size=3),
        ),
        "const": VALUES,
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "minimum": st.integers(-2, 2),
        "exclusiveMaximum": st.sampled_from([1, 0.5, 2**70]),
        "multipleOf": st.integers(1, 3),
        "minLength": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "minProperties": st.integers(0, 2),
        "pattern": st.sampled_from(["^a", "b$", "a|b"]),
        "uniqueItems": st.booleans(),
        "required": st.lists(NAMES, unique=True, max_size=2),
        "dependentRequired": st.dictionaries(NAMES, st.just(["a"]), max_size=2),
        "properties": st.dictionaries(NAMES, inner, max_size=2),
        "patternProperties": st.dictionaries(st.just("^a"), inner, max_size=1),
        "additionalProperties": inner,
        "propertyNames": inner,
        "prefixItems": several,
        "items": inner,
        "contains": inner,
        "maxContains": st.integers(0, 2),
        "minContains": st.integers(0, 2),
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "dependentSchemas": st.dictionaries(NAMES, inner, max_size=2),
        "unevaluatedItems": inner,
        "unevaluatedProperties": inner,
        "$ref": st.just("#/$defs/leaf"),
    }
    return st.fixed_dictionaries({}, optional=keywords).map(_few)


def _few(schema: dict[str, Any]) -> dict[str, Any]:
    return dict(list(schema.items())[:4])


@st.composite
def random_schemas(draw: st.DrawFn) -> dict[str, Any]:
    keywords = st.deferred(lambda: one_keyword(st.one_of(st.booleans(), leaf)))
    leaf = st.fixed_dictionaries(
        {}, optional={"type": st.sampled_from(TYPES), "const": SCALARS}
    )
    schema = {
        k: v for one in draw(st.lists(keywords, max_size=3)) for k, v in one.items()
    }
    return {"$defs": {"leaf": {"type": ["string", "integer"]}}, **schema}


@given(schema=random_schemas(), value=VALUES)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_agrees_with_the_reference(schema: dict[str, Any], value: Any) -> None:
    """Random values are valid exactly if the reference implementation says so."""
    Draft202012Validator.check_schema(schema)

    assert valid(schema, value) is Draft202012Validator(schema).is_valid(value)
