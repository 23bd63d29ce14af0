"""What operators wish for: scale, drain, restart, and what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.contracts.failures import BadRequest, Conflict, NotFound, nearest
from dspex.contracts.pools import Changed, HostWish, PoolWish
from dspex.services.supervisor.scaling import share

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.contracts.configuration import Configuration
    from dspex.contracts.pools import DrainRequest, ScaleRequest
    from dspex.services.supervisor.fleet import Fleet
    from dspex.services.supervisor.members import PoolState
    from dspex.services.supervisor.peers import Peers


class Wishes:
    """Changes what there shall be; the fleet follows.

    Args:
        supervisor: Incarnation of the supervisor.
        host: What its host is called.
        fleet: The workers of this host.
        peers: The other supervisors.
        keep: Has a wish kept: its kind, whose it is, and what is wished.

    Attributes:
        drained: Whether this host stays empty until it is scaled by name.
    """

    def __init__(
        self,
        supervisor: str,
        host: str,
        fleet: Fleet,
        peers: Peers,
        keep: Callable[[str, str, HostWish | PoolWish], None],
    ) -> None:
        self.drained = False
        self._totals: dict[str, int] = {}
        self._here: dict[str, int] = {}
        self._emptied: set[str] = set()  # of those that scale by themselves
        self._configured: dict[str, int] = {}
        self._keep = keep
        self._supervisor = supervisor
        self._host = host
        self._fleet = fleet
        self._peers = peers

    def scale(self, asked: ScaleRequest) -> Changed | None:
        """Have another number of workers.

        Returns:
            What is done here; ``None`` if another host is meant.

        Raises:
            NotFound: There is no such pool.
            BadRequest: It is more than the pool may have.
            Conflict: The pool scales by itself, and was not drained.
        """
        if asked.host not in (None, self._host):
            return None
        pool = self._pool(asked.pool)
        self._check(pool, "max", asked.processes)
        if asked.host is not None:
            self._check(pool, "host_max", asked.processes)
        if _is_auto(pool):
            self._fill_again(pool, asked)
        elif asked.host is not None:
            self.drained = False
            self._here[pool.name] = pool.processes = asked.processes
            self._keep_host(pool)
        else:
            self._wish(pool, asked.processes)
        self._fleet.poke()
        return self._changed({asked.pool: pool.processes})

    def recall(self, mine: HostWish, pools: dict[str, PoolWish]) -> None:
        """Go on from what was asked before this supervisor was started.

        A wish does not outlive the number in the configuration that it changed. Of
        the workers of all hosts, this one begins with no more than it is configured
        to have: who else is there is known a little later.
        """
        self.drained = mine.drained
        self._configured = dict(mine.configured)
        for name, pool in self._fleet.pools.items():
            configured = pool.settings.processes
            if mine.drained:
                pool.processes = 0
            if name in pools and pools[name].drained and _is_auto(pool):
                self._emptied.add(name)
                pool.processes = 0
            if mine.configured.get(name, configured) != configured or _is_auto(pool):
                continue
            if name in mine.pools:
                self._here[name] = pool.processes = mine.pools[name]
            if name in pools:
                self._totals[name] = pools[name].processes
                self.spread(pool, self._totals[name])
            if name not in mine.pools:
                pool.processes = min(pool.processes, configured)

    def respread(self) -> None:
        """Share what was asked for anew, when hosts have come or gone to stay."""
        now = self._fleet.now()
        for name, total in self._totals.items():
            pool = self._fleet.pools[name]
            if not _is_auto(pool) and self._peers.settled(name, now):
                self.spread(pool, total)

    def spread(self, pool: PoolState, total: int) -> None:
        """Have this host's share of all workers of a pool."""
        if self.drained or pool.name in self._here or pool.name in self._emptied:
            return
        hosts = self._peers.sharing(pool.name, self._fleet.now())
        mine = share(total, hosts, self._peers.me)
        most = pool.settings.host_max
        pool.processes = mine if most is None else min(mine, most)

    def _fill_again(self, pool: PoolState, asked: ScaleRequest) -> None:
        """Let a drained pool that scales by itself do so again, from now on."""
        host_was = asked.host is not None and self.drained
        if not asked.processes or not (host_was or pool.name in self._emptied):
            raise Conflict(
                f"Pool {pool.name!r} scales by itself.",
                field="pool",
                hint=f"Set pools.{pool.name}.min and max, or its scale to 'fixed'.",
            )
        if host_was:
            self.drained = False
            self._keep_host()
        else:
            self._emptied.discard(pool.name)
            self._keep("pool", pool.name, PoolWish(processes=asked.processes))
        self.spread(pool, pool.desired.workers)

    def _wish(self, pool: PoolState, total: int) -> None:
        """Have so many on all hosts together; what one host alone has is forgotten."""
        self._totals[pool.name] = total
        self._emptied.discard(pool.name)
        if not self.drained:
            self._here.pop(pool.name, None)
        self.spread(pool, total)
        self._keep("pool", pool.name, PoolWish(processes=total))
        self._keep_host(pool)

    def _keep_host(self, *pools: PoolState) -> None:
        self._configured |= {one.name: one.settings.processes for one in pools}
        said = HostWish(
            drained=self.drained,
            pools=self._here.copy(),
            configured=self._configured.copy(),
        )
        self._keep("host", self._host, said)

    def drain(self, asked: DrainRequest) -> Changed:
        """Empty a host, a pool or a worker; what is not here is not changed."""
        pools: dict[str, PoolState] = {}
        if asked.name == self._host:
            self.drained = True
            pools = self._fleet.pools
            # One that scales by itself does so again when the host is not drained.
            fixed = [one for one in pools.values() if not _is_auto(one)]
            self._here = {one.name: 0 for one in fixed}
            self._keep_host(*fixed)
        elif asked.name in self._fleet.pools:
            pool = self._fleet.pools[asked.name]
            pools = {pool.name: pool}
            if _is_auto(pool):
                self._emptied.add(pool.name)
                self._keep("pool", pool.name, PoolWish(processes=0, drained=True))
            else:
                self._wish(pool, 0)
        for pool in pools.values():
            pool.processes = 0
        leaving = [
            one
            for one in self._fleet.members.values()
            if one.pool.name in pools or one.incarnation == asked.name
        ]
        for one in leaving:
            one.asked = "it is drained"
        self._fleet.poke()
        return self._changed(dict.fromkeys(pools, 0), [one.name for one in leaving])

    def restart(self, name: str, found: Configuration) -> Changed:
        """Replace the workers of a pool by what the configuration says now.

        Raises:
            NotFound: There is no such pool.
        """
        pool = self._pool(name)
        if name not in found.pools:
            raise NotFound(
                f"The configuration has no [pools.{name}] any more.",
                field="pool",
                hint=f"Put it back, or empty the pool: dspex drain {name}.",
            )
        pool.settings = found.pools[name]
        pool.generation += 1
        pool.restarts.healthy()
        self._fleet.poke()
        names = [one.name for one in self._fleet.of(name)]
        return self._changed({name: pool.processes}, names)

    @staticmethod
    def _check(pool: PoolState, setting: str, processes: int) -> None:
        most: int | None = getattr(pool.settings, setting)
        if most is not None and processes > most:
            where = " on one host" if setting == "host_max" else ""
            raise BadRequest(
                f"Pool {pool.name!r} may have {most} workers at most{where}, "
                f"not {processes}.",
                field="processes",
                hint=f"Raise pools.{pool.name}.{setting}, or ask for fewer.",
            )

    def _pool(self, name: str) -> PoolState:
        pools = self._fleet.pools
        if name not in pools:
            raise NotFound(
                f"No pool {name[:80]!r} on host {self._host}. {nearest(name, pools)}",
                field="pool",
                hint="`dspex pools` shows what there is.",
            )
        return pools[name]

    def _changed(
        self, pools: dict[str, int], workers: list[str] | None = None
    ) -> Changed:
        return Changed(
            supervisor=self._supervisor,
            host=self._host,
            supervisors=len(self._peers.supervisors(self._fleet.now())),
            pools=pools,
            workers=workers or [],
        )


def _is_auto(pool: PoolState) -> bool:
    return pool.settings.scale == "auto"
