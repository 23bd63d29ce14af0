"""What is said about a request: replies, events, decisions.

A reply is ``Done`` or ``Failed``, tagged by ``type``. An event is tagged by
``kind`` and known by ``(attempt, seq)``: attempt 0 is the router, 1, 2, ... are
the dispatches; ``seq`` counts from 1 without gaps inside an attempt, and a new
attempt voids the deltas of the one before it. ``done``, ``failed`` and
``cancelled`` end a request and carry what its reply carries.

Readers ignore fields they do not know, so replies and events may grow.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from dspex.contracts import failures
from dspex.contracts.failures import Category, Failure
from dspex.contracts.records import Cut

Implementation = Literal["python", "native", "state", "replay", "router"]


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens the language models counted for one request.

    Attributes:
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        total_tokens: Their sum, as the providers say it.
        calls: Language-model calls made.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    calls: int = 0


class Metadata(Struct, frozen=True, kw_only=True):
    """Who answered, why, and how long it took.

    Attributes:
        implementation: ``python`` (DSPy), ``native`` or ``router``.
        pool: Pool of who answered; ``native`` for native-ops.
        worker: Incarnation that answered.
        attempts: Dispatches made, 1 when the first one answered.
        reason: Why the router chose it; ``direct`` when no router was asked.
        queue_ms: Milliseconds it waited for a slot.
        run_ms: Milliseconds it ran.
        total_ms: Milliseconds from the router's receipt to the answer.
        cache_hit: Whether the outputs come from a cache.
        usage: Tokens used; absent when no language model was asked.
        lm: The language model asked, and what to know about it.
        dspy: Version of DSPy that ran; empty for native operations.
    """

    implementation: Implementation
    pool: str
    worker: str
    attempts: int = 1
    reason: str = "direct"
    queue_ms: float = 0.0
    run_ms: float = 0.0
    total_ms: float = 0.0
    cache_hit: bool = False
    usage: Usage | None = None
    lm: str = ""
    dspy: str = ""


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """The reply to a request that has outputs.

    Attributes:
        request: Correlation id.
        outputs: A value per output field.
        metadata: Who answered, why, and how long it took.
    """

    request: str
    outputs: dict[str, Any]
    metadata: Metadata


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """The reply to a request that has none.

    Attributes:
        request: Correlation id; empty when the message could not be read.
        code: Leaf of the tree in ``dspex.contracts.failures``.
        category: Branch it hangs on.
        message: What was wrong and what is allowed.
        hint: What to do.
        field: Path of the part at fault, if one is.
        retryable: Whether the same request may succeed later or elsewhere.
        retry_after_ms: Milliseconds after which it may.
        metadata: Who failed it, once somebody had taken it.
    """

    request: str
    code: str
    category: Category
    message: str
    hint: str = ""
    field: str | None = None
    retryable: bool = False
    retry_after_ms: int | None = None
    metadata: Metadata | None = None


Reply = Done | Failed


class Candidate(Struct, frozen=True, kw_only=True):
    """One process the router could have chosen.

    Attributes:
        worker: Its incarnation.
        pool: Its pool.
        score: Load per slot after this request, ``(in flight + queued + 1) / slots``.
    """

    worker: str
    pool: str
    score: float


class Decision(Struct, frozen=True, kw_only=True):
    """Whom the router chose, and among whom.

    Attributes:
        worker: The chosen incarnation.
        pool: Its pool.
        reason: Why: ``only_candidate``, ``least_loaded``, ``least_loaded_of_two``,
            ``route_worker``, with ``after_busy``, ``after_worker_lost`` or the like
            when an earlier choice fell through.
        candidates: Those compared, best first.
        eligible: How many could have answered.
        attempt: Number of the dispatch that follows.
        lm: Language model to use instead of the one asked for; empty: that one.
        waited_ms: Milliseconds the request waited for its turn.
        gpu_memory_mib: GPU memory that was looked for, MiB.
    """

    worker: str
    pool: str
    reason: str
    candidates: list[Candidate]
    eligible: int
    attempt: int = 1
    lm: str = ""
    waited_ms: float = 0.0
    gpu_memory_mib: int = 0


class _Event(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every event says.

    Attributes:
        request: Correlation id.
        attempt: 0 for the router, then the number of the dispatch.
        seq: Counts from 1 without gaps inside an attempt.
        at: Unix milliseconds by the clock of who tells it.
        type: Tells events from replies.
    """

    request: str
    attempt: int
    seq: int
    at: float
    type: Literal["event"] = "event"


class Requested(_Event, frozen=True, kw_only=True, tag="requested"):
    """The router's copy of the request.

    Attributes:
        operation: What was asked.
        tenant: Who asked.
        body: The body, as it came if it is JSON, else as its JSON equivalent.
        deadline: Unix milliseconds.
        headers: Those of the client that say how it is to be answered.
        cut: What of the body had no room; then ``body`` is null.
    """

    operation: str
    tenant: str
    body: Any
    deadline: int
    headers: dict[str, str] = field(default_factory=dict)
    cut: Cut | None = None


class Accepted(_Event, frozen=True, kw_only=True, tag="accepted"):
    """The router's decision; a new one follows when the choice fell through.

    Attributes:
        decision: Whom the router chose, and among whom.
    """

    decision: Decision


class Started(_Event, frozen=True, kw_only=True, tag="started"):
    """A process began to run the request.

    Attributes:
        operation: What it runs.
        pool: Its pool.
        worker: Its incarnation.
    """

    operation: str
    pool: str
    worker: str


class Delta(_Event, frozen=True, kw_only=True, tag="delta"):
    """More text of one output field; the deltas of a field join to its text.

    Attributes:
        field: Name of the output field.
        text: What follows the text so far.
    """

    field: str
    text: str


class Status(_Event, frozen=True, kw_only=True, tag="status"):
    """What is going on; also sent when a stream has been silent for five seconds.

    Attributes:
        message: What is going on, for people.
        done: How much of it is done.
        total: Of how much; 0: that is not known.
    """

    message: str
    done: int = 0
    total: int = 0


class ToolCall(_Event, frozen=True, kw_only=True, tag="tool_call"):
    """The program calls a function: a tool, a reward, a vectorizer.

    Attributes:
        call: Number of the call in this attempt, from 1.
        tool: What the program calls it.
        arguments: What it is called with.
    """

    call: int
    tool: str
    arguments: Any


class ToolResult(_Event, frozen=True, kw_only=True, tag="tool_result"):
    """What came of a call.

    Attributes:
        call: Its number.
        tool: What the program calls the function.
        ms: Milliseconds it took.
        result: What the function answered; null if it failed.
        error: Why there is no result; empty if there is one.
    """

    call: int
    tool: str
    ms: float
    result: Any = None
    error: str = ""


class StepEvent(_Event, frozen=True, kw_only=True, tag="step"):
    """A part of a program has ended.

    Attributes:
        part: Its path, such as ``program.steps[0].program``.
        module: What it is.
        ms: Milliseconds it took.
        code: How it failed, a leaf of ``dspex.contracts.failures``; empty: it did not.
    """

    part: str
    module: str
    ms: float
    code: str = ""


class DoneEvent(_Event, frozen=True, kw_only=True, tag="done"):
    """The request has outputs; what ``Done`` says.

    Attributes:
        outputs: A value per output field.
        metadata: Who answered, why, and how long it took.
        cut: What of it had no room; then ``outputs`` is empty.
    """

    outputs: dict[str, Any]
    metadata: Metadata
    cut: Cut | None = None


class FailedEvent(_Event, frozen=True, kw_only=True, tag="failed"):
    """The request failed; what ``Failed`` says.

    Attributes:
        code: Leaf of the tree in ``dspex.contracts.failures``.
        category: Branch it hangs on.
        message: What was wrong and what is allowed.
        hint: What to do.
        field: Path of the part at fault, if one is.
        retryable: Whether the same request may succeed later or elsewhere.
        retry_after_ms: Milliseconds after which it may.
        metadata: Who failed it, once somebody had taken it.
    """

    code: str
    category: Category
    message: str
    hint: str = ""
    field: str | None = None
    retryable: bool = False
    retry_after_ms: int | None = None
    metadata: Metadata | None = None


class CancelledEvent(FailedEvent, frozen=True, kw_only=True, tag="cancelled"):
    """Somebody asked to stop the request, and it stopped; what ``Failed`` says."""


Event = (
    Requested
    | Accepted
    | Started
    | Delta
    | Status
    | ToolCall
    | ToolResult
    | StepEvent
    | DoneEvent
    | FailedEvent
    | CancelledEvent
)
FINAL_KINDS = frozenset({"done", "failed", "cancelled"})
"""The kinds that end a request."""


def failed(request: str, failure: Failure, metadata: Metadata | None = None) -> Failed:
    """The reply that says ``failure``."""
    return Failed(
        request=request,
        code=failure.code,
        category=failure.category,
        message=failure.message,
        hint=failure.hint,
        field=failure.field,
        retryable=failure.retryable,
        retry_after_ms=failure.retry_after_ms,
        metadata=metadata,
    )


def failure(reply: Failed | FailedEvent) -> Failure:
    """The failure a reply or a final event says, to be raised.

    A code this version does not know becomes ``Internal`` with the same message.
    """
    leaf = failures.BY_CODE.get(reply.code, failures.Internal)
    found = leaf(
        reply.message,
        hint=reply.hint,
        field=reply.field,
        retry_after_ms=reply.retry_after_ms,
    )
    found.request = reply.request
    return found
