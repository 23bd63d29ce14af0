"""Bounds: large values are checked at once or refused, and nothing goes on forever."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts.failures import InvalidInputs
from dspex.native.checking.accepting import acceptor
from dspex.native.checking.checking import check, check_demos
from dspex.native.checking.faults import FAULT_LIMIT, Enough, Run
from dspex.native.checking.reading import read_value
from dspex.native.checking.requiring import require, require_demos
from dspex.native.signatures.compiling import Compiled, compile_signature
from dspex.native.types.batches import DEPTH_LIMIT
from dspex.native.types.scalars import NO
from dspex.native.work import CHECK_LIMIT, TooMuch, Work

NESTED = "int"
for _ in range(9):
    NESTED = f"list[{NESTED}] | tuple[{NESTED}, ...]"


def signature(annotation: str) -> Compiled:
    return compile_signature(f"q: {annotation} -> a: {annotation}")


def nested(levels: int, inner: Any = 1) -> Any:
    for _ in range(levels):
        inner = {"k": inner}
    return inner


@pytest.mark.parametrize(
    ("annotation", "element"),
    [
        ("list[int]", 1),
        ("list[str]", "a"),
        ("list", []),
        ("list[int | str | None]", None),
        ("list[dict[str, int | None]]", {"x": 1}),
        ("list[list[int] | list[str]]", ["a"]),
        ("list[tuple[int, str]]", [1, "a"]),
        ("list[Literal['a', 'b']]", "a"),
        ("list[date]", "2024-05-31"),
        ("list[Decimal]", "1.5"),
    ],
)
def test_large_right_values_are_far_from_the_limit(
    annotation: str, element: Any
) -> None:
    """A hundred thousand right elements leave a third of what is allowed."""
    work = Work(CHECK_LIMIT)
    expr = signature(annotation).inputs[0].type

    assert acceptor(expr).accepts([[element] * 100_000], work)
    assert work.left > CHECK_LIMIT // 3


@pytest.mark.parametrize(
    ("annotation", "element"),
    [
        ("list[dict[str, int | str | None]]", {"x": 1.5}),
        ("list[list[int] | list[str]]", [1, "a"]),
        ("list[int] | None", "x"),
    ],
)
def test_checking_stops_at_the_limit_of_faults(annotation: str, element: Any) -> None:
    """A long wrong list is left after so many faults, and the work with it."""
    expr = signature(annotation).inputs[0].type
    run = Run()

    with pytest.raises(Enough):
        read_value(run, acceptor(expr), [element] * 80_000, "q")
    assert len(run.faults) == FAULT_LIMIT
    assert run.work.left > CHECK_LIMIT // 2


def test_one_wrong_element_of_many_is_found() -> None:
    """The one fault of a long list is named by its place, and the rest is right."""
    value = [1] * 200_000
    value[150_000] = "x"  # type: ignore[call-overload]

    (fault,) = check(signature("list[int] | None"), {"q": value}, "inputs").errors
    assert fault.path == "inputs.q[150000]"


@pytest.mark.parametrize(
    ("annotation", "value", "mode"),
    [
        (NESTED, [[[[[[[[["x"] * 99] * 99] * 9]]]]]], "strict"),
        ("list[int]", ["1"] * 200_000, "lax"),
    ],
)
def test_too_much_work_is_one_fault(annotation: str, value: Any, mode: Any) -> None:
    """A value that takes too long to check is refused as such."""
    fault, stopped = check(signature(annotation), {"q": value}, "inputs", mode).errors

    assert fault.path == "inputs.q"
    assert f"at most {CHECK_LIMIT} steps" in fault.expected
    assert stopped.path == ""


def test_numbers_of_one_hash_are_no_trap() -> None:
    """A set of numbers that Python would put into one place is checked as fast."""
    numbers = [i * (2**61 - 1) for i in range(30_000)]
    work = Work(CHECK_LIMIT)

    assert acceptor(signature("set[int]").inputs[0].type).accepts([numbers], work)
    assert not check(signature("set"), {"q": [2**61, 2.0**61]}, "inputs").valid


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("annotation", ["Any", "dict", "dict[str, Any]", "list | dict"])
def test_depth_has_a_limit(annotation: str, side: Any) -> None:
    """Values nested too deep are a fault with the first steps to it and the limit."""
    name = "q" if side == "inputs" else "a"
    compiled = signature(annotation)
    (fault,) = check(compiled, {name: nested(900)}, side).errors

    assert check(compiled, {name: nested(DEPTH_LIMIT)}, side).valid
    assert not check(compiled, {name: nested(DEPTH_LIMIT + 1)}, side).valid
    assert fault.path == f"{side}.{name}" + ".k" * 8
    assert f"at most {DEPTH_LIMIT} " in fault.expected


def test_the_way_to_the_depth_is_the_right_one() -> None:
    """Among many parts the one that is nested too deep is named."""
    value = [{"x": []}, {"two words": [0, nested(70)]}, nested(3)]
    (fault,) = check(signature("list"), {"q": value}, "inputs").errors

    assert fault.path.startswith('inputs.q[1]["two words"][1].k')


def test_a_failure_says_that_there_may_be_more() -> None:
    """The message of a failure shows a few faults and that the rest has no count."""
    with pytest.raises(InvalidInputs, match="And 12 more, or still more than that"):
        require(signature("list[int]"), {"q": ["x"] * 1000}, "inputs")


def test_suggestions_have_an_end() -> None:
    """Names are compared with only so many others in one check."""
    run = Run()
    names = [f"name{i}" for i in range(60)]

    assert "Did you mean 'name5'?" in run.near("nam5", names)
    assert run.near("nam6", names)
    assert run.near("nam7", names) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
ANNOTATIONS = [
    "float", "date", "Decimal", "Literal['a', 1]", "int | None", "Any | None", "tuple",
    "list[int]", "list[str | int]", "set", "set[int]", "set[tuple[int, ...]]", "bytes",
    "tuple[int, str]", "dict", "dict[int, Any]", "dict[str, list[bool]] | float",
    "list[int] | list[str]", "dict[str, int] | dict[str, str]", "list[dict | list]",
]  # fmt: skip


@given(JSON)
def test_both_ways_of_checking_agree(value: Any) -> None:
    """What is accepted at once has no faults, and what is not has some."""
    for annotation in ANNOTATIONS:
        node = acceptor(signature(annotation).inputs[0].type)
        run = Run()
        found = read_value(run, node, value, "q")
        accepted = node.accepts([value], Work(CHECK_LIMIT))
        assert accepted == (not run.faults and found is not NO), annotation


def test_work_ends() -> None:
    """Nothing is done beyond what is left."""
    work = Work(2)
    work.spend(2)

    with pytest.raises(TooMuch):
        work.spend(1)


def test_demos_hold_any_of_the_fields() -> None:
    """A demo may leave fields out, and hold a name that is no field but allowed."""
    compiled = compile_signature("q, n: int -> a: bool")

    assert check_demos(compiled, [{}, {"q": "x"}, {"a": True, "n": 1}]) == []
    assert check_demos(compiled, [{"reasoning": [1]}], ["reasoning"]) == []


def test_faults_of_demos_name_the_demo() -> None:
    """A wrong value, depth or name in a demo is a fault with its place."""
    compiled = compile_signature("question, n: int -> a: bool")
    demos: list[dict[str, Any]] = [
        {"n": 1},
        {"n": "1", "qestion": "", "a": True},
        {"r": nested(99)},
    ]

    errors = check_demos(compiled, demos, ["r"])
    assert [fault.path for fault in errors[:2]] == ["demos[1].n", "demos[1].qestion"]
    assert "Did you mean 'question'?" in errors[1].message
    assert errors[2].path.startswith("demos[2].r.k")


def test_many_demos_are_checked_together() -> None:
    """Tens of thousands of demos are within the limit, and one wrong one is found."""
    demos: list[dict[str, Any]] = [{"q": [1, 2], "a": "x"} for _ in range(30_000)]
    compiled = compile_signature("q: list[int] -> a")

    assert check_demos(compiled, demos) == []
    demos[20_000]["a"] = [3]
    (fault,) = check_demos(compiled, demos)
    assert fault.path == "demos[20000].a"


def test_wrong_demos_are_refused() -> None:
    """Demos that do not fit are refused like inputs."""
    with pytest.raises(InvalidInputs, match=r"demos\[0\]\.n is") as caught:
        require_demos(compile_signature("n: int -> a"), [{"n": "x"}])

    assert caught.value.field == "demos[0].n"
    require_demos(compile_signature("n: int -> a"), [{"n": 1}])
