"""What follows a failed attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts.envelope import Failed, failed
from dspex.contracts.failures import BY_CODE
from dspex.router.attempts import Again, Limits, Tries, after_failure

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
