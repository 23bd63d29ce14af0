from __future__ import annotations

import asyncio
import copy
import logging
from typing import TYPE_CHECKING

import dspy
import pytest
import uvloop
from tests.support.scripted_model import ScriptedModel

from dspex.contracts.configuration import ConfigurationError, Lm
from dspex.contracts.failures import BadRequest, LmAuth, NotFound, Unsupported
from dspex.services.worker.lms import OVERRIDES, Builtin, LanguageModels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.dspy

KEY = "sk-live-0123456789abcdef"


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


def models(
    model: ScriptedModel, *, model_name: str = "openai/gpt-x", **settings: object
) -> LanguageModels:
    lm = Lm(model=model_name, api_base=model.url, api_key=KEY, **settings)  # type: ignore[arg-type]
    return LanguageModels({"default": lm}, environ={}, connections=256)


async def ask(lm: dspy.LM, signature: str = "question -> answer") -> dspy.Prediction:
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter(), disable_history=True):
        return await dspy.Predict(signature).acall(question="Why?")


async def test_one_model_is_built_once(model: ScriptedModel) -> None:
    """Asking twice for a name gives the same language model."""
    known = models(model)

    assert known.build("default") is known.build("default")
    await known.aclose()


async def test_chat_completions_is_the_route(model: ScriptedModel) -> None:
    """A call goes to Chat Completions with the key in its header."""
    known = models(model)

    answer = await ask(known.build("default"))

    assert answer.answer == "scripted answer"
    assert model.requests[0].path == "/v1/chat/completions"
    assert model.requests[0].headers["authorization"] == "Bearer"
    await known.aclose()


async def test_no_answer_comes_from_a_cache(model: ScriptedModel) -> None:
    """The same question asked twice reaches the provider twice."""
    known = models(model)

    await ask(known.build("default"))
    await ask(known.build("default"))

    assert len(model.requests) == 2
    await known.aclose()


async def test_more_calls_than_dspys_own_pool_run_at_once(model: ScriptedModel) -> None:
    """200 calls are all with the provider at the same time."""
    known = models(model)
    model.hang()
    calls = [asyncio.create_task(ask(known.build("default"))) for _ in range(200)]

    await model.received(200)

    assert model.most_active == 200
    for call in calls:
        call.cancel()
    await model.disconnected(200)
    await known.aclose()


async def test_cancelling_closes_the_request(model: ScriptedModel) -> None:
    """A cancelled call leaves the provider, which stops its work."""
    known = models(model)
    model.hang()
    call = asyncio.create_task(ask(known.build("default")))
    await model.received(1)

    call.cancel()
    await model.disconnected(1)

    assert model.active == 0
    with pytest.raises(asyncio.CancelledError):
        await call
    await known.aclose()


async def test_retries_are_those_configured(model: ScriptedModel) -> None:
    """With one retry, a call survives one failure of the provider."""
    known = models(model, num_retries=1)
    model.fail_with(503, retry_after=0, times=1)

    answer = await ask(known.build("default"))

    assert answer.answer == "scripted answer"
    assert len(model.requests) == 2
    await known.aclose()


async def test_a_silent_provider_is_left(model: ScriptedModel) -> None:
    """A call ends with an error when timeout_s passes without a byte."""
    known = models(model, timeout_s=0.05)
    model.hang()

    with pytest.raises(dspy.LMError):
        await ask(known.build("default"))

    await model.disconnected(1)
    await known.aclose()


async def test_defaults_and_overrides_reach_the_provider(model: ScriptedModel) -> None:
    """What a request sets wins over what the configuration says."""
    known = models(model, temperature=0.1, max_tokens=50)

    await ask(known.for_request("default", {"temperature": 0.9, "stop": ["x"]}))

    body = model.requests[0].body
    assert (body["temperature"], body["stop"]) == (0.9, ["x"])
    assert body["max_completion_tokens"] == 50
    assert known.build("default").kwargs["temperature"] == 0.1
    await known.aclose()


async def test_a_reasoning_model_takes_an_override_of_its_limit(
    model: ScriptedModel,
) -> None:
    """`max_tokens` of a request becomes the name that reasoning models use."""
    known = models(model, model_name="openai/gpt-5")

    await ask(known.for_request("default", {"max_tokens": 20_000}))

    assert model.requests[0].body["max_completion_tokens"] == 20_000
    assert "max_tokens" not in model.requests[0].body
    await known.aclose()


@pytest.mark.parametrize("option", ["api_key", "api_base", "model", "engine", "cache"])
async def test_a_request_cannot_redirect_a_model(
    model: ScriptedModel, option: str
) -> None:
    """Anything but a generation option is refused, and named."""
    known = models(model)

    with pytest.raises(BadRequest) as refused:
        known.for_request("default", {option: "x"})

    assert repr(option) in refused.value.message
    assert refused.value.field == f"config.{option}"
    assert option not in OVERRIDES


async def test_a_server_with_schemas_gets_them(model: ScriptedModel) -> None:
    """`response_schema` makes DSPy send the outputs' JSON Schema."""
    known = models(model, response_schema=True, max_tokens=9)

    answer = await ask(known.build("default"), "question -> mood: Literal['a', 'b']")

    body = model.requests[0].body
    assert answer.mood == "a"
    assert body["response_format"]["type"] == "json_schema"
    assert (body["model"], body["max_tokens"]) == ("gpt-x", 9)
    await known.aclose()


async def test_the_builtin_model_is_described_as_a_toy(model: ScriptedModel) -> None:
    """`builtin` goes to the built-in server, and metadata says what it is."""
    lms = {"default": Lm(model="builtin")}
    known = LanguageModels(lms, environ={}, builtin=Builtin(model.url, KEY))

    await ask(known.build("default"))

    assert known.is_builtin("default")
    assert known.describe("default") == "built-in toy model, 135M parameters"
    assert model.requests[0].body["model"] == "smollm2-135m"
    assert model.requests[0].body["response_format"]["type"] == "json_schema"
    await known.aclose()


def test_the_builtin_model_has_to_run() -> None:
    """Without its server, `builtin` fails and says how to start one."""
    known = LanguageModels({"default": Lm(model="builtin")}, environ={})

    with pytest.raises(Unsupported, match="not running") as refused:
        known.build("default")

    assert "DSPEX_MODEL_URL" in refused.value.hint


def test_schemas_need_an_address() -> None:
    """`response_schema` without `api_base` is a mistake in the configuration."""
    lm = Lm(model="openai/gpt-x", response_schema=True)

    with pytest.raises(ConfigurationError, match="needs api_base"):
        LanguageModels({"default": lm}, environ={}).build("default")


def test_an_unknown_name_lists_the_known() -> None:
    """A model that is not configured is refused with the names that are."""
    known = LanguageModels({"default": Lm(model="openai/gpt-x")}, environ={})

    with pytest.raises(NotFound, match="Did you mean 'default'"):
        known.build("defalt")


@pytest.mark.parametrize("environ", [{}, {"THE_KEY": ""}])
def test_a_missing_key_names_its_variable(environ: dict[str, str]) -> None:
    """A variable that is absent or empty is named in the failure."""
    lm = Lm(model="openai/gpt-x", api_key_env="THE_KEY")

    with pytest.raises(LmAuth, match="THE_KEY") as refused:
        LanguageModels({"default": lm}, environ=environ).build("default")

    assert "THE_KEY" in refused.value.hint


async def test_a_key_is_nowhere_to_be_seen(
    model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither reprs, logs, state nor errors hold the key."""
    caplog.set_level(logging.DEBUG)
    lm = Lm(model="openai/gpt-x", api_base=model.url, api_key_env="THE_KEY")
    known = LanguageModels({"default": lm}, environ={"THE_KEY": KEY})
    built = known.build("default")
    model.fail_with(401)

    with pytest.raises(dspy.LMError) as refused:
        await ask(built)

    seen = [repr(known), repr(built), repr(built.kwargs), repr(vars(built))]
    seen += [repr(refused.value), str(refused.value), caplog.text]
    seen += [repr(Builtin("http://127.0.0.1", KEY)), repr(vars(built.engine))]
    assert not [text for text in seen if KEY in text]
    assert known.secrets == {KEY}
    await known.aclose()


def test_what_lm15_does_not_know_stays_with_dspy() -> None:
    """A provider that only LiteLLM knows gets DSPy's own choice of engine."""
    lm = Lm(model="cohere/command", api_key=KEY)

    built = LanguageModels({"default": lm}, environ={}).build("default")

    assert built.engine == "auto"
    assert built.cache is False


async def test_a_program_with_its_model_can_be_copied(model: ScriptedModel) -> None:
    """A deep copy, as optimizers make, shares the connections."""
    known = models(model)
    built = known.build("default")

    twin = copy.deepcopy(built)

    assert twin is not built
    assert twin.engine is built.engine
    assert (await ask(twin)).answer == "scripted answer"
    await known.aclose()


async def test_threads_and_other_loops_may_ask_too(model: ScriptedModel) -> None:
    """The same model answers synchronous code and another event loop."""
    known = models(model)
    built = known.build("default")

    async def elsewhere() -> dspy.Prediction:
        answer = await ask(built)
        await known.aclose()
        return answer

    here = await asyncio.to_thread(built, "hi")
    there = await asyncio.to_thread(lambda: uvloop.run(elsewhere()))

    assert here == ["scripted answer"]
    assert there.answer == "scripted answer"


async def listen(lm: dspy.LM) -> dspy.Prediction:
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter(), disable_history=True):
        heard = dspy.Audio(data="aGk=", audio_format="wav")
        return await dspy.Predict("x: dspy.Audio -> answer").acall(x=heard)


def by_litellm(test: Callable[..., object]) -> Callable[..., object]:
    """Let pass what DSPy and LiteLLM warn of on that way."""
    # DSPy takes the call of a copy for one of the program's own.
    ours = pytest.mark.filterwarnings("ignore:Passing OpenAI-style:DeprecationWarning")
    # LiteLLM's own classes are not to Pydantic's taste.
    theirs = pytest.mark.filterwarnings("ignore:Item 'summary':UserWarning")
    marked: Callable[..., object] = ours(theirs(test))
    return marked


@by_litellm
@pytest.mark.parametrize("schema", [False, True])
async def test_what_few_engines_carry_goes_the_way_dspy_chooses(
    model: ScriptedModel, caplog: pytest.LogCaptureFixture, schema: bool
) -> None:
    """Audio reaches a server of chat completions, with the request's own options."""
    caplog.set_level(logging.DEBUG, logger="dspy")
    known = models(model, response_schema=schema)
    built = known.for_request("default", {"temperature": 0.5})

    found = await listen(built)

    assert found.answer == "scripted answer"
    (sent,) = model.requests
    parts = [part["type"] for part in sent.messages[-1]["content"]]
    assert parts == ["text", "input_audio", "text"]
    assert (sent.body["model"], sent.body["temperature"]) == ("gpt-x", 0.5)
    assert sent.headers["authorization"] == "Bearer"
    seen = [repr(built), repr(built.kwargs), caplog.text]
    assert not [text for text in seen if KEY in text]
    await known.aclose()


@by_litellm
async def test_in_a_thread_too(model: ScriptedModel) -> None:
    """Synchronous programs go the same way."""
    known = models(model)
    heard = dspy.Audio(data="aGk=", audio_format="wav")

    def ask_here() -> dspy.Prediction:
        with dspy.context(lm=known.build("default"), disable_history=True):
            return dspy.Predict("x: dspy.Audio -> answer")(x=heard)

    found = await asyncio.to_thread(ask_here)

    assert found.answer == "scripted answer"
    assert "input_audio" in str(model.requests[0].messages)
    await known.aclose()


async def test_the_builtin_model_hears_nothing(model: ScriptedModel) -> None:
    """A model without another way refuses what its engine does not carry."""
    lm = Lm(model="builtin")
    here = Builtin(model.url, "key")
    known = LanguageModels({"default": lm}, environ={}, builtin=here)

    with pytest.raises(dspy.LMUnsupportedFeatureError):
        await listen(known.build("default"))

    assert not model.requests
    await known.aclose()
