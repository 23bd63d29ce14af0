"""How long a router waits for what, and how often it tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from dspex.contracts.configuration import Router


class Settings(Struct, frozen=True, kw_only=True):
    """Waiting times, in seconds, and limits; tests change them.

    Attributes:
        default_timeout: Deadline of requests that bring none.
        learning: A new router waits this long for workers to answer its ``discover``.
        picks: Times one request is sent somewhere before it is given up.
        handshake: Without a word for this long a process is suspect.
        check: Between two looks whether the process of a request still lives.
        reason: How long a request that fails with its worker waits for the supervisor,
            who may say why.
        pings: Between two looks whether silent processes that hold requests are there.
        queue: Most requests that wait for one pool.
        queue_timeout: Longest wait for a place.
        retries: How often a request is tried again after its language model failed.
        slow_call: A call of a language model that takes longer is slow.
        losses: The same, after its worker was lost.
        cache: What holds for requests that do not say: ``off`` or ``use``.
        cache_size: Most bytes of kept answers.
        cache_ttl: How long an answer is kept.
        decisions: Decisions that are kept to look at.
        hope: How long a request waits for a worker that starts or comes back, before
            it is refused because there is none.
        recent: How long it is known who answered a request, for when it comes again.
        grace: Before the deadline, when the router answers itself: after the process,
            which knows more, and before the client stops waiting. Never more than
            half of what a process keeps (5 % of the time there was).
        silence: Without a heartbeat for this long a process counts as lost.
        expire: Between two looks for silent processes.
    """

    default_timeout: float = 120.0
    learning: float = 0.3
    picks: int = 64
    handshake: float = 0.25
    check: float = 0.5
    reason: float = 1.0
    pings: float = 0.25
    queue: int = 1000
    queue_timeout: float = 30.0
    retries: int = 3
    losses: int = 5
    slow_call: float | None = None
    cache: str = "off"
    cache_size: int = 64 << 20
    cache_ttl: float = 3600.0
    decisions: int = 1000
    hope: float = 3.0
    recent: float = 120.0
    grace: float = 0.02
    silence: float = 3.0
    expire: float = 0.25


DEFAULTS = Settings()
"""What the router program uses where its configuration says nothing."""


def settings_of(section: Router) -> Settings:
    """The settings that a configuration asks for."""
    return Settings(
        queue=section.queue,
        queue_timeout=section.queue_timeout_s,
        retries=section.retries,
        slow_call=section.slow_call_s,
        cache=section.cache,
        cache_size=int(section.cache_mib * (1 << 20)),
        cache_ttl=section.cache_ttl_s,
        decisions=section.decisions,
    )
