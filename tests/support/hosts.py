"""Supervisors as operators see them: over NATS, with JSON."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.stack import Program

from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

ROOT = Path(__file__).parents[2]
WITHIN = 150.0
"""Seconds for what takes starts of workers, on a machine that is busy."""


def supervisor(folder: Path, host: str = "", **environ: str) -> Program:
    """A supervisor whose workers write their logs below ``folder``."""
    named = ("--host", host) if host else ()
    logs = ("--logs", str(folder / f"logs-{host}"))
    return Program("dspex.services.supervisor", *logs, *named, environ=environ)


class Hosts:
    """What the supervisors of a stack say and do.

    Args:
        bus: The operator's connection.
        stack: Whose.

    Attributes:
        notices: What they told of workers.
    """

    def __init__(self, bus: NatsBus, stack: Stack) -> None:
        self.notices: list[dict[str, Any]] = []
        self._bus = bus
        self._stack = stack
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """Hear of workers from now on."""
        subject = self._stack.subjects.notice("worker")
        await self._bus.subscribe(subject, self._hear)

    async def ask(self, verb: str, **asked: Any) -> dict[str, Any]:
        """The first answer to a wish."""
        subject = self._stack.subjects.admin(verb)
        message = await self._bus.request(
            subject, json.dumps(asked).encode(), timeout=10
        )
        found: dict[str, Any] = json.loads(message.data)
        return found

    async def all(self, verb: str, count: int, **asked: Any) -> list[dict[str, Any]]:
        """The answers of so many supervisors to a wish, by host."""
        subject = self._stack.subjects.admin(verb)
        found: list[dict[str, Any]] = []
        async with await self._bus.replies() as replies:
            data = json.dumps(asked).encode()
            await self._bus.publish(subject, data, reply=replies.subject)
            while len(found) < count:
                found.append(json.loads((await replies.next(10)).data))
        return sorted(found, key=lambda one: str(one["host"]))

    async def workers(self, pool: str = "light") -> list[dict[str, Any]]:
        """The workers of a pool on the host that answers first."""
        status = await self.ask("pools", pool=pool)
        found: list[dict[str, Any]] = status["pools"][0]["workers"]
        return found

    async def until(
        self, holds: Callable[[list[dict[str, Any]]], bool], pool: str = "light"
    ) -> list[dict[str, Any]]:
        """Ask for the workers of a pool, at every heartbeat, until they are so.

        Raises:
            TimeoutError: They never are; it says how they were.
        """
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(WITHIN):
                while not holds(found := await self.workers(pool)):
                    await self._stack.news()
        except TimeoutError:
            logs = "\n".join(one.log[-3000:] for one in self._stack.programs)
            raise TimeoutError(f"{found}\n{self.notices}\n{logs}") from None
        return found

    async def ready(self, count: int, pool: str = "light") -> list[dict[str, Any]]:
        """Wait until a pool has exactly so many workers, all of them ready."""
        return await self.until(
            lambda found: [one["state"] for one in found] == ["ready"] * count, pool
        )

    async def told(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for the first notice that is so."""
        async with asyncio.timeout(WITHIN):
            while True:
                for notice in self.notices:
                    if holds(notice):
                        return notice
                self._news.clear()
                await self._news.wait()

    def _hear(self, message: Message) -> None:
        try:
            self.notices.append(json.loads(message.data))
        except (ValueError, Failure):
            return
        self._news.set()
