"""The metrics of a router: what it counts anyway, read when it is exported."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dspex.bus import metrics

if TYPE_CHECKING:
    from dspex.router.parts import Parts


def observed(parts: Parts) -> Parts:
    """Export what these parts count, and return them."""
    counters = parts.record.counters

    def length() -> metrics.Readings:
        queued = parts.places.queued
        return [(count, {"dspex.pool": pool}) for pool, count in queued.items()]

    def lookups() -> metrics.Readings:
        for result, name in (("hit", "cache.hits"), ("miss", "cache.misses")):
            yield counters[name], {"dspex.cache.result": result}

    def breakers() -> metrics.Readings:
        found = Counter(
            (one.scope, one.state) for one in parts.health.open(parts.clock())
        )
        for scope in ("worker", "lm"):
            for state in ("open", "half_open"):
                said = {"dspex.breaker.scope": scope, "dspex.breaker.state": state}
                yield found[scope, state], said

    metrics.observe(metrics.QUEUE_LENGTH, length)
    metrics.observe(metrics.ATTEMPTS, lambda: [(counters["dispatches"], {})])
    metrics.observe(metrics.RETRIES, lambda: [(counters["retries"], {})])
    metrics.observe(metrics.CACHE_LOOKUPS, lookups)
    metrics.observe(metrics.BREAKERS, breakers)
    return parts
