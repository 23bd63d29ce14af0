"""Values against signatures: what is valid, what is converted, every fault listed."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts.signatures import SignatureSpec
from dspex.native.checking.checking import Checked, Mode, check
from dspex.native.checking.faults import FAULT_LIMIT
from dspex.native.signatures.compiling import Compiled, compile_signature
from dspex.native.work import MATCH_LIMIT


def field(annotation: str, **more: object) -> Compiled:
    fields = [
        {"name": "a", "kind": "input", "type": annotation, **more},
        {"name": "z", "kind": "output"},
    ]
    return compile_signature(msgspec.convert({"fields": fields}, SignatureSpec))


def value(annotation: str, sent: object, mode: Mode = "strict", **more: object) -> Any:
    checked = check(field(annotation, **more), {"a": sent}, "inputs", mode)
    return checked.values["a"] if checked.valid else "invalid"


def faults(annotation: str, sent: object, mode: Mode = "strict") -> list[str]:
    checked = check(field(annotation), {"a": sent}, "inputs", mode)
    return [fault.path for fault in checked.errors]


BYTES = {"$t": "bytes", "data": "YWI="}


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("str", ["", "a"], [1, None, True, ["a"]]),
        ("int", [0, -5, 10**30], [True, 3.0, "3", None]),
        ("float", [0.5, 3], [True, "3", float("inf"), float("nan")]),
        ("bool", [True, False], [1, 0, "true"]),
        ("NoneType", [None], [0, ""]),
        ("Any", [None, [1, {"a": 2}]], []),
        ("bytes", [BYTES], ["ab", {"$t": "bytes", "data": "?"}, {"$t": "bytes"}]),
        ("date", ["2024-05-31"], ["2024-13-01", 3, "2024-05-31T00:00:00"]),
        ("datetime", ["2024-05-31T12:30:00Z", "2024-05-31T12:30:00"], ["noon", 1]),
        ("time", ["12:30:00"], ["25:00:00", 1]),
        ("timedelta", ["PT1H30M", "P2D"], ["1 hour", 60]),
        ("Decimal", ["19.90", 3, "-1e3"], [0.1, "NaN", "x", "1e99999", True]),
        ("UUID", ["12345678-1234-5678-1234-567812345678"], ["1234", 1]),
        ("list", [[], [1, "a"]], [{}, "a", None]),
        ("list[int]", [[1, 2]], [["1"], [True]]),
        ("set[int]", [[1, 2]], [[1, 1], [1, 1.0]]),
        ("set", [[1, True, "1"]], [[[1]], [{}], [2, 2.0]]),
        ("frozenset[tuple[int, str]]", [[[1, "a"]]], [[[1, "a"], [1, "a"]], [[1]]]),
        ("tuple", [[1, "a"]], ["a"]),
        ("tuple[()]", [[]], [[1]]),
        ("tuple[int, str]", [[1, "a"]], [[1], [1, "a", 2], ["a", 1], 1]),
        ("tuple[int, ...]", [[], [1, 2]], [["a"]]),
        ("dict", [{}, {"a": [1]}], [[], "a"]),
        ("dict[str, int]", [{"a": 1}], [{"a": "1"}]),
        ("dict[int, str]", [{"-1": "a"}], [{"01": "a"}, {"x": "a"}]),
        ("dict[float, str]", [{"1.5e3": "a"}], [{"x": "a"}]),
        ("dict[date, int]", [{"2024-05-31": 1}], [{"may": 1}]),
        ("dict[Literal['a', 1], int]", [{"a": 1, "1": 2}], [{"b": 1}]),
        ("Literal['a', 1, None]", ["a", 1, None], ["A", True, 1.0, "1"]),
        ("int | None", [1, None], ["1", False]),
        ("list[int] | dict[str, int]", [[1], {"a": 1}], [["a"], {"a": "b"}, 1]),
    ],
)
def test_strict_takes_json_values_as_they_are(
    annotation: str, good: list[object], bad: list[object]
) -> None:
    """Strictly, a value of the type comes back unchanged and any other is a fault."""
    assert [value(annotation, sent) for sent in good] == good
    assert [value(annotation, sent) for sent in bad] == ["invalid"] * len(bad)


@pytest.mark.parametrize(
    ("annotation", "sent", "found"),
    [
        ("int", "3", 3),
        ("int", " +1_000 ", 1000),
        ("int", "3.0", 3),
        ("int", 3.0, 3),
        ("int", True, 1),
        ("int", "3.5", "invalid"),
        ("int", 3.5, "invalid"),
        ("int", "9" * 5000, "invalid"),
        ("float", "0.5", 0.5),
        ("float", True, 1.0),
        ("float", "inf", "invalid"),
        ("float", "x", "invalid"),
        ("bool", "yes", True),
        ("bool", "OFF", False),
        ("bool", 1, True),
        ("bool", 2, "invalid"),
        ("bool", "maybe", "invalid"),
        ("str", 1, "invalid"),
        ("Decimal", 0.1, "0.1"),
        ("Decimal", " 1.5 ", " 1.5 "),
        ("bytes", "ab", BYTES),
        ("set[int]", [1, "1", 2], [1, 2]),
        ("list[int]", ["1", 2.0], [1, 2]),
        ("dict[str, bool]", {"a": "no"}, {"a": False}),
        ("int | str", "3", "3"),
        ("int | None", "3", 3),
        ("Literal['a']", "'a'", "invalid"),
    ],
)
def test_lax_converts_without_guessing(
    annotation: str, sent: object, found: object
) -> None:
    """The lax mode converts as pydantic does, and prefers a value as it is."""
    assert repr(value(annotation, sent, "lax")) == repr(found)


@pytest.mark.parametrize(
    ("annotation", "limits", "good", "bad"),
    [
        ("int", {"ge": 1, "le": 3}, [1, 3], [0, 4]),
        ("float", {"gt": 0, "lt": 1}, [0.5], [0, 1, 1.5]),
        ("float", {"multiple_of": 0.1}, [0.3, 1], [0.25]),
        ("Decimal", {"ge": 0.1, "multiple_of": 0.05}, ["0.10", 1], ["0.09", "0.11"]),
        ("Decimal", {"gt": 0}, ["1__0", "1_", "0.5", "٣"], ["-1__0", "0"]),
        ("int | None", {"ge": 1}, [None, 1], [0]),
        ("str", {"min_length": 2, "max_length": 3}, ["ab", "abc"], ["a", "abcd"]),
        ("list[int]", {"max_length": 1}, [[], [1]], [[1, 2]]),
        ("dict", {"min_length": 1}, [{"a": 1}], [{}]),
        ("bytes", {"min_length": 2}, [BYTES], [{"$t": "bytes", "data": "YQ=="}]),
        ("str", {"pattern": "^[a-z]+$"}, ["abc"], ["aB", ""]),
    ],
)
def test_constraints_are_enforced(
    annotation: str, limits: dict[str, object], good: list[object], bad: list[object]
) -> None:
    """A value within its constraints is valid; one outside is a fault."""
    checked = [value(annotation, sent, constraints=limits) for sent in [*good, *bad]]

    assert checked == [*good, *["invalid"] * len(bad)]


def test_every_fault_is_listed_with_its_place() -> None:
    """Faults are found in all fields, at any depth, and named by their path."""
    text = "n: int, people: list[dict[str, int]], extra: tuple[int, str] -> z"
    sent = {"n": "x", "people": [{"age": 1}, {"two words": "x"}], "extra": [1, 2]}

    checked = check(compile_signature(text), sent, "inputs")
    assert [fault.path for fault in checked.errors] == [
        "inputs.n",
        'inputs.people[1]["two words"]',
        "inputs.extra[1]",
    ]


def test_a_fault_says_what_is_there_and_what_is_allowed() -> None:
    """A fault names the value, what is allowed, and what the lax mode would do."""
    (fault,) = check(field("bool"), {"a": "yes"}, "inputs").errors

    assert (fault.found, fault.expected) == ('"yes" (string)', "bool (true or false)")
    assert fault.message == (
        'inputs.a is "yes" (string); allowed: bool (true or false). '
        "The lax mode reads it as true (boolean)."
    )


@pytest.mark.parametrize(
    ("annotation", "sent", "paths"),
    [
        ("list[int] | None", [1, "x"], ["inputs.a[1]"]),
        ("dict[str, int] | list[int]", {"k": "x"}, ["inputs.a.k"]),
        ("list[int] | list[str]", [1, "x"], ["inputs.a"]),
        ("int | str", [], ["inputs.a"]),
        ("dict[int, int]", {"x": "y"}, ["inputs.a.x", "inputs.a.x"]),
    ],
)
def test_a_union_tells_of_the_member_that_was_meant(
    annotation: str, sent: object, paths: list[str]
) -> None:
    """Faults inside a union are those of the one member of the value's kind."""
    assert faults(annotation, sent) == paths


def test_missing_fields_are_filled_or_reported() -> None:
    """A default is copied in, an optional field becomes null, others are faults."""
    default = [1]
    compiled = field("list[int]", default=default)
    optional = compile_signature("a: int | None, b -> z")

    first = check(compiled, {}, "inputs")
    first.values["a"].append(2)
    assert check(compiled, {}, "inputs").values == {"a": [1]}
    (fault,) = check(optional, {}, "inputs").errors
    assert (fault.path, fault.found) == ("inputs.b", "nothing")
    assert check(optional, {"b": ""}, "inputs").values == {"a": None, "b": ""}


def test_unknown_fields_are_reported_with_the_nearest_name() -> None:
    """A misspelt field is a fault that names the field that was meant."""
    compiled = compile_signature("question -> answer")

    checked = check(compiled, {"question": "", "qestion": ""}, "inputs")
    (fault,) = checked.errors
    assert fault.path == "inputs.qestion"
    assert "Did you mean 'question'?" in fault.message


def test_a_near_value_of_a_literal_is_suggested() -> None:
    """A value near one of a Literal's is answered with that one."""
    (fault,) = check(
        field("Literal['sports', 'news']"), {"a": "sport"}, "inputs"
    ).errors

    assert fault.expected == "one of 'sports', 'news'"
    assert fault.message.endswith("Did you mean 'sports'?")


@pytest.mark.parametrize("annotation", ["list[int]", "list[int] | None"])
def test_the_list_of_faults_has_an_end(annotation: str) -> None:
    """A long wrong list gives so many faults, and word that checking stopped."""
    errors = check(field(annotation), {"a": ["x"] * 1000}, "inputs").errors

    assert len(errors) == FAULT_LIMIT + 1
    assert errors[FAULT_LIMIT - 1].path == f"inputs.a[{FAULT_LIMIT - 1}]"
    assert (errors[-1].path, errors[-1].found) == ("", "more faults")


def test_raw_bytes_are_put_into_their_json_form() -> None:
    """Bytes that MessagePack carried as they are come back as their JSON form."""
    assert value("bytes", b"ab") == BYTES
    assert field("bytes", default=b"ab").signature.fields[0].default == BYTES


def test_a_text_too_long_for_its_pattern_is_a_fault() -> None:
    """A value is never matched against a pattern for longer than is bearable."""
    text = "".join(random.Random(0).choices("ab", k=100_000)) + "b" * 20
    compiled = field("str", constraints={"pattern": "(a|b)*a(a|b){12}$"})
    (fault,) = check(compiled, {"a": text}, "inputs").errors

    assert "short enough" in fault.expected
    for named in ("'(a|b)*a(a|b){12}$'", "100020 characters", str(MATCH_LIMIT)):
        assert named in fault.expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
ANNOTATIONS = [
    "str", "int", "float", "bool", "bytes", "date", "Decimal", "list[int]", "set",
    "tuple[int, str]", "dict[int, Any]", "Literal['a', 1]", "int | None",
    "list[str | int]", "set[tuple[int, ...]]", "dict[str, list[bool]] | float",
]  # fmt: skip


@given(JSON, st.sampled_from(["strict", "lax"]))
def test_no_value_breaks_the_check(sent: object, mode: Mode) -> None:
    """Any JSON value against any type is valid or a list of faults."""
    for annotation in ANNOTATIONS:
        checked = check(field(annotation), {"a": sent}, "inputs", mode)
        assert isinstance(checked, Checked)
        assert checked.valid != bool(checked.errors)


@given(JSON)
def test_what_lax_gives_is_valid_strictly(sent: object) -> None:
    """A value that the lax mode converted needs no second conversion."""
    for annotation in ANNOTATIONS:
        checked = check(field(annotation), {"a": sent}, "inputs", "lax")
        assert (
            not checked.valid
            or check(field(annotation), checked.values, "inputs").valid
        )
