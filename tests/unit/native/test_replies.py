"""Replies are read as DSPy read them, release by release, and within bounds."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts.failures import (
    InvalidInputs,
    InvalidSignature,
    OutputInvalid,
    ParseFailed,
    Unsupported,
)
from dspex.contracts.native_requests import ParseResponse, ToolSpec
from dspex.contracts.signatures import FieldSpec, SignatureSpec
from dspex.native.replies.json_text import REPAIR_LIMIT, braces
from dspex.native.replies.parsing import parse_response
from dspex.native.replies.sections import Sections, by_lines

if TYPE_CHECKING:
    from dspex.contracts.requests import Adapter

GOLDEN = json.loads((Path(__file__).parent / "golden" / "replies.json").read_text())
HEADERS = ("[[ ## a ## ]]", "[[ ## b ## ]]", "[[ ## completed ## ]]", "[[ ## x ## ]]")


def read(signature: Any, text: str, **more: Any) -> dict[str, Any]:
    """Parse a reply and return its fields."""
    body = ParseResponse(signature=signature, text=text, **more)
    return parse_response(body).fields


def spec(type_name: str, **more: Any) -> SignatureSpec:
    """A signature with one output ``a``."""
    types = {k: v for k, v in GOLDEN["types"].items() if k in type_name}
    fields = [
        FieldSpec(name="q", kind="input"),
        FieldSpec(name="a", kind="output", type=type_name, **more),
    ]
    return SignatureSpec(fields=fields, types=types)


def outcome(release: str, adapter: Adapter, type_name: str, text: str) -> Any:
    """The fields, null for what cannot be read, a word for what JSON cannot say."""
    try:
        return read(spec(type_name), text, adapter=adapter, dialect=release)
    except ParseFailed:
        return None
    except OutputInvalid:
        return "unsayable"


@pytest.mark.parametrize("release", GOLDEN["releases"])
def test_golden(release: str) -> None:
    """Every reply means what this release of DSPy found in it, or fails as it did."""
    at = GOLDEN["releases"].index(release)
    different = []
    for adapter, type_name, text, outcomes in GOLDEN["cases"]:
        known = [v for v in GOLDEN["releases"][: at + 1] if v in outcomes]
        if not known:
            continue
        found = outcome(release, adapter, type_name, text)
        wanted = outcomes[known[-1]]
        # As text: to Python 1, 1.0 and True are the same.
        if json.dumps(found, sort_keys=True) != json.dumps(wanted, sort_keys=True):
            different.append((adapter, type_name, text, wanted, found))

    assert different == []


@given(
    st.lists(
        st.sampled_from(
            ["x", " ", "\n", "\n", "\t", "\r\n", "\x0b", "\u2028", "[[ ## "]
        )
        | st.sampled_from([*HEADERS, *(f"\n{header}\n" for header in HEADERS)])
        | st.text(max_size=4),
        max_size=20,
    ),
    st.sampled_from([1, 400]),
)
def test_fast_and_slow_sections_agree(parts: list[str], times: int) -> None:
    """Looking for headers finds what going line by line finds."""
    text = "".join(part if "#" in part else part * times for part in parts)

    assert Sections(["a", "b"]).find(text) == by_lines(text, ["a", "b"])


def test_sections_as_asked_for() -> None:
    """A reply with the very headers of the prompt is cut there."""
    text = "[[ ## a ## ]]\n[[ ## b ## ]]\n one [[ \n\n[[ ## completed ## ]]\nbye"

    assert Sections(["a", "b"]).find(text) == {"a": "", "b": "one [["}


@pytest.mark.parametrize(
    ("type_name", "more", "dialect", "expected"),
    [
        ("int", {"default": 3}, "3.3.1", 3),
        ("int | None", {}, "3.3.1", None),
        ("int | None", {"default": 4}, "3.4.1", 4),
        ("int", {"default": 3}, "3.3.0", ParseFailed),
        ("int | None", {}, "3.0.4", ParseFailed),
        ("Any", {}, "3.4.1", ParseFailed),
    ],
)
def test_left_out(
    type_name: str, more: dict[str, Any], dialect: str, expected: Any
) -> None:
    """An output left out has its default, or null, from 3.3.1 on."""
    for adapter, text in (("chat", "[[ ## completed ## ]]"), ("json", "{}")):
        given = {"adapter": adapter, "dialect": dialect}
        if expected is ParseFailed:
            with pytest.raises(ParseFailed, match="does not hold 'a'"):
                read(spec(type_name, **more), text, **given)
        else:
            assert read(spec(type_name, **more), text, **given) == {"a": expected}


def test_a_default_is_not_shared() -> None:
    """Who changes a default that was filled in changes nobody else's."""
    first = read(spec("list[int]", default=[1]), "{}", adapter="json")
    first["a"].append(2)

    assert read(spec("list[int]", default=[1]), "{}", adapter="json") == {"a": [1]}


def test_empty() -> None:
    """An empty reply fails from 3.2 on; before, every output was null."""
    assert read("q -> a, b: int", "", dialect="3.1.3") == {"a": None, "b": None}
    with pytest.raises(ParseFailed, match="The reply is empty"):
        read("q -> a, b: int", "", dialect="3.2.0")


def test_order() -> None:
    """Outputs come in the order of the signature from 3.3.1 on, else of the reply."""
    text = "[[ ## b ## ]]\n1\n[[ ## a ## ]]\nx"

    assert [*read("q -> a, b", text)] == ["a", "b"]
    assert [*read("q -> a, b", text, dialect="3.0.4")] == ["b", "a"]


def test_failures_say_what_and_where() -> None:
    """A failure names the field and shows the reply, shortened."""
    with pytest.raises(ParseFailed) as missing:
        read("q -> a, b", f"[[ ## a ## ]]\n{'x' * 10_000}")
    assert missing.value.field == "b"
    assert "'b' of 'a', 'b'" in missing.value.message
    assert len(missing.value.message) < 500

    with pytest.raises(ParseFailed) as wrong:
        read("q -> a: list[int]", '[[ ## a ## ]]\n[1, 2, "three"]')
    assert wrong.value.field == "a"
    assert wrong.value.message == (
        "The reply's 'a' is no list[int]: '[1, 2, \"three\"]'. 2: Input should be a "
        "valid integer, unable to parse string as an integer."
    )


def test_chain_of_thought() -> None:
    """Its reply has the reasoning first; a signature cannot have one of its own."""
    text = "[[ ## reasoning ## ]]\nwell\n[[ ## a ## ]]\n7"

    found = read("q -> a: int", text, module="chain_of_thought")
    assert found == {"reasoning": "well", "a": 7}
    with pytest.raises(InvalidSignature, match="'reasoning' of its own"):
        read("q -> reasoning", text, module="chain_of_thought")


def test_react() -> None:
    """A step of it is a thought, a tool that exists, and its arguments."""
    text = '{"next_thought": "hm", "next_tool_name": "%s", "next_tool_args": {"x": 1}}'
    given: dict[str, Any] = {
        "module": "react",
        "adapter": "json",
        "tools": [ToolSpec(name="search")],
    }

    assert read("q -> a", text % "search", **given) == {
        "next_thought": "hm",
        "next_tool_name": "search",
        "next_tool_args": {"x": 1},
    }
    assert read("q -> a", text % "finish", **given)["next_tool_name"] == "finish"
    with pytest.raises(ParseFailed) as unknown:
        read("q -> a", text % "delete", **given)
    assert unknown.value.field == "next_tool_name"
    with pytest.raises(InvalidInputs):
        read("q -> a", text, **given | {"tools": [ToolSpec(name="finish")]})


def test_own_types() -> None:
    """Code is taken out of its fence, reasoning is text, other types are refused."""
    text = "[[ ## a ## ]]\nHere:\n```java\nint x;\n```\ndone"

    code = read("q -> a: dspy.Code['java']", text)
    assert code == {"a": {"$t": "Code", "language": "java", "code": "int x;"}}
    thought = read("q -> a: dspy.Reasoning", "[[ ## a ## ]]\n3")
    assert thought == {"a": {"$t": "Reasoning", "content": "3"}}
    with pytest.raises(Unsupported, match=r"dspy\.Image"):
        read("q -> a: dspy.Image", text)


def test_what_was_not_there_yet() -> None:
    """2.6.27 had no XML adapter, and no release is unknown."""
    with pytest.raises(Unsupported, match="XML"):
        read("q -> a", "<a>x</a>", adapter="xml", dialect="2.6.27")
    with pytest.raises(Unsupported, match=r"9\.9"):
        read("q -> a", "<a>x</a>", dialect="9.9")


def test_described_objects() -> None:
    """Objects of the client's own have their defaults and may contain themselves."""
    node = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2},
            "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            "tags": {"type": "array", "items": {"type": "string"}, "default": []},
        },
        "required": ["name"],
    }
    fields = [
        *spec("int").fields[:1],
        FieldSpec(name="a", kind="output", type="list[Node]"),
    ]
    signature = SignatureSpec(fields=fields, types={"Node": node})

    text = "[[ ## a ## ]]\n[{'name': 'ab', next: {'name': 'cd', 'more': 1}}]"
    inner = {"name": "cd", "tags": []}
    assert read(signature, text) == {"a": [{"name": "ab", "next": inner, "tags": []}]}
    with pytest.raises(ParseFailed, match="at least 2"):
        read(signature, "[[ ## a ## ]]\n[{'name': 'x'}]")


@given(st.text(alphabet="{}a", max_size=12))
def test_braces(text: str) -> None:
    """The part found is the leftmost one with as many braces closed as opened."""

    def whole(part: str) -> bool:
        depths = [
            part[: i + 1].count("{") - part[: i + 1].count("}")
            for i in range(len(part))
        ]
        return part[0] == "{" and min(depths) == depths[-1] == 0 not in depths[:-1]

    every = (text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1))
    assert braces(text) == next(filter(whole, every), None)


HOSTILE = [
    "[",
    "{",
    '"',
    '{"',
    "(",
    "-",
    "1+",
    "{{1'```json",
    "\\",
    "/*",
    "\u201c,{\u201c",
]


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("adapter", ["chat", "json"])
def test_knotty_json_is_refused_soon(unit: str, adapter: Adapter) -> None:
    """Whatever is repeated, a reply is read or refused within a bounded time."""
    for size in (8_000, REPAIR_LIMIT - 100):
        text = (unit * size)[:size]
        text = f"[[ ## a ## ]]\n{text}" if adapter == "chat" else f"{text} "
        begun = time.process_time()
        with contextlib.suppress(ParseFailed):
            read("q -> a: list[int]", text, adapter=adapter)
        assert time.process_time() - begun < 5


@pytest.mark.parametrize("dialect", ["3.0.4", "3.4.1"])
@pytest.mark.parametrize(
    "unit", ["<a>", "<a><b>", "</a>", "<", "&amp;", "<a x='", "<!--"]
)
def test_knotty_xml_is_refused_soon(unit: str, dialect: str) -> None:
    """However many tags there are, a reply is refused within a bounded time."""
    begun = time.process_time()
    with pytest.raises(ParseFailed):
        read("q -> a: int", unit * 30_000, adapter="xml", dialect=dialect)
    assert time.process_time() - begun < 5


def test_long_broken_json_is_refused() -> None:
    """What is longer than can be repaired in time says so."""
    with pytest.raises(ParseFailed, match="too long or too knotty") as refused:
        read("q -> a: list[int]", "[[ ## a ## ]]\n[1" + ",1" * REPAIR_LIMIT)
    assert refused.value.field == "a"


def test_entities_are_not_expanded() -> None:
    """A reply cannot define an entity that grows without end."""
    bomb = '<!DOCTYPE x [<!ENTITY e "ha"><!ENTITY f "&e;&e;">]><a>&f;</a>'
    with pytest.raises(ParseFailed, match="well-formed"):
        read("q -> a", bomb, adapter="xml")


@given(
    st.text(max_size=60) | st.text(alphabet="{}[]()\"':,a1-.\n\\ </>#", max_size=60),
    st.sampled_from(["int", "list[str]", "dict[str, int]", "str | None", "Any"]),
    st.sampled_from(["chat", "json", "xml"]),
    st.sampled_from(["2.6.27", "3.0.4", "3.4.1"]),
)
def test_only_typed_failures(
    text: str, type_name: str, adapter: Adapter, dialect: str
) -> None:
    """Any text is read or refused as one that cannot be."""
    if adapter == "chat":
        text = f"[[ ## a ## ]]\n{text}"
    if adapter == "xml":
        text = f"<a>{text}</a>"
        dialect = max(dialect, "3.0.0")
    try:
        found = read(f"q -> a: {type_name}", text, adapter=adapter, dialect=dialect)
    except (ParseFailed, OutputInvalid):
        return
    assert [*found] == ["a"]
