"""``dspex up``: the whole stack in the foreground, until told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dspex.bus import settings
from dspex.cli import home, lm
from dspex.cli.console import console
from dspex.cli.plan import Plan
from dspex.cli.stack import Settings, Stack, StackFailed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dspex.cli.console import Console

_EXAMPLE = (
    'dspex call predict --signature "text -> sentiment: '
    "Literal['positive', 'negative']\" text=\"I loved it\""
)


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if arguments.host:
        os.environ["DSPEX_HOST"] = arguments.host
    environ = dict(os.environ)
    path = settings.locate(arguments.config, environ)
    configuration = settings.load(path, environ)
    if arguments.join:
        nats = replace(configuration.nats, url=arguments.join)
        configuration = replace(configuration, nats=nats)
    choice = lm.find(configuration, environ)
    plan = Plan(
        configuration=configuration,
        choice=choice,
        python=sys.executable,
        config_path=path,
        joins=bool(arguments.join),
    )
    out = console(environ)
    with home.claim(Path()):
        try:
            return asyncio.run(_serve(plan, out))
        except StackFailed as error:
            print(f"dspex up: {error}", file=sys.stderr)
            return 1


@contextmanager
def stopping(stack: Stack, out: Console) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block in order; a second one, at once.

    The block is cancelled, and the cancellation ends with it.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    asked = False

    def stop() -> None:
        nonlocal asked
        if asked:
            stack.kill()
        elif task is not None:
            asked = True
            out.step("stopping: finishing what is running (Ctrl-C again: at once)")
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    except asyncio.CancelledError:
        if not asked or task is None:
            raise
        task.uncancel()
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _serve(plan: Plan, out: Console) -> int:
    folder = Path()
    kept = Settings(home=folder, logs=folder / settings.FOLDER / "logs")
    out.step(f"language model: {plan.choice.tell()}")
    stack = Stack(plan, kept, out.step)
    with stopping(stack, out):
        try:
            async with stack:
                with home.publish(folder, stack.url):
                    _tell(stack, plan, out)
                    await stack.watch()
        except asyncio.CancelledError:
            out.line("Stopped.")
            raise
    return 0


def _tell(stack: Stack, plan: Plan, out: Console) -> None:
    out.line()
    out.line(f"{out.bold('DSPex is up.')} NATS: {out.bold(stack.url)}")
    if stack.server is not None and stack.server.monitoring:
        out.line(f"  monitoring      {stack.server.monitoring}")
    out.line(f"  language model  {plan.choice.why}")
    out.line(f"  runs            {_running(stack, plan)}")
    out.line(f"  logs            {settings.FOLDER / 'logs'}")
    out.line("Ask it from another terminal in this folder:")
    out.line(f"  {_EXAMPLE}")
    out.line(f"For the `nats` command line: export NATS_URL={stack.url}")
    out.line(out.dim("Ctrl-C finishes what is running and stops everything."))


def _running(stack: Stack, plan: Plan) -> str:
    pools = [
        f"pool {name} ({pool.processes} processes of {pool.concurrency} requests)"
        for name, pool in plan.configuration.pools.items()
    ]
    if plan.joins:
        return ", ".join(["supervisor", *pools])
    server = ["nats-server"] if stack.server is not None else []
    replay = ["replay"] if plan.configuration.replay.on else []
    services = ["router", "native-ops", "state", *replay, "supervisor"]
    return ", ".join([*server, *services, *pools])
