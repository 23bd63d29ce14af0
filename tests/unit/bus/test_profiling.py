from __future__ import annotations

import sys

from dspex.bus import profiling
from dspex.bus.profiling import Stacks, stack_of


def test_stacks_are_counted() -> None:
    """Functions that ran themselves come first; what called them counts once each."""
    found = Stacks()
    for line in (3, 3, 4):
        found.add(("main", "a:f:1", "a:f:2", f"b:g:{line}"))

    assert found.collapsed() == "main;a:f:1;a:f:2;b:g:3 2\nmain;a:f:1;a:f:2;b:g:4 1\n"
    assert [(one.function, one.own, one.total) for one in found.hottest()] == [
        ("b:g", 3, 3),
        ("a:f", 0, 3),
    ]


def test_memory_is_bounded() -> None:
    """Stacks beyond what is kept are counted as lost."""
    found, size = Stacks(), profiling.MOST // 4
    for number in range(10):
        found.add(("main", f"a:{'x' * size}:{number}"))

    assert len(found.seen) == 3
    assert found.lost == 7


def test_waiting_threads_are_left_out() -> None:
    """A thread that waits for something to do is counted as that."""
    found = Stacks()
    found.add(("pool_0", "threading:Thread.run:1", "threading:Condition.wait:355"))

    assert (found.idle, found.collapsed(), found.hottest()) == (1, "", [])


def test_frames_say_where() -> None:
    """A frame is its module, function and line; a thread's name is one word."""
    frames = stack_of("my thread;", sys._getframe())

    assert frames[0] == "my_thread,"
    assert frames[-1].startswith(f"{__name__}:test_frames_say_where:")
    assert len(frames) <= 1 + profiling.DEEPEST
