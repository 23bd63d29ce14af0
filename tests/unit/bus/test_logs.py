from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from dspex.bus import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(name="written")
def _written() -> Iterator[io.StringIO]:
    """The logs of this process as ``configure`` writes them; undone afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_line(written: io.StringIO) -> None:
    """A record is one line of JSON with time, level, logger and message."""
    logging.getLogger("dspex.x").warning("took %d s", 3)

    [line] = lines(written)
    assert line.pop("at").endswith("+00:00")
    assert line == {"level": "warning", "logger": "dspex.x", "message": "took 3 s"}


def test_ids(written: io.StringIO) -> None:
    """Within a request and a span, lines carry the ids of both."""
    tracer = TracerProvider().get_tracer("test")
    token = logs.request_id.set("r1")

    with tracer.start_as_current_span("work") as span:
        logging.getLogger("dspex.x").info("working")
    logs.request_id.reset(token)
    logging.getLogger("dspex.x").info("idle")

    working, idle = lines(written)
    assert working["request"] == "r1"
    assert working["trace"] == f"{span.get_span_context().trace_id:032x}"
    assert "request" not in idle
    assert "trace" not in idle


def test_extras(written: io.StringIO) -> None:
    """What a caller adds stands in the line, whatever its type."""
    logging.getLogger("dspex.x").info("m", extra={"count": 3, "what": object})

    [line] = lines(written)
    assert (line["count"], line["what"]) == (3, "<class 'object'>")


def test_an_exception(written: io.StringIO) -> None:
    """The traceback of an exception stays within its one line."""
    try:
        int("no\nway")
    except ValueError:
        logging.getLogger("dspex.x").exception("failed")

    [line] = lines(written)
    assert "ValueError: invalid literal" in line["exception"]
    assert line["level"] == "error"


def test_levels(written: io.StringIO) -> None:
    """What is less severe than asked for is not written."""
    logging.getLogger("dspex.x").debug("detail")

    assert written.getvalue() == ""
