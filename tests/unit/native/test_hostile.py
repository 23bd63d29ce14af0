"""Anything may be sent to the native operations: outputs or a failure come back."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fuzz.native_targets import TARGETS, Choices, Target, ask, perform

from dspex.contracts.encoding import decode, encode
from dspex.contracts.failures import BY_CODE, BadRequest
from dspex.native.metrics.catalog import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_CALLS = 2_000_000
"""More calls than any small body may take; a tenth of a second or two."""

FORBIDDEN = ("import", "open", "exec", "compile", "os.", "socket.", "subprocess.")
_events: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is not None and event.startswith(FORBIDDEN):
        _events.append(f"{event} {arguments!r:.100}")


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Note whatever reaches out of the process, until it is left."""
    global _events
    found: list[str] = []
    _events = found
    try:
        yield found
    finally:
        _events = None


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the calls of functions, until it is left."""
    found = [0]

    def count(frame: Any, event: str, argument: Any) -> None:
        found[0] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield found
    finally:
        sys.setprofile(before)


@pytest.fixture(scope="module", autouse=True)
def _messages_were_made() -> None:
    """Have our own annotations evaluated, which is done once, for messages."""
    for name in METRICS:
        body = {"metric": name, "prediction": "", "answers": [], "parameters": {"?": 0}}
        assert ask(TARGETS["metric.score"], encode(body)) == "bad_request"


@st.composite
def bodies(draw: st.DrawFn, target: Target) -> bytes:
    text = st.text(max_size=8)
    choices = Choices(lambda below: draw(st.integers(0, below - 1)), lambda: draw(text))
    return msgspec.json.encode(choices.value(target.body))


@pytest.mark.parametrize("operation", TARGETS)
def test_only_failures_come_out(operation: str) -> None:
    """Random bodies give outputs or failures, take few calls and reach nothing."""
    target = TARGETS[operation]
    codes = BY_CODE.keys() - {"internal"} | {"done"}

    @given(data=bodies(target))
    @settings(max_examples=60, deadline=None, derandomize=True)
    def check(data: bytes) -> None:
        try:
            body = decode(data, target.body)
        except BadRequest:
            return
        modules = set(sys.modules)
        with watched() as events, counted() as calls:
            found = perform(target, body)
        assert found in codes
        assert calls[0] < MOST_CALLS
        assert events == []
        assert set(sys.modules) == modules

    check()


@pytest.mark.parametrize("operation", TARGETS)
@given(data=st.binary(max_size=60))
@example(data=b'{"schema": {"const": 1e400}, "value": 1}')
@example(data=b'{"template": "\\ud800"}')
@example(data=b"[" * 5000)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_bytes_are_no_bodies(operation: str, data: bytes) -> None:
    """Bytes that are no body are a failure."""
    assert ask(TARGETS[operation], data) == "bad_request"


def test_watching_and_counting() -> None:
    """What reaches out is noticed, and calls are counted."""
    with watched() as events, open("/dev/null", "rb"):
        pass
    with counted() as calls:
        len("")

    assert [event.split()[0] for event in events] == ["open"]
    assert calls[0] > 0
