"""Foreign exceptions become failures of the contract, in one table.

DSPy, its bundled engine, LiteLLM and OpenAI's client each have a family of
errors, and the families change between releases. The table names classes instead of
importing them, so it holds for every release and loads none of the packages; the
nearest base class that it names decides.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from dspex.contracts import failures
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LONGEST = 500
_TOO_LONG = re.compile(
    r"exceeds? the (available )?context|maximum context length", re.I
)
_SHORTEST_SECRET = 4

_TABLE: dict[str, type[Failure]] = {
    "dspy.DSPyError": failures.ProgramError,
    "dspy.AdapterParseError": failures.ParseFailed,
    "dspy.LMError": failures.LmUnavailable,
    "dspy.LMCollectionLimitError": failures.LmRefused,
    "dspy.LMConfigurationError": failures.LmRefused,
    "dspy.LMNotConfiguredError": failures.LmAuth,
    "dspy.LMUnsupportedFeatureError": failures.Unsupported,
    "dspy.LMAuthError": failures.LmAuth,
    "dspy.LMBillingError": failures.LmRefused,
    "dspy.LMRateLimitError": failures.LmRateLimit,
    "dspy.LMInvalidRequestError": failures.LmRefused,
    "dspy.ContextWindowExceededError": failures.ContextWindow,
    "dspy.LMTimeoutError": failures.LmTimeout,
    "litellm.AuthenticationError": failures.LmAuth,
    "litellm.PermissionDeniedError": failures.LmAuth,
    "litellm.RateLimitError": failures.LmRateLimit,
    "litellm.Timeout": failures.LmTimeout,
    "litellm.ContextWindowExceededError": failures.ContextWindow,
    "litellm.ContentPolicyViolationError": failures.LmRefused,
    "litellm.BadRequestError": failures.LmRefused,
    "litellm.NotFoundError": failures.LmRefused,
    "litellm.UnprocessableEntityError": failures.LmRefused,
    "openai.AuthenticationError": failures.LmAuth,
    "openai.PermissionDeniedError": failures.LmAuth,
    "openai.RateLimitError": failures.LmRateLimit,
    "openai.APITimeoutError": failures.LmTimeout,
    "openai.BadRequestError": failures.LmRefused,
    "openai.NotFoundError": failures.LmRefused,
    "openai.UnprocessableEntityError": failures.LmRefused,
    "openai.OpenAIError": failures.LmUnavailable,
    "pydantic_core.ValidationError": failures.OutputInvalid,
    "builtins.MemoryError": failures.ResourceMemory,
    "builtins.TimeoutError": failures.DeadlineExceeded,
    "builtins.RecursionError": failures.ParseFailed,
    "builtins.Exception": failures.ProgramError,
    "asyncio.CancelledError": failures.Cancelled,
    "builtins.BaseException": failures.Internal,
}

_HINTS: dict[type[Failure], str] = {
    failures.LmAuth: "Check the API key in the worker's configuration.",
    failures.LmRateLimit: "Wait and send it again, or spread the load.",
    failures.LmTimeout: "Send it again, or raise timeout_s of this language model.",
    failures.LmUnavailable: "Send it again; check the provider if it persists.",
    failures.LmRefused: "Check the model name, its options and the account.",
    failures.ContextWindow: "Send shorter inputs, fewer demos or a shorter session.",
    failures.ParseFailed: "Send it again, try another adapter, or raise max_tokens.",
    failures.OutputInvalid: "Send it again, or widen the type of the output.",
    failures.Unsupported: "Leave the option out, or choose another language model.",
    failures.ProgramError: "See the worker's log for where in the program it happened.",
    failures.DeadlineExceeded: "Allow more time, or ask for less.",
    failures.ResourceMemory: "Send less, or give the worker a higher memory limit.",
}

_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@]+@"), ""),
    (re.compile(r"(https?://[^\s?#'\"]+)[?#][^\s'\"]*"), r"\1"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=*-]{4,}"), r"\1 ***"),
    (re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|AIza)[-_]?[\w*-]{8,}"), "***"),
    (
        re.compile(
            r"(?i)((?:api[_-]?key|token|secret|password|authorization)"
            r"['\"]?\s*[=:]\s*['\"]?)[^\s'\",}]{4,}"
        ),
        r"\1***",
    ),
)


def to_failure(error: BaseException, *, secrets: Iterable[str] = ()) -> Failure:
    """Return the failure that a foreign exception means.

    Args:
        error: What DSPy, an adapter, a provider, asyncio or the program raised. A
            failure is returned as it is.
        secrets: Keys that may not appear in the message, whatever they look like.
    """
    if isinstance(error, Failure):
        return error
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return to_failure(error.exceptions[0], secrets=secrets)
    leaf = _leaf(error)
    return leaf(
        _message(error, leaf, tuple(secrets)),
        hint=_HINTS.get(leaf, ""),
        retry_after_ms=_retry_after_ms(error),
    )


def sanitise(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without keys and URL credentials, and not longer than 500."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _leaf(error: BaseException) -> type[Failure]:
    leaf = next(
        _TABLE[name] for base in type(error).__mro__ if (name := _name(base)) in _TABLE
    )
    # DSPy reports a silent provider as a transport error; only the cause knows.
    if leaf is failures.LmUnavailable and _waited_too_long(error):
        return failures.LmTimeout
    # Servers that name no code say it in words only.
    if leaf is failures.LmRefused and _TOO_LONG.search(str(error)):
        return failures.ContextWindow
    return leaf


def _name(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _waited_too_long(error: BaseException) -> bool:
    return any(isinstance(cause, TimeoutError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _message(
    error: BaseException, leaf: type[Failure], secrets: tuple[str, ...]
) -> str:
    if leaf is failures.ParseFailed:
        return sanitise(_unreadable_reply(error), secrets)
    if isinstance(error, asyncio.CancelledError):
        return "The request was cancelled."
    # What follows a blank line is DSPy's advice for whoever wrote the program.
    text = str(error).strip().partition("\n\n")[0]
    if leaf is failures.ProgramError:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return sanitise(text or type(error).__name__, secrets)


def _unreadable_reply(error: BaseException) -> str:
    signature = getattr(error, "signature", None)
    expected = ", ".join(getattr(signature, "output_fields", ()))
    reply = str(getattr(error, "lm_response", "") or "")
    if not reply:
        return f"The model's reply is empty. Expected the fields: {expected}."
    return f"The model's reply does not hold the fields: {expected}. Reply: {reply}"


def _retry_after_ms(error: BaseException) -> int | None:
    seconds = getattr(error, "retry_after", None)
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        return max(0, round(seconds * 1000))
    return None
