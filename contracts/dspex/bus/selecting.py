"""Which requests of the journal are wanted, and the lives that go by in it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.bus.journal import Damaged, Entry
from dspex.contracts.lives import Life

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

OPEN = 20_000
"""Requests whose lives are followed at a time; the oldest leave first."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What a request must be.

    Attributes:
        since: Told of at this time or later, unix milliseconds.
        until: Not later than this.
        request: Its id.
        operation: What was asked.
        session: Session it belongs to.
        tenant: Whose it is.
        worker: Who ran it, or the pool of who did.
        failed: It failed.
        slow: It took so many milliseconds or longer.
        text: Something told of it holds this text.
    """

    since: float | None = None
    until: float | None = None
    request: str = ""
    operation: str = ""
    session: str = ""
    tenant: str = ""
    worker: str = ""
    failed: bool = False
    slow: float = 0.0
    text: str = ""

    @property
    def all(self) -> bool:
        """Whether every request of the time is wanted."""
        return self == Wanted(since=self.since, until=self.until)

    def takes(self, life: Life) -> bool:
        """Whether a request is wanted, as far as its life says."""
        named = (
            (self.request, (life.request,)),
            (self.operation, (life.operation,)),
            (self.session, (life.session,)),
            (self.tenant, (life.tenant,)),
            (self.worker, (life.worker, life.pool)),
        )
        if any(wanted and wanted not in found for wanted, found in named):
            return False
        failed = bool(life.category)
        return life.ms >= self.slow and (failed or not self.failed)


class Lives:
    """The lives that go by in a journal; memory is bounded.

    Args:
        selected: Which are wanted.
        left: Called with each wanted one that is not followed any longer.
    """

    def __init__(self, selected: Wanted, left: Callable[[Life], None]) -> None:
        self._wanted = selected
        self._text = selected.text.encode()
        self._left = left
        self._open: OrderedDict[tuple[str, str], Life] = OrderedDict()
        self._matched: set[tuple[str, str]] = set()

    def take(self, entry: Entry) -> Life:
        """Take in one entry; returns the life it belongs to."""
        key = (entry.tenant, entry.said.request)
        life = self._open.get(key)
        if life is None:
            life = Life(request=key[1], tenant=key[0])
            life.session = session_of(entry.subject)
            self._open[key] = life
        life.take(entry.said)
        if self._text and self._text in entry.data:
            self._matched.add(key)
        while len(self._open) > OPEN:
            self.leave(next(iter(self._open)))
        return life

    def leave(self, key: tuple[str, str]) -> None:
        """Follow one no longer."""
        life = self._open.pop(key)
        matched = not self._text or key in self._matched
        self._matched.discard(key)
        if matched and self._wanted.takes(life):
            self._left(life)

    def end(self) -> None:
        """Follow none any longer; the oldest first."""
        for key in list(self._open):
            self.leave(key)


async def follow(
    entries: AsyncIterator[Entry | Damaged],
    lives: Lives,
    damaged: Callable[[Damaged], None],
) -> None:
    """Let a journal go by."""
    async for entry in entries:
        if isinstance(entry, Damaged):
            damaged(entry)
        else:
            lives.take(entry)
    lives.end()


def session_of(subject: str) -> str:
    """The session whose subject it is; empty: none."""
    tokens = subject.split(".")
    return tokens[tokens.index("session") + 1] if "session" in tokens[:-1] else ""
