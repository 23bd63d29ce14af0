"""Every way a request can fail, as one tree.

::

    Failure
    ├── caller           bad_request, unknown_operation, invalid_signature,
    │                    invalid_inputs, unsupported, not_found, forbidden, conflict
    ├── capacity         overloaded, no_worker, quota
    ├── deadline         deadline_exceeded, cancelled
    ├── infrastructure   worker_lost, bus_unavailable, resource_memory, resource_cpu
    ├── provider         lm_auth, lm_rate_limit, lm_timeout, lm_unavailable,
    │                    lm_refused, context_window
    ├── program          parse_failed, output_invalid, tool_failed, program_error
    └── internal         internal

Retries, breakers and metrics look at the category, never at the message: a
caller's error is never retried and never counts against a worker.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Category = Literal[
    "caller",
    "capacity",
    "deadline",
    "infrastructure",
    "provider",
    "program",
    "internal",
]
CATEGORIES: tuple[str, ...] = get_args(Category)


class Failure(Exception):
    """A request that ended without outputs.

    Args:
        message: What was wrong, and what is allowed.
        hint: What the caller can do about it.
        field: Path of the part of the request at fault, such as ``inputs.age``.
        retry_after_ms: Milliseconds after which a retry may succeed.

    Attributes:
        code: Stable name of the failure, one of the leaves drawn above.
        category: The branch it hangs on.
        retryable: Whether the same request may succeed later or elsewhere.
        request: Correlation id, once a reply has said it.
        status: Number for the ``Nats-Service-Error-Code`` header, HTTP-like.
    """

    code: ClassVar[str]
    category: ClassVar[Category]
    retryable: ClassVar[bool] = False
    status: ClassVar[int]

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        field: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.retry_after_ms = retry_after_ms
        self.request = ""


class CallerFailure(Failure):
    """The request itself is at fault: sending it again changes nothing."""

    category = "caller"
    status = 400


class CapacityFailure(Failure):
    """Nobody has room for the request now."""

    category = "capacity"
    retryable = True
    status = 503


class DeadlineFailure(Failure):
    """The request ran out of time, or its caller gave up."""

    category = "deadline"
    status = 504


class InfrastructureFailure(Failure):
    """A process or the bus broke under the request."""

    category = "infrastructure"
    retryable = True
    status = 503


class ProviderFailure(Failure):
    """The language model's provider did not answer as hoped."""

    category = "provider"
    status = 502


class ProgramFailure(Failure):
    """The program ran, and what it produced cannot be used."""

    category = "program"
    status = 500


class BadRequest(CallerFailure):
    """The message is not a request: its bytes, headers or fields are wrong."""

    code = "bad_request"


class UnknownOperation(CallerFailure):
    """No operation has that name."""

    code = "unknown_operation"
    status = 404


class InvalidSignature(CallerFailure):
    """The signature cannot be read, or DSPy would misread it."""

    code = "invalid_signature"


class InvalidInputs(CallerFailure):
    """The inputs do not fit the signature."""

    code = "invalid_inputs"


class Unsupported(CallerFailure):
    """Known, but not done here."""

    code = "unsupported"
    status = 501


class NotFound(CallerFailure):
    """Nothing has that name."""

    code = "not_found"
    status = 404


class Forbidden(CallerFailure):
    """The caller may not do that."""

    code = "forbidden"
    status = 403


class Conflict(CallerFailure):
    """Somebody else changed it first."""

    code = "conflict"
    status = 409


class Overloaded(CapacityFailure):
    """Every worker that could answer is full."""

    code = "overloaded"


class NoWorker(CapacityFailure):
    """No worker that could answer is alive."""

    code = "no_worker"


class Quota(CapacityFailure):
    """The tenant has used up what it may use."""

    code = "quota"
    status = 429


class DeadlineExceeded(DeadlineFailure):
    """The deadline passed before an answer was ready."""

    code = "deadline_exceeded"


class Cancelled(DeadlineFailure):
    """Somebody asked to stop it."""

    code = "cancelled"
    status = 499


class WorkerLost(InfrastructureFailure):
    """The worker that held the request stopped answering."""

    code = "worker_lost"


class BusUnavailable(InfrastructureFailure):
    """The connection to NATS broke while the request was on its way."""

    code = "bus_unavailable"


class ResourceMemory(InfrastructureFailure):
    """The worker ran out of its memory limit."""

    code = "resource_memory"


class ResourceCpu(InfrastructureFailure):
    """The worker took more CPU time or processes than it may."""

    code = "resource_cpu"


class LmAuth(ProviderFailure):
    """The provider refused the worker's credentials."""

    code = "lm_auth"


class LmRateLimit(ProviderFailure):
    """The provider asks for fewer requests."""

    code = "lm_rate_limit"
    retryable = True
    status = 429


class LmTimeout(ProviderFailure):
    """The provider did not answer in time."""

    code = "lm_timeout"
    retryable = True
    status = 504


class LmUnavailable(ProviderFailure):
    """The provider could not be reached or failed."""

    code = "lm_unavailable"
    retryable = True


class LmRefused(ProviderFailure):
    """The provider rejected the request as invalid or not allowed."""

    code = "lm_refused"


class ContextWindow(ProviderFailure):
    """The prompt is longer than the model can read."""

    code = "context_window"


class ParseFailed(ProgramFailure):
    """The model's reply does not hold the signature's outputs."""

    code = "parse_failed"
    retryable = True


class OutputInvalid(ProgramFailure):
    """The outputs were read but break a type or a constraint."""

    code = "output_invalid"
    retryable = True


class ToolFailed(ProgramFailure):
    """A tool the program called did not give a result."""

    code = "tool_failed"


class ProgramError(ProgramFailure):
    """The program raised an error of its own."""

    code = "program_error"


class Internal(Failure):
    """A defect of DSPex; the details are in the log of who answered."""

    code = "internal"
    category = "internal"
    status = 500


def _leaves(branch: type[Failure]) -> Iterator[type[Failure]]:
    for child in branch.__subclasses__():
        if "code" in vars(child):
            yield child
        yield from _leaves(child)


BY_CODE: dict[str, type[Failure]] = {leaf.code: leaf for leaf in _leaves(Failure)}
"""Every leaf of the tree, by its code."""


_LONGEST_NAME = 100


def internal() -> Internal:
    """What a caller is told of a defect: that there is one, and nothing else."""
    return Internal(
        "Something went wrong here that should not have.",
        hint="The log of the program that answered has the details under this request.",
    )


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say which allowed name is meant by ``name``, and which there are.

    Returns:
        ``Did you mean 'predict'? Allowed: chain_of_thought, predict.`` or, when
        nothing comes near, only the second sentence.
    """
    names = sorted(allowed)
    # Comparing a very long name takes long, and it is near to nothing.
    close = get_close_matches(name[:_LONGEST_NAME], names, n=1, cutoff=0.6)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{guess}Allowed: {', '.join(names)}."
