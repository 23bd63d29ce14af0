"""Jobs, asked by a plain NATS client of the real programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import question

if TYPE_CHECKING:
    from tests.support.asking import Asker
    from tests.support.scripted_model import ScriptedModel

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

PARSE = {"signature": "question -> answer: int"}


async def submit(ask: Asker, operation: str, body: Any, **more: Any) -> dict[str, Any]:
    """Submit a job and return how it is shown."""
    answer = await ask.ask("job.submit", {"operation": operation, "body": body} | more)
    assert answer.code == "done", answer.body
    found: dict[str, Any] = answer.body["outputs"]
    return found


async def about(ask: Asker, operation: str, job: str, **more: Any) -> dict[str, Any]:
    """Ask one of the operations that take a job."""
    answer = await ask.ask(f"job.{operation}", {"job": job} | more)
    assert answer.code == "done", answer.body
    found: dict[str, Any] = answer.body["outputs"]
    return found


async def test_submit_and_wait(asker: Asker, model: ScriptedModel) -> None:
    """A job is done by a worker, and its result is what a request would have got."""
    queued = await submit(asker, "predict", question())

    done = await about(asker, "wait", queued["job"])

    assert (queued["state"], queued["pool"]) == ("queued", "light")
    assert done["state"] == "done"
    assert done["result"]["outputs"].keys() == {"answer"}
    assert done["result"]["metadata"]["implementation"] == "python"
    assert [one["failure"] for one in done["attempts"]] == [None]


async def test_native_operations(asker: Asker) -> None:
    """Native operations are jobs too, done by native-ops."""
    queued = await submit(asker, "signature.parse", PARSE, job=f"n{uuid4().hex}")

    done = await about(asker, "wait", queued["job"])

    assert (done["state"], done["pool"]) == ("done", "native")
    assert done["result"]["metadata"]["implementation"] == "native"
