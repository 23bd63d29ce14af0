"""What operators asked of pools and hosts, kept for supervisors that start later.

It is a NATS key-value bucket, so any NATS client can look into it: ``pool.<pool>``
holds a `PoolWish`, ``host.<host>`` a `HostWish`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import TYPE_CHECKING

from dspex.bus import logs
from dspex.bus.durable import Appender, Entry
from dspex.bus.provisioning import Names, provision_bucket
from dspex.bus.stores import OPERATION, last_message
from dspex.contracts import encoding
from dspex.contracts.failures import Failure
from dspex.contracts.pools import HostWish, PoolWish
from dspex.contracts.subjects import is_token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.bus.connection import NatsBus
    from dspex.contracts.configuration import Configuration

WITHIN = 3.0
"""Seconds in which a wish must be stored, or all be read."""

AGAIN = 5.0
"""Seconds until what could not be stored is tried again."""


class KeptWishes:
    """The wishes of operators; what cannot be stored or read is told in the log.

    Args:
        bus: Where.
        configuration: The prefix, and how many servers hold it.
    """

    def __init__(self, bus: NatsBus, configuration: Configuration) -> None:
        self._bus = bus
        self._configuration = configuration
        self._bucket = Names(configuration.prefix).pools
        self._appender = Appender(bus)
        self._unstored: dict[str, HostWish | PoolWish] = {}
        self._changed = asyncio.Event()
        self._trouble = logs.Seldom(logging.getLogger(__name__))

    def keep(self, kind: str, name: str, wish: HostWish | PoolWish) -> None:
        """Have a wish stored by ``run`` in place of the one before."""
        self._unstored[self._subject(kind, name)] = wish
        self._changed.set()

    async def run(self) -> None:
        """Store what is to be kept, for as long as it is not cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self.store():
                await asyncio.sleep(AGAIN)
                self._changed.set()

    async def store(self) -> bool:
        """Store what is not stored yet; whether nothing is left."""
        while self._unstored:
            subject, wish = next(iter(self._unstored.items()))
            entry = Entry(subject=subject, data=encoding.encode(wish))
            try:
                await self._open()
                await self._appender.append(entry, timeout=WITHIN)
            except Failure as failure:
                self._trouble.warning("wish not kept: %s", failure.message)
                return False
            if self._unstored.get(subject) is wish:  # nothing newer was asked
                del self._unstored[subject]
        return True

    async def read(
        self, host: str, pools: Iterable[str]
    ) -> tuple[HostWish, dict[str, PoolWish]]:
        """What was asked of this host, and of those of the pools that have a wish."""
        mine, found = HostWish(), dict[str, PoolWish]()
        try:
            async with asyncio.timeout(WITHIN):
                await self._open()
                if data := await self._get("host", host):
                    mine = encoding.decode(data, HostWish)
                for pool in pools:
                    if data := await self._get("pool", pool):
                        found[pool] = encoding.decode(data, PoolWish)
        except (Failure, TimeoutError) as error:
            self._trouble.warning("wishes not read: %s", error)
        return mine, found

    async def _open(self) -> None:
        await provision_bucket(self._bus, self._configuration, self._bucket)

    async def _get(self, kind: str, name: str) -> bytes:
        subject = self._subject(kind, name)
        found = await last_message(self._bus, f"KV_{self._bucket}", subject)
        return b"" if found is None or found.headers.get(OPERATION) else found.data

    def _subject(self, kind: str, name: str) -> str:
        key = name
        if not is_token(name):  # a host's name may have dots, and more
            key = base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
        return f"$KV.{self._bucket}.{kind}.{key}"
