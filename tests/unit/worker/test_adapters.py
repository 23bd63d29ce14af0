from __future__ import annotations

import json
from typing import Any

import dspy
import pytest

from dspex.contracts.failures import BadRequest
from dspex.services.worker.adapters import adapter

pytestmark = pytest.mark.dspy

EXTRACT = dspy.make_signature(
    "text: str -> name: str, age: int", "Find who it is about."
)


def messages(signature: Any, demos: list[Any], **inputs: Any) -> list[dict[str, Any]]:
    return adapter(None, True).format(signature, demos, inputs)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (None, dspy.ChatAdapter),
        ("chat", dspy.ChatAdapter),
        ("json", dspy.JSONAdapter),
        ("xml", dspy.XMLAdapter),
    ],
)
def test_each_name_has_its_adapter(name: str | None, kind: type) -> None:
    """A name gives DSPy's adapter, the same object every time."""
    found = adapter(name)

    assert type(found) is kind
    assert adapter(name) is found


def test_an_explicit_adapter_is_kept_for_the_builtin_model() -> None:
    """The built-in model gets the short prompt only when nothing else is asked."""
    assert type(adapter("json", True)) is dspy.JSONAdapter
    assert type(adapter(None, True)) is not dspy.JSONAdapter


def test_an_unknown_adapter_lists_the_known() -> None:
    """A wrong name is refused, with the right ones."""
    with pytest.raises(BadRequest, match="Did you mean 'json'") as refused:
        adapter("jsn")

    assert refused.value.field == "adapter"


def test_streaming_knows_the_short_prompt_by_name() -> None:
    """DSPy's listeners look the class name up: any other name is refused."""
    assert type(adapter(None, True)).__name__ == "JSONAdapter"
    assert isinstance(adapter(None, True), dspy.JSONAdapter)


def test_the_prompt_is_short() -> None:
    """Task and names in the system message, values in the user's, no markers."""
    system, user = messages(EXTRACT, [], text="Anna is 31.")

    assert system["content"] == "Find who it is about. Reply in JSON with: name, age."
    assert user["content"] == "text: Anna is 31."


def test_nobodys_instructions_are_replaced() -> None:
    """DSPy's default instructions would only repeat the names."""
    system, _ = messages(dspy.make_signature("question -> answer"), [], question="Why?")

    expected = "Answer correctly and briefly. Reply in JSON with: answer."
    assert system["content"] == expected


def test_demos_are_turns_of_the_same_shape() -> None:
    """A demonstration is a question and its answer as one line of JSON."""
    demo = {"text": "Bo is 5.", "name": "Bö", "age": 5}

    turns = messages(EXTRACT, [demo], text="Anna is 31.")

    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[1]["content"] == "text: Bo is 5."
    assert turns[2]["content"] == '{"name": "Bö", "age": 5}'


def test_an_incomplete_demo_says_so() -> None:
    """DSPy's remark about missing fields is kept."""
    turns = messages(EXTRACT, [{"text": "Bo.", "name": "Bo"}], text="Anna is 31.")

    assert turns[1]["content"].startswith("This is an example of the task")
    assert "Not supplied" in json.loads(turns[2]["content"])["age"]


def test_history_becomes_turns() -> None:
    """A conversation so far is told as turns, not as a value."""
    signature = dspy.make_signature(
        {
            "history": (dspy.History, dspy.InputField()),
            "question": (str, dspy.InputField()),
            "answer": (str, dspy.OutputField()),
        }
    )
    history = dspy.History(messages=[{"question": "One?", "answer": "1"}])

    turns = messages(signature, [], history=history, question="Two?")

    said = [turn["content"] for turn in turns[1:]]
    assert said == ["question: One?", '{"answer": "1"}', "question: Two?"]


def test_values_that_are_not_text_are_written_as_json() -> None:
    """A list is shown to the model as JSON, as DSPy's own adapters do."""
    signature = dspy.make_signature("tags: list[str] -> answer")

    *_, user = messages(signature, [], tags=["a", "b"])

    assert user["content"] == 'tags: ["a", "b"]'


def test_a_reply_is_read_as_json() -> None:
    """Reading is DSPy's: values get the types of the signature."""
    read = adapter(None, True).parse(EXTRACT, '{"name": "Anna", "age": "31"}')

    assert read == {"name": "Anna", "age": 31}
