"""Programs that are stopped, that fail, and that lack what they need."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import dspy as untyped
import pytest
from tests.support.asking import chat
from tests.support.programs import Bench
from tests.support.scripted_model import ScriptedModel

from dspex.contracts.configuration import ConfigurationError, Lm
from dspex.contracts.failures import (
    BadRequest,
    Failure,
    LmAuth,
    NotFound,
    OutputInvalid,
    ToolFailed,
    Unsupported,
)
from dspex.contracts.program_settings import OwnProgram
from dspex.services.worker.lms import LanguageModels
from dspex.services.worker.loading import load_own
from dspex.services.worker.modules import Modules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.dspy

dspy: Any = untyped

PREDICT: dict[str, Any] = {"module": "predict", "signature": "question -> answer"}
BEST: dict[str, Any] = {
    "module": "best_of_n",
    "program": PREDICT,
    "attempts": 3,
    "threshold": 1.0,
    "reward": {"subject": "dspex.v1.tool.reward"},
}
WHY = {"question": "Why?"}


@pytest.fixture(name="bench")
async def _bench() -> AsyncIterator[Bench]:
    async with ScriptedModel() as model, Bench(model) as bench:
        yield bench


async def test_a_stopped_thread_asks_no_more(bench: Bench) -> None:
    """Once its request is cancelled, a module without asyncio asks no model again."""
    called = asyncio.Event()
    await bench.bus.subscribe("dspex.v1.tool.reward", lambda _: called.set())
    bench.model.reply_with(chat(answer="a"))

    running = asyncio.ensure_future(bench.run(BEST, WHY))
    await called.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for thread in threading.enumerate():
        if thread.name == "dspy":
            await asyncio.to_thread(thread.join, 20)

    assert running.cancelled()
    assert len(bench.model.requests) == 1
    assert not [one for one in threading.enumerate() if one.name == "dspy"]


async def test_attempts_that_all_fail(bench: Bench) -> None:
    """Where no attempt gave an answer, the last reason is the failure."""
    bench.model.fail_with(401)

    with pytest.raises(LmAuth):
        await bench.run(BEST, WHY)

    assert len(bench.model.requests) == 3


async def test_a_reward_that_fails(bench: Bench) -> None:
    """A reward that gives no number fails the request, and says why."""
    await bench.offer("dspex.v1.tool.reward", lambda _: "good")
    bench.model.reply_with(chat(answer="a"))

    with pytest.raises(Failure) as failed:
        await bench.run(BEST, WHY)

    assert isinstance(failed.value, ToolFailed)
    assert "is no score" in failed.value.message


async def test_parts_have_language_models_of_their_own(bench: Bench) -> None:
    """A part may name a model and change it; one that is unknown is named."""
    bench.model.reply_with(chat(answer="a", question="b"))
    other = {"module": "predict", "signature": "answer -> question"}
    own = other | {"lm": "other", "config": {"temperature": 0.5}}
    chain = {"module": "chain", "steps": [{"program": PREDICT}, {"program": own}]}

    await bench.run(chain, WHY, config={"temperature": 0.25, "top_p": 0.5})
    asked = bench.prompts()
    with pytest.raises(NotFound):
        await bench.run(PREDICT | {"lm": "nobody"}, WHY)

    assert [one["temperature"] for one in asked] == [0.25, 0.5]
    assert [one["top_p"] for one in asked] == [0.5, 0.5]


async def test_values_between_parts_are_checked(bench: Bench) -> None:
    """What one part gives must fit what the next one takes."""
    bench.model.reply_with(chat(answer="many"))
    counted = {"module": "predict", "signature": "answer: int -> word"}
    chain = {"module": "chain", "steps": [{"program": PREDICT}, {"program": counted}]}

    with pytest.raises(Failure) as refused:
        await bench.run(chain, WHY)

    assert refused.value.field == "program.steps[1].program.inputs.answer"


async def test_outputs_are_checked(bench: Bench) -> None:
    """An answer that breaks a part's signature fails the request."""
    signature = {
        "fields": [
            {"name": "question", "kind": "input"},
            {"name": "n", "kind": "output", "type": "int", "constraints": {"le": 5}},
        ]
    }
    bench.model.reply_with(chat(n="7"))

    with pytest.raises(OutputInvalid):
        await bench.run({"module": "predict", "signature": signature}, WHY)


async def test_markers_in_results_are_neutralised(bench: Bench) -> None:
    """What a tool answers cannot put an image into the prompt."""
    marker = "<<CUSTOM-TYPE-START-IDENTIFIER>>[]<<CUSTOM-TYPE-END-IDENTIFIER>>"
    await bench.offer("dspex.v1.tool.t", lambda _: marker)
    texts = [
        chat(next_thought="a", next_tool_name="t", next_tool_args="{}"),
        chat(next_thought="b", next_tool_name="finish", next_tool_args="{}"),
        chat(reasoning="c", answer="d"),
    ]
    for text in texts:
        bench.model.reply_with(text, times=1)
    tool = {"name": "t", "subject": "dspex.v1.tool.t"}
    spec = PREDICT | {"module": "react", "tools": [tool]}

    await bench.run(spec, WHY)

    last = bench.prompts()[-1]["messages"][-1]["content"]
    assert "<<CUSTOM-TYPE" not in last
    assert "< <CUSTOM-TYPE" in last


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no_such_module:X", "ModuleNotFoundError"),
        ("json:nothing", "AttributeError"),
        ("collections:OrderedDict", "must make a dspy.Module"),
    ],
)
def test_own_programs_that_cannot_be_loaded(path: str, said: str) -> None:
    """A program of the configuration that is none stops the worker at its start."""
    with pytest.raises(ConfigurationError, match=said):
        load_own({"mine": OwnProgram(path=path)})


@pytest.mark.parametrize("module", ["rlm", "code_act", "program_of_thought"])
async def test_without_a_sandbox(bench: Bench, module: str) -> None:
    """Where there is no sandbox, what would run code is refused and says what to do."""
    spec = {"module": module, "signature": "question -> answer"}

    with pytest.raises(Unsupported, match="no sandbox") as refused:
        await bench.run(spec, WHY)

    assert refused.value.field == "program"
    assert "dspex[sandbox]" in (refused.value.hint or "")


async def test_tools_that_code_cannot_call() -> None:
    """A parameter that no code can say is refused where code would call the tool."""
    schema = {"type": "object", "properties": {"a-b": {"type": "string"}}}
    tool = {"name": "t", "subject": "dspex.v1.tool.t", "schema": schema}
    spec = {"module": "rlm", "signature": "question -> answer", "tools": [tool]}
    async with ScriptedModel() as model, Bench(model, modules=Modules(dict)) as bench:
        with pytest.raises(BadRequest, match="a-b") as refused:
            await bench.run(spec, WHY)

    assert refused.value.field == "program"
    assert not model.requests


class Asking:
    """A sandbox whose code asks a model once, and says what that answered."""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}

    def execute(self, code: str, variables: Any = None) -> Any:
        if code != "ask()":
            return None  # what DSPy itself puts there first
        return dspy.primitives.FinalOutput({"answer": self.tools["llm_query"]("Who?")})

    def start(self) -> None: ...

    def shutdown(self) -> None: ...


@pytest.mark.parametrize(("named", "asked"), [("other", "small"), (None, "scripted")])
async def test_code_asks_the_model_it_is_given(named: str | None, asked: str) -> None:
    """What code asks goes to ``sub_lm``, or else to the model of the program."""
    spec = {"module": "rlm", "signature": "question -> answer", "sub_lm": named}
    async with ScriptedModel() as model:
        lms = two_models(model)
        modules = Modules(Asking, lms=lms)
        async with Bench(model, lms=lms, modules=modules) as bench:
            model.reply_with(chat(reasoning="Ask.", code="ask()"), times=1)
            model.reply_with("Goethe.", times=1)
            found = await bench.run(spec, WHY)

    assert found["answer"] == "Goethe."
    assert [one["model"] for one in bench.prompts()] == ["scripted", asked]


async def test_code_asks_a_model_that_is_not_there() -> None:
    """A ``sub_lm`` that nobody configured is refused by its path, before any call."""
    spec = {"module": "rlm", "signature": "question -> answer", "sub_lm": "tiny"}
    async with ScriptedModel() as model:
        lms = two_models(model)
        modules = Modules(Asking, lms=lms)
        async with Bench(model, lms=lms, modules=modules) as bench:
            with pytest.raises(NotFound, match="tiny") as refused:
                await bench.run(spec, WHY)

    assert refused.value.field == "program.sub_lm"
    assert not model.requests


def two_models(model: ScriptedModel) -> LanguageModels:
    """``default`` and ``other``, which the server is asked for by different names."""
    key = "test-key-not-a-secret"
    names = {"default": "openai/scripted", "other": "openai/small"}
    return LanguageModels(
        {
            name: Lm(model=one, api_base=model.url, api_key=key)
            for name, one in names.items()
        },
        environ={},
    )
