from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import dspy
import pydantic
import pytest
from dspy.utils import exceptions
from tests.support.scripted_model import ScriptedModel

from dspex.contracts import failures
from dspex.contracts.configuration import Lm
from dspex.services.worker.failures import sanitise, to_failure
from dspex.services.worker.lms import LanguageModels

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.dspy

SIGNATURE: Any = dspy.make_signature("question -> answer, score: float")


def family(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


def made(kind: type[BaseException]) -> BaseException:
    special: dict[type[BaseException], BaseException] = {
        dspy.AdapterParseError: dspy.AdapterParseError("Chat", SIGNATURE, "what?"),
        dspy.ContextWindowExceededError: dspy.ContextWindowExceededError(),
    }
    return special.get(kind) or kind("It broke.")


async def failure_of(model: ScriptedModel, **settings: Any) -> failures.Failure:
    lm = Lm(
        model="openai/gpt-x", api_base=model.url, api_key="sk-0123456789", **settings
    )
    known = LanguageModels({"default": lm}, environ={})
    try:
        with dspy.context(lm=known.build("default"), adapter=dspy.JSONAdapter()):
            await dspy.Predict(SIGNATURE).acall(question="Why?")
    except Exception as error:  # noqa: BLE001 - what it means is under test
        return to_failure(error)
    finally:
        await known.aclose()
    raise AssertionError("it should have failed")


def test_every_dspy_error_has_a_meaning() -> None:
    """No error that DSPy defines is an unknown defect of ours."""
    kinds = list(family(exceptions.DSPyError))

    found = {kind: type(to_failure(made(kind))) for kind in kinds}

    assert len(kinds) > 15
    assert not [kind for kind, leaf in found.items() if leaf is failures.Internal]


@pytest.mark.parametrize(
    ("kind", "leaf"),
    [
        (dspy.LMAuthError, failures.LmAuth),
        (dspy.LMBillingError, failures.LmRefused),
        (dspy.LMNotConfiguredError, failures.LmAuth),
        (dspy.LMRateLimitError, failures.LmRateLimit),
        (dspy.LMTimeoutError, failures.LmTimeout),
        (dspy.LMServerError, failures.LmUnavailable),
        (dspy.LMTransportError, failures.LmUnavailable),
        (dspy.LMUnsupportedModelError, failures.LmRefused),
        (dspy.LMUnsupportedFeatureError, failures.Unsupported),
        (dspy.ContextWindowExceededError, failures.ContextWindow),
        (dspy.AdapterParseError, failures.ParseFailed),
        (dspy.CodeInterpreterError, failures.ProgramError),
        (ZeroDivisionError, failures.ProgramError),
        (MemoryError, failures.ResourceMemory),
        (TimeoutError, failures.DeadlineExceeded),
        (asyncio.CancelledError, failures.Cancelled),
        (KeyboardInterrupt, failures.Internal),
    ],
)
def test_the_table(kind: type[BaseException], leaf: type[failures.Failure]) -> None:
    """The nearest class that the table names decides."""
    assert type(to_failure(made(kind))) is leaf


def test_litellms_family_is_known_by_name() -> None:
    """Errors of LiteLLM are told apart without importing it."""
    base = type("BadRequestError", (Exception,), {"__module__": "litellm.exceptions"})
    context = {"__module__": "litellm.exceptions"}
    child = type("ContextWindowExceededError", (base,), context)
    other = type("SomethingNew", (base,), {"__module__": "litellm.exceptions"})

    assert type(to_failure(child("x"))) is failures.ContextWindow
    assert type(to_failure(other("x"))) is failures.LmRefused


def test_a_failure_stays_itself() -> None:
    """What is a failure already is not translated again, alone or in a group."""
    found = failures.ToolFailed("The tool is away.")

    assert to_failure(found) is found
    assert to_failure(ExceptionGroup("one", [found])) is found


def test_a_value_of_the_wrong_type_is_an_invalid_output() -> None:
    """Releases that let pydantic's error through are covered too."""
    with pytest.raises(pydantic.ValidationError) as wrong:
        pydantic.TypeAdapter(int).validate_python("seven")

    assert type(to_failure(wrong.value)) is failures.OutputInvalid


async def test_what_a_provider_answers_decides() -> None:
    """Statuses and codes of the provider arrive as the right failures."""
    script: list[tuple[int, str | None, type[failures.Failure]]] = [
        (401, None, failures.LmAuth),
        (403, None, failures.LmAuth),
        (402, None, failures.LmRefused),
        (404, None, failures.LmRefused),
        (408, None, failures.LmTimeout),
        (400, "context_length_exceeded", failures.ContextWindow),
        (500, None, failures.LmUnavailable),
    ]
    async with ScriptedModel() as model:
        for status, code, leaf in script:
            model.fail_with(status, code=code)
            assert type(await failure_of(model)) is leaf


async def test_the_wait_a_provider_asks_for_is_passed_on() -> None:
    """`Retry-After` becomes `retry_after_ms`."""
    async with ScriptedModel() as model:
        model.fail_with(429, retry_after=2)
        found = await failure_of(model)

    assert isinstance(found, failures.LmRateLimit)
    assert found.retry_after_ms == 2000
    assert "\n" not in found.message


async def test_silence_is_a_timeout_and_absence_is_not() -> None:
    """DSPy calls both a transport error; a caller needs to know which."""
    async with ScriptedModel() as model:
        model.hang()
        silent = await failure_of(model, timeout_s=0.05)
    gone = await failure_of(model)

    assert type(silent) is failures.LmTimeout
    assert type(gone) is failures.LmUnavailable


async def test_nonsense_and_emptiness_are_told_apart() -> None:
    """A body that is no reply blames the provider, an empty reply the model."""
    async with ScriptedModel() as model:
        model.send_garbage()
        nonsense = await failure_of(model)
        model.reply_with("")
        empty = await failure_of(model)

    assert type(nonsense) is failures.LmUnavailable
    assert type(empty) is failures.ParseFailed
    assert "reply is empty" in empty.message


def test_a_reply_that_cannot_be_read_is_shown_in_part() -> None:
    """The message names the fields and shows the reply, bounded."""
    error = dspy.AdapterParseError("ChatAdapter", SIGNATURE, "blah " * 1000)

    found = to_failure(error)

    assert "answer, score" in found.message
    assert "blah blah" in found.message
    assert len(found.message) <= 500


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-SECRETSECRET.",
        "failed: http://user:SECRETSECRET@127.0.0.1/v1",
        "GET http://127.0.0.1/v1?key=SECRETSECRET failed",
        "header 'Authorization: Bearer SECRETSECRET'",
        '{"api_key": "SECRETSECRET"}',
        "key plain-SECRETSECRET refused",
    ],
)
def test_messages_hold_no_secrets(text: str) -> None:
    """Keys are cut out by their looks, or because they are known."""
    assert "SECRETSECRET" not in sanitise(text, ["plain-SECRETSECRET"])


def test_an_error_without_words_has_its_name() -> None:
    """A program's error is told by type and text."""
    assert to_failure(KeyError()).message == "KeyError"
    assert to_failure(ValueError("No LM.")).message == "ValueError: No LM."
