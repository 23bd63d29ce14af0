"""What tenants may use: requests a second and at a time, and whose use is kept."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

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

from dspex.contracts.sharing import Tenant
from dspex.router.quotas import Quota, QuotaRefused, Quotas, quotas_of

NAMED = {
    "rate": Quota(rate=2.0, burst=3),
    "few": Quota(concurrency=4),
    "both": Quota(rate=0.7, burst=1, concurrency=2),
    "free": Quota(),
    "*": Quota(rate=0.5, burst=2, concurrency=2),
}
MOST = 3
GAPS = st.lists(st.integers(0, 40), max_size=60)


def limit_of(refused: QuotaRefused | None) -> str | None:
    return refused.limit if refused else None


def test_without_quotas_all_pass() -> None:
    """Who has no quota is not kept count of."""
    quotas = Quotas({})

    assert {quotas.take("a", 0.0) for _ in range(1000)} == {None}
    assert len(quotas) == 0


def test_rate() -> None:
    """After the burst requests pass at their rate, and are told when."""
    quotas = Quotas({"a": Quota(rate=2.0, burst=3)})

    passed = [quotas.take("a", 0.0) for _ in range(4)]

    assert passed[:3] == [None] * 3
    assert passed[3] == QuotaRefused(
        limit="rate_per_s", allowed=2.0, share=2.0, retry_after=0.5
    )
    assert quotas.take("a", 0.5) is None
    assert limit_of(quotas.take("a", 0.5)) == "rate_per_s"


def test_refusals_cost_nothing() -> None:
    """Who asks too often is no worse off than who waits."""
    quotas = Quotas({"a": Quota(rate=1.0, burst=1, concurrency=1)})
    quotas.take("a", 0.0)

    assert {limit_of(quotas.take("a", 0.5)) for _ in range(9)} == {"concurrency"}
    quotas.give_back("a")
    assert {limit_of(quotas.take("a", 0.5)) for _ in range(9)} == {"rate_per_s"}

    assert quotas.take("a", 1.0) is None


@given(st.sampled_from([0.25, 1.0, 4.0]), st.integers(1, 5), GAPS)
def test_gcra(rate: float, burst: int, gaps: list[int]) -> None:
    """It decides as GCRA by times of arrival does."""
    quotas = Quotas({"a": Quota(rate=rate, burst=burst)})
    interval = 1 / Fraction(rate)
    due, now = Fraction(0), Fraction(0)

    for gap in gaps:
        now += Fraction(gap, 16)
        conforms = now >= due - (burst - 1) * interval
        if conforms:
            due = max(now, due) + interval
        assert (quotas.take("a", float(now)) is None) == conforms


@given(st.floats(1e-3, 1e3), st.integers(1, 50), st.floats(0, 0.9), st.integers(1, 9))
def test_retry_after(rate: float, burst: int, since: float, routers: int) -> None:
    """A request passes when it was told to come again, and not well before that."""
    quotas = Quotas({"a": Quota(rate=rate, burst=burst)})
    quotas.share(routers)
    start = 1e6
    for _ in range(burst):
        quotas.take("a", start)
    start += since * routers / rate
    refused = quotas.take("a", start)
    assert refused is not None

    early = start + refused.retry_after * 0.99

    assert refused.allowed == rate
    assert refused.share == rate / routers
    assert quotas.take("a", early) is not None or refused.retry_after < 1e-3
    assert quotas.take("a", start + refused.retry_after) is None


def test_clocks_that_step_back() -> None:
    """A clock that steps back gives nothing away, and nothing twice."""
    quotas = Quotas({"a": Quota(rate=1.0, burst=1)})
    quotas.take("a", 10.0)

    assert quotas.take("a", 5.0) is not None
    assert quotas.take("a", 10.5) is not None
    assert quotas.take("a", 11.0) is None


def test_concurrency() -> None:
    """So many are in hand at a time, and one more when one has ended."""
    quotas = Quotas({"a": Quota(concurrency=2)})

    assert [limit_of(quotas.take("a", 0.0)) for _ in range(3)] == [
        None,
        None,
        "concurrency",
    ]
    quotas.give_back("a")
    assert quotas.take("a", 0.0) is None


@pytest.mark.parametrize(
    ("routers", "burst", "concurrency"), [(1, 10, 7), (2, 5, 3), (3, 3, 2), (20, 1, 1)]
)
def test_shares(routers: int, burst: int, concurrency: int) -> None:
    """Routers share what there is, rounded down, but at least one for each."""
    quota = Quota(rate=1e-6, burst=10)
    quotas = Quotas({"rate": quota, "few": Quota(concurrency=7)})
    quotas.share(routers)

    passed = Counter(
        name for name in ("rate", "few") for _ in range(20) if not quotas.take(name, 0)
    )

    assert passed == {"rate": burst, "few": concurrency}


def test_fewer_routers() -> None:
    """When a router leaves, what it gave out is given out by the others."""
    quotas = Quotas({"a": Quota(rate=2.0, burst=4, concurrency=2)})
    quotas.share(2)
    quotas.take("a", 0.0)
    refused = quotas.take("a", 0.0)

    quotas.share(1)

    assert refused == QuotaRefused(
        limit="concurrency", allowed=2, share=1, retry_after=1.0
    )
    assert quotas.take("a", 0.0) is None


def test_a_flood_of_tenants() -> None:
    """New tenants neither take memory without end nor free those with a quota."""
    quotas = Quotas({"named": Quota(rate=0.01, burst=1), "*": NAMED["*"]}, most=5)
    quotas.take("*", 0.0)  # a tenant may have any name

    passed = [quotas.take(str(number), 0.0) is None for number in range(1000)]

    assert sum(passed) == 4
    assert limit_of(quotas.take("one more", 0.0)) == "tenants"
    assert quotas.take("named", 0.0) is None
    assert limit_of(quotas.take("named", 1.0)) == "rate_per_s"
    assert len(quotas) == 6


def test_idle_tenants_are_forgotten() -> None:
    """Who has nothing in hand and an empty bucket makes room for others."""
    quotas = Quotas({"*": Quota(rate=1.0, burst=2, concurrency=2)}, most=2)
    for tenant in ("busy", "asks on"):
        quotas.take(tenant, 0.0)
        quotas.give_back(tenant)
        quotas.take(tenant, 0.0)
    quotas.give_back("asks on")

    assert limit_of(quotas.take("c", 1.5)) == "tenants"
    assert limit_of(quotas.take("asks on", 0.5)) == "rate_per_s"
    assert quotas.take("c", 2.5) is None
    assert limit_of(quotas.take("d", 2.5)) == "tenants"
    quotas.give_back("busy")
    assert quotas.take("d", 2.5) is None
    assert len(quotas) == 2


def test_busy_tenants_are_not_forgotten() -> None:
    """Who ended one request and has another in hand is kept count of."""
    quotas = Quotas({"*": Quota(concurrency=1)})
    quotas.take("a", 0.0)
    quotas.give_back("a")
    quotas.take("a", 0.0)

    quotas.take("b", 1.0)

    assert limit_of(quotas.take("a", 1.0)) == "concurrency"


def test_giving_back_what_was_not_taken() -> None:
    """What was not taken cannot be given back."""
    quotas = Quotas({"a": Quota(concurrency=1)})
    quotas.take("a", 0.0)

    for tenant in ("a", "a", "b"):
        quotas.give_back(tenant)

    assert quotas.take("a", 0.0) is None
    assert limit_of(quotas.take("a", 0.0)) == "concurrency"


@pytest.mark.parametrize(
    "quota",
    [
        Quota(rate=0.0),
        Quota(rate=math.inf),
        Quota(rate=math.nan),
        Quota(rate=1.0, burst=0),
        Quota(concurrency=0),
    ],
)
def test_quotas_allow_something(quota: Quota) -> None:
    """A quota that allows nothing, or whatever comes, is refused."""
    with pytest.raises(ValueError, match="Allowed:"):
        Quotas({"a": quota})


def test_from_the_configuration() -> None:
    """The sections of the configuration are quotas."""
    section = Tenant(rate_per_s=5.0, burst=3, concurrency=2, weight=4.0)

    assert quotas_of({"a": section, "*": Tenant()}) == {
        "a": Quota(rate=5.0, burst=3, concurrency=2, weight=4.0),
        "*": Quota(),
    }


class Floods(RuleBasedStateMachine):
    """Any requests of any tenants, against the quotas as they are written."""

    @initialize()
    def begin(self) -> None:
        self.quotas = Quotas(NAMED, MOST)
        self.now = 0.0
        self.routers = 1
        self.in_hand: Counter[str] = Counter()
        self.passed: dict[str, list[float]] = {}

    @rule(tenant=st.sampled_from([*NAMED, *"uvwxyz"]))
    def take(self, tenant: str) -> None:
        quota = NAMED.get(tenant, NAMED["*"])

        refused = self.quotas.take(tenant, self.now)

        assert refused is None or quota is not NAMED["free"]
        if refused is None:
            self.in_hand[tenant] += 1
            self.passed.setdefault(tenant, []).append(self.now)
            self._within(quota, tenant)
        elif refused.limit == "concurrency":
            allowed = max(1, (quota.concurrency or 0) // self.routers)
            assert self.in_hand[tenant] >= allowed
        elif refused.limit == "tenants":
            assert tenant == "*" or tenant not in NAMED

    def _within(self, quota: Quota, tenant: str) -> None:
        times = self.passed[tenant]
        if quota.concurrency:
            allowed = max(1, quota.concurrency // self.routers)
            assert self.in_hand[tenant] <= allowed
        if quota.rate:
            for index, since in enumerate(times):
                most = quota.rate * (self.now - since) + quota.burst
                assert len(times) - index <= most + 1e-3

    @precondition(lambda self: self.in_hand.total())
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        running = sorted(self.in_hand.elements())
        tenant = data.draw(st.sampled_from(running))

        self.quotas.give_back(tenant)

        self.in_hand[tenant] -= 1

    @rule(routers=st.integers(1, 3))
    def share(self, routers: int) -> None:
        self.quotas.share(routers)
        self.routers = routers

    @rule(seconds=st.sampled_from([0.1, 0.7, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.quotas) <= MOST + len(NAMED)


TestFloods = Floods.TestCase
TestFloods.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
