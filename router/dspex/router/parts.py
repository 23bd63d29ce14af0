"""What the parts of a router are, each made once and known to those it serves."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.contracts.sharing import Fallback
    from dspex.router.caching import Cache
    from dspex.router.ends import Ends
    from dspex.router.estimates import ServiceTimes
    from dspex.router.health import Health
    from dspex.router.places import Places
    from dspex.router.quotas import Quotas
    from dspex.router.recording import Record
    from dspex.router.sending import Sender
    from dspex.router.sessions import Sessions
    from dspex.router.settings import Settings
    from dspex.router.targets import Targets


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What a dispatcher works with.

    Attributes:
        targets: Everybody there is.
        ends: Why those who are gone have ended.
        places: Who may go where now.
        sender: Sends and follows.
        health: Breakers and the retry budget.
        times: How long requests take.
        record: What is told of what was done.
        quotas: What tenants may use.
        cache: Answers that are kept.
        fallbacks: What stands in for what, by operation.
        settings: How long it waits for what.
        clock: Steady, in seconds.
        sessions: What is known of sessions; ``None``: turns are not served.
    """

    targets: Targets
    ends: Ends
    places: Places
    sender: Sender
    health: Health
    times: ServiceTimes
    record: Record
    quotas: Quotas
    cache: Cache
    fallbacks: Mapping[str, Fallback]
    settings: Settings
    clock: Callable[[], float]
    sessions: Sessions | None = None
