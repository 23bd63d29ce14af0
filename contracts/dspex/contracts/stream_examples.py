"""One example of what is said about streams that go on."""

from __future__ import annotations

from typing import Any

from dspex.contracts.stream_requests import ResumeStream

_ASKED = "0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a70"

REQUESTS = {
    "stream.resume": ResumeStream(request=_ASKED, attempt=1, after=17),
}

OUTPUTS: dict[str, dict[str, Any]] = {
    "stream.resume": {
        "request": _ASKED,
        "attempt": 1,
        "after": 18,
        "ended": False,
        "events": [
            {
                "kind": "delta",
                "request": _ASKED,
                "attempt": 1,
                "seq": 18,
                "at": 1767225600000.125,
                "type": "event",
                "field": "answer",
                "text": "Because",
            }
        ],
    },
}
