"""Things with a name and versions, changed by compare-and-set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec.structs import replace

from dspex.bus.clock import now_ms
from dspex.bus.histories import Histories
from dspex.contracts import encoding
from dspex.contracts.failures import Conflict, NotFound
from dspex.contracts.versions import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.connection import NatsBus

R = TypeVar("R", bound=Record)

KEPT = 63
"""Versions kept behind the newest; the buckets' history less one."""


class Versions(Generic[R]):
    """The versions of all things of one kind.

    Args:
        bus: Where they are.
        bucket: In which bucket.
        record: What is stored of one version.
        noun: What one is called: ``program`` or ``dataset``.
    """

    def __init__(self, bus: NatsBus, bucket: str, record: type[R], noun: str) -> None:
        self._stored = Histories(bus, bucket)
        self._record = record
        self._noun = noun

    async def last(self, tenant: str, name: str) -> tuple[R | None, int]:
        """What was stored last, be it that it is gone, and its sequence; or nothing."""
        found = await self._stored.last(tenant, name)
        if found is None:
            return None, 0
        record: R = encoding.decode(found.data, self._record)
        return record, found.sequence

    async def find(self, tenant: str, name: str, version: int | None = None) -> R:
        """One version, or the newest.

        Raises:
            NotFound: There is none.
        """
        record, _ = await self.last(tenant, name)
        if record is None or not record.is_there:
            raise self._missing(name)
        if version is None or version == record.version:
            return record
        return await self.before(tenant, name, record, version)

    async def before(self, tenant: str, name: str, record: R, version: int) -> R:
        """A version before another.

        Raises:
            NotFound: It is not kept.
        """
        sequence = record.sequences.get(str(version))
        if sequence is None:
            raise self._no_version(name, version, record)
        try:
            found = await self._stored.at(tenant, name, sequence)
        except NotFound:
            raise self._no_version(name, version, record) from None
        older: R = encoding.decode(found.data, self._record)
        kept = {k: v for k, v in record.sequences.items() if int(k) < version}
        return replace(older, sequences=kept)

    async def newest(self, tenant: str, after: str) -> AsyncIterator[tuple[str, R]]:
        """The newest versions of all that are there, by name, behind a name."""
        for name in await self._stored.keys(tenant):
            if name <= after:
                continue
            record, _ = await self.last(tenant, name)
            if record is not None and record.is_there:
                yield name, record

    async def page(
        self, tenant: str, after: str, limit: int
    ) -> tuple[list[tuple[str, R]], bool]:
        """So many of them, and whether there are more."""
        found: list[tuple[str, R]] = []
        async for one in self.newest(tenant, after):
            if len(found) == limit:
                return found, True
            found.append(one)
        return found, False

    def next(self, last: R | None, sequence: int) -> tuple[int, dict[str, int]]:
        """The number of the next version, and where those before it are."""
        earlier: dict[str, int] = {}
        if last is not None and last.is_there:
            earlier = {**last.sequences, str(last.version): sequence}
        number = (last.version if last is not None else 0) + 1
        return number, dict(list(earlier.items())[-KEPT:])

    async def put(self, tenant: str, name: str, data: bytes, last: int) -> None:
        """Store the next version, if what was last is still the last.

        Raises:
            Conflict: Somebody else was faster.
        """
        try:
            await self._stored.put(tenant, name, data, last)
        except Conflict:
            raise self._faster(name) from None

    async def delete(self, tenant: str, name: str, expected: int | None) -> R:
        """Delete one; its numbers are not given again.

        Returns:
            The newest version there was.

        Raises:
            NotFound: There is none.
            Conflict: It is not as expected, or somebody else was faster.
        """
        last, sequence = await self.last(tenant, name)
        if last is None or not last.is_there:
            raise self._missing(name)
        self.expect(name, expected, last)
        gone = encoding.encode(self._record(version=last.version, at=now_ms()))
        try:
            await self._stored.put(tenant, name, gone, sequence, delete=True)
        except Conflict:
            raise self._faster(name) from None
        return last

    def expect(self, name: str, wanted: int | None, last: R | None) -> None:
        """Go on if the newest version is the expected one; 0: there is none.

        Raises:
            Conflict: It is another.
        """
        newest = last.version if last is not None and last.is_there else 0
        if wanted is not None and wanted != newest:
            raise Conflict(
                f"The newest version of {name!r} is {newest}, not {wanted}."
                if newest
                else f"There is no {self._noun} {name!r}.",
                hint="Get it, and decide again.",
                field="expected_version",
            )

    def _faster(self, name: str) -> Conflict:
        return Conflict(
            f"Somebody else changed {name!r} at the same moment.",
            hint="Get it, and decide again.",
        )

    def _missing(self, name: str) -> NotFound:
        return NotFound(
            f"There is no {self._noun} {name!r}.",
            hint=f"{self._noun}.list says which there are.",
            field="name",
        )

    def _no_version(self, name: str, version: int, newest: R) -> NotFound:
        kept = ", ".join([*newest.sequences, str(newest.version)])
        return NotFound(
            f"{name!r} has no version {version} that is kept. Kept: {kept}.",
            hint="Name one of these, or none for the newest.",
            field="version",
        )
