"""DSPy's own types over NATS, as inputs and as outputs of a worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from tests.support.asking import Asker, chat

from dspex.native.signatures.compiling import compile_signature
from dspex.native.types.kinds import QUALIFIED
from dspex.services.worker.convert import to_python
from dspex.services.worker.signatures import dspy_signature

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

CALL = {"id": "c1", "name": "find", "args": {"query": "cats", "most": 3}}
RESULT = {"call_id": "c1", "name": "find", "value": {"n": [1]}, "is_error": False}
CITATION = {
    "type": "char_location",
    "cited_text": "x",
    "document_index": 0,
    "start_char_index": 0,
    "end_char_index": 1,
}
VALUES: dict[str, Any] = {
    "Audio": {"$t": "Audio", "data": "aGk=", "audio_format": "wav"},
    "Citations": {"citations": [CITATION]},
    "Code": {"$t": "Code", "language": "python", "code": "x = 1"},
    "Document": {
        "$t": "Document",
        "data": "Text.",
        "title": "T",
        "media_type": "text/plain",
    },
    "File": {
        "$t": "File",
        "file_data": "data:text/plain;base64,aGk=",
        "filename": "a.txt",
    },
    "History": {"messages": [{"question": "Who?", "answer": "Me."}]},
    "Image": {"$t": "Image", "url": "data:image/png;base64,aGk="},
    "Reasoning": {"$t": "Reasoning", "content": "Because."},
    "Tool": {
        "$t": "Tool",
        "name": "find",
        "desc": "Finds.",
        "args": {"query": {"type": "string"}},
    },
    "ToolCallResults": {"tool_call_results": [RESULT]},
    "ToolCalls": {"tool_calls": [CALL]},
}
WRITTEN: dict[str, str] = {
    "Code": "```python\nx = 1\n```",
    "Image": "data:image/png;base64,aGk=",
    "Reasoning": "Because.",
    **{
        name: json.dumps({k: v for k, v in VALUES[name].items() if k != "$t"})
        for name in (
            "Audio",
            "Citations",
            "Document",
            "File",
            "History",
            "ToolCallResults",
            "ToolCalls",
        )
    },
}
"""What a model writes for an output of each type."""


def test_every_type_is_here() -> None:
    """No type of DSPy's that a signature can name is left out."""
    assert VALUES.keys() == QUALIFIED.keys()
    assert WRITTEN.keys() == VALUES.keys() - {"Tool"}


@pytest.mark.parametrize("name", VALUES)
async def test_as_an_input(asker: Asker, model: ScriptedModel, name: str) -> None:
    """A worker asks the model what DSPy would ask it, given the same value."""
    model.reply_with(chat(answer="Yes."))
    signature = f"x: {QUALIFIED[name]}, question -> answer"  # type: ignore[index]
    inputs = {"x": VALUES[name], "question": "Is it?"}

    found = await asker.ask("predict", {"signature": signature, "inputs": inputs})
    compiled = compile_signature(signature)
    lm = dspy.LM("openai/scripted", api_base=model.url, api_key="no", cache=False)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        own = dspy.Predict(dspy_signature(compiled))
        await own.acall(**to_python(compiled, inputs))

    assert found.body["outputs"] == {"answer": "Yes."}
    sent, wanted = model.requests
    assert sent.messages == wanted.messages


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("operation", ["predict", "run"])
async def test_as_an_output(
    asker: Asker, model: ScriptedModel, name: str, operation: str
) -> None:
    """What the model wrote comes as the value it stands for, and is one as an input."""
    model.reply_with(chat(x=WRITTEN[name]))
    signature = f"question -> x: {QUALIFIED[name]}"  # type: ignore[index]
    body: dict[str, Any] = {"inputs": {"question": "What?"}}
    if operation == "predict":
        body["signature"] = signature
    else:
        body["program"] = {"module": "predict", "signature": signature}

    found = await asker.ask(operation, body)

    assert found.body["outputs"] == {"x": VALUES[name]}
