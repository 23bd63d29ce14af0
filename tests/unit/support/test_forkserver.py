"""Programs that are forked behave as those that are executed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.support.forkserver import ForkServer
from tests.support.nats_server import free_port

from dspex.bus.program import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forkserver import Forked


async def start(log: Path, *arguments: str) -> Forked:
    assert ForkServer.running is not None
    environ = {"DSPEX_NATS_URL": f"nats://127.0.0.1:{free_port()}"}
    return await ForkServer.running.start(
        "dspex.router", *arguments, environ=environ, log=log
    )


async def test_it_has_its_own_command_line_and_output(tmp_path: Path) -> None:
    """What it writes is in its log, and its status is told."""
    forked = await start(tmp_path / "log", "--version")

    assert await forked.wait() == 0
    assert (tmp_path / "log").read_text() == f"dspex-router {VERSION}\n"


async def test_failures_have_their_status(tmp_path: Path) -> None:
    """A wrong command line ends it as it ends any other."""
    forked = await start(tmp_path / "log", "--nonsense")

    assert await forked.wait() == 2
    assert "--nonsense" in (tmp_path / "log").read_text()


async def test_signals_reach_it(tmp_path: Path) -> None:
    """One that is killed says by what; its neighbours go on."""
    killed, other = await start(tmp_path / "a"), await start(tmp_path / "b")

    killed.send_signal(signal.SIGKILL)

    assert await killed.wait() == -signal.SIGKILL
    assert other.returncode is None
    other.send_signal(signal.SIGKILL)
    await other.wait()
