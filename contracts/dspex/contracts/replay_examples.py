"""One example of what is said about replays that others are asked for."""

from __future__ import annotations

from typing import Any

from dspex.contracts.replay_requests import RunReplay

_OLD = "0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a72"
_NEW = "0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a73"

REQUESTS = {
    "replay.run": RunReplay(mode="diff", since=1767225600000.0, operation="run"),
}

OUTPUTS: dict[str, dict[str, Any]] = {
    "replay.run": {
        "summary": {"replayed": 2, "identical": 1, "diverged": 1},
        "results": [
            {
                "request": _OLD,
                "replayed_as": _NEW,
                "status": "diverged",
                "first_difference": {
                    "path": "messages[0].content",
                    "recorded": "Be brief.",
                    "replayed": "Be very brief.",
                    "call": 1,
                    "diff": ["-Be brief.", "+Be very brief."],
                },
            }
        ],
        "passed_over": ["1 x 3 missing"],
    },
}
