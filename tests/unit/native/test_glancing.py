"""Signature text read at a glance: the same as read with care, or not at all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from tests.unit.native.test_signatures_differential import corpus, texts

from dspex.contracts.failures import InvalidSignature
from dspex.native.signatures.compiling import compile_signature
from dspex.native.signatures.glancing import glance
from dspex.native.signatures.parsing import parse

pytestmark = pytest.mark.dspy


def cared(text: str) -> list[tuple[Any, Any]] | None:
    """What the careful reader makes of a text."""
    try:
        found = parse(text)
    except InvalidSignature:
        return None
    return list(zip(found.signature.fields, found.types, strict=True))


def check(text: str) -> None:
    seen = glance(text)
    if seen is not None:
        assert [(field, one.expr) for field, one in seen] == cared(text)


@given(texts())
@settings(max_examples=300, deadline=None)
@example("a: Literal['x], b: int -> c: y']")
@example("a: Literal['x'], b -> c: Literal['->', ',', ']']")
@example("a: Literal['[', 'b'] -> c: Literal[']']")
@example("a -> b -> c")
@example("a: int -> b: ")
@example("a: int b -> c")
@example("a -> b, a")
@example("a -> " + ", ".join(f"b{n}" for n in range(256)))
@example("a -> b: " + "list[" * 40 + "int" + "]" * 40)
@example(f"{'a' * 129} -> b")
@example("a->b" + " " * 65536)
def test_a_glance_is_right(text: str) -> None:
    """What is made out at a glance is what is read with care, field by field."""
    check(text)


@pytest.mark.parametrize("line", corpus(), ids=lambda line: line.text[:40])
def test_known_texts(line: Any) -> None:
    """The same of every text of DSPy's own, and of those that are refused."""
    check(line.text)


@pytest.mark.parametrize(
    "text",
    [
        "question -> answer",
        "a, b : int->c:list[str] , d",
        "text -> kind: Literal['a, b', \"->\"], more: dict[str, list[tuple[int, str]]]",
        "q: dspy.Image, n: int | None -> a: Optional[float]",
    ],
)
def test_plain_texts_take_a_glance(text: str) -> None:
    """Plain texts are made out, and so cost little."""
    assert glance(text) is not None


def test_half_a_type_is_no_type() -> None:
    """A comma, a bracket or an arrow in quotes is never taken for one of the text's."""
    assert glance("a: Literal['x], b: int -> c: y']") is None


@pytest.mark.parametrize(
    "text",
    [
        r"a -> b: Literal['\x43USTOM-TYPE-START-IDENTIFIER']",
        "a -> b: Literal['CUSTOM-TYPE-END-IDENTIFIER']",
    ],
)
def test_marks_of_dspys_own(text: str) -> None:
    """A type with a mark of DSPy's in it is refused, seen before or not."""
    for _ in range(2):
        with pytest.raises(InvalidSignature, match="mark of its own"):
            compile_signature(text)


def test_what_is_shared_stays_as_it_is() -> None:
    """Signatures that share a type do not share what somebody does to an answer."""
    first = msgspec.to_builtins(compile_signature("a: list[str] -> b").signature)
    first["fields"][0]["schema"]["items"]["type"] = "changed"

    other = compile_signature("other: list[str] -> b").signature
    assert other.fields[0].schema == {"type": "array", "items": {"type": "string"}}
