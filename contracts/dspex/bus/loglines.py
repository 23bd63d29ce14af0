"""Which lines of a log an error shows: pure."""

from __future__ import annotations

import json
import re

SHOWN = 3
"""Lines an error shows at most."""

_SERVER = re.compile(r"\[\d+\] \S+ \S+ \[(\w{3})\] ")
"""How nats-server begins a line: process id, date, time, level."""

_SERVER_LEVELS = {"ERR", "FTL", "WRN"}
_LEVELS = {"warning", "error", "critical"}


def telling(text: str) -> list[str]:
    """The last lines that say what went wrong; without any, the last lines.

    Lines of nats-server and of our own programs have a level, and count from
    warnings on; a line without one, such as the end of a traceback, counts too.
    """
    lines = [_read(line) for line in text.splitlines() if line.strip()]
    kept = [line for telling, line in lines if telling]
    return (kept or [line for _, line in lines])[-SHOWN:]


def _read(line: str) -> tuple[bool, str]:
    """Whether a line says what went wrong, and how it is shown."""
    if match := _SERVER.match(line):
        return match.group(1) in _SERVER_LEVELS, line
    try:
        said = json.loads(line)
    except ValueError:
        return True, line
    if not isinstance(said, dict) or "level" not in said:
        return True, line
    return said["level"] in _LEVELS, _short(said)


def _short(said: dict[str, object]) -> str:
    """A line of ours, for people."""
    exception = str(said.get("exception", "")).strip().rpartition("\n")[2]
    why = f": {exception}" if exception else ""
    return f"{said['level']} {said.get('logger', '')}: {said.get('message', '')}{why}"
