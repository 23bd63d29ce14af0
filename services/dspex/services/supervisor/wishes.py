"""What operators wish for: scale, drain, restart, and what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.contracts.failures import BadRequest, Conflict, NotFound, nearest
from dspex.contracts.pools import Changed
from dspex.services.supervisor.scaling import share

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.contracts.configuration import Configuration
    from dspex.contracts.pools import DrainRequest, RestartRequest, ScaleRequest
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
        reread: Reads the configuration again.

    Attributes:
        drained: Whether this host stays empty until it is scaled by name.
    """

    def __init__(
        self,
        supervisor: str,
        host: str,
        fleet: Fleet,
        peers: Peers,
        reread: Callable[[], Configuration],
    ) -> None:
        self.drained = False
        self._supervisor = supervisor
        self._host = host
        self._fleet = fleet
        self._peers = peers
        self._reread = reread

    def scale(self, asked: ScaleRequest) -> Changed | None:
        """Have another number of workers.

        Returns:
            What is done here; ``None`` if another host is meant.

        Raises:
            NotFound: There is no such pool.
            BadRequest: It is more than the pool may have.
            Conflict: The pool scales by itself.
        """
        if asked.host not in (None, self._host):
            return None
        pool = self._pool(asked.pool)
        most = pool.settings.max
        if most is not None and asked.processes > most:
            raise BadRequest(
                f"Pool {asked.pool!r} may have {most} workers at most, "
                f"not {asked.processes}.",
                field="processes",
                hint=f"Raise pools.{asked.pool}.max, or ask for fewer.",
            )
        if pool.settings.scale == "auto":
            raise Conflict(
                f"Pool {asked.pool!r} scales by itself.",
                field="pool",
                hint=f"Set pools.{asked.pool}.min and max, or its scale to 'fixed'.",
            )
        if asked.host is not None:
            self.drained = False
            pool.processes = asked.processes
        else:
            self.spread(pool, asked.processes)
        self._fleet.poke()
        return self._changed({asked.pool: pool.processes})

    def spread(self, pool: PoolState, total: int) -> None:
        """Have this host's share of all workers of a pool."""
        if not self.drained:
            hosts = self._peers.sharing(pool.name, self._fleet.now())
            pool.processes = share(total, hosts, self._peers.me)

    def drain(self, asked: DrainRequest) -> Changed:
        """Empty a host, a pool or a worker; what is not here is not changed."""
        pools: dict[str, PoolState] = {}
        if asked.name == self._host:
            self.drained = True
            pools = self._fleet.pools
        elif asked.name in self._fleet.pools:
            pools = {asked.name: self._fleet.pools[asked.name]}
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

    def restart(self, asked: RestartRequest) -> Changed:
        """Replace the workers of a pool by what the configuration says now.

        Raises:
            NotFound: There is no such pool.
            BadRequest: The configuration cannot be read.
        """
        pool = self._pool(asked.pool)
        found = self._reread()
        if asked.pool not in found.pools:
            raise NotFound(
                f"The configuration has no [pools.{asked.pool}] any more.",
                field="pool",
                hint=f"Put it back, or empty the pool: dspex drain {asked.pool}.",
            )
        pool.settings = found.pools[asked.pool]
        pool.generation += 1
        pool.restarts.healthy()
        self._fleet.poke()
        names = [one.name for one in self._fleet.of(asked.pool)]
        return self._changed({asked.pool: pool.processes}, names)

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
