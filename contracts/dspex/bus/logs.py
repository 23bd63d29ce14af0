"""Logs as JSON lines, each with the request and the trace it belongs to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from dspex.bus import tracing

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Correlation id of the request that this task works on."""

Scrub = Callable[[str, str], str]
"""Takes the id of a request and a text of its log, and gives what may be written."""

_scrubs: list[Scrub] = []

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Seldom:
    """Logs the 1st, 2nd, 4th, 8th, ... time: for what others can make happen often."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._times = 0

    def warning(self, message: str, *values: object) -> None:
        """Log it if it is due, with how often it has happened."""
        self._times += 1
        if self._times & (self._times - 1) == 0:
            self._log.warning(message, *values, extra={"times": self._times})


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, ids, extras."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := request_id.get():
            line["request"] = request
        if trace := tracing.trace_id():
            line["trace"] = trace
        extras = {key: val for key, val in vars(record).items() if key not in _PLAIN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if _scrubs:
            said = msgspec.to_builtins(extras, enc_hook=str)
            for key in ("message", "exception"):
                if key in line:
                    said[key] = line[key]
            extras = _scrubbed(said)
        return msgspec.json.encode(line | extras, enc_hook=str).decode()


def scrub_with(scrub: Scrub) -> None:
    """Let every text of the log pass through ``scrub`` from now on."""
    _scrubs[:] = [scrub]


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return _scrubs[0](request_id.get(), value)
    if isinstance(value, dict):
        return {key: _scrubbed(one) for key, one in value.items()}
    return [_scrubbed(one) for one in value] if isinstance(value, list) else value


def configure(level: str = "INFO", stream: TextIO = sys.stderr) -> None:
    """Write all logs of this process to ``stream`` as JSON lines.

    Args:
        level: Least severe level that is written.
        stream: Where to.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
