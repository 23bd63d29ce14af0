"""Values of the wire and values of DSPy."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from dspex.contracts.failures import OutputInvalid
from dspex.native.signatures.compiling import compile_signature
from dspex.services.worker.convert import neutralised, to_python, to_wire
from dspex.services.worker.streaming import FieldText

pytestmark = pytest.mark.dspy


class Colour(enum.Enum):
    RED = "red"


class Person(BaseModel):
    name: str
    born: datetime.date


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (True, True),
        (None, None),
        ("x", "x"),
        (b"hi", {"$t": "bytes", "data": "aGk="}),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
        (datetime.timedelta(hours=1), "PT1H"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        ({"b", "a"}, ["a", "b"]),
        ((1, 2.0), [1, 2.0]),
        ({1: {"x": b""}}, {"1": {"x": {"$t": "bytes", "data": ""}}}),
        (
            Person(name="A", born=datetime.date(2000, 1, 1)),
            {"name": "A", "born": "2000-01-01"},
        ),
    ],
)  # fmt: skip
def test_to_wire(value: Any, expected: Any) -> None:
    """Every value has the JSON form that the wire contract gives it."""
    found = to_wire(value)

    assert found == expected
    assert type(found) is type(expected)


def test_to_wire_refuses_what_json_cannot_say() -> None:
    """An object without a JSON form is a typed failure, never its ``str``."""
    with pytest.raises(OutputInvalid, match="object"):
        to_wire(object())


def test_to_python() -> None:
    """Inputs become the Python types their signature names."""
    compiled = compile_signature("d: date, s: set[int], o: Optional[Decimal] -> a")

    found = to_python(compiled, {"d": "2026-01-02", "s": [2, 1], "o": None})

    assert found == {"d": datetime.date(2026, 1, 2), "s": {1, 2}, "o": None}


def test_markers_are_neutralised_everywhere() -> None:
    """DSPy's markers are broken up wherever they stand, and nothing else is."""
    marker = "<<CUSTOM-TYPE-START-IDENTIFIER>>"

    found = neutralised({marker: [f"a{marker}b", {"x": "<<plain>>", "n": 3}]})

    assert marker not in repr(found)
    assert found["< <CUSTOM-TYPE-START-IDENTIFIER>>"][1] == {"x": "<<plain>>", "n": 3}


def test_field_text_is_a_beginning_of_the_final_text() -> None:
    """White space around a field never shows, white space inside it does."""
    text = FieldText()

    told = [text.add(chunk) for chunk in ("\n ", " one", " \n", "two", "\n\n")]

    assert told == ["", "one", "", " \ntwo", ""]
    assert text.rest("one \ntwo!") == "!"
    assert text.rest("other") == ""
    assert text.rest(7) == ""
