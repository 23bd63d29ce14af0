"""What deploy/compose.yaml starts, started without containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support import deployment
from tests.support.asking import Asker, question
from tests.support.stack import Program, Stack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


def program(service: dict[str, Any], url: str) -> Program:
    """A service's command with its variables; NATS and the file are where they are."""
    command, *arguments = service["command"]
    given = {name: value or "" for name, value in service["environment"].items()}
    here = {
        "DSPEX_NATS_URL": url,
        "DSPEX_CONFIG": str(deployment.DEPLOY / "dspex.toml"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
    }
    if "OPENAI_API_KEY" in given:
        here["OPENAI_API_KEY"] = "test-key-not-a-secret"
    return Program(deployment.module(command), *arguments, environ=given | here)


async def test_the_services_answer(
    nats_url: str, bus: NatsBus, scripted: ScriptedModel, tmp_path: Path
) -> None:
    """Router, native-ops, state and a worker answer a question and keep a job."""
    services = deployment.services()
    environ = {
        "DSPEX_LMS_DEFAULT_API_BASE": scripted.url,
        "DSPEX_JOURNAL_MAX_MIB": "16",
    }
    async with Stack(nats_url, tmp_path, f"c{uuid4().hex[:8]}", environ) as stack:
        for name in ("router", "native", "state", "worker"):
            await stack.start(program(services[name], nats_url))
        await stack.ready(workers=1, state=1)
        asker = Asker(bus, stack.subjects)

        answer = await asker.ask("predict", question())
        parsed = await asker.ask("signature.parse", {"signature": "q -> a"})
        job = await asker.ask(
            "job.submit", {"operation": "predict", "body": question()}
        )

    assert (answer.code, parsed.code, job.code) == ("done", "done", "done")
    assert answer.body["metadata"]["pool"] == "light"
    assert answer.body["metadata"]["lm"] == "openai/gpt-4o-mini"
