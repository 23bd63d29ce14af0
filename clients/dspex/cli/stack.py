"""A whole DSPex on one machine, as child processes of this one.

nats-server (unless the configuration names one), the built-in model if it is in
use, router, native-ops, state and a supervisor, which starts the workers. They start
in that order, stop in the other, and end when this process ends, however it ends.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from dspex.bus import connection
from dspex.bus.children import Child, Ended, Program
from dspex.bus.connection import BusSettings
from dspex.bus.readiness import Readiness, Waiting, describe, hostname
from dspex.bus.tasks import Tasks
from dspex.cli import server, toy
from dspex.cli.embedded import EmbeddedServer
from dspex.cli.liveness import Liveness, Patience
from dspex.cli.lm import BUILTIN_TEXT, needs_builtin
from dspex.cli.restarts import Backoff
from dspex.contracts import encoding
from dspex.contracts.failures import Failure
from dspex.contracts.pools import WorkerNotice

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.bus.readiness import News
    from dspex.cli.plan import Plan


class StackFailed(Exception):
    """The stack cannot start or cannot stay up; the message says which part."""


class Settings(Struct, frozen=True, kw_only=True):
    """Where a stack keeps its files, and how long it waits.

    Attributes:
        home: What a relative store lies in.
        logs: The children's output, a file each.
        ready_s: Longest wait until everything answers, seconds.
        grace_s: What router, native-ops and workers get to finish the requests
            they hold, seconds; the supervisor gets a little more.
        patience: How long a child that runs may say nothing.
    """

    home: Path
    logs: Path
    ready_s: float = 120.0
    grace_s: float = 35.0
    patience: Patience = Patience()


class Stack:
    """The children, from start to stop.

    Use it as an async context manager, then await ``watch``.

    Args:
        plan: What to run.
        settings: Where its files go.
        say: Called with a line of progress now and then.
    """

    def __init__(
        self, plan: Plan, settings: Settings, say: Callable[[str], None]
    ) -> None:
        self.url = plan.configuration.nats.url or ""
        self.server: EmbeddedServer | None = None
        self._plan = plan
        self._settings = settings
        self._say = say
        self._children: list[Child] = []
        self._model: Child | None = None
        self._bus: NatsBus | None = None
        self._backoffs: dict[str, Backoff] = {}
        self._news: News = asyncio.Queue(1024)
        self._watching = Tasks()
        self._pumps = Tasks()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except (Ended, Failure) as error:
            await self.stop()
            raise StackFailed(str(error)) from None
        except BaseException as error:
            await self.stop()
            if isinstance(error, OSError) and error.filename:
                raise StackFailed(_unusable(error)) from None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def watch(self) -> None:
        """Start again what ends, until something cannot stay up.

        Raises:
            StackFailed: A part ended too often, or cannot be started again.
        """
        if self._bus is not None:
            subjects = self._plan.configuration.subjects
            patience = self._settings.patience
            watched = Liveness(self._bus, subjects, self._children, self._say, patience)
            self._watching.start(watched.run(), "liveness")
        while True:
            child = await self._news.get()
            if isinstance(child, WorkerNotice):
                self._say(_restarts(child))
            if not isinstance(child, Child):
                continue
            backoff = self._backoffs.setdefault(child.program.name, Backoff())
            delay = backoff.delay(child.lifetime())
            # The workers know the model by the address it had: no second start.
            if delay is None or child is self._model:
                raise StackFailed(f"{child.describe_end()}\nIt cannot stay up.")
            self._say(f"{child.describe_end()}\nStarting it again in {delay:g} s.")
            name = f"restart {child.program.name}"
            self._watching.start(self._restart(child, delay), name)

    async def stop(self) -> None:
        """Stop everything: those that answer requests first, the server last."""
        grace = self._settings.grace_s
        await self._watching.cancel()
        if self._bus is not None:
            await self._bus.close()
        await asyncio.gather(
            *(one.stop(grace + _supervises(one) * 10) for one in self._children)
        )
        if self._model is not None:
            await self._model.stop(grace)
        if self.server is not None:
            await self.server.stop()
        await self._pumps.join(1)

    def kill(self) -> None:
        """End every child at once."""
        for child in self._all():
            if _supervises(child):
                child.ask_to_stop()  # once more: it ends its workers and itself
            else:
                child.kill()

    def processes(self) -> dict[str, int]:
        """Name -> process id of every child that runs."""
        return {one.program.name: one.pid for one in self._all() if one.running}

    async def _start(self) -> None:
        _clear(self._settings.logs)
        if not self.url:
            await self._start_server()
        for program in self._plan.services(self.url):
            await self._launch(program)
        model = await self._start_model()
        pools = self._plan.configuration.pools.values()
        workers = sum(one.processes for one in pools)
        self._say(f"{workers} worker processes: importing DSPy, warming up")
        await self._connect()
        logs = self._settings.logs.absolute()
        for program in self._plan.replay(self.url, model):
            await self._launch(program)
        await self._launch(self._plan.supervisor(self.url, model, logs))
        await self._until_ready()

    async def _start_server(self) -> None:
        wanted = server.settings(self._plan.configuration.nats, self._settings.home)
        self.server = EmbeddedServer(wanted, self._settings.logs)
        waited = self._settings.ready_s
        try:
            async with asyncio.timeout(waited):
                await self.server.start()
        except TimeoutError:
            log = self.server.child.tail()
            raise StackFailed(
                f"nats-server was not ready after {waited:g} s. Its last words:\n{log}"
            ) from None
        self.url = self.server.url
        moved = f" ({self.server.moved})" if self.server.moved else ""
        self._say(f"nats-server: ready on {self.url}{moved}")
        self._keep(self.server.child, piped=True)

    async def _start_model(self) -> dict[str, str]:
        """Start the built-in model if it is used.

        Returns:
            The variables by which workers find it.
        """
        if not needs_builtin(self._plan.configuration, self._plan.choice):
            return {}
        program = toy.program(self._plan.python, toy.secret())
        self._model = model = self._child(program)
        self._say(f"model server: starting ({BUILTIN_TEXT})")
        try:
            found = await toy.started(model, self._say)
        except TimeoutError:
            raise StackFailed(
                f"The built-in model was not ready after {toy.READY_WITHIN:g} s. "
                f"The end of {model.log}:\n{model.tail()}"
            ) from None
        self._keep(model, piped=True)
        self._say("model server: ready")
        return found

    async def _connect(self) -> None:
        nats = self._plan.configuration.nats
        self._bus = await connection.connect(
            BusSettings(url=self.url, name="dspex-cli", credentials=nats.credentials)
        )
        subject = self._plan.configuration.subjects.notice("worker")
        await self._bus.subscribe(subject, self._hear_of_worker)

    def _hear_of_worker(self, message: Message) -> None:
        try:
            notice: WorkerNotice = encoding.decode(message.data, WorkerNotice)
            if notice.host == hostname():
                self._news.put_nowait(notice)
        except (Failure, asyncio.QueueFull):
            return  # not one of ours, or one of many

    async def _until_ready(self) -> None:
        assert self._bus is not None
        readiness = Readiness(
            {
                one.pid: one.program.name
                for one in self._children
                if one.program.role != "router"
            },
            hostname(),
            router=self._plan.joins,
        )
        subjects = self._plan.configuration.subjects
        waiting = Waiting(self._bus, subjects, self._news, self._say)
        try:
            async with asyncio.timeout(self._settings.ready_s):
                await waiting.until_ready(readiness)
        except TimeoutError:
            raise StackFailed(self._describe(readiness.missing())) from None

    def _describe(self, missing: list[str]) -> str:
        tails = [
            f"The end of {one.log}:\n{one.tail()}"
            for one in self._children
            if one.program.name in missing
        ]
        parts = ", ".join(missing)
        waited = f"{self._settings.ready_s:g} s"
        return "\n".join([f"Not ready after {waited}: {parts}.", *tails])

    async def _launch(self, program: Program) -> None:
        child = self._child(program)
        await child.start()
        self._children.append(child)
        self._keep(child)

    async def _restart(self, child: Child, delay: float) -> None:
        await asyncio.sleep(delay)
        if self.server is not None and child is self.server.child:
            await self._restart_server(self.server)
            return
        await child.start()
        self._keep(child)
        self._say(f"{child.program.name}: started again")

    async def _restart_server(self, embedded: EmbeddedServer) -> None:
        try:
            await embedded.start()
        except Ended:
            await self._news.put(embedded.child)
            return
        self._say(f"nats-server: ready again on {embedded.url}")
        self._keep(embedded.child, piped=True)

    def _keep(self, child: Child, *, piped: bool = False) -> None:
        name = child.program.name
        if piped:
            self._pumps.start(child.pump(), f"log of {name}")
        self._watching.start(self._report_end(child), f"end of {name}")

    async def _report_end(self, child: Child) -> None:
        await child.wait()
        await self._news.put(child)

    def _child(self, program: Program) -> Child:
        return Child(program, self._settings.logs / f"{program.name}.log")

    def _all(self) -> list[Child]:
        model = [self._model] if self._model else []
        embedded = [self.server.child] if self.server else []
        return [*self._children, *model, *embedded]


def _supervises(child: Child) -> bool:
    return child.program.role == "supervisor"


def _restarts(notice: WorkerNotice) -> str:
    """What happened to a worker, and when another one takes its place."""
    said = describe(notice)
    if not notice.code:
        return said
    return f"{said}\nStarting it again in {notice.again_ms / 1000:g} s."


def _unusable(error: OSError) -> str:
    return (
        f"{error.filename} cannot be used: {error.strerror}. Make it yours or remove "
        "it, or run dspex in another folder."
    )


def _clear(logs: Path) -> None:
    """Start with empty logs: those of the last run are of no use in this one."""
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.glob("*.log"):
        old.unlink()
