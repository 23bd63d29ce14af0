"""What each tenant may use: requests per second, and requests at a time. Pure.

The rate is kept by GCRA in its form as a leaky bucket (ITU-T I.371 has both): every
request pours one in, ``rate`` a second drain, and nothing is poured in that would
rise above ``burst``. So no interval of ``t`` seconds sees more than
``rate x t + burst`` requests. A bucket that counts requests stays true when the rate
changes; a time of arrival would not. Time comes in as an argument, in seconds of any
steady clock.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.contracts.sharing import Tenant

MOST = 10_000
"""Tenants without a quota of their own whose use is kept."""

OTHERS = "*"
"""Under this name stands the quota of tenants without their own."""

SLOWEST = 1e-6
"""Least requests per second that a quota may allow."""

PAUSE = 1.0
"""Seconds after which to try again where nothing says when there will be room."""

# Clocks and divisions err by far less, and a request that is on time must pass.
_ERROR = 1e-6


class Quota(Struct, frozen=True, kw_only=True):
    """What one tenant may use, of all routers together.

    Attributes:
        rate: Requests per second, above 0; ``None``: any number.
        burst: Requests at once after a pause, at least 1; counts only with a rate.
        concurrency: Requests in hand at a time, at least 1; ``None``: any number.
        weight: Its share where tenants wait for the same places.
    """

    rate: float | None = None
    burst: int = 10
    concurrency: int | None = None
    weight: float = 1.0


class QuotaRefused(Struct, frozen=True, kw_only=True):
    """A request over its tenant's quota.

    Attributes:
        limit: What is used up, by its name in the configuration; ``tenants``: too
            many others are about to keep count of this one.
        allowed: How much of it there is, for all routers together.
        share: How much of that this router gives out.
        retry_after: Seconds after which it may pass.
    """

    limit: Literal["rate_per_s", "concurrency", "tenants"]
    allowed: float
    share: float
    retry_after: float


UNLIMITED = Quota()
"""What holds for tenants that no quota names, unless there is one for ``"*"``."""


class Quotas:
    """What tenants have used, as far as this router knows.

    A tenant's use is forgotten once forgetting changes nothing: its bucket is empty
    and no request in hand. Those with a quota of their own are always kept count of;
    of the others at most ``most``, and one more is refused: letting it pass would
    void the quota, and forgetting another would too.

    Args:
        quotas: By tenant; ``"*"`` for all others.
        most: Tenants without a quota of their own that are kept count of.

    Raises:
        ValueError: A quota allows nothing, or its rate is not a number.
    """

    def __init__(self, quotas: Mapping[str, Quota], most: int = MOST) -> None:
        self._quotas = {tenant: _Shared(one) for tenant, one in quotas.items()}
        self._others = self._quotas.pop(OTHERS, _Shared(UNLIMITED))
        self._most = most
        self._used: dict[str, _Used] = {}
        self._empty: list[tuple[float, str]] = []
        self._routers = 1

    def __len__(self) -> int:
        return len(self._used)

    def share(self, routers: int) -> None:
        """Say how many routers there are, this one included.

        Each allows its part of the rate, and of burst and concurrency the part
        rounded down but at least 1: together never more than the quota, unless that
        is less than one for each.
        """
        if routers == self._routers:
            return
        self._routers = routers
        for one in (*self._quotas.values(), self._others):
            one.share(routers)

    def take(self, tenant: str, now: float) -> QuotaRefused | None:
        """Count a request, unless it is over the quota; ``None``: it may pass.

        Each one that passes is given back when it ends.
        """
        shared = self._quotas.get(tenant, self._others)
        if shared.unlimited:
            return None
        used = self._used.get(tenant)
        if used is None:
            self._forget(now)
            if shared is self._others and len(self._used) >= self._most:
                return self._crowded()
            used = self._used[tenant] = _Used(now)
        refused = used.over(shared, now)
        if refused is None:
            used.take(shared)
        return refused

    def give_back(self, tenant: str) -> None:
        """Count the end of a request that passed; without one it does nothing."""
        used = self._used.get(tenant)
        if used is None or not used.in_hand:
            return
        used.in_hand -= 1
        self._schedule(tenant, used, self._quotas.get(tenant, self._others))

    def _schedule(self, tenant: str, used: _Used, shared: _Shared) -> None:
        """Look at it when its bucket will be empty; once is enough at a time."""
        if not used.in_hand and not used.scheduled:
            used.scheduled = True
            heappush(self._empty, (used.empty_at(shared), tenant))

    def _forget(self, now: float) -> None:
        while self._empty and self._empty[0][0] <= now:
            _, tenant = heappop(self._empty)
            used = self._used[tenant]
            shared = self._quotas.get(tenant, self._others)
            used.scheduled = False
            if used.in_hand or used.empty_at(shared) > now:
                self._schedule(tenant, used, shared)
            else:
                del self._used[tenant]

    def _crowded(self) -> QuotaRefused:
        return QuotaRefused(
            limit="tenants", allowed=self._most, share=self._most, retry_after=PAUSE
        )


def quotas_of(tenants: Mapping[str, Tenant]) -> dict[str, Quota]:
    """The quotas that sections ``[tenants.<name>]`` ask for."""
    return {
        name: Quota(
            rate=one.rate_per_s,
            burst=one.burst,
            concurrency=one.concurrency,
            weight=one.weight,
        )
        for name, one in tenants.items()
    }


class _Shared:
    """A quota, and the part of it that this router gives out."""

    def __init__(self, quota: Quota) -> None:
        rate = quota.rate is None or SLOWEST <= quota.rate < math.inf
        concurrency = quota.concurrency is None or quota.concurrency >= 1
        if not (rate and concurrency and quota.burst >= 1):
            raise ValueError(
                f"{quota} allows nothing, or all. Allowed: a rate of {SLOWEST} or more "
                "or None, a burst of 1 or more, a concurrency of 1 or more or None."
            )
        self.quota = quota
        self.unlimited = quota.rate is None and quota.concurrency is None
        self.share(1)

    def share(self, routers: int) -> None:
        quota = self.quota
        self.rate = None if quota.rate is None else quota.rate / routers
        self.burst = max(1, quota.burst // routers)
        self.concurrency = max(1, (quota.concurrency or 0) // routers)


class _Used:
    """What one tenant has used."""

    def __init__(self, now: float) -> None:
        self.in_hand = 0
        self.scheduled = False
        self._level = 0.0
        self._at = now

    def over(self, shared: _Shared, now: float) -> QuotaRefused | None:
        """Which limit one more request would break; drains the bucket."""
        quota = shared.quota
        if quota.concurrency and self.in_hand >= shared.concurrency:
            return QuotaRefused(
                limit="concurrency",
                allowed=quota.concurrency,
                share=shared.concurrency,
                retry_after=PAUSE,
            )
        if quota.rate is None or shared.rate is None:
            return None
        # A clock that steps back drains nothing, and does not drain twice.
        drained = max(0.0, now - self._at) * shared.rate
        self._level = max(0.0, self._level - drained)
        self._at = max(self._at, now)
        excess = self._level + 1 - shared.burst
        if excess <= _ERROR:
            return None
        return QuotaRefused(
            limit="rate_per_s",
            allowed=quota.rate,
            share=shared.rate,
            retry_after=excess / shared.rate,
        )

    def take(self, shared: _Shared) -> None:
        if shared.rate is not None:
            self._level += 1
        self.in_hand += 1

    def empty_at(self, shared: _Shared) -> float:
        """When its bucket will be empty, if nothing comes."""
        if shared.rate is None:
            return self._at
        return self._at + self._level / shared.rate
