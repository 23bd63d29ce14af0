"""The system that is broken: a server, models, routers, native-ops and workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import TYPE_CHECKING, Any, Self

from tests.chaos.load import Load, Wiretap, echo
from tests.chaos.sizes import CONCURRENCY, LATENCY, LM_TIMEOUT, SIZES
from tests.support.nats_server import NatsServer
from tests.support.scripted_model import ScriptedModel
from tests.support.stack import Program, Stack

from dspex.bus.connection import BusSettings, NatsBus, connect
from dspex.client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from dspex.bus.core import Message, Subscription

WORKER = ("dspex.services.worker", "--pool", "light")

CONFIGURATION = """\
[fallbacks."*"]
lms = { default = ["spare"] }
"""


class System:
    """Started once for all scenarios; ``whole`` repairs what one has broken.

    Args:
        folder: For logs, the server's data and the configuration.

    Attributes:
        server: The NATS server.
        model: The language model ``default``.
        spare: The one that stands in for it.
        workers: Of pool ``light``, as far as the scenarios let them live.
        routers: The same of the routers.
    """

    def __init__(self, folder: Path) -> None:
        self.server = NatsServer(folder / "nats")
        self.model = ScriptedModel(latency=LATENCY)
        self.spare = ScriptedModel(latency=LATENCY)
        self.workers: list[Program] = []
        self.routers: list[Program] = []
        self._native = Program("dspex.native")
        self._folder = folder
        self._exits = contextlib.AsyncExitStack()
        self._stack: Stack | None = None
        self._bus: NatsBus | None = None

    async def __aenter__(self) -> Self:
        enter = self._exits.enter_async_context
        async with self._exits:
            await enter(self.server)
            await enter(self.model)
            await enter(self.spare)
            self._stack = await enter(
                Stack(self.server.url, self._folder / "logs", "chaos", self._environ())
            )
            self._bus = await connect(BusSettings(url=self.server.url, name="chaos"))
            self._exits.push_async_callback(self._bus.close)
            await self._stack.start(self._native)
            await self.whole()
            self._exits = self._exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    @property
    def stack(self) -> Stack:
        assert self._stack is not None
        return self._stack

    @property
    def bus(self) -> NatsBus:
        """The clients' connection."""
        assert self._bus is not None
        return self._bus

    @property
    def programs(self) -> list[Program]:
        """Everybody that shall be there."""
        return [self._native, *self.routers, *self.workers]

    async def whole(self) -> None:
        """Have one router and all workers, and models that are well."""
        for model in (self.model, self.spare):
            model.reset()
            model.reply_with(echo)
        for program in self.programs:
            program.signal(signal.SIGCONT)
        self.workers = [one for one in self.workers if one.returncode is None]
        self.routers = [one for one in self.routers if one.returncode is None]
        for router in self.routers[1:]:
            await router.stop()
        missing = SIZES.workers - len(self.workers)
        self.workers += [Program(*WORKER) for _ in range(missing)]
        self.routers = self.routers[:1] or [Program("dspex.router")]
        new = [one for one in self.programs if one not in self.stack.programs]
        await self.stack.start(*new)
        await self.serving()

    async def serving(self) -> None:
        """Wait until everybody answers."""
        await self.stack.serving(self._native, *self.workers)
        await self.stack.ready(workers=0, routers=len(self.routers))

    async def start(self, program: Program) -> Program:
        """Start one more, and say which; ``serving`` waits for it."""
        kind = self.workers if program.name == "services.worker" else self.routers
        kind.append(program)
        await self.stack.start(program)
        return program

    async def replaced(self, program: Program) -> Program:
        """Start another in the place of one that was told to end or was killed."""
        kind = self.workers if program in self.workers else self.routers
        kind.remove(program)
        return await self.start(program.another())

    async def fresh_router(self) -> None:
        """A router that remembers nothing, in the place of the one there is."""
        [router] = self.routers
        await router.stop()
        await self.replaced(router)
        await self.serving()

    def incarnation(self, program: Program) -> str:
        """What a worker is called on the bus."""
        beat = self.stack.beat_of(program.pid)
        assert beat is not None
        return beat.worker

    def load(self, clients: int = SIZES.clients) -> Load:
        """Clients that ask as long as the block lasts."""
        return Load(Client(self.bus, self.stack.subjects), clients)

    def wiretap(self) -> Wiretap:
        """Hear every reply as long as the block lasts."""
        return Wiretap(self.bus)

    def notices(self) -> Notices:
        """Hear of breakers as long as the block lasts."""
        return Notices(self.bus, self.stack.prefix)

    def _environ(self) -> dict[str, str]:
        file = self._folder / "dspex.toml"
        file.write_text(CONFIGURATION, encoding="utf-8")
        found = {
            "DSPEX_CONFIG": str(file),
            "DSPEX_POOLS_LIGHT_CONCURRENCY": str(CONCURRENCY),
        }
        for name, model in {"DEFAULT": self.model, "SPARE": self.spare}.items():
            found |= {
                f"DSPEX_LMS_{name}_MODEL": "openai/scripted",
                f"DSPEX_LMS_{name}_API_BASE": model.url,
                f"DSPEX_LMS_{name}_API_KEY": "test-key-not-a-secret",
                f"DSPEX_LMS_{name}_TIMEOUT_S": str(LM_TIMEOUT),
            }
        return found


class Notices:
    """What routers say of their breakers.

    Attributes:
        all: Every notice, in this order.
    """

    def __init__(self, bus: NatsBus, prefix: str) -> None:
        self.all: list[dict[str, Any]] = []
        self._bus = bus
        self._subject = f"{prefix}.v1.notice.breaker"
        self._changed = asyncio.Event()
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._subscription = await self._bus.subscribe(self._subject, self._hear)
        await self._bus.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._subscription is not None
        await self._subscription.unsubscribe()

    def states(self, lm: str) -> list[str]:
        """What became of the breaker of a language model."""
        return [
            one["state"]
            for one in self.all
            if one["scope"] == "lm" and one["name"].split()[-1] == lm
        ]

    async def becomes(self, lm: str, state: str, within: float) -> None:
        """Wait until the last that was said of a language model is this.

        Raises:
            TimeoutError: It is not in time; the message is what was said.
        """
        try:
            async with asyncio.timeout(within):
                while self.states(lm)[-1:] != [state]:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            said = f"{lm!r} is not {state} within {within:g} s: {self.all}"
            raise TimeoutError(said) from None

    def _hear(self, message: Message) -> None:
        self.all.append(json.loads(message.data))
        self._changed.set()
