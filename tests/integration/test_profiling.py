"""Operators see what a real process spends its time on, over NATS."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker
from tests.support.commands import dspex
from tests.support.stack import Program, Stack, worker_environ

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.asking import Answer
    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

MODULE = """
import time

import dspy


def spin(seconds, secret):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


class Burn(dspy.Module):
    async def aforward(self, secret):
        spin(2.5, secret)
        return dspy.Prediction(done="yes")
"""
SECRET = "not-for-operators"
FRAME = re.compile(r"[^;:\s]+:[^;:\s]+:\d+")


@pytest.fixture(name="burning")
async def _burning(
    nats_url: str, scripted: ScriptedModel, tmp_path: Path
) -> AsyncIterator[Stack]:
    (tmp_path / "burning.py").write_text(MODULE)
    config = tmp_path / "dspex.toml"
    config.write_text('[programs.burn]\npath = "burning:Burn"\n')
    environ = worker_environ(scripted.url)
    environ |= {"DSPEX_CONFIG": str(config), "PYTHONPATH": str(tmp_path)}
    async with Stack(nats_url, tmp_path, f"p{uuid4().hex[:8]}", environ) as stack:
        await stack.start(Program("dspex.router"), Program("dspex.services.worker"))
        await stack.ready(workers=1, native=0)
        yield stack


async def profile(bus: NatsBus, stack: Stack, **asked: Any) -> Answer:
    subject = stack.subjects.admin("profile")
    asked = {"process": stack.beats()[0].worker} | asked
    return await Asker(bus, stack.subjects).ask("", asked, subject=subject)


async def test_a_busy_worker_shows_what_keeps_it_busy(
    burning: Stack, bus: NatsBus
) -> None:
    """The function that holds the event loop is the hottest; values stay unseen."""
    asker, body = Asker(bus, burning.subjects), {"inputs": {"secret": SECRET}}

    async with asyncio.TaskGroup() as both:
        ran = both.create_task(asker.ask("run", {"program": "burn"} | body))
        await burning.until(lambda: burning.beats()[0].in_flight == 1)
        found = await profile(bus, burning, seconds=1)

    assert ran.result().code == "done"
    said = found.body
    assert said["type"] == "profile"
    assert said["process"] == burning.beats()[0].worker
    assert said["hottest"][0]["function"] == "burning:spin"
    assert said["hottest"][0]["own"] > said["samples"] / 2 > 5
    lines = said["stacks"].splitlines()
    assert any("burning:Burn.aforward:15;burning:spin:" in one for one in lines)
    for line in lines:
        frames, _, count = line.rpartition(" ")
        assert int(count) > 0
        assert all(FRAME.fullmatch(one) for one in frames.split(";")[1:])
    assert SECRET not in json.dumps(said)


async def test_one_at_a_time(burning: Stack, bus: NatsBus) -> None:
    """While a profile is taken, another one of the process is refused."""
    answers = await asyncio.gather(
        *(profile(bus, burning, seconds=1) for _ in range(2))
    )

    assert sorted(one.code for one in answers) == ["overloaded", "profile"]


@pytest.mark.parametrize("seconds", [0, 0.5, 61, -1, "5"])
async def test_seconds_are_bounded(burning: Stack, bus: NatsBus, seconds: Any) -> None:
    """Seconds out of range are a bad request that names the field."""
    found = await profile(bus, burning, seconds=seconds)

    assert found.code == "bad_request"
    assert found.body["field"] == "seconds"


async def test_the_command(burning: Stack, tmp_path: Path) -> None:
    """The command takes a router by its name, shows a table and writes the stacks."""
    stacks, second = tmp_path / "stacks.txt", ("--seconds", "1")

    text = await dspex(burning, "profile", "router", *second)
    whole = await dspex(
        burning, "profile", "light", *second, "--json", "--stacks", str(stacks)
    )
    wrong = await dspex(burning, "profile", "nobody", *second)
    long = await dspex(burning, "profile", "router", "--seconds", "90")

    assert (text[0], whole[0], wrong[0], long[0]) == (0, 0, 1, 1)
    assert text[1].startswith("router-")
    assert json.loads(whole[1])["stacks"] == stacks.read_text()
    assert "There are: light" in wrong[2]
    assert "seconds" in long[2]
