"""What operators wish for, and what becomes of pools by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dspex.contracts.failures import Conflict
from dspex.contracts.pooling import Pool, Supervising
from dspex.contracts.pools import DrainRequest, HostWish, PoolWish, ScaleRequest
from dspex.services.supervisor.members import PoolState
from dspex.services.supervisor.peers import Peers
from dspex.services.supervisor.scaling import Desired
from dspex.services.supervisor.wishes import Wishes

if TYPE_CHECKING:
    from collections.abc import Mapping


class Workers:
    """The pools of a host on which nothing is started."""

    def __init__(self, **pools: Pool) -> None:
        self.members: dict[str, Any] = {}
        self.pools = {
            name: PoolState(name, settings, Supervising(), 0.0)
            for name, settings in pools.items()
        }

    def now(self) -> float:
        return 0.0

    def poke(self) -> None:
        """Nothing looks."""


class Operator:
    """Wishes on a host, and what is kept of them.

    Args:
        pools: Of the host.
        kept: What was kept before it was started.
    """

    def __init__(
        self, pools: Mapping[str, Pool], kept: Mapping[str, Any] | None = None
    ) -> None:
        self.kept: dict[str, Any] = dict(kept or {})
        self.host = Workers(**pools)
        peers = Peers("s-1", "one")
        self.wishes = Wishes("s-1", "one", self.host, peers, self._keep)  # type: ignore[arg-type] # all that they ask of a fleet
        found = {
            name: self.kept[f"pool.{name}"]
            for name in pools
            if f"pool.{name}" in self.kept
        }
        self.wishes.recall(self.kept.get("host.one", HostWish()), found)

    def _keep(self, kind: str, name: str, wish: HostWish | PoolWish) -> None:
        self.kept[f"{kind}.{name}"] = wish

    def needs(self, pool: str, workers: int) -> int:
        """A pool that scales by itself needs so many; returns how many it gets."""
        state = self.host.pools[pool]
        state.desired = Desired(workers=workers, reason="")
        self.wishes.spread(state, workers)
        return state.processes

    def scale(self, pool: str, processes: int, host: str | None = None) -> int:
        self.wishes.scale(ScaleRequest(pool=pool, processes=processes, host=host))
        return self.host.pools[pool].processes


AUTO = {"light": Pool(scale="auto", max=8)}


def test_a_pool_that_scales_by_itself_is_not_scaled() -> None:
    """It follows its load, and says so."""
    operator = Operator(AUTO)

    assert operator.needs("light", 3) == 3
    with pytest.raises(Conflict):
        operator.scale("light", 2)


@pytest.mark.parametrize(("drained", "host"), [("light", None), ("one", "one")])
def test_what_is_drained_stays_empty(drained: str, host: str | None) -> None:
    """A host or a pool that scales by itself too, until it is scaled; then it does."""
    operator = Operator(AUTO)
    operator.needs("light", 3)

    operator.wishes.drain(DrainRequest(name=drained))
    empty = operator.needs("light", 4)
    later = Operator(AUTO, operator.kept)
    empty_later = later.needs("light", 4)
    with_it = later.scale("light", 1, host)

    assert (empty, empty_later) == (0, 0)
    assert with_it == 4
    assert later.needs("light", 5) == 5
    assert Operator(AUTO, later.kept).needs("light", 5) == 5
