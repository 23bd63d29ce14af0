"""Jobs, as a plain NATS client asks for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from tests.support.asking import Asker

PARSE = {"signature": "question -> answer: int"}


async def submit(ask: Asker, operation: str, body: Any, **more: Any) -> dict[str, Any]:
    """Submit a job and return how it is shown."""
    answer = await ask.ask("job.submit", {"operation": operation, "body": body} | more)
    assert answer.code == "done", answer.body
    found: dict[str, Any] = answer.body["outputs"]
    return found


async def about(ask: Asker, operation: str, job: str, **more: Any) -> dict[str, Any]:
    """Ask one of the operations that take a job."""
    answer = await ask.ask(f"job.{operation}", {"job": job} | more, timeout=40)
    assert answer.code == "done", answer.body
    found: dict[str, Any] = answer.body["outputs"]
    return found


async def ended(ask: Asker, job: str) -> dict[str, Any]:
    """Wait until a job has ended."""
    found = await about(ask, "wait", job, timeout_s=35)
    assert found["state"] not in ("queued", "running"), found
    return found


async def all_jobs(ask: Asker, **filters: Any) -> list[dict[str, Any]]:
    """Every job, page by page."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        body = {"after": after} | filters
        answer = await ask.ask("job.list", body)
        assert answer.code == "done", answer.body
        found += answer.body["outputs"]["jobs"]
        if (after := answer.body["outputs"]["next"]) is None:
            return found


def failures(job: dict[str, Any]) -> list[str | None]:
    """Why each attempt did not end a job; ``None`` for one that did."""
    return [one["failure"] and one["failure"]["code"] for one in job["attempts"]]


async def retried(ask: Asker, operation: str, body: Any) -> dict[str, Any]:
    """Submit under one id until it is acknowledged, as a client does."""
    wanted = {"operation": operation, "body": body, "job": f"j{uuid4().hex[:12]}"}
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await ask.ask("job.submit", wanted, timeout=5)
            except Exception:  # noqa: BLE001 - whatever is away comes back, or time is up
                await asyncio.sleep(0.1)
                continue
            if answer.code == "done":
                found: dict[str, Any] = answer.body["outputs"]
                return found


async def ended_in_the_end(ask: Asker, job: str) -> dict[str, Any]:
    """Wait for a job while servers come and go."""
    async with asyncio.timeout(90):
        while True:
            try:
                found = await about(ask, "wait", job, timeout_s=5)
            except Exception:  # noqa: BLE001 - whatever is away comes back, or time is up
                await asyncio.sleep(0.1)
                continue
            if found["state"] not in ("queued", "running"):
                return found
