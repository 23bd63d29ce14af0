"""Conversations while their workers die and freeze, and the server restarts."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import TYPE_CHECKING

import pytest
from tests.chaos.sizes import LATENCY, SIZES
from tests.support.asking import Answer, Asker
from tests.support.sessions import Conversations, numbered
from tests.support.stack import Program

from dspex.bus.core import NoResponders
from dspex.bus.tasks import Tasks
from dspex.contracts.failures import BusUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.chaos.system import System

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(900)]

FROZEN = 3.5
"""Seconds for which a worker is frozen: more than the silence after which one is
given up."""

ANSWERED = 120.0
"""Seconds within which a turn is answered, however often it is sent again."""


class Trouble:
    """Kills and freezes holders at random, for as long as its block lasts."""

    def __init__(self, system: System, seed: int) -> None:
        self.kills = 0
        self.freezes = 0
        self._system = system
        self._random = random.Random(seed)
        self._tasks = Tasks()

    async def __aenter__(self) -> Trouble:
        self._tasks.start(self._make(), "trouble")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.cancel()
        for worker in self._system.workers:
            worker.signal(signal.SIGCONT)

    async def _make(self) -> None:
        while True:
            worker = self._random.choice(self._system.workers)
            if self._random.random() < 0.5:
                self.kills += 1
                await worker.kill()
                await self._system.replaced(worker)
                await self._system.serving()
            else:
                self.freezes += 1
                worker.signal(signal.SIGSTOP)
                await asyncio.sleep(FROZEN)
                worker.signal(signal.SIGCONT)
            await asyncio.sleep(self._random.random())


class Talker:
    """One client with one session, that sends each turn until it is answered."""

    def __init__(self, talk: Conversations, session: str) -> None:
        self.session = session
        self.answers: list[str] = []
        self.again = 0
        self._talk = talk

    async def converse(self, turns: int, reached: asyncio.Event) -> None:
        """Ask so many questions, one after another."""
        for number in range(turns):
            answer = await self._until_answered(number)
            self.answers.append(answer.body["outputs"]["answer"])
            if number == turns // 2:
                reached.set()

    async def _until_answered(self, number: int) -> Answer:
        request = f"{self.session}-{number}"
        async with asyncio.timeout(ANSWERED):
            while True:
                try:
                    answer = await self._talk.turn(
                        self.session, f"q{number}", dspex_request=request, timeout=30
                    )
                    if answer.code == "done":
                        return answer
                    assert answer.body["retryable"], answer.body
                except (BusUnavailable, NoResponders, TimeoutError):
                    pass
                self.again += 1
                await asyncio.sleep(0.2)


@pytest.fixture(name="talk")
async def _talk(system: System) -> AsyncIterator[Conversations]:
    state = Program("dspex.services.state")
    await system.stack.start(state)
    await system.stack.serving(state)
    system.model.reply_with(numbered)
    system.model.latency = LATENCY
    yield Conversations(Asker(system.bus, system.stack.subjects))
    await state.stop()


async def test_sessions_survive(system: System, talk: Conversations) -> None:
    """Every turn is answered and applied once, as in a run without faults."""
    talkers = [Talker(talk, await talk.opened()) for _ in range(SIZES.sessions)]
    reached = asyncio.Event()
    async with Trouble(system, seed=SIZES.sessions) as trouble:
        conversing = asyncio.gather(
            *(one.converse(SIZES.turns, reached) for one in talkers)
        )
        await reached.wait()
        await system.server.stop()
        await system.server.start()
        await conversing

    wanted = [(f"q{number}", f"q{number}/{number}") for number in range(SIZES.turns)]
    for one in talkers:
        assert one.answers == [answer for _, answer in wanted]
        assert await talk.transcript(one.session) == wanted
    assert trouble.kills + trouble.freezes > 0
