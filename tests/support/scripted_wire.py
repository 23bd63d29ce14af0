"""What a scripted language model reads and writes: HTTP and OpenAI's JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

_REASONS = {200: "OK", 404: "Not Found"}


@dataclasses.dataclass
class Received:
    """One request as the model saw it.

    Attributes:
        path: The route that was asked for.
        headers: Names in lower case; the value of `authorization` is replaced
            by its scheme, so that a log of requests holds no key.
        body: The decoded JSON body.
        disconnected: Whether the client left before its answer was complete.
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    disconnected: bool = False

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body.get("messages", []))

    @property
    def authorized(self) -> bool:
        return "authorization" in self.headers

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))

    def text(self, role: str) -> str:
        """Return the last message of a role as plain text."""
        said = [m.get("content") for m in self.messages if m.get("role") == role]
        last = said[-1] if said else ""
        if isinstance(last, list):
            return "".join(part.get("text", "") for part in last)
        return last or ""


def header(field: str) -> tuple[str, str]:
    name, _, value = field.partition(":")
    name, value = name.strip().lower(), value.strip()
    return name, value.split(" ")[0] if name == "authorization" else value


def key_digest(fields: list[str]) -> str:
    """What tells two keys apart and says neither."""
    keys = [one for one in fields if one.lower().startswith("authorization:")]
    return digest_of_key(keys[0].split(" ")[-1]) if keys else ""


def digest_of_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def head(status: int, *headers: tuple[str, str], kind: str = "json") -> bytes:
    family = "text" if kind == "event-stream" else "application"
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Type: {family}/{kind}", "", ""]
    return "\r\n".join(lines).encode()


def http_chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def failure(status: int, message: str, code: str | None = None) -> tuple[int, bytes]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return status, encode({"error": {"message": message, "type": kind, "code": code}})


def usage(text: str, request: Received) -> dict[str, int]:
    asked = sum(len(str(message.get("content"))) for message in request.messages) // 4
    said = len(text) // 4
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
    }


def completion(text: str, request: Received) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 0,
        "model": request.body.get("model", "scripted"),
        "choices": [choice],
        "usage": usage(text, request),
    }


def piece(
    request: Received, delta: dict[str, str], finish: str | None = None
) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": request.body.get("model", "scripted"),
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
