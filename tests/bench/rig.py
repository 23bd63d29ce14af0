"""The real programs of a benchmark run: started once, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from tests.support.nats_server import NatsServer, free_port
from tests.support.stack import Program, Stack

from dspex.bus.connection import BusSettings, NatsBus, connect
from dspex.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dspex.contracts.subjects import Subjects

CONCURRENCY = 64
"""Requests each of the two workers of pool ``light`` runs at a time."""

LATENCIES = {"default": 0.0, "brisk": 0.05, "slow": 1.0}
"""Seconds that each language model takes, by name."""

KEY = "not-a-secret"
PREFIX = "bench"
WORKER = ("dspex.services.worker", "--pool")


class Rig:
    """What the benchmarks run against.

    Attributes:
        bus: The benchmarks' own connection.
        client: A client on it.
        stack: Router, native-ops, two workers of pool ``light``.
        models: Base URL of each language model.
        folder: For logs.
    """

    def __init__(
        self, bus: NatsBus, stack: Stack, models: dict[str, str], folder: Path
    ) -> None:
        self.bus = bus
        self.stack = stack
        self.models = models
        self.folder = folder
        self.client = Client(bus, stack.subjects)

    @property
    def subjects(self) -> Subjects:
        return self.stack.subjects


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Everything started and ready; nothing of it is left afterwards."""
    async with contextlib.AsyncExitStack() as exits:
        await asyncio.to_thread((folder / "logs").mkdir, parents=True)
        models = {
            name: await _model(exits, folder, latency)
            for name, latency in LATENCIES.items()
        }
        server = await exits.enter_async_context(NatsServer(folder / "nats"))
        stack = Stack(server.url, folder / "logs", PREFIX, _environ(models))
        await exits.enter_async_context(stack)
        await stack.start(Program("dspex.native"), Program("dspex.router"))
        await stack.start(Program("dspex.services.state"))
        await stack.start(Program(*WORKER, "light"), Program(*WORKER, "light"))
        await stack.ready(workers=2, state=1)
        bus = await connect(BusSettings(url=server.url, name="bench"))
        exits.push_async_callback(bus.close)
        yield Rig(bus, stack, models, folder)


@contextlib.asynccontextmanager
async def program(
    run: Program, folder: Path, environ: dict[str, str] | None = None
) -> AsyncIterator[Program]:
    """A program that runs as long as the block."""
    try:
        await run.start(environ or {}, folder)
        yield run
    finally:
        await run.stop()


async def listening(port: int, run: Program, within: float = 60.0) -> None:
    """Wait until a program accepts connections.

    Raises:
        RuntimeError: It ended instead; the message is its log.
        TimeoutError: It does not in time.
    """
    async with asyncio.timeout(within):
        while run.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)  # nothing tells when a port is taken
                continue
            writer.close()
            return
    raise RuntimeError(f"{run.name} ended:\n{run.log}")


async def _model(exits: contextlib.AsyncExitStack, folder: Path, latency: float) -> str:
    """Start a scripted language model in a process of its own."""
    port = free_port()
    module = "tests.support.scripted_model"
    run = Program(module, "--latency", str(latency), "--port", str(port))
    await exits.enter_async_context(program(run, folder / "logs"))
    await listening(port, run)
    return f"http://127.0.0.1:{port}/v1"


def _environ(models: dict[str, str]) -> dict[str, str]:
    found = {
        "DSPEX_POOLS_LIGHT_CONCURRENCY": str(CONCURRENCY),
        # One slot, so that a second request waits until the first gives it back.
        "DSPEX_POOLS_SINGLE_CONCURRENCY": "1",
        "DSPEX_POOLS_SINGLE_LM": "slow",
    }
    for name, url in models.items():
        section = f"DSPEX_LMS_{name.upper()}"
        found |= {
            f"{section}_MODEL": "openai/scripted",
            f"{section}_API_BASE": url,
            f"{section}_API_KEY": KEY,
        }
    # A variable for one program must not change what the others measure.
    quiet = {name: "" for name in os.environ if name.startswith("OTEL_")}
    return found | quiet
