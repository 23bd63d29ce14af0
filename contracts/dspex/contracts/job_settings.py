"""Section ``[jobs]`` of the configuration."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dspex.contracts.job_requests import LONGEST_KEPT, MOST_ATTEMPTS


class Jobs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[jobs]``: equal for all programs.

    Attributes:
        max_attempts: How often a job is tried that does not say.
        keep_result_s: Seconds a result is kept of a job that does not say.
        ack_wait_s: Seconds without a sign of life after which a job that runs is given
            to another worker.
        max_deliver: Deliveries of one job by the server at most, whatever comes of
            them; more than the attempts a job may have.
        max_in_hand: Jobs of one pool and priority that run or wait for their next
            attempt at most.
    """

    max_attempts: Annotated[int, Meta(ge=1, le=MOST_ATTEMPTS)] = 4
    keep_result_s: Annotated[int, Meta(ge=1, le=LONGEST_KEPT)] = LONGEST_KEPT
    ack_wait_s: Annotated[float, Meta(ge=1, le=3600)] = 15.0
    max_deliver: Annotated[int, Meta(ge=1, le=1000)] = 50
    max_in_hand: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
