"""DSPy's own types: which JSON values stand for theirs."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dspex.native.checking.checking import check, fits
from dspex.native.signatures.compiling import compile_signature
from dspex.native.types.kinds import QUALIFIED
from dspex.native.types.tree import spelled

CALL = {"name": "search", "args": {"query": "cats"}}
RESULT = {"name": "search", "value": [1], "call_id": "c1", "is_error": False}
CITATION = {
    "cited_text": "x",
    "document_index": 0,
    "start_char_index": 0,
    "end_char_index": 1,
}
RIGHT: list[tuple[str, Any]] = [
    ("dspy.Image", {"$t": "Image", "url": "https://example.com/a.png?b=c"}),
    ("dspy.Image", {"$t": "Image", "url": "data:image/png;base64,iVBORw0KGgo="}),
    ("dspy.Audio", {"$t": "Audio", "data": "aGk=", "audio_format": "wav"}),
    ("dspy.File", {"$t": "File", "file_data": "data:text/plain;base64,aGk="}),
    ("dspy.File", {"$t": "File", "file_id": "f1", "filename": "a.txt"}),
    ("dspy.experimental.Document", {"$t": "Document", "data": "x", "title": "t"}),
    ("dspy.Code", "x = 1"),
    ("dspy.Code", {"$t": "Code", "language": "python", "code": "x = 1"}),
    ("dspy.Code['java']", {"$t": "Code", "language": "java", "code": "x"}),
    ("dspy.Code['c++']", {"$t": "Code", "code": "x"}),
    ("dspy.Reasoning", "because"),
    ("dspy.Reasoning", {"$t": "Reasoning", "content": "because"}),
    ("dspy.History", {"messages": [{"question": "a", "answer": {"b": [1]}}]}),
    ("dspy.ToolCalls", {"tool_calls": [CALL, {"id": "c1", **CALL}]}),
    ("dspy.ToolCallResults", {"tool_call_results": [RESULT]}),
    ("dspy.experimental.Citations", {"citations": [CITATION]}),
    ("dspy.Tool", {"$t": "Tool", "name": "f", "args": {"x": {"type": "string"}}}),
]
WRONG: list[tuple[str, Any]] = [
    ("dspy.Image", "https://example.com/a.png"),
    ("dspy.Image", {"url": "https://example.com/a.png"}),
    ("dspy.Image", {"$t": "Audio", "url": "https://example.com/a.png"}),
    ("dspy.Image", {"$t": "Image", "url": "/etc/passwd"}),
    ("dspy.Image", {"$t": "Image", "url": "a.png"}),
    ("dspy.Image", {"$t": "Image", "url": " https://example.com/a.png"}),
    ("dspy.Image", {"$t": "Image", "url": "https://example.com/a.png\n"}),
    ("dspy.Image", {"$t": "Image", "url": "file:///etc/passwd"}),
    ("dspy.Image", {"$t": "Image", "url": "gs://bucket/a.png"}),
    ("dspy.Image", {"$t": "Image", "url": "http://"}),
    ("dspy.Image", {"$t": "Image", "url": "data:image/png;base64,<<X>>"}),
    ("dspy.Image", {"$t": "Image", "url": "https://a/<<CUSTOM-TYPE>>"}),
    ("dspy.Image", {"$t": "Image", "url": "https://a/" + "b" * 9000}),
    ("dspy.Image", {"$t": "Image", "url": "https://a", "download": True}),
    ("dspy.Audio", {"$t": "Audio", "data": "aGk="}),
    ("dspy.Audio", {"$t": "Audio", "data": "a b", "audio_format": "wav"}),
    ("dspy.File", {"$t": "File"}),
    ("dspy.File", {"$t": "File", "filename": "/etc/passwd"}),
    ("dspy.File", {"$t": "File", "file_data": "/etc/passwd"}),
    ("dspy.experimental.Document", {"$t": "Document", "data": "x", "media_type": "?"}),
    ("dspy.Code['java']", {"$t": "Code", "language": "python", "code": "x"}),
    ("dspy.Reasoning", 3),
    ("dspy.History", [{"question": "a"}]),
    ("dspy.History", {"messages": ["a"]}),
    ("dspy.ToolCalls", [CALL]),
    ("dspy.ToolCalls", {"tool_calls": [{"name": "search"}]}),
    ("dspy.Tool", {"$t": "Tool", "name": "f", "func": "os.system"}),
]


@pytest.mark.parametrize(("written", "value"), RIGHT)
def test_values_that_stand_for_dspys(written: str, value: Any) -> None:
    """A value in the form of the wire is taken as it is, and its schema says so."""
    compiled = compile_signature(f"q: list[{written}] -> a: {written}")
    field, expr = compiled.outputs[0]

    assert fits(expr, value)
    assert spelled(expr) == field.type == written
    assert Draft202012Validator(field.schema).is_valid(value)
    assert check(compiled, {"q": [value, value]}, "inputs").valid


@pytest.mark.parametrize(("written", "value"), WRONG)
def test_values_that_stand_for_nothing(written: str, value: Any) -> None:
    """Anything else is refused with its place, above all the path of a local file."""
    compiled = compile_signature(f"q -> a: {written}")
    found = check(compiled, {"a": value}, "outputs")

    assert not fits(compiled.outputs[0].type, value)
    assert found.errors[0].path.startswith("outputs.a")
    if "\\n" not in str(value):  # where `$` matches in Python, and nowhere else
        schema = compiled.outputs[0].field.schema
        assert not Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    ("written", "value", "read"),
    [
        ("dspy.Image", "https://a.b/c", {"$t": "Image", "url": "https://a.b/c"}),
        ("dspy.Image", {"url": "https://a.b"}, {"$t": "Image", "url": "https://a.b"}),
        ("dspy.ToolCalls", [CALL], {"tool_calls": [CALL]}),
        ("dspy.Code", {"code": "x"}, {"$t": "Code", "code": "x"}),
    ],
)
def test_the_lax_mode_completes_them(written: str, value: Any, read: Any) -> None:
    """The lax mode adds what goes without saying."""
    compiled = compile_signature(f"q -> a: {written}")

    assert check(compiled, {"a": value}, "outputs", "lax").values == {"a": read}


def test_no_local_file_in_the_lax_mode_either() -> None:
    """What is completed is checked as strictly as what came complete."""
    compiled = compile_signature("q -> a: dspy.Image")

    assert check(compiled, {"a": "/etc/passwd"}, "outputs", "lax").errors


@pytest.mark.parametrize("name", QUALIFIED.values())
def test_a_wrong_value_is_told_the_form(name: str) -> None:
    """The message about a value of the wrong sort says the name and the form."""
    found = check(compile_signature(f"q -> a: {name}"), {"a": 3}, "outputs")

    assert name in found.errors[0].expected
    assert "an object" in found.errors[0].expected
