"""Sessions on three servers, of which the leading one dies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.support.asking import Asker
from tests.support.cluster import cluster
from tests.support.sessions import Conversations, numbered
from tests.support.stack import Program, Stack, worker_environ

from dspex.bus.connection import BusSettings, connect
from dspex.bus.core import NoResponders
from dspex.bus.durable import api
from dspex.bus.provisioning import Names
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from tests.support.asking import Answer
    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

WORKER = ("dspex.services.worker", "--pool", "light")


async def leader_of(bus: NatsBus, stream: str) -> int:
    """The number of the server that leads a stream."""
    async with asyncio.timeout(30):
        while True:
            found = (await api(bus, f"STREAM.INFO.{stream}"))["cluster"].get("leader")
            if found:
                return int(found.removeprefix("n"))


async def answered(talk: Conversations, session: str, text: str) -> Answer:
    """Ask until there is an answer, under one id, as a client does."""
    request = uuid4().hex
    async with asyncio.timeout(90):
        while True:
            try:
                found = await talk.turn(
                    session, text, dspex_request=request, timeout=10
                )
            except (Failure, NoResponders, TimeoutError):
                continue  # the server it was connected to is gone, or the router's
            if found.code == "done":
                return found


async def test_the_leader_of_the_logs_is_killed(
    model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No acknowledged turn is lost with the server that led, and each is there once."""
    folder = tmp_path_factory.mktemp("cluster")
    environ = worker_environ(model.url) | {"DSPEX_NATS_REPLICAS": "3"}
    model.reply_with(numbered)
    async with cluster(folder) as servers:
        url = ",".join(server.url for server in servers)
        async with Stack(url, folder, "sc", environ) as stack:
            await stack.start(Program("dspex.router"), Program("dspex.services.state"))
            await stack.start(Program(*WORKER), Program(*WORKER))
            await stack.ready(workers=2, native=0, state=1)
            bus = await connect(BusSettings(url=url, name="test-cluster"))
            talk = Conversations(Asker(bus, stack.subjects))
            session = await talk.opened()
            for number in range(3):
                await answered(talk, session, f"q{number}")

            leader = await leader_of(bus, Names("sc").sessions)
            await servers[leader].stop()
            for number in range(3, 6):
                await answered(talk, session, f"q{number}")

            wanted = [(f"q{number}", f"q{number}/{number}") for number in range(6)]
            assert await talk.transcript(session) == wanted
            await bus.close()
