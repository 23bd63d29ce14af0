"""Supervisors as operators see them: over NATS, with JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.stack import Program

from dspex.bus.core import NoResponders
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.networks import Network
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

ROOT = Path(__file__).parents[2]
BAD = {"module": "tests.support.misbehaving", "env": {"PYTHONPATH": str(ROOT)}}
"""Settings of a pool whose workers do mischief."""

WITHIN = 150.0
"""Seconds for what takes starts of workers, on a machine that is busy."""


def supervisor(folder: Path, host: str = "", network: Network | None = None) -> Program:
    """A supervisor whose workers write their logs below ``folder``.

    Args:
        folder: Of its stack.
        host: What its host is called.
        network: The one it is in; ``None``: that of the test.
    """
    named = ("--host", host) if host else ()
    logs = ("--logs", str(folder / f"logs-{host}"))
    return Program(
        "dspex.services.supervisor",
        *logs,
        *named,
        environ=network.environ if network else {},
        within=network.within if network else (),
    )


class Hosts:
    """What the supervisors of a stack say and do.

    Args:
        bus: The operator's connection.
        stack: Whose.

    Attributes:
        notices: What they told of workers.
        needs: What they told of what pools need.
    """

    def __init__(self, bus: NatsBus, stack: Stack) -> None:
        self.notices: list[dict[str, Any]] = []
        self.needs: list[dict[str, Any]] = []
        self._bus = bus
        self._stack = stack
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """Hear of workers, and of what pools need, from now on."""
        subjects = self._stack.subjects
        await self._bus.subscribe(subjects.notice("worker"), self._hear)
        await self._bus.subscribe(subjects.notice("desired"), self._hear)

    async def ask(self, verb: str, **asked: Any) -> dict[str, Any]:
        """The first answer to a wish, once there is somebody who answers."""
        subject, data = self._stack.subjects.admin(verb), json.dumps(asked).encode()
        async with asyncio.timeout(WITHIN):
            while True:
                try:
                    message = await self._bus.request(subject, data, timeout=30)
                except NoResponders:  # a supervisor beats before it answers
                    await self._stack.news()
                    continue
                found: dict[str, Any] = json.loads(message.data)
                return found

    async def until_told(
        self, holds: Callable[[dict[str, Any]], bool], host: str = "one"
    ) -> None:
        """Ask what a host has, at every heartbeat, until that is so.

        Raises:
            TimeoutError: It never is.
        """
        async with asyncio.timeout(WITHIN):
            while not any(
                one["host"] == host and holds(one) for one in await self._answers()
            ):
                await self._stack.news()

    async def _answers(self) -> list[dict[str, Any]]:
        """What every supervisor that answers soon says."""
        found: list[dict[str, Any]] = []
        async with await self._bus.replies() as replies:
            subject = self._stack.subjects.admin("pools")
            await self._bus.publish(subject, b"{}", reply=replies.subject)
            with contextlib.suppress(TimeoutError, NoResponders):
                while True:
                    found.append(json.loads((await replies.next(0.5)).data))
        return found

    async def all(self, verb: str, count: int, **asked: Any) -> list[dict[str, Any]]:
        """The answers of so many supervisors to a wish, by host."""
        subject = self._stack.subjects.admin(verb)
        found: list[dict[str, Any]] = []
        async with await self._bus.replies() as replies:
            data = json.dumps(asked).encode()
            await self._bus.publish(subject, data, reply=replies.subject)
            while len(found) < count:
                found.append(json.loads((await replies.next(30)).data))
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
        """Wait for the first notice that is so, of a worker or of a need."""
        async with asyncio.timeout(WITHIN):
            while True:
                for notice in (*self.notices, *self.needs):
                    if holds(notice):
                        return notice
                self._news.clear()
                await self._news.wait()

    def _hear(self, message: Message) -> None:
        try:
            notice = json.loads(message.data)
        except (ValueError, Failure):
            return
        kind = self.notices if notice["type"] == "worker" else self.needs
        kind.append(notice)
        self._news.set()


def configure(own: Stack, text: str) -> Path:
    """Give a stack a configuration file."""
    path = own.folder / "dspex.toml"
    path.write_text(text)
    own.environ["DSPEX_CONFIG"] = str(path)
    for name in ("CONCURRENCY", "QUEUE"):  # they would win over the file
        own.environ.pop(f"DSPEX_POOLS_LIGHT_{name}", None)
    return path


def pool(**settings: Any) -> str:
    """The section of pool light, in a few words."""
    lines = [f"{key} = {_toml(value)}" for key, value in settings.items()]
    return "\n".join(["[pools.light]", *lines])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


async def start(own: Stack, hosts: Hosts, workers: int) -> Program:
    """Start router, native-ops and a supervisor, and wait for its workers."""
    kept = supervisor(own.folder)
    await own.start(Program("dspex.router"), Program("dspex.native"), kept)
    await own.ready(workers=0)
    await hosts.ready(workers)
    return kept


def members_of(session: int) -> list[int]:
    """The processes of a session that run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(words[3]) == session and words[0] != "Z":
                found.append(int(entry.name))
    return found


async def gone(pids: list[int]) -> None:
    """Wait for the end of processes that are not our children."""
    loop = asyncio.get_running_loop()
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        over = asyncio.Event()
        loop.add_reader(descriptor, over.set)
        try:
            async with asyncio.timeout(WITHIN):
                await over.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
