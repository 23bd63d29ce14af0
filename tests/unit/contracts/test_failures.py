"""The failure tree is the tree its docstring draws."""

from __future__ import annotations

import re

import pytest

from dspex.contracts import failures
from dspex.contracts.failures import BY_CODE, CATEGORIES, Failure, nearest


def _drawing() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    branch = ""
    for line in (failures.__doc__ or "").splitlines():
        if match := re.match(r" +[├└]── (\w+) +(.*)", line):
            branch, rest = match.group(1), match.group(2)
            found[branch] = set()
        elif match := re.match(r" +│ {5,}(.*)", line):
            rest = match.group(1)
        else:
            continue
        found[branch] |= set(re.findall(r"\w+", rest))
    return found


DRAWN = _drawing()


def test_categories_are_drawn() -> None:
    """The drawing has every category, in order."""
    assert tuple(DRAWN) == CATEGORIES


def test_leaves_are_drawn() -> None:
    """Every leaf hangs where the drawing shows it, and none is missing."""
    tree = {
        category: {code for code, leaf in BY_CODE.items() if leaf.category == category}
        for category in CATEGORIES
    }

    assert tree == DRAWN


@pytest.mark.parametrize("code", BY_CODE)
def test_leaves_are_named_after_their_code(code: str) -> None:
    """A leaf's class is its code in capitals."""
    assert BY_CODE[code].__name__ == "".join(map(str.capitalize, code.split("_")))


@pytest.mark.parametrize("code", BY_CODE)
def test_callers_are_never_retried(code: str) -> None:
    """What the caller did wrong is not retryable; lack of room always is."""
    leaf = BY_CODE[code]

    assert not (leaf.category == "caller" and leaf.retryable)
    assert leaf.retryable or leaf.category != "capacity"
    assert (leaf.category == "caller") <= (400 <= leaf.status < 502)


def test_facts_are_attributes() -> None:
    """A failure carries its facts as attributes and its message as its text."""
    found = failures.InvalidInputs(
        "wrong", hint="do", field="inputs.a", retry_after_ms=5
    )

    assert isinstance(found, Failure)
    assert str(found) == found.message == "wrong"
    assert (found.hint, found.field, found.retry_after_ms) == ("do", "inputs.a", 5)


def test_internal_says_nothing_of_its_cause() -> None:
    """A caller is told that there is a defect, and where the details are."""
    found = failures.internal()

    assert found.code == "internal"
    assert "log" in found.hint


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("predict", "Did you mean 'predict'? Allowed: predict, react."),
        ("pedict", "Did you mean 'predict'? Allowed: predict, react."),
        ("zzz", "Allowed: predict, react."),
        ("", "Allowed: predict, react."),
    ],
)
def test_nearest(name: str, said: str) -> None:
    """The nearest name is offered where one is near, and all are listed."""
    assert nearest(name, {"react", "predict"}) == said
