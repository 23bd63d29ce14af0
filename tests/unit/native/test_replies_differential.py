"""Replies against the DSPy that is installed: the same values, or a failure too."""

from __future__ import annotations

import datetime
import enum
import json
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Optional, cast

import dspy
import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dspex.contracts.failures import OutputInvalid, ParseFailed
from dspex.contracts.native_requests import ParseResponse
from dspex.contracts.signatures import FieldSpec, SignatureSpec
from dspex.native.replies.parsing import parse_response
from dspex.services.worker.convert import to_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.contracts.requests import Adapter

pytestmark = pytest.mark.dspy

FAILS = "fails"
UNSAYABLE = "unsayable"

Shade = enum.Enum("Shade", {"RED": "r", "BLUE": "b b", "r": "RED"})
Grade = enum.Enum("Grade", {"LOW": 1, "HIGH": 2})


class Pet(pydantic.BaseModel):
    name: str
    age: Optional[int] = None  # noqa: UP045 - as clients write it


TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "Any": Any,
    "bytes": bytes,
    "date": datetime.date,
    "datetime": datetime.datetime,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "Decimal": Decimal,
    "UUID": uuid.UUID,
    "list": list,
    "list[str]": list[str],
    "list[int]": list[int],
    "set[int]": set[int],
    "tuple[int, str]": tuple[int, str],
    "tuple[float, ...]": tuple[float, ...],
    "dict[str, int]": dict[str, int],
    "dict[int, list[str]]": dict[int, list[str]],
    "dict": dict,
    "int | None": int | None,
    "str | None": str | None,
    "int | str": int | str,
    "list[int] | dict[str, int]": list[int] | dict[str, int],
    "bool | int | None": bool | int | None,
    "date | str": datetime.date | str,
    "Literal['a', 'b c']": Literal["a", "b c"],
    "Literal[1, 'x', True, None]": Literal[1, "x", True, None],
    "list[Literal['a', 'b']]": list[Literal["a", "b"]],
    "Shade": Shade,
    "Grade": Grade,
    "list[Shade]": list[Shade],
    "Pet": Pet,
    "list[Pet]": list[Pet],
    "Pet | None": Pet | None,
    "dspy.Code": dspy.Code,
    "dspy.Reasoning": dspy.Reasoning,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "Shade": {"enum": ["r", "b b", "RED"], "x-enum-varnames": ["RED", "BLUE", "r"]},
    "Grade": {"enum": [1, 2], "x-enum-varnames": ["LOW", "HIGH"]},
    "Pet": Pet.model_json_schema(),
}
ADAPTERS: dict[Adapter, Any] = {
    "chat": dspy.ChatAdapter(),
    "json": dspy.JSONAdapter(),
    "xml": dspy.XMLAdapter(),
}

WORDS = (  # noqa: SIM905 - words
    "a|b c|x|yes|3|0x10|1_000| 7 |None|True|2024-05-31|RED|b b|r|12:30|PT1H|19.90|"
    "2024-05-31T12:30:00Z|NaN|12345678-1234-5678-1234-567812345678|Literal[a]|'a'|"
    "it's|é ü|1.0|90%|-0|[1]|{}"
).split("|")
DAMAGE = ["", "", '"', "'", "{", "}", "[", "]", ",", "\n", "x", "(", "#", "\\"]
BREAKS = ["", " ", "\n", "\t", "[[ ## ", "}", "<b>", "\x0c", "&"]
WRAPPED = ["{}", "{}", "{}", "```json\n{}\n```", "So: {} .", " {} "]
ENDS = ["", "\n\n[[ ## completed ## ]]", "\n\n[[ ## completed ## ]]\n"]
TAGGED = ["1", "x", "", " 2 ", "<item>3</item>", "a &amp; b"]


def indented(value: Any) -> str:
    """JSON of several lines, with all characters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=1)


WRITERS: list[Callable[[Any], str]] = [str, json.dumps, indented]

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-10, 10)
    | st.floats(-10, 10)
    | st.sampled_from(WORDS)
    | st.text(max_size=5)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "age", "1", "k", "name"]), inner)
    ),
    max_leaves=6,
)
objects = st.fixed_dictionaries(
    {"name": st.sampled_from(["n", "", 3])},
    optional={"age": st.sampled_from([1, "2", None, "x"]), "more": leaves},
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """What a model may write for one value: JSON, Python, prose, or damaged."""
    value = draw(values | objects | st.lists(objects, max_size=2))
    write = draw(st.sampled_from(WRITERS))
    text = draw(st.sampled_from(WRAPPED)).replace("{}", write(value))
    return damaged(draw, text, DAMAGE, draw(st.sampled_from([0, 0, 1, 2])))


def damaged(draw: st.DrawFn, text: str, broken: list[str], times: int) -> str:
    """A text with something put in place of up to three characters."""
    for _ in range(times):
        at = draw(st.integers(0, len(text)))
        put = draw(st.sampled_from(broken))
        text = text[:at] + put + text[at + draw(st.integers(0, 3)) :]
    return text


@st.composite
def inner_xml(draw: st.DrawFn) -> str:
    """What a model may write between tags."""
    if draw(st.booleans()):
        return draw(texts())
    tags = st.sampled_from(["item", "name", "age", "k", "code"])
    pairs = draw(st.lists(st.tuples(tags, st.sampled_from(TAGGED)), max_size=3))
    return "".join(f"<{tag}>{inside}</{tag}>" for tag, inside in pairs)


@st.composite
def replies(draw: st.DrawFn, adapter: Adapter, names: list[str]) -> str:
    """A reply in the format of an adapter, mostly well-formed."""
    some = st.lists(st.sampled_from([*names, *names, "other"]), max_size=4)
    shown = draw(st.just(names) | st.just(names) | some)
    if adapter == "json":
        text = json.dumps({n: draw(values | objects | texts()) for n in shown})
    elif adapter == "chat":
        space = draw(st.sampled_from(["\n", "\n", " ", "", "\r\n", "\u2028"]))
        text = "\n\n".join(f"[[ ## {n} ## ]]{space}{draw(texts())}" for n in shown)
        text += draw(st.sampled_from(ENDS))
    else:
        text = "\n".join(f"<{n}>{draw(inner_xml())}</{n}>" for n in shown)
    return damaged(draw, text, BREAKS, draw(st.sampled_from([0, 0, 0, 1, 2])))


def spoken(value: Any) -> Any:
    """A value of DSPy on the wire; its own types are tagged there."""
    if isinstance(value, dspy.Code):
        return {"$t": "Code", "language": "python", "code": to_wire(value.code)}
    if isinstance(value, dspy.Reasoning):
        return {"$t": "Reasoning", "content": to_wire(value.content)}
    return to_wire(value)


def by_dspy(adapter: Adapter, types: dict[str, str], text: str) -> Any:
    """What the installed DSPy makes of a reply."""
    fields: dict[str, Any] = {"q": (str, dspy.InputField())}
    for name, written in types.items():
        fields[name] = (TYPES[written], dspy.OutputField())
    signature = cast("Any", dspy.Signature)(fields, "Answer.")
    try:
        found = ADAPTERS[adapter].parse(signature, text)
    except Exception:  # noqa: BLE001 - whatever it is, no program goes on
        return FAILS
    try:
        return {name: spoken(value) for name, value in found.items()}
    except OutputInvalid:
        return UNSAYABLE


def natively(adapter: Adapter, types: dict[str, str], text: str) -> Any:
    """What is made of a reply here."""
    fields = [FieldSpec(name="q", kind="input")]
    fields += [FieldSpec(name=n, kind="output", type=t) for n, t in types.items()]
    used = " ".join(types.values())
    known = {name: schema for name, schema in SCHEMAS.items() if name in used}
    spec = SignatureSpec(fields=fields, types=known)
    try:
        return parse_response(
            ParseResponse(signature=spec, text=text, adapter=adapter)
        ).fields
    except ParseFailed:
        return FAILS
    except OutputInvalid:
        return UNSAYABLE


def compare(adapter: Adapter, types: dict[str, str], text: str) -> None:
    """Both make the same of a reply."""
    wanted, found = by_dspy(adapter, types, text), natively(adapter, types, text)
    # As text: to Python 1, 1.0 and True are the same. The order counts, too.
    assert json.dumps(found) == json.dumps(wanted), (adapter, types, text)


slowly = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
def test_replies(adapter: Adapter) -> None:
    """Replies, sound and damaged, give the same values or a failure too."""

    @slowly
    @given(st.data())
    def run(data: st.DataObject) -> None:
        names = data.draw(st.sampled_from([["a"], ["a", "b"], ["b", "a", "c"]]))
        types = {name: data.draw(st.sampled_from(sorted(TYPES))) for name in names}
        # DSPy asks no adapter about an empty reply.
        compare(adapter, types, data.draw(replies(adapter, names).filter(bool)))

    run()


@slowly
@given(st.sampled_from(sorted(TYPES)), texts())
@example("int", "1" * 5000)
@example("float", "1e999")
@example("Any", "...")
@example("Any", "3j")
@example("Any", '{"a": "\\ud800"}')
@example("list[int]", "(1, 2)")
@example("str | None", "")
def test_values(written: str, text: str) -> None:
    """One value of any type gives the same in a section of a chat reply."""
    compare("chat", {"a": written}, f"[[ ## a ## ]]\n{text}\n\n[[ ## completed ## ]]")
