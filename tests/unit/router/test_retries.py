"""Retries: how many at a time, and how long each waits."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from dspex.router.retries import RetryBudget, backoff


class BudgetMachine(RuleBasedStateMachine):
    """A budget beside what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget()
        self.requests = 0
        self.retries = 0

    @rule(count=st.integers(1, 40))
    def begin_requests(self, count: int) -> None:
        self.requests += count
        for _ in range(count):
            self.budget.begin_request()

    @precondition(lambda self: self.requests > self.retries)
    @rule(share=st.integers(1, 4))
    def end_requests(self, share: int) -> None:
        count = max(1, (self.requests - self.retries) // share)
        self.requests -= count
        for _ in range(count):
            self.budget.end_request()

    @precondition(lambda self: self.requests > self.retries)
    @rule()
    def retry(self) -> None:
        """It is allowed below three, and else below a fifth of the requests."""
        room = self.retries < 3 or (self.retries + 1) * 5 <= self.requests

        assert self.budget.try_retry() == room
        self.retries += room

    @precondition(lambda self: self.retries)
    @rule()
    def end_retry(self) -> None:
        self.budget.end_retry()
        self.retries -= 1


TestBudget = BudgetMachine.TestCase
TestBudget.settings = settings(max_examples=100, deadline=None)


def test_a_few_retries_are_always_allowed() -> None:
    """With one request in flight there may be three retries, and no fourth."""
    budget = RetryBudget()
    budget.begin_request()

    assert [budget.try_retry() for _ in range(4)] == [True, True, True, False]


def test_retries_are_a_share_of_the_requests() -> None:
    """With 100 requests in flight there may be 20 retries, with 50 no more new ones."""
    budget = RetryBudget()
    for _ in range(100):
        budget.begin_request()
    assert [budget.try_retry() for _ in range(30)].count(True) == 20

    for _ in range(50):
        budget.end_request()
    for _ in range(10):
        budget.end_retry()

    assert not budget.try_retry()


@given(attempt=st.integers(1, 10_000), seed=st.integers())
def test_backoff_doubles_up_to_its_longest(attempt: int, seed: int) -> None:
    """Each pause lies between half and all of 100 ms, 200 ms, …, 5 s."""
    whole = min(0.1 * 2 ** min(attempt - 1, 10), 5.0)

    assert whole / 2 <= backoff(attempt, None, Random(seed)) <= whole


def test_pauses_differ() -> None:
    """What failed together does not come back together."""
    random = Random(0)

    assert len({backoff(3, None, random) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(1500, 1.5), (20_000, 20.0), (0, 0.0), (-5, 0.0), (10**400, 3600.0)],
)
def test_a_pause_asked_for_is_kept(asked: int, seconds: float) -> None:
    """Retry-After wins, within reason."""
    assert backoff(1, asked, Random(0)) == seconds
