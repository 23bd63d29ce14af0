"""W3C trace context in NATS headers; spans only where an exporter is configured.

Attribute names follow OpenTelemetry's messaging conventions with
``messaging.system=nats``. Without ``OTEL_EXPORTER_OTLP_ENDPOINT`` nothing is
recorded, and the context of the caller still travels on unchanged.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dspex.contracts.failures import Failure
from dspex.contracts.headers import TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Span

    from dspex.contracts.headers import Headers

_log = logging.getLogger(__name__)
_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("dspex")


def configure(program: str, environ: Mapping[str, str]) -> None:
    """Export spans by OTLP if the environment names an endpoint.

    Args:
        program: Becomes ``service.name``.
        environ: Read for the endpoint; the exporter reads the other standard
            variables itself.
    """
    if not exports("TRACES", environ):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter,
        )
    except ImportError:
        _log.warning("no spans are exported: install dspex[otlp]")
        return
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource(program))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def exports(signal: str, environ: Mapping[str, str]) -> bool:
    """Whether the environment says where a signal goes: ``TRACES``, ``METRICS``."""
    if environ.get(f"OTEL_{signal}_EXPORTER") == "none":
        return False
    ours = f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
    return bool(environ.get(ours) or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


def resource(program: str, more: Mapping[str, str] | None = None) -> Resource:
    """What an exporter says of this process."""
    from opentelemetry.sdk.resources import Resource

    # Processes of one program must not be taken for one another.
    named = {"service.name": program, "service.instance.id": uuid4().hex}
    return Resource.create({**named, **(more or {})})


@contextmanager
def span(name: str, headers: Headers) -> Iterator[Span]:
    """Work on a message, as a child of the span its headers name.

    Args:
        name: Of the span.
        headers: Of the message.
    """
    context = _propagator.extract(headers) if TRACEPARENT in headers else None
    with _tracer.start_as_current_span(
        name,
        context,
        SpanKind.SERVER,
        attributes={"messaging.system": "nats", "messaging.operation.name": name},
        record_exception=False,
    ) as current:
        try:
            yield current
        except Failure as failure:
            mark_failed(current, failure.code)
            raise


def mark_failed(current: Span, code: str) -> None:
    """Say in a span that its work failed, and as what."""
    current.set_attribute("error.type", code)
    current.set_status(StatusCode.ERROR)


def inject(headers: dict[str, str]) -> dict[str, str]:
    """Add the current trace context to the headers of a message to send."""
    _propagator.inject(headers)
    return headers


def trace_id() -> str:
    """Id of the current trace, 32 hex digits; empty outside of one."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
