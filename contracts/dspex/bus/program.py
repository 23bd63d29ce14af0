"""How every program starts and stops.

One way for all: settings are read once, logs are JSON lines, SIGTERM and Ctrl-C
drain and end it with status 0, and so does the end of the parent that started it;
a server that stays away ends it with status 1, for its supervisor to see.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.bus import journaling, logs, metrics, settings, tracing
from dspex.bus.claims import Claims
from dspex.bus.connection import BusSettings, NatsBus, connect
from dspex.bus.tasks import Tasks
from dspex.contracts.configuration import Configuration, ConfigurationError
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.bus.core import Bus

VERSION = version("dspex")

GC_THRESHOLD = (50_000, 20, 100)
"""Objects made before the youngest are collected, and how often the older ones are."""

STORE_WITHIN = 5.0
"""Seconds at the end for large bodies on their way to the journal."""

DEFAULT_URL = "nats://127.0.0.1:4222"


class Context(Struct, frozen=True, kw_only=True):
    """What a program is started with.

    Attributes:
        name: Such as ``dspex-router``.
        configuration: The file and the environment.
        arguments: The command line.
        environ: The environment, for what is not in the file.
        bus: Connected.
        stop: Set when the program shall end.
    """

    name: str
    configuration: Configuration
    arguments: argparse.Namespace
    environ: dict[str, str]
    bus: NatsBus
    stop: asyncio.Event

    async def connect_again(self) -> Bus:
        """A second connection like the first."""
        return await connect(self.bus.settings)


Main = Callable[[Context], Awaitable[None]]
"""Serves until ``context.stop`` is set, then drains."""


def parser(name: str, summary: str) -> argparse.ArgumentParser:
    """A command line with what every program takes."""
    found = argparse.ArgumentParser(prog=name, description=summary)
    found.add_argument(
        "--config", type=Path, help="configuration file (default: dspex.toml if there)"
    )
    found.add_argument("--url", help="NATS server (default: DSPEX_NATS_URL, the file)")
    found.add_argument(
        "--log-level", default="INFO", help="DEBUG, INFO, WARNING, ERROR"
    )
    found.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    return found


def run(main: Main, arguments: argparse.Namespace, name: str) -> int:
    """Run a program to its end and return its exit status."""
    environ = dict(os.environ)
    logs.configure(arguments.log_level)
    tracing.configure(name, environ)
    # Decoding a large body makes many objects at once: by default they would be
    # looked through a hundred times while they are made.
    gc.set_threshold(*GC_THRESHOLD)
    try:
        configuration = settings.load(arguments.config, environ)
        metrics.configure(name, configuration.prefix, environ)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(main, configuration, arguments, name, environ))
    except ConfigurationError as error:
        print(f"{name}: {error}", file=sys.stderr)
    except Failure as failure:
        print(f"{name}: {failure.message} {failure.hint}", file=sys.stderr)
    return 1


def bus_settings(
    configuration: Configuration, url: str | None, name: str
) -> BusSettings:
    """How to reach the configured server."""
    return BusSettings(
        url=url or configuration.nats.url or DEFAULT_URL,
        name=name,
        credentials=configuration.nats.credentials,
    )


async def _serve(
    main: Main,
    configuration: Configuration,
    arguments: argparse.Namespace,
    name: str,
    environ: dict[str, str],
) -> int:
    bus = await connect(bus_settings(configuration, arguments.url, name))
    bus.claims = Claims(bus, configuration.prefix, configuration.bodies)
    tasks = Tasks()
    await journaling.start(bus, configuration, name, tasks)
    stop = asyncio.Event()
    context = Context(
        name=name,
        configuration=configuration,
        arguments=arguments,
        environ=environ,
        bus=bus,
        stop=stop,
    )
    _stop_on_signals(stop, environ)
    gone = tasks.start(_stop_when_gone(bus, stop, configuration.nats.grace), "gone")
    try:
        await main(context)
    finally:
        given_up = gone.done()
        if not given_up:
            await bus.capture.join(STORE_WITHIN)
        await tasks.cancel()
        await bus.close()
    return 1 if given_up else 0


async def _stop_when_gone(bus: NatsBus, stop: asyncio.Event, grace: float) -> None:
    await bus.gone(grace)
    stop.set()


def _stop_on_signals(stop: asyncio.Event, environ: Mapping[str, str]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if environ.get("DSPEX_PARENT_PIPE") == "1":
        # The parent holds the other end of our stdin: its death closes it.
        loop.add_reader(sys.stdin.fileno(), _on_parent, stop)


def _on_parent(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
