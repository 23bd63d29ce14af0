"""Programs as data: whatever they are, they are understood or refused with a path."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.contracts import encoding
from dspex.contracts.failures import BadRequest, Failure
from dspex.contracts.program_parts import is_self_contained
from dspex.contracts.program_requests import RunProgram
from dspex.contracts.versions import Reference
from dspex.native.programs.describing import describe
from dspex.native.programs.nodes import read_reference, references
from dspex.native.programs.pinning import pinned
from dspex.native.programs.planning import check_inputs, plan

LEAF: dict[str, Any] = {"module": "predict", "signature": "question -> answer"}
FULL: dict[str, Any] = {
    "module": "chain",
    "steps": [
        {"program": LEAF, "outputs": {"answer": "draft"}},
        {
            "program": {
                "module": "branch",
                "on": "kind",
                "cases": {"a": LEAF | {"demos": [{"question": "q", "answer": "a"}]}},
                "otherwise": {
                    "module": "chain_of_thought",
                    "signature": "draft -> answer",
                },
            }
        },
        {
            "program": {
                "module": "refine",
                "program": "stored@2",
                "attempts": 2,
                "threshold": 0.5,
                "reward": {"subject": "dspex.v1.tool.r"},
            }
        },
        {
            "program": {
                "module": "map",
                "over": "draft",
                "into": "question",
                "program": LEAF,
            }
        },
        {
            "program": {
                "module": "react",
                "signature": "question -> answer",
                "tools": [{"name": "t", "subject": "dspex.v1.tool.t"}],
            }
        },
    ],
}


def read(program: Any) -> Any:
    body = {"program": program, "inputs": {}}
    return encoding.decode(json.dumps(body).encode(), RunProgram).program


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(LEAF),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*FULL, "program", "on", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [way]
    for key, inner in items if isinstance(value, dict | list) else ():
        found += (
            places(inner, (*way, key))
            if isinstance(inner, dict | list)
            else [(*way, key)]
        )
    return found


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(places(FULL)[1:]), JSON)
def test_anything_is_understood_or_refused(way: tuple[Any, ...], value: Any) -> None:
    """A specification with anything anywhere is planned, or refused by a failure."""
    program = json.loads(json.dumps(FULL))
    inner = program
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = value

    # What is raised otherwise fails the test.
    with contextlib.suppress(Failure):
        node = plan(read(program))
        describe(node)
        check_inputs(node, {"question": "a"})


@pytest.mark.parametrize(
    ("text", "found"),
    [("a", Reference("a", None)), ("a@3", Reference("a", 3)), ("A-b_9@12", None)],
)
def test_references(text: str, found: Reference | None) -> None:
    """A name, and perhaps the number of a version."""
    assert read_reference(text) == (found or Reference("A-b_9", 12))


@pytest.mark.parametrize("text", ["", "a@", "a@0", "a@x", "a.b", "a@1@2", "@1", "a b"])
def test_what_is_no_reference(text: str) -> None:
    """Everything else is refused."""
    with pytest.raises(BadRequest, match="is not the name of a program"):
        read_reference(text)


def test_references_are_pinned() -> None:
    """Every name without a version gets the one it has, wherever it stands."""
    program = read(
        {
            "module": "branch",
            "on": "x",
            "cases": {"1": "a", "2": {"module": "chain", "steps": [{"program": "b"}]}},
            "otherwise": {"module": "majority", "program": "c@1"},
        }
    )

    found = pinned(program, {"a": 7, "b": 8})

    assert sorted(references(program)) == ["a", "b", "c@1"]
    assert sorted(references(found)) == ["a@7", "b@8", "c@1"]


def test_programs_that_name_each_other_end() -> None:
    """A circle of stored programs is refused, and does not go on for ever."""
    circle = read({"module": "chain", "steps": [{"program": "a"}]})

    with pytest.raises(BadRequest, match="one specification too many"):
        plan("a", {"a": circle}.get)


@pytest.mark.parametrize(
    ("program", "contained"),
    [
        (LEAF, True),
        ({"module": "chain", "steps": [{"program": LEAF}]}, True),
        ({"module": "chain", "steps": [{"program": "a@1"}]}, False),
        ({"module": "python", "name": "a"}, False),
        (FULL, False),
        (LEAF | {"module": "react", "tools": [{"name": "t", "subject": "a"}]}, False),
        (LEAF | {"module": "react", "tools": []}, True),
    ],
)
def test_what_can_be_repeated(program: Any, contained: bool) -> None:
    """A program that names nothing else is the same whenever it is asked."""
    assert is_self_contained(read(program)) is contained


def test_faces_of_a_composition() -> None:
    """A chain takes what no step before gives, and gives what the last does."""
    node = plan(
        read(
            {
                "module": "chain",
                "steps": [
                    {"program": LEAF, "outputs": {"answer": "draft"}},
                    {
                        "program": {
                            "module": "predict",
                            "signature": "text, tone -> out",
                        },
                        "inputs": {"text": "draft"},
                    },
                ],
            }
        )
    )

    assert list(node.needs) == ["question", "tone"]
    assert node.required == {"question", "tone"}
    assert list(node.gives) == ["out"]
