"""Metrics by OpenTelemetry, only where an exporter is configured.

What is counted anyway is read when it is exported (``observe``); only what has a
distribution is measured where it happens. Without an endpoint there are no
instruments, and measuring is one comparison.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from opentelemetry.metrics import CallbackOptions, Observation

from dspex.bus import tracing
from dspex.contracts import catalog

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

_log = logging.getLogger(__name__)

OTHER = "_OTHER"
"""What a name of a client's is called that is none of ours: there is no end of them."""

Readings = Iterable[tuple[int, Mapping[str, str]]]
"""Numbers as they are now, each with its attributes."""

_SECONDS = tuple(
    step * 10.0**power for power in range(-3, 3) for step in (1.0, 2.5, 5.0)
)
_TOKENS = tuple(float(4**power) for power in range(11))


class Instrument(Struct, frozen=True, kw_only=True):
    """One thing that is measured.

    Attributes:
        name: As OpenTelemetry's conventions name what they know.
        kind: ``counter`` only grows; ``updowncounter`` adds up over processes;
            ``histogram`` is a distribution.
        unit: In UCUM.
        attributes: What its numbers are told apart by; each has few values.
        who: The programs that have it.
        description: One sentence.
    """

    name: str
    kind: Literal["counter", "updowncounter", "histogram"]
    unit: str
    attributes: tuple[str, ...] = ()
    who: tuple[str, ...]
    description: str


_ANSWERING = ("worker", "native-ops", "state", "replay")
_SERVED = ("dspex.operation", "dspex.pool", "error.type")
_GEN_AI = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")

REQUEST_DURATION = Instrument(
    name="dspex.server.request.duration",
    kind="histogram",
    unit="s",
    attributes=_SERVED,
    who=("router", *_ANSWERING),
    description="From the arrival of a request to its end.",
)
QUEUE_DURATION = Instrument(
    name="dspex.router.queue.duration",
    kind="histogram",
    unit="s",
    attributes=("dspex.operation",),
    who=("router",),
    description="How long a request waited in the router for its turn.",
)
QUEUE_LENGTH = Instrument(
    name="dspex.router.queue.length",
    kind="updowncounter",
    unit="{request}",
    attributes=("dspex.pool",),
    who=("router",),
    description="Requests that wait in the router for a place in a pool.",
)
ATTEMPTS = Instrument(
    name="dspex.router.attempts",
    kind="counter",
    unit="{attempt}",
    who=("router",),
    description="Times that a request was sent to a process.",
)
RETRIES = Instrument(
    name="dspex.router.retries",
    kind="counter",
    unit="{attempt}",
    who=("router",),
    description="Attempts that followed a failed one.",
)
BREAKERS = Instrument(
    name="dspex.router.breakers",
    kind="updowncounter",
    unit="{breaker}",
    attributes=("dspex.breaker.scope", "dspex.breaker.state"),
    who=("router",),
    description="Breakers that are `open` or `half_open`, of workers or models.",
)
CACHE_LOOKUPS = Instrument(
    name="dspex.router.cache.lookups",
    kind="counter",
    unit="{lookup}",
    attributes=("dspex.cache.result",),
    who=("router",),
    description="Answers looked for among those that are kept: `hit` or `miss`.",
)
SLOTS_USED = Instrument(
    name="dspex.worker.slots.used",
    kind="updowncounter",
    unit="{slot}",
    attributes=("dspex.pool",),
    who=_ANSWERING,
    description="Requests that run.",
)
SLOTS_LIMIT = Instrument(
    name="dspex.worker.slots.limit",
    kind="updowncounter",
    unit="{slot}",
    attributes=("dspex.pool",),
    who=_ANSWERING,
    description="Requests that may run at a time.",
)
WORKER_QUEUE = Instrument(
    name="dspex.worker.queue.length",
    kind="updowncounter",
    unit="{request}",
    attributes=("dspex.pool",),
    who=_ANSWERING,
    description="Requests that wait in the process for a slot.",
)
GPU_USED = Instrument(
    name="hw.gpu.memory.usage",
    kind="updowncounter",
    unit="By",
    attributes=("hw.id", "hw.name"),
    who=("worker",),
    description="Memory in use of a GPU that the worker sees, by whomever.",
)
GPU_LIMIT = Instrument(
    name="hw.gpu.memory.limit",
    kind="updowncounter",
    unit="By",
    attributes=("hw.id", "hw.name"),
    who=("worker",),
    description="Memory of a GPU that the worker sees.",
)
LM_DURATION = Instrument(
    name="gen_ai.client.operation.duration",
    kind="histogram",
    unit="s",
    attributes=(*_GEN_AI, "error.type"),
    who=("worker",),
    description="A call of a language model.",
)
LM_TOKENS = Instrument(
    name="gen_ai.client.token.usage",
    kind="histogram",
    unit="{token}",
    attributes=(*_GEN_AI, "gen_ai.token.type"),
    who=("worker",),
    description="Tokens of a call, `input` or `output`, where its model tells them.",
)
JOBS_SUBMITTED = Instrument(
    name="dspex.jobs.submitted",
    kind="counter",
    unit="{job}",
    attributes=("dspex.operation",),
    who=("state",),
    description="Jobs that were put into the queue.",
)
JOBS_ENDED = Instrument(
    name="dspex.jobs.ended",
    kind="counter",
    unit="{job}",
    attributes=("dspex.operation", "dspex.job.state"),
    who=("worker", "native-ops", "state"),
    description="Jobs whose end the process stored.",
)

INSTRUMENTS = (
    REQUEST_DURATION,
    QUEUE_DURATION,
    QUEUE_LENGTH,
    ATTEMPTS,
    RETRIES,
    BREAKERS,
    CACHE_LOOKUPS,
    SLOTS_USED,
    SLOTS_LIMIT,
    WORKER_QUEUE,
    GPU_USED,
    GPU_LIMIT,
    LM_DURATION,
    LM_TOKENS,
    JOBS_SUBMITTED,
    JOBS_ENDED,
)
"""Everything that is measured."""


class _State:
    """What is configured for this process."""

    meter: Meter | None = None
    made: dict[str, Any] = {}  # noqa: RUF012 - of the process, like the provider
    making = threading.Lock()


def configure(program: str, namespace: str, environ: Mapping[str, str]) -> None:
    """Export metrics by OTLP if the environment names an endpoint.

    Args:
        program: Becomes ``service.name``.
        namespace: Becomes ``service.namespace``: the prefix of the subjects.
        environ: Read for the endpoint; the exporter reads the other standard
            variables itself.
    """
    if not tracing.exports("METRICS", environ):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
            OTLPMetricExporter,
        )
    except ImportError:
        _log.warning("no metrics are exported: install dspex[otlp]")
        return
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    resource = tracing.resource(program, {"service.namespace": namespace})
    _State.meter = MeterProvider([reader], resource).get_meter("dspex")


def is_on() -> bool:
    """Whether anything is measured."""
    return _State.meter is not None


def observe(instrument: Instrument, read: Callable[[], Readings]) -> None:
    """Export what ``read`` returns, which another thread calls: it must only read."""
    meter = _State.meter
    if meter is None:
        return

    def readings(_: CallbackOptions) -> list[Observation]:
        return [Observation(value, attributes) for value, attributes in read()]

    make = {
        "counter": meter.create_observable_counter,
        "updowncounter": meter.create_observable_up_down_counter,
    }[instrument.kind]
    make(instrument.name, [readings], instrument.unit, instrument.description)


def served(operation: str, pool: str, code: str, seconds: float) -> None:
    """A request has ended.

    Args:
        operation: As the client named it.
        pool: Of the process; that of routers is ``router``.
        code: Of its failure; ``done``: it has none.
        seconds: How long it was here.
    """
    if _State.meter is not None:
        said = {"dspex.operation": _known(operation), "dspex.pool": pool}
        _record(REQUEST_DURATION, seconds, said | _failure(code))


def queued(operation: str, seconds: float) -> None:
    """A request has waited in the router, or did not have to."""
    if _State.meter is not None:
        _record(QUEUE_DURATION, seconds, {"dspex.operation": _known(operation)})


def lm_called(model: str, code: str, seconds: float, tokens: Mapping[str, int]) -> None:
    """A language model was called.

    Args:
        model: As DSPy names it.
        code: Of its failure; ``done``: it has none.
        seconds: How long it took.
        tokens: Used, by ``input`` and ``output``; those that are known.
    """
    if _State.meter is None:
        return
    provider, _, name = model.partition("/")
    values = ("chat", provider, name) if name else ("chat", OTHER, model)
    said = dict(zip(_GEN_AI, values, strict=True))
    _record(LM_DURATION, seconds, said | _failure(code))
    for kind, count in tokens.items():
        _record(LM_TOKENS, count, said | {"gen_ai.token.type": kind})


def job_submitted(operation: str) -> None:
    """A job was put into the queue."""
    if _State.meter is not None:
        _made(JOBS_SUBMITTED).add(1, {"dspex.operation": operation})


def job_ended(operation: str, state: str) -> None:
    """The end of a job was stored."""
    if _State.meter is not None:
        said = {"dspex.operation": operation, "dspex.job.state": state}
        _made(JOBS_ENDED).add(1, said)


def _record(instrument: Instrument, value: float, said: Mapping[str, str]) -> None:
    _made(instrument).record(value, said)


def _made(instrument: Instrument) -> Any:
    found = _State.made.get(instrument.name)
    if found is None:
        with _State.making:
            found = _State.made.setdefault(instrument.name, _make(instrument))
    return found


def _make(instrument: Instrument) -> Any:
    assert _State.meter is not None
    said = (instrument.name, instrument.unit, instrument.description)
    if instrument.kind == "counter":
        return _State.meter.create_counter(*said)
    bounds = _SECONDS if instrument.unit == "s" else _TOKENS
    return _State.meter.create_histogram(
        *said, explicit_bucket_boundaries_advisory=bounds
    )


def _known(operation: str) -> str:
    return operation if operation in catalog.OPERATIONS else OTHER


def _failure(code: str) -> dict[str, str]:
    return {} if code == "done" else {"error.type": code}
