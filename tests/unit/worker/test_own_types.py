"""Values of DSPy's own types: from the wire and back, without a loss."""

from __future__ import annotations

import datetime
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from dspex.contracts.failures import Unsupported
from dspex.native.checking.checking import fits
from dspex.native.signatures.compiling import compile_signature
from dspex.native.types.kinds import QUALIFIED, DspyType
from dspex.services.worker.convert import demo_to_python, to_python, to_wire
from dspex.services.worker.own_types import own_class, own_value
from dspex.services.worker.signatures import dspy_signature

pytestmark = pytest.mark.dspy

PICTURE = {"$t": "Image", "url": "https://example.com/a.png"}
VALUES: list[tuple[str, Any]] = [
    ("dspy.Image", PICTURE),
    ("list[dspy.Image]", [PICTURE, PICTURE]),
    ("dict[str, dspy.Image] | None", {"a": PICTURE}),
    ("dspy.Audio", {"$t": "Audio", "data": "aGk=", "audio_format": "wav"}),
    ("dspy.File", {"$t": "File", "file_data": "data:a/b;base64,aGk=", "filename": "x"}),
    ("dspy.File", {"$t": "File", "file_id": "f1"}),
    (
        "dspy.experimental.Document",
        {"$t": "Document", "data": "x", "media_type": "application/pdf"},
    ),
    ("dspy.Code['java']", {"$t": "Code", "language": "java", "code": "x;"}),
    ("dspy.Code", {"$t": "Code", "language": "python", "code": "x"}),
    ("dspy.Reasoning", {"$t": "Reasoning", "content": "because"}),
    ("dspy.History", {"messages": [{"q": "a", "a": [1, {"b": None}]}]}),
    (
        "dspy.ToolCalls",
        {
            "tool_calls": [{"id": "c1", "name": "f", "args": {"x": [1]}}],
            "tool_call_results": {"tool_call_results": []},
        },
    ),
    ("dspy.ToolCalls", {"tool_calls": [{"name": "f", "args": {}}]}),
    (
        "dspy.ToolCallResults",
        {
            "tool_call_results": [
                {"call_id": "c1", "name": "f", "is_error": True, "value": None}
            ]
        },
    ),
    (
        "dspy.experimental.Citations",
        {
            "citations": [
                {
                    "type": "char_location",
                    "cited_text": "x",
                    "document_index": 0,
                    "start_char_index": 1,
                    "end_char_index": 2,
                }
            ]
        },
    ),
    (
        "dspy.Tool",
        {
            "$t": "Tool",
            "name": "f",
            "desc": "Does it.",
            "args": {"x": {"type": "string"}},
            "arg_desc": {"x": "What."},
        },
    ),
]


@pytest.mark.parametrize(("written", "value"), VALUES)
def test_values_come_back_the_same(written: str, value: Any) -> None:
    """From the wire to DSPy and back nothing is lost, not a language and not an id."""
    compiled = compile_signature(f"q: {written} -> a: {written}")

    made = to_python(compiled, {"q": value})["q"]

    assert not isinstance(made, type(value)) or isinstance(made, (list, dict))
    assert to_wire(made) == value
    assert fits(compiled.outputs[0].type, to_wire(made))


@pytest.mark.parametrize("name", QUALIFIED)
def test_every_type_has_a_class(name: Any) -> None:
    """The installed release of DSPy has all of them; each prints as described."""
    made = own_class(DspyType(name))

    assert made.__name__ == name


@pytest.mark.parametrize("text", ["x = 1", "because"])
def test_a_text_is_a_value(text: str) -> None:
    """Code and Reasoning may be sent as the text that they are."""
    assert own_value(DspyType("Code", "java"), text).code == text
    assert own_value(DspyType("Reasoning"), text).content == text


def test_code_has_its_language() -> None:
    """DSPy's own reader of text makes a tuple of the language, and breaks at it."""
    signature = dspy_signature(compile_signature("q -> a: dspy.Code['java']"))
    system = dspy.ChatAdapter().format_system_message(signature)

    assert "Programming language: java" in system
    assert "(Code_java)" in system


def test_an_image_is_shown_as_an_image() -> None:
    """An image in an input, and one in an example, become parts of the message."""
    compiled = compile_signature("q: dspy.Image, n: set[date] -> a")
    values = to_python(compiled, {"q": PICTURE, "n": ["2024-05-31"]})
    demo = demo_to_python(
        compiled, {"q": PICTURE, "n": ["2024-05-31"], "a": "cat", "more": "<<x>>"}
    )

    messages = dspy.ChatAdapter().format(dspy_signature(compiled), [demo], values)

    shown = {"type": "image_url", "image_url": {"url": PICTURE["url"]}}
    assert shown in messages[1]["content"]
    assert shown in messages[-1]["content"]
    assert values["n"] == {datetime.date(2024, 5, 31)}
    assert demo["n"] == ["2024-05-31"]


def test_a_tool_that_is_a_value_is_not_called() -> None:
    """A tool among the inputs is shown to the model, and calling it says why not."""
    tool = own_value(DspyType("Tool"), {"$t": "Tool", "name": "f", "args": {}})

    with pytest.raises(Unsupported, match="not be called"):
        tool()


async def test_tool_calls_of_a_reply_keep_their_parts() -> None:
    """What a model calls goes out with names and arguments."""
    compiled = compile_signature("q, tools: list[dspy.Tool] -> calls: dspy.ToolCalls")
    reply = '{"tool_calls": [{"name": "f", "args": {"x": 1}}]}'
    tools = [{"$t": "Tool", "name": "f", "args": {"x": {"type": "integer"}}}]
    inputs = to_python(compiled, {"q": "?", "tools": tools})

    with dspy.context(lm=DummyLM([{"calls": reply}])):
        found = await dspy.Predict(dspy_signature(compiled)).acall(**inputs)

    wire = to_wire(found.calls)
    assert wire == {"tool_calls": [{"name": "f", "args": {"x": 1}}]}
    assert fits(compiled.outputs[0].type, wire)


def test_a_type_that_the_release_lacks_is_unsupported() -> None:
    """An older DSPy without a type says so, and which release it is."""
    with pytest.raises(Unsupported, match=f"not in DSPy {dspy.__version__}"):
        own_class(DspyType("Reasoning"), {"Image": dspy.Image})
