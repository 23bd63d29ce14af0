"""What follows a failed attempt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from dspex.contracts.envelope import Failed, failed
from dspex.contracts.failures import BY_CODE
from dspex.router.attempts import (
    Again,
    Course,
    Limits,
    Rest,
    Tries,
    after_failure,
)

LIMITS = Limits(lost=5, failed=3)


def failing(code: str, retry_after_ms: int | None = None) -> Failed:
    return failed("r", BY_CODE[code]("…", retry_after_ms=retry_after_ms))


def tries(
    *,
    lost: int = 0,
    failed: int = 1,
    lms: tuple[str, ...] = (),
    remaining: float = 60.0,
    idempotent: bool = True,
) -> Tries:
    return Tries(
        lost=lost, failed=failed, lms=lms, remaining=remaining, idempotent=idempotent
    )


@pytest.mark.parametrize("code", ["lm_unavailable", "lm_rate_limit", "lm_timeout"])
def test_a_provider_that_may_recover(code: str) -> None:
    """What may pass is tried again after a pause, as often as is allowed."""
    assert after_failure(failing(code), tries(failed=3), LIMITS) == Again(waits=True)
    assert after_failure(failing(code), tries(failed=4), LIMITS) is None


@pytest.mark.parametrize(
    "code", ["lm_unavailable", "lm_auth", "lm_refused", "context_window"]
)
def test_another_language_model(code: str) -> None:
    """Where one may stand in, it is asked at once, whatever failed the first."""
    found = after_failure(failing(code), tries(lms=("spare", "last")), LIMITS)

    assert found == Again(lm="spare")


@pytest.mark.parametrize("code", ["lm_auth", "lm_refused", "context_window"])
def test_what_the_same_model_would_say_again(code: str) -> None:
    """What the same language model would answer again is told."""
    assert after_failure(failing(code), tries(), LIMITS) is None


def test_a_lost_worker() -> None:
    """A lost worker is replaced at once, but not for ever."""
    lost = failing("worker_lost")

    assert after_failure(lost, tries(lost=5), LIMITS) == Again()
    assert after_failure(lost, tries(lost=6), LIMITS) is None


def test_a_request_that_exhausts_memory() -> None:
    """A request that exhausts memory gets one more chance."""
    assert after_failure(failing("resource_memory"), tries(lost=1), LIMITS) == Again()
    assert after_failure(failing("resource_memory"), tries(lost=2), LIMITS) is None


def test_retry_after_beyond_the_deadline() -> None:
    """A pause that ends after the deadline is not waited for."""
    limited = failing("lm_rate_limit", retry_after_ms=2000)

    assert after_failure(limited, tries(remaining=2.1), LIMITS) == Again(waits=True)
    assert after_failure(limited, tries(remaining=1.9), LIMITS) is None


@given(
    st.sampled_from(sorted(BY_CODE)),
    st.integers(0, 10),
    st.integers(0, 10),
    st.sampled_from([(), ("spare",)]),
    st.floats(-1, 100),
)
def test_never_again(
    code: str, lost: int, times: int, lms: tuple[str, ...], remaining: float
) -> None:
    """What must not run twice, has no time, or is the caller's fault ends here."""
    once = tries(
        lost=lost, failed=times, lms=lms, remaining=remaining, idempotent=False
    )
    late = tries(lost=lost, failed=times, lms=lms, remaining=min(0.0, remaining))
    usual = tries(lost=lost, failed=times, lms=lms, remaining=remaining)

    assert after_failure(failing(code), once, LIMITS) is None
    assert after_failure(failing(code), late, LIMITS) is None
    if BY_CODE[code].category in ("caller", "internal"):
        assert after_failure(failing(code), usual, LIMITS) is None


CHAIN = ("spare", "last")
FAILURES = sorted(code for code in BY_CODE if code != "internal")


class Attempts(RuleBasedStateMachine):
    """Requests whose every attempt fails, by a clock that only this turns."""

    @initialize()
    def begin(self) -> None:
        self.come(idempotent=True, seconds=600)

    @precondition(lambda self: not self.goes_on)
    @rule(idempotent=st.booleans(), seconds=st.integers(1, 600))
    def next(self, idempotent: bool, seconds: int) -> None:
        self.come(idempotent, seconds)

    def come(self, idempotent: bool, seconds: int) -> None:
        self.course = Course()
        self.idempotent = idempotent
        self.now, self.deadline = 0, seconds
        self.lm = "default"
        self.asked = ["default"]
        self.attempts = {"infrastructure": 0, "other": 0}
        self.goes_on = True

    @precondition(lambda self: self.goes_on)
    @rule(
        code=st.sampled_from(FAILURES),
        seconds=st.integers(0, 60),
        pause=st.none() | st.integers(0, 700_000),
        admitted=st.sets(st.sampled_from(CHAIN)),
    )
    def fail(
        self, code: str, seconds: int, pause: int | None, admitted: set[str]
    ) -> None:
        failure = failing(code, pause)
        self.now += seconds
        lost = failure.category == "infrastructure"
        self.attempts["infrastructure" if lost else "other"] += 1
        rest = Rest(
            lms=tuple(one for one in CHAIN if one in admitted),
            remaining=self.deadline - self.now,
            idempotent=self.idempotent,
        )

        again = self.course.after(failure, self.lm, rest, LIMITS)

        self.goes_on = again is not None
        if again is None:
            return
        assert self.idempotent
        assert self.now < self.deadline
        assert failure.category in ("infrastructure", "provider") or failure.retryable
        if again.waits and pause is not None:
            assert self.now + pause / 1000 < self.deadline
        if again.lm:
            assert again.lm in admitted
            self.lm = again.lm
            self.asked.append(again.lm)

    @invariant()
    def no_language_model_comes_back(self) -> None:
        assert len(self.asked) == len(set(self.asked))
        assert self.course.left == self.asked[:-1]
        assert self.course.chain_of(self.lm) == "default"

    @invariant()
    def it_ends(self) -> None:
        if self.goes_on:
            assert self.attempts["infrastructure"] <= LIMITS.lost
            most = LIMITS.failed * (len(CHAIN) + 1)
            assert self.attempts["other"] <= most + len(self.asked) - 1


TestAttempts = Attempts.TestCase
TestAttempts.settings = settings(max_examples=100, stateful_step_count=30)
