"""Where in the events of a request its reader is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts import examples
from dspex.contracts.envelope import Delta, DoneEvent, Event, Status
from dspex.contracts.failures import NotFound
from dspex.services.state.position import Position

if TYPE_CHECKING:
    from collections.abc import Iterable

DONE = examples.EVENTS["done"]


def status(attempt: int, seq: int) -> Event:
    return Status(request="r", attempt=attempt, seq=seq, at=0.0, message="")


def end(attempt: int, seq: int) -> Event:
    return DoneEvent(
        request="r",
        attempt=attempt,
        seq=seq,
        at=0.0,
        outputs={},
        metadata=DONE.metadata,
    )


def told(position: Position, events: Iterable[Event]) -> list[tuple[int, int]]:
    return [(one.attempt, one.seq) for event in events for one in position.take(event)]


@st.composite
def stored(draw: st.DrawFn) -> list[Event]:
    """A request's events as they may be stored: each teller's own in their order."""
    attempts = draw(st.integers(1, 3))
    tellers: list[list[Event]] = [
        [status(attempt, seq) for seq in range(1, draw(st.integers(2, 6)))]
        for attempt in range(attempts + 1)
    ]
    tellers[-1].append(end(attempts, len(tellers[-1]) + 1))
    events: list[Event] = []
    while left := [teller for teller in tellers if teller]:
        # The end comes last, as it is told when all others are.
        may = [one for one in left if len(one) > 1 or one is not tellers[-1]] or left
        events.append(draw(st.sampled_from(may)).pop(0))
    return events


@given(events=stored(), data=st.data())
def test_no_gap_and_no_duplicate(events: list[Event], data: st.DataObject) -> None:
    """Wherever a reader left, what it had and what it gets is everything, once."""
    at = data.draw(st.integers(0, len(events) - 2))
    last = events[at]
    had = [(one.attempt, one.seq) for one in events[: at + 1]]
    position = Position(last.attempt, last.seq)

    # What is stored twice, as by an import, is told once.
    got = told(position, [one for event in events for one in (event, event)])

    assert had + got == [(one.attempt, one.seq) for one in events]
    assert position.ended


@given(events=stored())
def test_from_the_beginning(events: list[Event]) -> None:
    """Who had nothing gets everything."""
    position = Position(None, 0)

    assert told(position, events) == [(one.attempt, one.seq) for one in events]
    assert (position.attempt, position.seq) == (events[-1].attempt, events[-1].seq)


@given(events=stored(), data=st.data())
def test_a_gap_is_told(events: list[Event], data: st.DataObject) -> None:
    """An event that is missing behind the reader's fails it, for there is no whole."""
    gone = data.draw(st.integers(0, len(events) - 2))
    lost = events.pop(gone)
    if not any(one.attempt == lost.attempt and one.seq > lost.seq for one in events):
        return  # it was its teller's last: nobody can know

    with pytest.raises(NotFound, match="without a gap"):
        told(Position(None, 0), events)


def test_an_end_that_was_stored_early() -> None:
    """The end of one teller may be stored before another's last event: it is told."""
    position = Position(1, 2)
    events = [status(0, 1), status(1, 1), end(0, 2), status(1, 2)]

    assert told(position, events) == [(0, 2)]
    assert position.ended


def test_who_had_the_end() -> None:
    """A reader that had the end gets nothing, and that at once."""
    position = Position(1, 2)

    assert told(position, [status(1, 1), end(1, 2)]) == []
    assert position.ended


def test_a_place_that_never_was() -> None:
    """Until the reader's last event has come by, its place is not known."""
    position = Position(1, 9)
    delta = Delta(request="r", attempt=1, seq=1, at=0.0, field="a", text="b")

    assert told(position, [delta]) == []
    assert not position.found
