"""One trace across client, router and worker, exported by OTLP."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.support.asking import Asker, question
from tests.support.collector import Collector
from tests.support.stack import Program, Stack, worker_environ

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_trace_context_crosses_the_bus(
    nats_url: str, bus: NatsBus, model: ScriptedModel, tmp_path: Path
) -> None:
    """Router and worker export spans of the trace that the client's header names."""
    async with Collector() as collector:
        environ = worker_environ(model.url) | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        prefix = f"x{uuid4().hex[:8]}"
        async with Stack(nats_url, tmp_path, prefix, environ) as stack:
            await stack.start(Program("dspex.router"), Program("dspex.native"))
            await stack.start(Program("dspex.services.worker"))
            await stack.ready(workers=1)
            found = await Asker(bus, stack.subjects).ask(
                "predict", question(), traceparent=f"00-{TRACE}-00f067aa0ba902b7-01"
            )

    assert found.code == "done"
    traced = [body for body in collector.bodies if bytes.fromhex(TRACE) in body]
    spans = b"".join(traced)
    assert b"dspex-router" in spans
    assert b"dspex-worker-light" in spans
    assert b"route predict" in spans
