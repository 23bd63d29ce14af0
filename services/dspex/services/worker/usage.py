"""Tokens and calls of all language models that a request asked."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dspy
from dspy.utils.parallelizer import ParallelExecutor
from dspy.utils.usage_tracker import UsageTracker

from dspex.contracts.envelope import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def counting(*, threads: bool = False) -> Iterator[UsageTracker]:
    """Count what is used in this block.

    Args:
        threads: Whether DSPy may start threads of its own in it. Where those fail when
            somebody counts, nothing is counted.
    """
    if threads and not _threads_can_count():
        yield UsageTracker()
        return
    with dspy.track_usage() as tracker:
        yield tracker


def total(tracker: UsageTracker) -> Usage | None:
    """What was used in all; ``None``: nothing is known."""
    # Not by its own sum: that of 2.6 fails when one call tells more than another.
    entries = [one for found in tracker.usage_data.values() for one in found]
    if not entries:
        return None
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    totals = {name: sum(one.get(name) or 0 for one in entries) for name in names}
    return Usage(**totals, calls=len(entries))


def entries(lm: dspy.LM) -> list[Any]:
    """What this request's calls of a model have used so far, one entry per call."""
    tracker = dspy.settings.usage_tracker
    found: list[Any] = tracker.usage_data.get(lm.model, []) if tracker else []
    return found


@functools.cache
def _threads_can_count() -> bool:
    """Whether DSPy's threads do their work while usage is counted; 3.0's do not."""
    executor = ParallelExecutor(num_threads=1, disable_progress_bar=True)
    with dspy.track_usage():
        found: list[object] = executor.execute(str, [0])
    return found == ["0"]
