from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from dspex.bus import tracing
from dspex.contracts.failures import BadRequest
from dspex.contracts.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture(scope="module", name="exporter")
def _exporter() -> Iterator[InMemorySpanExporter]:
    """Spans of this process as an exporter gets them.

    The provider of a process can be set once: this one stays, silent afterwards.
    """
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_a_child(exporter: InMemorySpanExporter, name: str) -> None:
    """Work on a message is a child of the span its header names, however written."""
    exporter.clear()

    with tracing.span("predict", Headers({name: PARENT, "Dspex-Request": "r1"})):
        assert tracing.trace_id() == TRACE

    [span] = exporter.get_finished_spans()
    assert span.name == "predict"
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.attributes is not None
    assert span.attributes["messaging.system"] == "nats"


def test_a_hop(exporter: InMemorySpanExporter) -> None:
    """What one process injects makes the next one's span its child."""
    exporter.clear()

    with tracing.span("route", Headers({"traceparent": PARENT})):
        sent = tracing.inject({"Dspex-Request": "r1"})
    with tracing.span("predict", Headers(sent)):
        pass

    route, predict = exporter.get_finished_spans()
    assert sent["Dspex-Request"] == "r1"
    assert route.context is not None
    assert predict.context is not None
    assert predict.parent is not None
    assert predict.parent.span_id == route.context.span_id
    assert predict.context.trace_id == int(TRACE, 16)


def test_a_root(exporter: InMemorySpanExporter) -> None:
    """Without a header, or with one that cannot be read, a trace begins here."""
    exporter.clear()

    for headers in ({}, {"traceparent": "rubbish"}):
        with tracing.span("predict", Headers(headers)):
            assert len(tracing.trace_id()) == 32

    assert [span.parent for span in exporter.get_finished_spans()] == [None, None]


def test_a_failure(exporter: InMemorySpanExporter) -> None:
    """A failure marks its span by its code, and goes on; its text stays out."""
    exporter.clear()

    with (
        pytest.raises(BadRequest),
        tracing.span("predict", Headers()),
    ):
        raise BadRequest("secret text")

    [span] = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "bad_request"
    assert span.events == ()


def test_outside() -> None:
    """Outside of a span there is no trace id and nothing to inject."""
    token = context.attach(context.Context())

    assert tracing.trace_id() == ""
    assert tracing.inject({}) == {}
    context.detach(token)


def test_not_configured() -> None:
    """Without an endpoint nothing is set up."""
    before = trace.get_tracer_provider()

    tracing.configure("dspex-test", {})

    assert trace.get_tracer_provider() is before
