"""A scripted language model behind real HTTP, for tests and benchmarks.

It speaks the part of OpenAI's Chat Completions API that DSPy uses, answers in
the format that the prompt asks for unless told otherwise, and can be told to
wait, stream, refuse, hang or answer nonsense. It keeps what it was asked.

    async with ScriptedModel() as model:
        model.reply_with('{"answer": "Paris"}')
        lm = dspy.LM("openai/scripted", api_base=model.url, api_key="x")

As a program: `python -m tests.support.scripted_model --latency 1.0`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from tests.support import scripted_wire as wire
from tests.support.scripted_answers import answer_prompt
from tests.support.scripted_wire import Received

Answer = Callable[[Received], str]


def answer_in_format(request: Received) -> str:
    """Answer as the prompt asks: Chat, JSON or XML, with type-correct values."""
    wanted = request.body.get("response_format") or {}
    schema = wanted.get("json_schema", {}).get("schema")
    return answer_prompt(request.text("system"), request.text("user"), schema)


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What happens to a request.

    Attributes:
        answer: Makes the text of the reply.
        status: An HTTP status; anything but 200 is answered as an error.
        headers: Sent beside the body, such as `Retry-After`.
        code: The provider's own error code, such as `context_length_exceeded`.
        hang: Never answer: wait until the client leaves.
        raw: Sent as it is instead of a reply.
    """

    answer: Answer = answer_in_format
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    code: str | None = None
    hang: bool = False
    raw: bytes | None = None


class ScriptedModel:
    """The server; one per test.

    Args:
        latency: Seconds before the first byte of every answer.
        port: Zero takes a free one.
        chunk: Characters in each piece of a streamed answer.
        chunk_delay: Seconds between two pieces.
    """

    def __init__(
        self,
        *,
        latency: float = 0.0,
        port: int = 0,
        chunk: int = 8,
        chunk_delay: float = 0.0,
    ) -> None:
        self.latency = latency
        self.chunk = chunk
        self.chunk_delay = chunk_delay
        self._timing = (latency, chunk, chunk_delay)
        self.requests: collections.deque[Received] = collections.deque(maxlen=10_000)
        self.active = 0
        self.most_active = 0
        self._count = 0
        self._port = port
        self._default = Behaviour()
        self._next: collections.deque[Behaviour] = collections.deque()
        self._gate: asyncio.Semaphore | None = None
        self._changed = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self._port, backlog=512
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """What to give as `api_base`."""
        return f"http://127.0.0.1:{self._port}/v1"

    def reset(self) -> None:
        """Forget what came in and what was asked of it; answer by the prompt again."""
        self.let_chunks_flow()
        self.latency, self.chunk, self.chunk_delay = self._timing
        self.requests.clear()
        self.most_active = self.active
        self._count = 0
        self._default = Behaviour()
        self._next.clear()

    def reply_with(self, answer: str | Answer, *, times: int | None = None) -> None:
        """Answer with this text: the next so many times, or from now on."""
        make = answer if callable(answer) else lambda _: answer
        self._set(Behaviour(answer=make), times)

    def fail_with(
        self,
        status: int,
        *,
        retry_after: float | None = None,
        code: str | None = None,
        times: int | None = None,
    ) -> None:
        """Answer with an error in the provider's format."""
        hint = () if retry_after is None else (("Retry-After", str(retry_after)),)
        self._set(Behaviour(status=status, headers=hint, code=code), times)

    def hang(self, *, times: int | None = None) -> None:
        """Never answer; the request ends when its client leaves."""
        self._set(Behaviour(hang=True), times)

    def send_garbage(
        self, raw: bytes = b"<html>not JSON", *, times: int | None = None
    ) -> None:
        """Answer 200 with a body that is no reply."""
        self._set(Behaviour(raw=raw), times)

    def hold_chunks(self) -> asyncio.Semaphore:
        """Let a piece of a stream out only for each `release()` from now on."""
        self._gate = asyncio.Semaphore(0)
        return self._gate

    def let_chunks_flow(self) -> None:
        """End the effect of `hold_chunks` on pieces that come after."""
        gate, self._gate = self._gate, None
        if gate is not None:
            for _ in range(10_000):
                gate.release()

    async def received(self, count: int) -> list[Received]:
        """Wait until so many requests have come in all, and return them."""
        await self._until(lambda: self._count >= count)
        return list(self.requests)

    async def disconnected(self, count: int) -> None:
        """Wait until so many clients have left before their answer was complete."""
        await self._until(lambda: sum(r.disconnected for r in self.requests) >= count)

    def _set(self, behaviour: Behaviour, times: int | None) -> None:
        if times is None:
            self._default = behaviour
        else:
            self._next.extend([behaviour] * times)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    def _accept(self, request: Received) -> Behaviour:
        self.requests.append(request)
        self._count += 1
        self._changed.set()
        return self._next.popleft() if self._next else self._default

    def _left(self, request: Received) -> None:
        request.disconnected = True
        self._changed.set()

    async def _pieces(self, text: str) -> AsyncIterator[str]:
        for start in range(0, len(text), self.chunk):
            if self._gate is not None:
                await self._gate.acquire()
            if self.chunk_delay and start:
                await asyncio.sleep(self.chunk_delay)
            yield text[start : start + self.chunk]


class _Connection(asyncio.Protocol):
    """One client: HTTP/1.1 with keep-alive, one request at a time."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._model._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._model._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if self._task is not None or not found:
            return
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = dict(wire.header(field) for field in fields)
        headers["key-digest"] = wire.key_digest(fields)
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        method, path, _ = line.split(" ")
        body = json.loads(rest[:length] or b"{}")
        request = Received(path, headers, body)
        self._task = asyncio.create_task(self._serve(method, request))
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()
            self.data_received(b"")

    async def _serve(self, method: str, request: Received) -> None:
        if method != "POST" or not request.path.endswith("/chat/completions"):
            self._send(*wire.failure(404, "Only POST /v1/chat/completions exists."))
            return
        behaviour = self._model._accept(request)
        self._model.active += 1
        self._model.most_active = max(self._model.most_active, self._model.active)
        try:
            await self._answer(behaviour, request)
        except asyncio.CancelledError:
            self._model._left(request)
            raise
        finally:
            self._model.active -= 1

    async def _answer(self, behaviour: Behaviour, request: Received) -> None:
        if behaviour.hang:
            await asyncio.get_running_loop().create_future()
        if self._model.latency:
            await asyncio.sleep(self._model.latency)
        if behaviour.status != 200:
            status, body = wire.failure(
                behaviour.status, "The script says so.", behaviour.code
            )
            self._send(status, body, behaviour.headers)
        elif behaviour.raw is not None:
            self._send(200, behaviour.raw)
        elif request.streamed:
            await self._stream(behaviour.answer(request), request)
        else:
            self._send(
                200, wire.encode(wire.completion(behaviour.answer(request), request))
            )

    async def _stream(self, text: str, request: Received) -> None:
        self._write(
            wire.head(200, ("Transfer-Encoding", "chunked"), kind="event-stream")
        )
        self._event(wire.piece(request, {"role": "assistant", "content": ""}))
        async for piece in self._model._pieces(text):
            self._event(wire.piece(request, {"content": piece}))
        self._event(wire.piece(request, {}, finish="stop"))
        if (request.body.get("stream_options") or {}).get("include_usage"):
            usage = wire.usage(text, request)
            self._event({**wire.piece(request, {}), "choices": [], "usage": usage})
        self._write(wire.http_chunk(b"data: [DONE]\n\n") + wire.http_chunk(b""))

    def _event(self, data: dict[str, Any]) -> None:
        self._write(wire.http_chunk(b"data: " + wire.encode(data) + b"\n\n"))

    def _send(
        self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self._write(
            wire.head(status, ("Content-Length", str(len(body))), *headers) + body
        )

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)


async def _run(arguments: argparse.Namespace) -> None:
    async with ScriptedModel(
        latency=arguments.latency,
        port=arguments.port,
        chunk=arguments.chunk,
        chunk_delay=arguments.chunk_delay,
    ) as model:
        ready = {"type": "ready", "url": model.url, "model": "scripted"}
        print(json.dumps(ready), flush=True)
        # Whoever started it holds its standard input: when that ends, so does it.
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--chunk-delay", type=float, default=0.0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
