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


class Course:
    """How the attempts at one request went so far.

    Attributes:
        lost: Attempts that ended with their worker.
        failed: Attempts that failed otherwise, with the language model of now.
        left: Language models that were left for another, the one asked for first.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.failed = 0
        self.left: list[str] = []

    def chain_of(self, lm: str) -> str:
        """The language model whose stand-ins may be asked, when ``lm`` is asked now."""
        return self.left[0] if self.left else lm

    def leave(self, lm: str) -> None:
        """Ask another language model from now on."""
        self.left.append(lm)
        self.failed = 0

    def after(
        self, failure: Failed, lm: str, rest: Rest, limits: Limits
    ) -> Again | None:
        """Count an attempt that failed, and decide whether another one follows.

        Args:
            failure: What it ended with.
            lm: The language model that was asked; empty: none.
            rest: What there is left.
            limits: How often it may be tried.

        Returns:
            As `after_failure`.
        """
        if failure.category == WorkerLost.category:
            self.lost += 1
        else:
            self.failed += 1
        tries = Tries(
            lost=self.lost,
            failed=self.failed,
            lms=tuple(one for one in rest.lms if one not in (lm, *self.left)),
            remaining=rest.remaining,
            idempotent=rest.idempotent,
        )
        again = after_failure(failure, tries, limits)
        if again is not None and again.lm:
            self.leave(lm)
        return again


class Rest(Struct, frozen=True, kw_only=True):
    """What there is left for a request.

    Attributes:
        lms: Language models that may stand in, those tried before included.
        remaining: Seconds until the deadline.
        idempotent: Whether the request may run more than once.
    """

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
