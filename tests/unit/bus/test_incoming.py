from __future__ import annotations

import re

import pytest

from dspex.bus import incoming
from dspex.bus.clock import now_ms
from dspex.bus.core import Message
from dspex.contracts.failures import BadRequest, DeadlineExceeded


def message(reply: str = "_INBOX.x", **headers: str) -> Message:
    """A message; ``content_type="x"`` is the header ``Content-Type``."""
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return Message("dspex.v1.call.predict", b"{}", reply, found)


def read(message: Message) -> incoming.Request:
    return incoming.read(message, "predict", "default", 120.0)


def dispatched(**headers: str) -> incoming.Request:
    given = {"dspex_operation": "predict", "dspex_reply": "_INBOX.client"} | headers
    return incoming.read_dispatched(message("_INBOX.router", **given), 120.0)


def test_defaults() -> None:
    """A message without headers is a request with a new id and a default deadline."""
    request = read(message())

    assert re.fullmatch("[0-9a-f]{32}", request.id)
    assert (request.media, request.stream, request.route) == (
        "application/json",
        "",
        "auto",
    )
    assert (request.attempt, request.reason) == (1, "direct")
    assert 119 < request.remaining(now_ms()) <= 120


def test_all_headers() -> None:
    """Headers are read whatever their case."""
    deadline = int(now_ms()) + 5000

    request = read(
        message(
            DSPEX_REQUEST="r1",
            dspex_deadline=str(deadline),
            Dspex_Stream="inbox",
            Dspex_Route="pool:light",
            content_type="application/msgpack; x=1",
        )
    )

    assert (request.id, request.deadline) == ("r1", deadline)
    assert (request.stream, request.route) == ("inbox", "pool:light")
    assert request.media == "application/msgpack"
    assert request.reply == "_INBOX.x"


@pytest.mark.parametrize(
    ("header", "value", "field"),
    [
        ("dspex_request", "a.b", "Dspex-Request"),
        ("dspex_request", "a" * 65, "Dspex-Request"),
        ("dspex_request", "*", "Dspex-Request"),
        ("dspex_deadline", "soon", "Dspex-Deadline"),
        ("dspex_deadline", "nan", "Dspex-Deadline"),
        ("dspex_deadline", "inf", "Dspex-Deadline"),
        ("dspex_deadline", "9" * 20, "Dspex-Deadline"),
        ("dspex_stream", "all", "Dspex-Stream"),
        ("content_type", "text/plain", "Content-Type"),
    ],
)
def test_bad_headers(header: str, value: str, field: str) -> None:
    """A header that cannot be used is a bad request whose field names it."""
    with pytest.raises(BadRequest) as caught:
        read(message(**{header: value}))

    assert caught.value.field == field
    assert caught.value.hint


@pytest.mark.parametrize(
    ("header", "value", "field"),
    [
        ("dspex_tenant", "a.b", "Dspex-Tenant"),
        ("dspex_attempt", "-1", "Dspex-Attempt"),
        ("dspex_attempt", "²", "Dspex-Attempt"),
        ("dspex_attempt", "1" * 5000, "Dspex-Attempt"),
        ("dspex_elapsed", "1.2.3", "Dspex-Elapsed"),
        ("dspex_elapsed", ".", "Dspex-Elapsed"),
        ("dspex_request", "a b", "Dspex-Request"),
    ],
)
def test_bad_router_headers(header: str, value: str, field: str) -> None:
    """A router's header that cannot be used is a bad request whose field names it."""
    with pytest.raises(BadRequest) as caught:
        dispatched(**{header: value})

    assert caught.value.field == field


@pytest.mark.parametrize(
    "reply", ["$JS.API.STREAM.PURGE.X", "a", "_INBOX.*", "_INBOX..x", "_R_"]
)
def test_replies(reply: str) -> None:
    """A reply subject that is no inbox is refused, directly and by a router."""
    with pytest.raises(BadRequest, match="not an inbox"):
        read(message(reply))
    with pytest.raises(BadRequest, match="not an inbox"):
        dispatched(dspex_reply=reply)


def test_a_dispatch() -> None:
    """A router says for whom, the how manieth time, why, and how long it took."""
    request = dispatched(
        dspex_tenant="acme",
        dspex_attempt="2",
        dspex_reason="least_loaded",
        dspex_elapsed="1.5",
    )

    assert (request.tenant, request.reply) == ("acme", "_INBOX.client")
    assert (request.attempt, request.reason) == (2, "least_loaded")
    assert request.elapsed_ms == 1.5


def test_too_late() -> None:
    """A deadline that has passed is that, not a bad request."""
    with pytest.raises(DeadlineExceeded) as caught:
        read(message(dspex_deadline="1000"))

    assert caught.value.field == "Dspex-Deadline"


def test_no_reply() -> None:
    """A request may want no answer."""
    assert read(message("")).reply == ""
