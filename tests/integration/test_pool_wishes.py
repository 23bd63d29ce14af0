"""What operators asked for outlives supervisors and hosts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.hosts import Hosts, configure, pool, start, supervisor

if TYPE_CHECKING:
    from tests.support.stack import Program, Stack

    from dspex.bus.connection import NatsBus

pytestmark = [
    pytest.mark.nats,
    pytest.mark.dspy,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's"),
]


@pytest.fixture(name="hosts")
async def _hosts(own: Stack, bus: NatsBus) -> Hosts:
    hosts = Hosts(bus, own)
    await hosts.listen()
    return hosts


async def replaced(own: Stack, kept: Program) -> Program:
    """Kill a supervisor, and start another one when its workers are gone."""
    await kept.kill()
    await own.until(lambda: not own.beats())
    another = kept.another()
    await own.start(another)
    await own.serving(another)
    return another


async def test_a_number_outlives_its_supervisor(own: Stack, hosts: Hosts) -> None:
    """The next supervisor has as many as were asked for, until the file is changed."""
    configure(own, pool(processes=1))
    kept = await start(own, hosts, 1)
    await hosts.ask("scale", pool="light", processes=2)
    await hosts.ready(2)

    another = await replaced(own, kept)
    again = await hosts.ready(2)
    configure(own, pool(processes=0))
    await replaced(own, another)
    status = (await hosts.ask("pools"))["pools"][0]

    assert len(again) == 2
    assert (status["processes"], status["workers"]) == (0, [])


async def test_a_host_that_dies_is_taken_over(own: Stack, hosts: Hosts) -> None:
    """Its share goes to the others, as far as they may have so many, and back again."""
    configure(own, pool(processes=1, host_max=3))
    one, two = supervisor(own.folder, "one"), supervisor(own.folder, "two")
    await own.start(one, two)
    await own.serving(one, two)
    spread = await hosts.all("scale", 2, pool="light", processes=4)
    await own.until(lambda: len(own.beats()) == 4)

    await two.kill()
    alone = await hosts.ready(3)
    await own.start(two.another())
    await own.until(
        lambda: sorted(beat.host for beat in own.beats()) == ["one"] * 2 + ["two"] * 2
    )
    both = await hosts.all("pools", 2, pool="light")
    refused = await hosts.ask("scale", pool="light", processes=4, host="one")

    assert [one["pools"] for one in spread] == [{"light": 2}, {"light": 2}]
    assert len(alone) == 3
    assert [host["pools"][0]["processes"] for host in both] == [2, 2]
    assert refused["field"] == "processes"


async def test_a_drained_host_stays_empty(own: Stack, hosts: Hosts) -> None:
    """A supervisor that is started there has no workers until it is scaled by name."""
    configure(own, pool(processes=1))
    kept = supervisor(own.folder, "one.of.ours")
    await own.start(kept)
    await own.serving(kept)
    await hosts.ask("drain", name="one.of.ours")
    await hosts.ready(0)

    await replaced(own, kept)
    empty = (await hosts.ask("pools"))["pools"][0]
    await hosts.ask("scale", pool="light", processes=1, host="one.of.ours")

    assert (empty["processes"], empty["workers"]) == (0, [])
    await hosts.ready(1)
