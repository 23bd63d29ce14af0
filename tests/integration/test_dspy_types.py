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
NOT_CARRIED = {"Citations"}
"""What DSPy 3.4 has no way to say to a server of chat completions."""
LITELLM = 90.0
"""Seconds for a call that imports LiteLLM, on a machine with much else to do."""
WRITTEN: dict[str, str] = {
    "Code": "```python\nx = 1\n```",
    "Reasoning": "Because.",
    **{
        name: json.dumps({k: v for k, v in VALUES[name].items() if k != "$t"})
        for name in (
            "Audio",
            "Citations",
            "Document",
            "File",
            "History",
            "Image",
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


@pytest.mark.parametrize("name", sorted(VALUES.keys() - NOT_CARRIED))
async def test_as_an_input(asker: Asker, model: ScriptedModel, name: str) -> None:
    """A worker asks the model what DSPy would ask it, given the same value."""
    model.reply_with(chat(answer="Yes."))
    body = asking(name)

    found = await asker.ask("predict", body, timeout=LITELLM)
    lm = dspy.LM("openai/scripted", api_base=model.url, api_key="no", cache=False)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        compiled = compile_signature(body["signature"])
        own = dspy.Predict(dspy_signature(compiled))
        await own.acall(**to_python(compiled, body["inputs"]))

    assert found.body.get("outputs") == {"answer": "Yes."}, found.body
    sent, wanted = model.requests
    assert sent.messages == wanted.messages


@pytest.mark.parametrize("name", sorted(NOT_CARRIED))
async def test_what_no_chat_carries(
    asker: Asker, model: ScriptedModel, name: str
) -> None:
    """What DSPy has no way to say to a model is refused, with the reason."""
    found = await asker.ask("predict", asking(name))

    assert found.code == "unsupported"
    assert "openai-chat" in found.body["message"]
    assert not model.requests


async def test_answers_about_a_recording_come_in_pieces(
    asker: Asker, model: ScriptedModel
) -> None:
    """What goes by LiteLLM streams like everything else, and the worker stays alive."""
    model.reply_with(chat(answer="It is a cat that purrs."))

    events = await asker.stream("predict", asking("Audio"), timeout=LITELLM)

    assert events.text("answer") == "It is a cat that purrs."
    assert len(events.of("delta")) > 1
    assert events.last["outputs"] == {"answer": "It is a cat that purrs."}


def asking(name: str) -> dict[str, Any]:
    qualified = QUALIFIED[name]  # type: ignore[index]
    inputs = {"x": VALUES[name], "question": "Is it?"}
    return {"signature": f"x: {qualified}, question -> answer", "inputs": inputs}


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

    assert found.body.get("outputs") == {"x": VALUES[name]}, found.body
