"""What the language models of a request used."""

from __future__ import annotations

import pytest
from dspy.utils.usage_tracker import UsageTracker

from dspex.contracts.envelope import Usage
from dspex.services.worker.usage import counting, total

pytestmark = pytest.mark.dspy


def test_calls_that_tell_different_things() -> None:
    """Every call counts, whatever else it tells."""
    tracker = UsageTracker()
    tracker.add_usage("a", {"prompt_tokens": 3, "total_tokens": 5, "details": {"b": 1}})
    tracker.add_usage("a", {"prompt_tokens": 4, "total_tokens": None, "details": 0})
    tracker.add_usage("b", {"completion_tokens": 2, "total_tokens": 2})

    assert total(tracker) == Usage(
        prompt_tokens=7, completion_tokens=2, total_tokens=7, calls=3
    )


def test_nothing_is_known_without_calls() -> None:
    """Where nothing was counted, nothing is said."""
    with counting(threads=True) as tracker:
        assert total(tracker) is None
