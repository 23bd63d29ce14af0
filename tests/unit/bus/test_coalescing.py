"""Deltas that are told together are told whole, in order, and soon."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspex.bus.coalescing import LARGEST, WINDOW, Coalescer
from dspex.contracts.words import Text

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reasoning", "answer"]),
        st.text(min_size=1, max_size=5),
        st.floats(0, 0.1),
    )
)


@given(steps=STEPS)
def test_nothing_is_lost(steps: list[tuple[str, str, float]]) -> None:
    """Whatever comes when: all of it is told, in order, none twice."""
    coalescer, now = Coalescer(), 0.0
    told: list[Text] = []
    for field, text, pause in steps:
        now += pause
        told += coalescer.add(field, text, now)
        assert coalescer.wait(now) <= WINDOW
    told += coalescer.take(now)

    assert _joined([(one.field, one.text) for one in told]) == _joined(
        [(field, text) for field, text, _ in steps]
    )
    assert not coalescer.holds


def test_the_first_is_told_at_once() -> None:
    """Nobody waits for the first; those that follow closely are one."""
    coalescer = Coalescer()

    assert coalescer.add("a", "1", 0.0) == [Text(field="a", text="1")]
    assert coalescer.add("a", "2", 0.001) == []
    assert coalescer.add("a", "3", 0.002) == []
    assert coalescer.add("a", "4", WINDOW) == [Text(field="a", text="234")]


def test_much_text_does_not_wait() -> None:
    """What is large is told at once."""
    coalescer = Coalescer(most=4)
    coalescer.add("a", "1", 0.0)

    assert coalescer.add("a", "2345", 0.0) == [Text(field="a", text="2345")]


def test_long_text_is_told_in_parts() -> None:
    """No delta is so long that a message has no room for it."""
    text = "ab" * LARGEST + "c"

    told = Coalescer().add("a", text, 0.0)

    assert [len(one.text) for one in told] == [LARGEST, LARGEST, 1]
    assert "".join(one.text for one in told) == text


def _joined(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parts with neighbours of one field put together."""
    found: list[tuple[str, str]] = []
    for field, text in parts:
        if found and found[-1][0] == field:
            found[-1] = (field, found[-1][1] + text)
        else:
            found.append((field, text))
    return found
