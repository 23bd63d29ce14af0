"""One example of every message a client sends or sees.

They stand in the AsyncAPI document, and the golden files of the contract tests are
their bytes.
"""

from __future__ import annotations

from typing import Any

from dspex.contracts import (
    admin,
    dataset_examples,
    envelope,
    job_examples,
    learning_examples,
    native_examples,
    pool_examples,
    program_examples,
    replay_examples,
    session_examples,
    stream_examples,
    words,
)
from dspex.contracts.envelope import Candidate, Decision, Metadata, Usage
from dspex.contracts.failures import InvalidInputs, LmRateLimit
from dspex.contracts.heartbeats import Gpu, Heartbeat
from dspex.contracts.requests import (
    Body,
    LmConfig,
    Options,
    Predict,
)
from dspex.contracts.signatures import Constraints, FieldSpec, SignatureSpec

REQUEST = "0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71"
WORKER = "light-4f1c9ad27b60"
NATIVE = "native-9d3b5e71a2c4"
AT = 1767225600000.125
DEADLINE = 1767225660000

REQUESTS: dict[str, Body] = {
    "predict": Predict(
        signature="text -> sentiment: Literal['positive', 'negative']",
        inputs={"text": "I loved every minute of it."},
    ),
    "chain_of_thought": Predict(
        signature=SignatureSpec(
            instructions="Answer with a whole number.",
            fields=[
                FieldSpec(name="question", kind="input"),
                FieldSpec(
                    name="answer",
                    kind="output",
                    type="int",
                    description="the number asked for",
                    constraints=Constraints(ge=0, le=100),
                ),
            ],
        ),
        inputs={"question": "How many legs do three spiders have?"},
        demos=[{"question": "How many legs has a spider?", "answer": 8}],
        lm="default",
        config=LmConfig(temperature=0.2, max_tokens=200),
        adapter="json",
        options=Options(accept="application/json"),
    ),
    **program_examples.REQUESTS,
    **learning_examples.REQUESTS,
    **dataset_examples.REQUESTS,
    **native_examples.REQUESTS,
    **job_examples.REQUESTS,
    **session_examples.REQUESTS,
    **stream_examples.REQUESTS,
    **replay_examples.REQUESTS,
}
"""The body of a request, by operation."""

_PYTHON = Metadata(
    implementation="python",
    pool="light",
    worker=WORKER,
    reason="least_loaded",
    queue_ms=0.031,
    run_ms=412.5,
    total_ms=413.75,
    usage=Usage(prompt_tokens=142, completion_tokens=12, total_tokens=154, calls=1),
    lm="openai/gpt-4o-mini",
    dspy="3.4.1",
)
_STATE = Metadata(
    implementation="state",
    pool="state",
    worker="state-7c20e4b18a3f",
    reason="only_candidate",
    queue_ms=0.012,
    run_ms=2.5,
    total_ms=3.125,
)
_REPLAY = Metadata(
    implementation="replay",
    pool="replay",
    worker="replay-7b1d0c95e3f8",
    reason="only_candidate",
    queue_ms=0.012,
    run_ms=2.5,
    total_ms=3.125,
)
_NATIVE = Metadata(
    implementation="native",
    pool="native",
    worker=NATIVE,
    reason="only_candidate",
    queue_ms=0.011,
    run_ms=0.24,
    total_ms=0.75,
)


def _done(outputs: dict[str, Any], metadata: Metadata) -> envelope.Done:
    return envelope.Done(request=REQUEST, outputs=outputs, metadata=metadata)


REPLIES: dict[str, envelope.Done] = {
    "predict": _done({"sentiment": "positive"}, _PYTHON),
    "chain_of_thought": _done(
        {"reasoning": "A spider has 8 legs, and 3 times 8 is 24.", "answer": 24},
        _PYTHON,
    ),
    **{
        name: _done(outputs, _PYTHON if name in ("react", "run") else _STATE)
        for name, outputs in program_examples.OUTPUTS.items()
    },
    **{
        name: _done(outputs, _PYTHON)
        for name, outputs in learning_examples.OUTPUTS.items()
    },
    **{
        name: _done(outputs, _STATE)
        for name, outputs in dataset_examples.OUTPUTS.items()
    },
    **{
        name: _done(outputs, _NATIVE)
        for name, outputs in native_examples.OUTPUTS.items()
    },
    **{name: _done(outputs, _STATE) for name, outputs in job_examples.OUTPUTS.items()},
    **{
        name: _done(outputs, _STATE)
        for name, outputs in session_examples.OUTPUTS.items()
    },
    **{
        name: _done(outputs, _STATE)
        for name, outputs in stream_examples.OUTPUTS.items()
    },
    **{
        name: _done(outputs, _REPLAY)
        for name, outputs in replay_examples.OUTPUTS.items()
    },
}
"""The reply that answers the request of the same operation."""

FAILED = envelope.failed(
    REQUEST,
    InvalidInputs(
        "inputs.text is 3 (number); allowed: str.",
        hint="Send text.",
        field="inputs.text",
    ),
)
"""A reply without outputs."""

_REFUSED_BY_PROVIDER = envelope.failed(
    REQUEST,
    LmRateLimit(
        "The provider asks for fewer requests.",
        hint="Send it again after the pause.",
        retry_after_ms=2000,
    ),
)

_EVENT: dict[str, Any] = {"request": REQUEST, "at": AT}
_CANDIDATES = [
    Candidate(worker=WORKER, pool="light", score=0.125),
    Candidate(worker="light-0b8e6d93f15a", pool="light", score=0.25),
]

EVENTS: dict[str, Any] = {
    "requested": envelope.Requested(
        **_EVENT,
        attempt=0,
        seq=1,
        operation="predict",
        tenant="default",
        body={"signature": "question -> answer", "inputs": {"question": "Why?"}},
        deadline=DEADLINE,
    ),
    "accepted": envelope.Accepted(
        **_EVENT,
        attempt=0,
        seq=2,
        decision=Decision(
            worker=WORKER,
            pool="light",
            reason="least_loaded",
            candidates=_CANDIDATES,
            eligible=2,
        ),
    ),
    "started": envelope.Started(
        **_EVENT, attempt=1, seq=1, operation="predict", pool="light", worker=WORKER
    ),
    "delta": envelope.Delta(**_EVENT, attempt=1, seq=2, field="answer", text="Beca"),
    "status": envelope.Status(
        **_EVENT, attempt=1, seq=3, message="12 of 40 examples", done=12, total=40
    ),
    "tool_call": envelope.ToolCall(
        **_EVENT, attempt=1, seq=2, call=1, tool="weather", arguments={"city": "Bergen"}
    ),
    "tool_result": envelope.ToolResult(
        **_EVENT,
        attempt=1,
        seq=3,
        call=1,
        tool="weather",
        ms=12.5,
        result={"rain_mm": 12},
    ),
    "step": envelope.StepEvent(
        **_EVENT,
        attempt=1,
        seq=3,
        part="program.steps[0].program",
        module="predict",
        ms=412.5,
    ),
    "done": envelope.DoneEvent(
        **_EVENT, attempt=1, seq=4, outputs={"answer": "Because."}, metadata=_PYTHON
    ),
    "failed": envelope.FailedEvent(
        **_EVENT,
        attempt=1,
        seq=4,
        code=LmRateLimit.code,
        category=LmRateLimit.category,
        message="The provider asks for fewer requests.",
        hint="Send it again after the pause.",
        retryable=True,
        retry_after_ms=2000,
        metadata=_PYTHON,
    ),
    "cancelled": envelope.CancelledEvent(
        **_EVENT,
        attempt=1,
        seq=4,
        code="cancelled",
        category="deadline",
        message="The client asked to stop it.",
    ),
}
"""An event of every kind."""

WORDS: dict[str, words.Words] = {
    "accepted": words.AcceptedWord(request=REQUEST, queued=0),
    "moved": words.MovedWord(request=REQUEST, queued=0, in_hand=1, yours=1),
    "short": words.ShortWord(request=REQUEST, in_hand=1, gpu_memory_mib=20480),
    "busy": words.BusyWord(request=REQUEST, queued=64),
    "refused": words.RefusedWord(request=REQUEST, failure=FAILED),
    "failed": words.FailedWord(
        request=REQUEST, failure=_REFUSED_BY_PROVIDER, in_hand=3, yours=2
    ),
    "finished": words.FinishedWord(
        request=REQUEST,
        code="done",
        in_hand=2,
        yours=1,
        reply=REPLIES["predict"],
        deltas=[words.Text(field="sentiment", text="positive")],
    ),
}
"""What a chosen process tells the router."""

BREAKER_NOTICE = admin.BreakerNotice(
    router="router-61c0a9f2d37e",
    scope="lm",
    name="predict default",
    state="open",
    reason="5 failures in a row",
    at=AT,
    open_for_ms=5000.0,
)
"""A breaker that opened."""

NOTICES = {
    "breaker": BREAKER_NOTICE,
    "desired": pool_examples.DESIRED_NOTICE,
    "worker": pool_examples.WORKER_NOTICE,
}
"""What programs tell operators unasked, by the last token of its subject."""

HEARTBEAT = Heartbeat(
    worker=WORKER,
    pool="light",
    implementation="python",
    state="ready",
    seq=17,
    at=AT,
    operations=["predict", "chain_of_thought"],
    concurrency=16,
    queue=64,
    in_flight=2,
    queued=0,
    served=1204,
    sessions=3,
    routers={"router-61c0a9f2d37e": 2},
    lms=["default"],
    lm="default",
    versions="5f0c2a7be913d846",
    dspy="3.4.1",
    python="3.11.9",
    host="worker-1",
    pid=4711,
    rss=412090368,
    loop_lag_ms=0.4,
    gpus=[
        Gpu(
            name="NVIDIA L4",
            total=24152899584,
            free=23622320128,
            uuid="GPU-8f6c1a02-5d3e-4b7a-9c10-2e4f6a8b0c1d",
        )
    ],
    lacks=["module:rlm"],
)
"""A heartbeat."""
