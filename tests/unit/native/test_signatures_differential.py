"""Signature text against the installed DSPy: the same, or a known difference."""

from __future__ import annotations

import re
import typing
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.contracts.failures import InvalidSignature
from dspex.native.signatures.compiling import compile_signature

pytestmark = pytest.mark.dspy
dspy = pytest.importorskip("dspy")
adapter_utils = pytest.importorskip("dspy.adapters.utils")
pytest.importorskip("dspy.experimental")  # DSPy looks there only once it is imported

HERE = Path(__file__).parent
TABLE = HERE.parents[2] / "docs" / "signatures.md"


class Line(NamedTuple):
    mark: str
    why: str
    text: str


def corpus() -> list[Line]:
    found = []
    lines = (HERE / "corpus" / "signatures.txt").read_text(encoding="utf-8")
    for line in lines.splitlines():
        if not line or line.startswith("# "):
            continue
        marked = re.fullmatch(r"([!~]) ([a-z-]+) \| ?(.*)", line)
        found.append(Line(*marked.groups()) if marked else Line("", "", line))
    return found


SAME, REFUSED, OTHER = (
    [line for line in corpus() if line.mark == mark] for mark in ("", "!", "~")
)


def ours(text: str) -> Any:
    compiled = compile_signature(text)
    slots = (*compiled.inputs, *compiled.outputs)
    return compiled.signature.instructions, [
        (f.name, f.kind, t.describe(), f.prefix, f.description) for f, t in slots
    ]


def theirs(text: str) -> Any:
    # To its cache, a union is any other one of the same members.
    for clear in typing._cleanups:  # type: ignore[attr-defined]  # for tests
        clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signature = dspy.Signature(text)
    return signature.instructions, [
        (
            name,
            "input" if name in signature.input_fields else "output",
            adapter_utils.get_annotation_name(field.annotation),
            field.json_schema_extra["prefix"],
            field.json_schema_extra["desc"],
        )
        for name, field in signature.fields.items()
    ]


def refuses(text: str) -> bool:
    try:
        theirs(text)
    except Exception:  # noqa: BLE001 - DSPy raises whatever it stumbles upon
        return True
    return False


def refusal(text: str) -> str | None:
    try:
        compile_signature(text)
    except InvalidSignature as failure:
        return failure.message
    return None


@pytest.mark.parametrize("line", SAME, ids=lambda line: line.text)
def test_texts_that_mean_the_same(line: Line) -> None:
    """Fields, kinds, types, prefixes, descriptions and instructions are DSPy's."""
    assert ours(line.text) == theirs(line.text)


@pytest.mark.parametrize("line", REFUSED, ids=lambda line: line.text[:40])
def test_texts_that_are_refused(line: Line) -> None:
    """What is refused says why; `both` marks what DSPy refuses too."""
    with pytest.raises(InvalidSignature) as caught:
        compile_signature(line.text)

    assert caught.value.message
    if line.why == "both":
        assert refuses(line.text)


@pytest.mark.parametrize("line", OTHER, ids=lambda line: line.text)
def test_texts_that_mean_more_here(line: Line) -> None:
    """What is read here and not as in DSPy is a difference indeed."""
    assert refuses(line.text) or ours(line.text) != theirs(line.text)


def test_every_difference_is_documented() -> None:
    """The table of differences and the corpus name the same, neither one more."""
    table = TABLE.read_text(encoding="utf-8").partition("## Differences")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \|", table, re.M)

    assert rows
    assert len(set(rows)) == len(rows)
    assert set(rows) == {line.why for line in corpus() if line.why} - {"both"}


CALLS = (
    "Signature|Predict|ChainOfThought|ReAct|ProgramOfThought|CodeAct|RLM|BestOfN|Refine"
    "|MultiChainComparison|Parallel|make_signature|ensure_signature"
)
QUOTED = re.compile(rf"""(?:{CALLS})\(\s*(["'])((?:(?!\1).)*?->(?:(?!\1).)*?)\1""")


def test_every_text_of_dspys_sources_is_known() -> None:
    """The corpus has each signature that the installed DSPy's own files show."""
    known = {"".join(line.text.split()) for line in corpus()}
    shown = {
        found[2]
        for path in Path(dspy.__file__).parent.rglob("*.py")
        for found in QUOTED.finditer(path.read_text(encoding="utf-8"))
    }

    assert "question -> answer" in shown
    assert [text for text in shown if "".join(text.split()) not in known] == []


TYPES = st.recursive(
    st.sampled_from(
        [
            "str", "int", "float", "bool", "bytes", "Any", "NoneType", "list", "dict",
            "tuple", "set", "frozenset", "datetime.date", "decimal.Decimal",
            "uuid.UUID", "dspy.Image", "dspy.History", "dspy.Code", "dspy.Reasoning",
            "dspy.ToolCalls", "Literal['a']", "Literal[1, True, None, \"it's\"]",
            "Literal['a', 'b', 'a']", "None",
        ]
    ),
    lambda inner: st.one_of(
        st.tuples(
            st.sampled_from(
                ["list", "List", "set", "Set", "frozenset", "Optional", "Union",
                 "typing.List", "typing.Union", "tuple", "Tuple", "(%)", "tuple[%,...]"]
            ),
            inner,
        ).map(lambda two: wrapped(*two)),
        st.tuples(inner, inner).map(lambda two: f"{two[0]} | {two[1]}"),
        st.tuples(
            st.sampled_from(["Union", "tuple", "dict", "Dict"]), inner, inner
        ).map(lambda three: f"{three[0]}[{three[1]}, {three[2]}]"),
        inner.map(lambda one: f"dict[str, {one}]"),
    ),
    max_leaves=5,
)  # fmt: skip
NAMES = st.sampled_from(
    "q a question rawHTML text2speech x9y HTTPServer_v2 äpfel type items is_ok b_ "  # noqa: SIM905 - words
    "ABC someName42Is".split()
)
SPACES = st.sampled_from(["", " ", "  ", "\n", "\t "])


def wrapped(outer: str, inner: str) -> str:
    return outer.replace("%", inner) if "%" in outer else f"{outer}[{inner}]"


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Signature text, with a blot on it now and then."""
    names = draw(st.lists(NAMES, min_size=2, max_size=5))
    split = draw(st.integers(1, len(names) - 1))
    fields = [
        draw(SPACES)
        + name
        + draw(st.just("") | TYPES.map(": {}".format))
        + draw(SPACES)
        for name in names
    ]
    comma = draw(st.sampled_from(["", "", ","]))
    text = f"{','.join(fields[:split])}{comma}->{','.join(fields[split:])}{comma}"
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        more = draw(st.sampled_from(["", ",", "]", "[", "|", " ", "(", ")", "'", ":"]))
        text = text[:at] + more + text[at + draw(st.integers(0, 2)) :]
    return text


@given(texts())
@settings(max_examples=150, deadline=None)
def test_what_is_read_is_read_as_dspy_does(text: str) -> None:
    """Whatever text is taken, DSPy takes too, and it means the same to both."""
    try:
        found = ours(text)
    except InvalidSignature:
        return  # DSPy is not asked: it would import what it does not know.
    if "NoneType" in text and re.search(r"dspy\.|typing\.", text):
        return  # the difference `beside`

    assert theirs(text) == found


@given(texts())
@settings(max_examples=60, deadline=None)
def test_sound_text_is_not_refused(text: str) -> None:
    """Text is refused only where DSPy refuses it, or for one of the known reasons."""
    why = refusal(text)

    assert why is None or KNOWN.search(why) or refuses(text), why


# Of what the texts above can hold, this is refused though DSPy reads it.
KNOWN = re.compile(
    "more than once|both an input and an output|None is not a type|elements of a"
    "|no input field|no output field|keys of a dict|takes .* in brackets|unknown type"
)
