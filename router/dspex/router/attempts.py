"""What follows when an attempt failed: another one, or the failure is told. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.contracts.failures import (
    ContextWindow,
    LmAuth,
    LmRefused,
    ResourceCpu,
    ResourceMemory,
    WorkerLost,
)

if TYPE_CHECKING:
    from dspex.contracts.envelope import Failed

ELSEWHERE = frozenset({LmAuth.code, LmRefused.code, ContextWindow.code})
"""What the same language model would answer again, and another might not."""


class Tries(Struct, frozen=True, kw_only=True):
    """What was tried so far, and what there is left.

    Attributes:
        lost: Attempts that ended with their worker.
        failed: Attempts that failed otherwise, with the language model of now.
        lms: Language models that may stand in, the next one first.
        remaining: Seconds until the deadline.
        idempotent: Whether the request may run more than once.
    """

    lost: int = 0
    failed: int = 0
    lms: tuple[str, ...] = ()
    remaining: float
    idempotent: bool = True


class Limits(Struct, frozen=True, kw_only=True):
    """How often a request may be tried again.

    Attributes:
        lost: After its worker was lost. Bounded, for it may be what kills them.
        failed: After its language model failed.
    """

    lost: int = 5
    failed: int = 3


class Again(Struct, frozen=True, kw_only=True):
    """Try again.

    Attributes:
        lm: Language model to use instead; empty: the same.
        waits: Whether the provider or the worker needs a pause first.
    """

    lm: str = ""
    waits: bool = False


def after_failure(failure: Failed, tries: Tries, limits: Limits) -> Again | None:
    """Decide whether a failed request is tried again.

    Args:
        failure: Of the attempt that just ended.
        tries: What was tried so far, this attempt included.
        limits: How often it may be.

    Returns:
        How to try again, or ``None`` if the client is to be told.
    """
    if not tries.idempotent or tries.remaining <= 0:
        return None
    if failure.code == WorkerLost.code:
        return Again() if tries.lost <= limits.lost else None
    if failure.code in (ResourceMemory.code, ResourceCpu.code):
        return Again() if tries.lost <= 1 else None
    if failure.category == "provider" and tries.lms:
        return Again(lm=tries.lms[0])
    if not failure.retryable or failure.code in ELSEWHERE:
        return None
    too_late = (failure.retry_after_ms or 0) >= tries.remaining * 1000
    if max(tries.failed, tries.lost) > limits.failed or too_late:
        return None
    return Again(waits=True)
