"""Noticing a child that runs and does nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from dspex.cli.liveness import Patience, Signs
from dspex.cli.lm import Choice
from dspex.cli.plan import Plan
from dspex.cli.stack import Settings, Stack
from dspex.contracts import configuration
from dspex.contracts.configuration import Lm

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = Patience(look=5, misses=3, silence=10, start=120)
QUICK = Patience(look=0.3, answer=0.3, misses=3, silence=3, start=10)


def test_silence_is_noticed() -> None:
    """Ten seconds without a heartbeat are too many, and a heartbeat ends them."""
    signs = Signs(PATIENCE)
    signs.heard(7, 100)

    assert signs.verdict(7, 110, beats=True) == ""
    assert signs.verdict(7, 111, beats=True) == "no heartbeat for 11 s"
    signs.heard(7, 111)
    assert signs.verdict(7, 112, beats=True) == ""


def test_unanswered_pings_are_counted() -> None:
    """Three pings in a row are too many; an answer in between starts anew."""
    signs = Signs(PATIENCE)
    signs.heard(7, 100)
    for _ in range(2):
        signs.missed(7)
    before = signs.verdict(7, 110, beats=False)
    signs.missed(7)

    assert before == ""
    assert signs.verdict(7, 115, beats=False) == "3 pings unanswered"
    signs.heard(7, 116)
    assert signs.verdict(7, 999, beats=False) == ""


def test_start_takes_its_time() -> None:
    """A process that has not yet said anything has longer, but not for ever."""
    signs = Signs(PATIENCE)
    for _ in range(9):
        signs.missed(7)

    assert signs.verdict(7, 100, beats=True) == ""
    assert signs.verdict(7, 220, beats=True) == ""
    assert signs.verdict(7, 221, beats=True) == "it has said nothing for 121 s"


def test_deafness_is_not_silence() -> None:
    """What could not be heard is held against nobody."""
    signs = Signs(PATIENCE)
    signs.heard(7, 100)

    signs.forget()

    assert signs.verdict(7, 200, beats=True) == ""


def _plan(folder: Path) -> Plan:
    """Router and native-ops, and no workers."""
    file = folder / "dspex.toml"
    file.write_text(
        '[nats]\nlisten = "127.0.0.1:0"\n[lms.default]\nmodel = "openai/x"\n'
        "[pools.light]\nprocesses = 0\n"
    )
    return Plan(
        configuration=configuration.parse(file.read_text(), {}),
        choice=Choice(lm=Lm(model="openai/x"), why="a test", configured=True),
        python=sys.executable,
        config_path=file,
    )


@pytest.mark.nats
async def test_frozen_children_are_started_again(tmp_path: Path) -> None:
    """A router and a native-ops that were stopped are replaced, and it is said why."""
    logs = tmp_path / "logs"
    settings = Settings(home=tmp_path, logs=logs, grace_s=5, patience=QUICK)
    lines: asyncio.Queue[str] = asyncio.Queue()
    said: list[str] = []

    async with Stack(_plan(tmp_path), settings, lines.put_nowait) as stack:
        before = stack.processes()
        watching = asyncio.create_task(stack.watch())
        for name in ("router", "native"):
            os.kill(before[name], signal.SIGSTOP)
        async with asyncio.timeout(40):
            while sum("started again" in line for line in said) < 2:
                said.append(await lines.get())
        after = stack.processes()
        watching.cancel()

    frozen = {line.split()[0] for line in said if "is frozen (" in line}
    assert frozen == {"router", "native"}
    assert after["nats-server"] == before["nats-server"]
    assert not {after["router"], after["native"]} & set(before.values())
