"""Prompts against the DSPy that is installed: the same bytes for whatever is sent."""

from __future__ import annotations

import base64
import datetime
import enum
import uuid
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Optional, Union, cast

import dspy
import msgspec
import pydantic
import pytest
from dspy.adapters.types.tool import ToolCallResults
from dspy.experimental import Document
from dspy.signatures.signature import make_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex.contracts.native_requests import RenderPrompt, ToolSpec
from dspex.contracts.signatures import Constraints, FieldSpec, SignatureSpec
from dspex.native.prompts.rendering import render_prompt

pytestmark = pytest.mark.dspy

ADAPTERS = {
    "chat": dspy.ChatAdapter,
    "json": lambda: dspy.JSONAdapter(use_native_function_calling=False),
    "xml": dspy.XMLAdapter,
}


Shade = enum.Enum("Shade", {"RED": "r", "BLUE": "b b", "QUOTED": "it's"})
Grade = enum.Enum("Grade", {"LOW": 1, "HIGH": 2})


class Pet(pydantic.BaseModel):
    name: str
    type: str = "cat"


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(description="who é")
    age: Optional[int] = None  # noqa: UP045 - as clients write it
    pets: list[Pet] = []
    best: Optional[Pet] = None  # noqa: UP045


class Node(pydantic.BaseModel):
    value: int
    next: Optional[Node] = None  # noqa: UP045


NO_TYPES: dict[str, Any] = {}


class Kind(NamedTuple):
    """A type, and values of it as JSON and in Python."""

    text: str
    annotation: Any
    values: st.SearchStrategy[tuple[Any, Any]]
    types: dict[str, Any] = NO_TYPES


def same(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    return values.map(lambda value: (value, value))


def both(values: st.SearchStrategy[Any], write: Any) -> Any:
    return values.map(lambda value: (write(value), value))


LETTERS = st.text(
    st.one_of(
        st.sampled_from("ab «»\n\t\r<>&\"'\\{}[]é漢\x00\x85\u2028🙂 "),
        st.characters(codec="utf-8"),
    ),
    max_size=12,
)
TEXTS = st.one_of(
    LETTERS,
    st.sampled_from(["", "  padded  ", "[[ ## a ## ]]", "line\n\n  two\n", "None"]),
)
NUMBERS = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.just(1e22)
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=5,
)
ZONES = st.sampled_from(
    [
        None,
        datetime.UTC,
        datetime.timezone(datetime.timedelta(hours=2)),
        datetime.timezone(datetime.timedelta(hours=-5, minutes=-30)),
    ]
)
DURATIONS = st.timedeltas(
    min_value=datetime.timedelta(days=-800), max_value=datetime.timedelta(days=800)
)


def duration(value: datetime.timedelta) -> str:
    text: str = msgspec.json.decode(msgspec.json.encode(value))
    return text


def model(kind: Any) -> tuple[Any, dict[str, Any]]:
    schema = kind.model_json_schema() if hasattr(kind, "model_json_schema") else None
    if schema is None:
        return pydantic.TypeAdapter(kind).json_schema(), {}
    found = schema.pop("$defs", {})
    if "$ref" in schema:
        schema = found.pop(kind.__name__)
    return schema, found


def types_of(kind: Any) -> dict[str, Any]:
    schema, others = model(kind)
    return {kind.__name__: schema, **others}


def instances(kind: Any, values: st.SearchStrategy[Any]) -> Any:
    def pair(value: Any) -> tuple[Any, Any]:
        built = kind(**value)
        return built.model_dump(), built

    return values.map(pair)


PETS = st.fixed_dictionaries({"name": TEXTS, "type": TEXTS})
PEOPLE = st.fixed_dictionaries(
    {
        "name": TEXTS,
        "age": st.none() | st.integers(),
        "pets": st.lists(PETS, max_size=2),
        "best": st.none() | PETS,
    }
)
NODES = st.recursive(
    st.fixed_dictionaries({"value": st.integers(), "next": st.none()}),
    lambda inner: st.fixed_dictionaries({"value": st.integers(), "next": inner}),
    max_leaves=3,
)


def tagged(value: bytes) -> dict[str, str]:
    return {"$t": "bytes", "data": base64.b64encode(value).decode()}


FLAT = [
    Kind("str", str, same(TEXTS)),
    Kind("int", int, same(st.integers())),
    Kind("bool", bool, same(st.booleans())),
    Kind("date", datetime.date, both(st.dates(), datetime.date.isoformat)),
    Kind(
        "datetime",
        datetime.datetime,
        both(
            st.datetimes(timezones=ZONES).map(lambda value: value.replace(fold=0)),
            datetime.datetime.isoformat,
        ),
    ),
    Kind("time", datetime.time, both(st.times(), datetime.time.isoformat)),
    Kind("timedelta", datetime.timedelta, both(DURATIONS, duration)),
    Kind(
        "Decimal",
        Decimal,
        both(st.decimals(allow_nan=False, allow_infinity=False, places=2), str),
    ),
    Kind("UUID", uuid.UUID, both(st.uuids(), str)),
    Kind(
        "bytes",
        bytes,
        both(TEXTS.map(str.encode), tagged),
    ),
    Kind(
        "Literal['x', \"it's\", 2, True, None]",
        Literal["x", "it's", 2, True, None],
        same(st.sampled_from(["x", "it's", 2, True, None])),
    ),
    Kind("Literal['only']", Literal["only"], same(st.just("only"))),
]
SCHEMAS = [
    Kind(
        "Shade",
        Shade,
        both(st.sampled_from(list(Shade)), lambda member: member.value),
        types_of(Shade),
    ),
    Kind(
        "Grade",
        Grade,
        both(st.sampled_from(list(Grade)), lambda member: member.value),
        types_of(Grade),
    ),
    Kind("Pet", Pet, instances(Pet, PETS), types_of(Pet)),
    Kind("Person", Person, instances(Person, PEOPLE), types_of(Person)),
    Kind("Node", Node, instances(Node, NODES), types_of(Node)),
]
LEAVES = [
    *FLAT,
    Kind("float", float, same(NUMBERS)),
    Kind("NoneType", type(None), same(st.none())),
    Kind("Any", Any, same(ANYTHING)),
    Kind("list", list, same(st.lists(ANYTHING, max_size=3))),
    Kind("dict", dict, same(st.dictionaries(TEXTS, ANYTHING, max_size=3))),
    *SCHEMAS,
]


def unzipped(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [one for one, _ in pairs], [other for _, other in pairs]


def listed(inner: Kind) -> Kind:
    return Kind(
        f"list[{inner.text}]",
        list[inner.annotation],  # type: ignore[name-defined]  # made of values
        st.lists(inner.values, max_size=3).map(unzipped),
        inner.types,
    )


def mapped(inner: Kind) -> Kind:
    pairs = st.dictionaries(TEXTS, inner.values, max_size=3)
    return Kind(
        f"dict[str, {inner.text}]",
        dict[str, inner.annotation],  # type: ignore[name-defined]  # made of values
        pairs.map(
            lambda found: (
                {key: one for key, (one, _) in found.items()},
                {key: other for key, (_, other) in found.items()},
            )
        ),
        inner.types,
    )


def optional(inner: Kind) -> Kind:
    if inner.annotation in (Any, type(None)) or "None" in inner.text:
        return inner
    return Kind(
        f"Optional[{inner.text}]",
        Optional[inner.annotation],  # noqa: UP045 - made of values
        st.just((None, None)) | inner.values,
        inner.types,
    )


def paired(first: Kind, second: Kind) -> Kind:
    return Kind(
        f"tuple[{first.text}, {second.text}]",
        tuple[first.annotation, second.annotation],  # type: ignore[name-defined]
        st.tuples(first.values, second.values).map(
            lambda found: (
                [found[0][0], found[1][0]],
                (found[0][1], found[1][1]),
            )
        ),
        first.types | second.types,
    )


def gathered(inner: Kind) -> Kind:
    def pair(pairs: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        sent, values = unzipped(pairs)
        return sent, set(values)

    return Kind(
        f"set[{inner.text}]",
        set[inner.annotation],  # type: ignore[name-defined]  # made of values
        st.lists(inner.values, max_size=3, unique_by=lambda one: repr(one[1])).map(
            pair
        ),
        inner.types,
    )


BINARY = Kind("bytes", bytes, both(st.binary(max_size=4), tagged))
"""What is no text makes DSPy print all of the value as Python."""
BINARIES = st.sampled_from([BINARY, listed(BINARY), mapped(paired(BINARY, FLAT[4]))])
EITHER = Kind(
    "Union[int, str, list[bool]]",
    Union[int, str, list[bool]],  # noqa: UP007 - as types are built
    same(st.integers() | TEXTS | st.lists(st.booleans(), max_size=2)),
)
KEYED = Kind(
    "dict[int, float]",
    dict[int, float],
    st.dictionaries(st.integers(), st.integers(), max_size=3).map(
        lambda found: ({str(key): value for key, value in found.items()}, found)
    ),
)
KINDS: st.SearchStrategy[Kind] = st.recursive(
    st.sampled_from([*LEAVES, EITHER, KEYED]),
    lambda inner: st.one_of(
        inner.map(listed),
        inner.map(mapped),
        inner.map(optional),
        st.builds(paired, inner, inner),
        st.sampled_from(FLAT[:9]).map(gathered),
    ),
    max_leaves=3,
)
UNFIT = same(st.sampled_from([None, "unfit"]))
"""DSPy writes a value of another type as it is."""
WRONG = {"str": same(st.lists(TEXTS, max_size=3))}
INSTRUCTIONS = st.none() | st.lists(
    st.one_of(st.text(" \t", max_size=3), LETTERS, st.sampled_from(["Do it.", "  é"])),
    max_size=4,
).map("\n".join)
NAMES = ("question", "b", "reply2", "größe", "x_y", "answer", "N")


class Field(NamedTuple):
    """A field of a signature, for both sides."""

    spec: FieldSpec
    kind: Kind
    info: Any


@st.composite
def fields(draw: st.DrawFn, side: Literal["input", "output"], name: str) -> Field:
    kind = draw(KINDS | BINARIES if side == "input" else KINDS)
    described = draw(st.none() | TEXTS)
    limits: dict[str, Any] = {}
    if kind.text in ("int", "float"):
        limits = draw(st.sampled_from([{}, {"ge": 0, "le": 9}, {"multiple_of": 2}]))
    if kind.text == "str":
        limits = draw(st.sampled_from([{}, {"min_length": 1, "max_length": 80}]))
    make = dspy.InputField if side == "input" else dspy.OutputField
    more = {} if described is None else {"desc": described}
    return Field(
        FieldSpec(
            name=name,
            kind=side,
            type=kind.text,
            description=described,
            constraints=Constraints(**limits) if limits else None,
        ),
        kind,
        make(**limits, **more),
    )


class Case(NamedTuple):
    """A request, and what DSPy takes for it."""

    body: dict[str, Any]
    signature: Any
    demos: list[dict[str, Any]]
    inputs: dict[str, Any]


def some(draw: st.DrawFn, found: list[Field], leave: bool) -> tuple[dict, dict]:  # type: ignore[type-arg]
    sent: dict[str, Any] = {}
    built: dict[str, Any] = {}
    for field in found:
        if leave and draw(st.integers(0, 3)) == 0:
            continue
        one, other = draw(field.kind.values | WRONG.get(field.kind.text, UNFIT))
        sent[field.spec.name], built[field.spec.name] = one, other
    return sent, built


@st.composite
def cases(draw: st.DrawFn) -> Case:
    names = draw(st.permutations(NAMES))
    split = draw(st.integers(1, 3))
    inputs = [draw(fields("input", name)) for name in names[:split]]
    count = draw(st.integers(1, 3))
    outputs = [draw(fields("output", name)) for name in names[split : split + count]]
    sent, built = some(draw, inputs, leave=True)
    demos = [
        some(draw, [*inputs, *outputs], leave=draw(st.booleans()))
        for _ in range(draw(st.integers(0, 3)))
    ]
    text = draw(INSTRUCTIONS)
    every = [*inputs, *outputs]
    wanted: dict[str, Any] = {f.spec.name: (f.kind.annotation, f.info) for f in every}
    specs = [field.spec for field in every]
    if draw(st.booleans()):
        turns = [
            some(
                draw, [f for f in every if f.kind.text in ("str", "int", "Any")], True
            )[0]
            for _ in range(draw(st.integers(0, 2)))
        ]
        sent["talk"] = {"messages": turns}
        built["talk"] = dspy.History(messages=turns)
        wanted = {"talk": (dspy.History, dspy.InputField()), **wanted}
        specs.insert(0, FieldSpec(name="talk", kind="input", type="dspy.History"))
    types: dict[str, Any] = NO_TYPES
    for field in every:
        types |= field.kind.types
    spec = SignatureSpec(fields=specs, instructions=text, types=types)
    own = text if text and text.strip() else None
    return Case(
        {"signature": spec, "inputs": sent, "demos": [one for one, _ in demos]},
        make_signature(wanted, own),
        # A worker shows examples as they were sent.
        [one for one, _ in demos],
        built,
    )


def rendered(**body: Any) -> Any:
    return msgspec.to_builtins(render_prompt(RenderPrompt(**body)).messages)


FAST = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("adapter", ADAPTERS)
@given(case=cases())
@FAST
def test_same_messages(adapter: Any, case: Case) -> None:
    """Whatever the signature, the values, the examples and the history are."""
    expected = ADAPTERS[adapter]().format(case.signature, case.demos, dict(case.inputs))

    assert rendered(**case.body, adapter=adapter) == expected


@given(case=cases())
@FAST
def test_chain_of_thought(case: Case) -> None:
    """With a reasoning first, as `dspy.ChainOfThought` asks for it."""
    module = dspy.ChainOfThought(case.signature)
    expected = dspy.ChatAdapter().format(
        cast("Any", module.predict.signature), case.demos, dict(case.inputs)
    )

    assert rendered(**case.body, module="chain_of_thought") == expected


TOOLS = st.lists(
    st.builds(
        ToolSpec,
        name=st.sampled_from(["search", "add", "look_up", "größe"]),
        description=LETTERS,
        schema=st.fixed_dictionaries(
            {"properties": st.dictionaries(TEXTS, st.dictionaries(TEXTS, ANYTHING))}
        ),
    ),
    unique_by=lambda tool: tool.name,
    max_size=3,
)
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "thought": TEXTS,
            "tool_name": TEXTS,
            "tool_args": st.dictionaries(TEXTS, ANYTHING, max_size=2),
            "observation": st.lists(TEXTS, max_size=3) | TEXTS | NUMBERS,
        }
    ),
    max_size=2,
)


@pytest.mark.parametrize("adapter", ADAPTERS)
@given(case=cases(), tools=TOOLS, steps=STEPS)
@settings(FAST, max_examples=25)
def test_react(
    adapter: Any, case: Case, tools: list[ToolSpec], steps: list[dict[str, Any]]
) -> None:
    """With the tools in the instructions and the steps so far as an input."""
    known = [
        dspy.Tool(
            lambda: None,
            name=tool.name,
            desc=tool.description,
            args=tool.schema["properties"],
        )
        for tool in tools
    ]
    module = dspy.ReAct(case.signature, known)
    done = {f"{key}_{i}": v for i, step in enumerate(steps) for key, v in step.items()}
    with dspy.context(adapter=ADAPTERS[adapter]()):
        text = module._format_trajectory(done)
    expected = ADAPTERS[adapter]().format(
        module.react.signature, [], {**case.inputs, "trajectory": text}
    )

    body = {**case.body, "demos": []}
    assert (
        rendered(**body, module="react", adapter=adapter, tools=tools, trajectory=done)
        == expected
    )


def fenced(code: str) -> str:
    return f"Here:\n```java\n{code}\n``` and ```more```"


BASE64 = st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode())
OWN: dict[str, tuple[Any, st.SearchStrategy[dict[str, Any]]]] = {
    "dspy.Image": (
        dspy.Image,
        st.fixed_dictionaries({"url": BASE64.map("data:image/png;base64,{}".format)}),
    ),
    "dspy.Audio": (
        dspy.Audio,
        st.fixed_dictionaries({"data": BASE64, "audio_format": st.just("wav")}),
    ),
    "dspy.File": (
        dspy.File,
        st.fixed_dictionaries(
            {"file_data": BASE64.map("data:text/plain;base64,{}".format)},
            optional={"file_id": LETTERS, "filename": LETTERS},
        ),
    ),
    "dspy.experimental.Document": (
        Document,
        st.fixed_dictionaries(
            {"data": TEXTS},
            optional={
                "title": TEXTS,
                "context": TEXTS,
                "media_type": st.sampled_from(["text/plain", "application/pdf"]),
            },
        ),
    ),
    "dspy.Code": (
        dspy.Code,
        st.fixed_dictionaries(
            {"code": TEXTS | TEXTS.map(fenced) | LETTERS.map("```{}```".format)}
        ),
    ),
    "dspy.Reasoning": (dspy.Reasoning, st.fixed_dictionaries({"content": TEXTS})),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("kind", OWN)
@given(data=st.data())
@settings(FAST, max_examples=15)
def test_types_of_dspy(adapter: Any, kind: str, data: st.DataObject) -> None:
    """DSPy's own types, alone, in a list and in an object."""
    cls, values = OWN[kind]
    found = data.draw(st.lists(values, min_size=3, max_size=3))
    sent = [{"$t": kind.rpartition(".")[2], **value} for value in found]
    built = [cls(**value) for value in found]
    signature = make_signature(
        {
            "one": (cls, dspy.InputField()),
            "some": (list[cls], dspy.InputField()),  # type: ignore[valid-type]  # given
            "named": (dict[str, cls], dspy.InputField()),  # type: ignore[valid-type]  # given
            "a": (str, dspy.OutputField()),
        },
        "Look.",
    )
    demo = {"one": built[1], "some": built[:1], "named": {"é": built[2]}, "a": "x"}
    expected = ADAPTERS[adapter]().format(
        signature,
        [demo],
        {"one": built[0], "some": built[1:], "named": {"k": built[0]}},
    )

    assert (
        rendered(
            signature=f"one: {kind}, some: list[{kind}], named: dict[str, {kind}] -> a",
            instructions="Look.",
            demos=[
                {"one": sent[1], "some": sent[:1], "named": {"é": sent[2]}, "a": "x"}
            ],
            inputs={"one": sent[0], "some": sent[1:], "named": {"k": sent[0]}},
            adapter=adapter,
        )
        == expected
    )


CALLS = {"tool_calls": [{"id": "1", "name": "search", "args": {"q": "é"}}]}
RESULTS = [{"call_id": "1", "name": "search", "value": {"n": 1}}]


@pytest.mark.parametrize("adapter", ["chat", "xml"])
@pytest.mark.parametrize("results", [None, RESULTS])
def test_tool_calls(adapter: Any, results: Any) -> None:
    """Tools, their calls and the results of these in a history."""
    fields: dict[str, Any] = {
        "q": (str, dspy.InputField()),
        "tools": (list[dspy.Tool], dspy.InputField()),
        "h": (dspy.History, dspy.InputField()),
        "calls": (dspy.ToolCalls, dspy.OutputField()),
        "code": (dspy.Code["java"], dspy.OutputField()),
        "im": (Optional[dspy.Image], dspy.OutputField()),  # noqa: UP045 - as built
        "why": (dspy.Reasoning, dspy.OutputField()),
        "done": (list[ToolCallResults], dspy.OutputField()),
    }
    signature = make_signature(fields, "Call.")
    told = {**CALLS, "tool_call_results": results} if results else CALLS
    turns = [{"q": "first", "calls": told}, {"calls": CALLS}]
    args = {"q": {"type": "string"}}
    tool = dspy.Tool(lambda: None, name="search", desc="Find\nit.", args=args)
    demo = {"q": "1", "tools": [tool], "calls": dspy.ToolCalls.model_validate(CALLS)}
    expected = ADAPTERS[adapter]().format(
        signature,
        [demo],
        {"q": "now", "tools": [tool], "h": dspy.History(messages=turns)},
    )

    sent = {"$t": "Tool", "name": "search", "desc": "Find\nit.", "args": args}
    assert (
        rendered(
            signature="q, tools: list[dspy.Tool], h: dspy.History -> "
            "calls: dspy.ToolCalls, code: dspy.Code['java'], im: Optional[dspy.Image], "
            "why: dspy.Reasoning, done: list[dspy.ToolCallResults]",
            instructions="Call.",
            demos=[{"q": "1", "tools": [sent], "calls": CALLS}],
            inputs={"q": "now", "tools": [sent], "h": {"messages": turns}},
            adapter=adapter,
        )
        == expected
    )
