from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dspy
import pydantic
import pytest
from tests.support.scripted_answers import value_of_type
from tests.support.scripted_model import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.scripted_wire import Received

pytestmark = pytest.mark.dspy

EVERYTHING = (
    "question -> answer, n: int, tags: list[str], mood: Literal['good', 'bad'],"
    " score: float, sure: bool, maybe: int | None, more: dict[str, Any]"
)
EXPECTED = {
    "answer": "scripted answer",
    "n": 7,
    "tags": ["a", "b"],
    "mood": "good",
    "score": 0.5,
    "sure": True,
    "maybe": 7,
    "more": {},
}


class Person(pydantic.BaseModel):
    name: str
    ages: list[int]


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


def language_model(model: ScriptedModel) -> dspy.LM:
    return dspy.LM(
        "openai/x", api_base=model.url, api_key="k", cache=False, num_retries=0
    )


async def ask(
    model: ScriptedModel, signature: Any, adapter: dspy.Adapter | None = None
) -> dict[str, Any]:
    lm = language_model(model)
    with dspy.context(lm=lm, adapter=adapter or dspy.JSONAdapter()):
        answer = await dspy.Predict(signature).acall(question="Why?")
    await lm.aclose()
    return answer.toDict()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()]
)
async def test_it_answers_every_adapter_with_the_right_types(
    model: ScriptedModel, adapter: dspy.Adapter
) -> None:
    """The default answer parses, whatever format the prompt asks for."""
    assert await ask(model, EVERYTHING, adapter) == EXPECTED
    assert len(model.requests) == 1


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()])
async def test_it_answers_structured_types(
    model: ScriptedModel, adapter: dspy.Adapter
) -> None:
    """A model type is filled by the JSON Schema that stands in the prompt."""
    signature = dspy.make_signature(
        {
            "question": (str, dspy.InputField()),
            "person": (Person, dspy.OutputField()),
        }
    )

    answer = await ask(model, signature, adapter)

    assert answer["person"] == {"name": "scripted answer", "ages": [7, 7]}


async def test_an_agent_comes_to_an_end(model: ScriptedModel) -> None:
    """Offered tools and `finish`, the script finishes."""

    def search(query: str) -> str:
        return query

    lm = language_model(model)
    with dspy.context(lm=lm):
        agent = dspy.ReAct(dspy.make_signature("question -> answer"), tools=[search])
        answer = await agent.acall(question="Why?")
    await lm.aclose()

    assert answer.answer == "scripted answer"
    assert len(model.requests) == 2


async def test_replies_can_be_written_and_computed(model: ScriptedModel) -> None:
    """Queued replies come first, then the standing one."""

    def echo(request: Received) -> str:
        return json.dumps({"answer": request.text("user")[:8]})

    model.reply_with(echo)
    model.reply_with('{"answer": "once"}', times=1)

    first = await ask(model, "question -> answer")
    second = await ask(model, "question -> answer")

    assert (first["answer"], second["answer"]) == ("once", "[[ ## qu")


async def test_requests_are_kept_without_keys(model: ScriptedModel) -> None:
    """The log shows that a key came, not which."""
    await ask(model, "question -> answer")

    [request] = await model.received(1)

    assert request.authorized
    assert request.headers["authorization"] == "Bearer"
    assert not request.disconnected


async def test_usage_is_counted(model: ScriptedModel) -> None:
    """A reply says how many tokens went in and out, roughly."""
    lm = language_model(model)
    with dspy.context(lm=lm, track_usage=True):
        answer = await dspy.Predict("question -> answer").acall(question="Why?")
    await lm.aclose()

    [usage] = (answer.get_lm_usage() or {}).values()
    assert usage["prompt_tokens"] > usage["completion_tokens"] > 0


async def test_a_gate_lets_pieces_out_one_by_one(model: ScriptedModel) -> None:
    """A stream moves when the test says so; joined, the pieces are the reply."""
    model.reply_with('{"answer": "abcdefgh"}')
    gate = model.hold_chunks()
    lm = language_model(model)
    pieces: list[str] = []

    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        program: Any = dspy.streamify(
            dspy.Predict("question -> answer"), is_async_program=True
        )
        gate.release()
        async for value in program(question="Why?"):
            if not isinstance(value, dspy.Prediction):
                pieces.append(value.choices[0].delta.content or "")
                gate.release()
    await lm.aclose()

    assert [piece for piece in pieces if piece] == ['{"answer', '": "abcd', 'efgh"}']


async def test_latency_is_shared_by_those_who_wait(model: ScriptedModel) -> None:
    """Requests wait side by side, not one after another."""
    model.hang()
    calls = [asyncio.create_task(ask(model, "question -> answer")) for _ in range(20)]

    await model.received(20)
    for call in calls:
        call.cancel()
    await model.disconnected(20)

    assert model.most_active == 20


async def test_other_routes_do_not_exist(model: ScriptedModel) -> None:
    """DSPy uses Chat Completions alone; anything else would be a surprise."""
    lm = dspy.LM(
        "openai/x",
        model_type="responses",
        api_base=model.url,
        api_key="k",
        num_retries=0,
        cache=False,
    )

    with pytest.raises(dspy.LMInvalidRequestError, match="chat/completions"):
        await lm.acall("hi")

    await lm.aclose()
    assert not model.requests


def test_types_are_read_as_dspy_prints_them() -> None:
    """Nested and quoted type names give values that fit."""
    assert value_of_type("list[list[int]]") == [[7, 7], [7, 7]]
    assert value_of_type("Literal['a, b', 'c']") == "a, b"
    assert value_of_type("Union[float, NoneType]") == 0.5


def test_it_is_a_program_too() -> None:
    """Started by itself, it says where it is and ends with its standard input."""
    command = [sys.executable, "-m", "tests.support.scripted_model", "--latency", "0"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        process.stdin.close()

    assert ready["type"] == "ready"
    assert ready["url"].startswith("http://127.0.0.1:")
    assert process.returncode == 0
