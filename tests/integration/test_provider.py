"""What a misbehaving language model becomes for the caller."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, chat, question

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (401, "lm_auth", False),
        (403, "lm_auth", False),
        (429, "lm_rate_limit", True),
        (500, "lm_unavailable", True),
        (503, "lm_unavailable", True),
        (400, "lm_refused", False),
    ],
)
async def test_status(
    asker: Asker, model: ScriptedModel, status: int, code: str, retryable: bool
) -> None:
    """Each kind of refusal keeps its meaning, and the next request works."""
    model.fail_with(status, retry_after=2 if status == 429 else None, times=1)

    found = await asker.ask("predict", once())

    assert found.code == code
    assert found.body["category"] == "provider"
    assert found.body["retryable"] is retryable
    assert found.body["hint"]
    assert found.body["retry_after_ms"] == (2000 if status == 429 else None)
    assert "test-key" not in json.dumps(found.body)
    assert (await asker.ask("predict", question())).code == "done"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_failure_that_passes(
    asker: Asker, model: ScriptedModel, status: int
) -> None:
    """What may pass is tried again, after the pause the provider asks for."""
    model.fail_with(status, retry_after=1 if status == 429 else None, times=1)
    begun = time.monotonic()

    found = await asker.ask("predict", question())

    assert found.code == "done"
    assert found.body["metadata"]["attempts"] == 2
    assert found.body["metadata"]["reason"].endswith(f"_after_{_CODES[status]}")
    if status == 429:
        assert time.monotonic() - begun >= 1.0


_CODES = {429: "lm_rate_limit", 500: "lm_unavailable", 503: "lm_unavailable"}


def once() -> dict[str, Any]:
    """A question that is not asked again when it fails."""
    return question() | {"options": {"idempotent": False}}


async def test_context_window(asker: Asker, model: ScriptedModel) -> None:
    """A prompt too long for the model has a code of its own."""
    model.fail_with(400, code="context_length_exceeded", times=1)

    found = await asker.ask("predict", question())

    assert found.code == "context_window"


@pytest.mark.parametrize("reply", ["", "no fields here", "[[ ## wrong ## ]]\nx"])
async def test_reply_without_the_outputs(
    asker: Asker, model: ScriptedModel, reply: str
) -> None:
    """A reply that does not hold the outputs is ``parse_failed``."""
    model.reply_with(reply)

    found = await asker.ask("predict", question())

    assert found.code == "parse_failed"
    assert found.body["category"] == "program"


async def test_garbage(asker: Asker, model: ScriptedModel) -> None:
    """A provider that does not speak its protocol is ``lm_unavailable``."""
    model.send_garbage(times=1)

    found = await asker.ask("predict", once())

    assert found.code == "lm_unavailable"


async def test_silent_model(asker: Asker, model: ScriptedModel) -> None:
    """A model that never answers fails the request before its deadline."""
    model.hang()
    begun = time.monotonic()

    found = await asker.ask("predict", question(), timeout=1.0)

    assert found.code == "deadline_exceeded"
    assert time.monotonic() - begun < 1.0
    await asyncio.wait_for(model.disconnected(1), 5)


async def test_silent_stream(asker: Asker, model: ScriptedModel) -> None:
    """The same for a stream that stops in the middle."""
    model.reply_with(chat(answer="one two three"))
    model.hold_chunks()

    events = await asker.stream("predict", question(), timeout=1.0)

    assert events.last["code"] == "deadline_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_cancel(asker: Asker, model: ScriptedModel, stream: bool) -> None:
    """Cancelling reaches the model's HTTP call, and the caller is told."""
    model.hang()
    name = f"stop-{stream}"
    asked = asyncio.ensure_future(_last_said(asker, name, stream=stream))
    await asyncio.wait_for(model.received(1), 5)

    await asker.bus.publish(asker.subjects.cancel(name))
    last = await asyncio.wait_for(asked, 5)

    await asyncio.wait_for(model.disconnected(1), 5)
    assert last["code"] == "cancelled"
    assert last.get("kind", "cancelled") == "cancelled"


async def test_client_gone(asker: Asker, model: ScriptedModel) -> None:
    """When the reader of a stream leaves, the model's call is ended."""
    model.reply_with(chat(answer="word " * 4000))
    model.chunk, model.chunk_delay = 5, 0.01
    async with await asker.bus.replies(dedicated=True) as replies:
        await asker.bus.publish(
            asker.subjects.call("predict"),
            json.dumps(question()).encode(),
            headers={"Dspex-Stream": "inbox"},
            reply=replies.subject,
        )
        while b'"delta"' not in (await replies.next(10)).data:
            continue

    await asyncio.wait_for(model.disconnected(1), 10)
    assert (await asker.ask("predict", question())).code in ("done", "parse_failed")


async def test_client_that_does_not_read(
    asker: Asker, model: ScriptedModel, nats_url: str
) -> None:
    """The server cuts off who does not read its stream; the work for it ends then."""
    model.reply_with(chat(answer="word " * 8_000_000))
    model.chunk, model.chunk_delay = 100_000, 0.05
    host, _, port = nats_url.removeprefix("nats://").partition(":")
    reply = f"_INBOX.{uuid4().hex}"
    body = json.dumps(question()).encode()
    headers = b"NATS/1.0\r\nDspex-Stream: inbox\r\n\r\n"
    sizes = f"{len(headers)} {len(headers) + len(body)}"
    subject = asker.subjects.call("predict")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            b'CONNECT {"verbose":false,"headers":true}\r\n'
            + f"SUB {reply} 1\r\nHPUB {subject} {reply} {sizes}\r\n".encode()
            + headers
            + body
            + b"\r\n"
        )

        await asyncio.wait_for(model.disconnected(1), 60)

    model.reset()
    assert (await asker.ask("predict", question())).code == "done"


async def test_client_gone_before_a_reply(asker: Asker, model: ScriptedModel) -> None:
    """A caller that gave up costs nothing but its own request."""
    model.latency = 0.3
    with pytest.raises(TimeoutError):
        await asker.bus.request(
            asker.subjects.call("predict"), json.dumps(question()).encode(), timeout=0.1
        )

    assert (await asker.ask("predict", question())).code == "done"


async def _last_said(asker: Asker, request: str, *, stream: bool) -> dict[str, Any]:
    """The reply, or the event that ends the stream."""
    if stream:
        events = await asker.stream("predict", question(), dspex_request=request)
        return events.last
    return (await asker.ask("predict", question(), dspex_request=request)).body
