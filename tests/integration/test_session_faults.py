"""Sessions whose workers die, freeze, leave, are full, or forget them."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.asking import Asker, question
from tests.support.fault_proxy import FaultProxy
from tests.support.nats_server import NatsServer
from tests.support.sessions import Conversations, numbered
from tests.support.stack import Program, Stack, worker_environ

from dspex.bus.connection import BusSettings, connect
from dspex.bus.core import NoResponders
from dspex.contracts.failures import BusUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.asking import Answer
    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.core import Message

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

WORKER = ("dspex.services.worker", "--pool", "light")


class Holders:
    """The workers of a stack, and which of them holds what."""

    def __init__(self, own: Stack, workers: list[Program]) -> None:
        self.all = workers
        self._own = own

    def of(self, answer: Answer) -> Program:
        """The one that answered."""
        worker = answer.body["metadata"]["worker"]
        pid = next(one.pid for one in self._own.beats() if one.worker == worker)
        return next(one for one in self.all if one.pid == pid)


@pytest.fixture(name="talk")
async def _talk(ask: Asker, model: ScriptedModel) -> Conversations:
    model.reply_with(numbered)
    return Conversations(ask)


async def started(own: Stack, workers: int = 2, routers: int = 1) -> Holders:
    """Everything, with so many workers."""
    found = [Program(*WORKER) for _ in range(workers)]
    await own.start(*(Program("dspex.router") for _ in range(routers)))
    await own.start(Program("dspex.services.state"), *found)
    await own.ready(workers=workers, native=0, routers=routers, state=1)
    return Holders(own, found)


async def test_holder_is_killed(own: Stack, talk: Conversations) -> None:
    """The turn after the holder's death finds another one, which knows everything."""
    holders = await started(own)
    session = await talk.opened()
    first = await talk.turn(session, "q0")

    await holders.of(first).kill()
    second = await talk.turn(session, "q1")

    assert second.body["outputs"] == {"answer": "q1/1"}
    assert holders.of(second) is not holders.of(first)
    assert await talk.transcript(session) == [("q0", "q0/0"), ("q1", "q1/1")]


async def test_holder_is_killed_in_a_turn(
    own: Stack, talk: Conversations, model: ScriptedModel
) -> None:
    """A turn that died with its holder is answered by the next one, and logged once."""
    holders = await started(own)
    session = await talk.opened()
    first = await talk.turn(session, "q0")
    count = len(model.requests)
    model.hang(times=1)
    asked = talk.begun(session, "q1")
    await asyncio.wait_for(model.received(count + 1), 10)

    await holders.of(first).kill()
    second = await asked
    third = await talk.turn(session, "q2")

    assert second.body["outputs"] == {"answer": "q1/1"}
    assert second.body["metadata"]["attempts"] == 2
    assert third.body["outputs"] == {"answer": "q2/2"}
    assert len(await talk.transcript(session)) == 3


async def test_holder_freezes(
    own: Stack, talk: Conversations, model: ScriptedModel
) -> None:
    """A frozen holder is replaced; when it wakes it can neither answer nor write."""
    holders = await started(own)
    session = await talk.opened()
    first = await talk.turn(session, "q0")
    frozen = holders.of(first)
    told = await ends_told(talk)
    count = len(model.requests)
    model.latency = 1.0
    asked = talk.begun(session, "q1", dspex_request="turn-1")
    await asyncio.wait_for(model.received(count + 1), 10)

    frozen.signal(signal.SIGSTOP)
    second = await asked
    model.latency = 0.0
    third = await talk.turn(session, "q2")
    beat = own.beat_of(frozen.pid)
    assert beat is not None
    frozen.signal(signal.SIGCONT)
    # Once it answers again it has tried all that it will.
    await own.until(lambda: _seq(own, frozen) > beat.seq + 1)
    route = f"worker:{beat.worker}"
    alone = await talk.ask.ask("predict", question(), dspex_route=route)
    fourth = await talk.turn(session, "q3")

    assert [one.body["outputs"]["answer"] for one in (second, third, fourth)] == [
        "q1/1",
        "q2/2",
        "q3/3",
    ]
    assert alone.code == "done"
    assert len(await talk.transcript(session)) == 4
    assert told["turn-1"] == ["done"]


async def test_holder_is_cut_off(
    own: Stack, talk: Conversations, model: ScriptedModel, nats_url: str
) -> None:
    """What a holder that nobody reaches has on its way changes nothing later."""
    host, _, port = nats_url.removeprefix("nats://").partition(":")
    async with FaultProxy(host, int(port)) as proxy:
        far = Program(*WORKER, environ={"DSPEX_NATS_URL": proxy.url})
        await own.start(Program("dspex.router"), Program("dspex.services.state"), far)
        await own.ready(workers=1, native=0, state=1)
        session = await talk.opened()
        first = await talk.turn(session, "q0")
        near = Program(*WORKER)
        await own.start(near)
        await own.ready(workers=2, native=0, state=1)
        told = await ends_told(talk)
        count = len(model.requests)
        model.latency = 1.0
        asked = talk.begun(session, "q1", dspex_request="turn-1")
        await asyncio.wait_for(model.received(count + 1), 30)

        proxy.blackhole()
        second = await asked
        before = _seq(own, far)
        proxy.heal()
        await own.until(lambda: _seq(own, far) > before + 1)
        route = f"worker:{first.body['metadata']['worker']}"
        alone = await talk.ask.ask("predict", question(), dspex_route=route)
        third = await talk.turn(session, "q2")
        await far.stop()

    assert Holders(own, [far, near]).of(second) is near
    assert alone.code == "done"
    assert third.body["outputs"] == {"answer": "q2/2"}
    assert await talk.transcript(session) == [
        ("q0", "q0/0"),
        ("q1", "q1/1"),
        ("q2", "q2/2"),
    ]
    assert told["turn-1"] == ["done"]


def _seq(own: Stack, program: Program) -> int:
    beat = own.beat_of(program.pid)
    assert beat is not None
    return beat.seq


async def ends_told(talk: Conversations) -> dict[str, list[str]]:
    """How each request ends, as clients are told, from now on."""
    found: dict[str, list[str]] = defaultdict(list)

    def hear(message: Message) -> None:
        said: Any = json.loads(message.data) if message.data[:1] == b"{" else {}
        if isinstance(said, dict) and said.get("type") in ("done", "failed"):
            found[str(said.get("request"))].append(said["type"])

    await talk.ask.bus.subscribe("_INBOX.>", hear)
    return found


async def test_drain(own: Stack, talk: Conversations, model: ScriptedModel) -> None:
    """A worker told to stop ends its turn, hands its sessions over and leaves."""
    holders = await started(own)
    session = await talk.opened()
    first = await talk.turn(session, "q0")
    count = len(model.requests)
    model.latency = 1.0
    asked = talk.begun(session, "q1")
    await asyncio.wait_for(model.received(count + 1), 10)

    holders.of(first).signal(signal.SIGTERM)
    second = await asked
    third = await talk.turn(session, "q2")

    assert second.body["outputs"] == {"answer": "q1/1"}
    assert second.body["metadata"]["worker"] == first.body["metadata"]["worker"]
    assert third.body["outputs"] == {"answer": "q2/2"}
    assert third.body["metadata"]["worker"] != first.body["metadata"]["worker"]
    leaver = next(one for one in holders.all if one is not holders.of(third))
    assert await leaver.wait() == 0


async def test_forgotten(own: Stack, talk: Conversations) -> None:
    """Idle sessions leave a worker's memory, and come back as they were."""
    own.environ["DSPEX_POOLS_LIGHT_SESSION_IDLE_S"] = "0.2"
    [worker] = (await started(own, workers=1)).all
    session = await talk.opened()
    first = await talk.turn(session, "q0")
    seq = _seq(own, worker)
    await own.until(lambda: _seq(own, worker) > seq + 2)  # two seconds and more

    second = await talk.turn(session, "q1")

    assert first.body["metadata"]["reason"] == "only_candidate"
    assert second.body["metadata"]["reason"] == "only_candidate_after_not_held"
    assert second.body["outputs"] == {"answer": "q1/1"}


async def test_more_than_fit(own: Stack, talk: Conversations) -> None:
    """More sessions than a worker keeps in memory all go on."""
    own.environ["DSPEX_POOLS_LIGHT_SESSIONS"] = "2"
    await started(own, workers=1)
    sessions = [await talk.opened() for _ in range(6)]
    for number in range(3):
        for session in sessions:
            answer = await talk.turn(session, f"q{number}")
            assert answer.body["outputs"] == {"answer": f"q{number}/{number}"}

    assert [len(await talk.transcript(one)) for one in sessions] == [3] * 6


async def test_enqueue(own: Stack, talk: Conversations, model: ScriptedModel) -> None:
    """Turns that come while one runs wait, and run in the order they came."""
    await started(own)
    session = await talk.opened()
    await talk.turn(session, "q0")
    model.latency = 0.2

    asked = [talk.begun(session, f"q{number}") for number in range(1, 5)]
    answers = [await one for one in asked]

    assert [one.body["outputs"]["answer"] for one in answers] == [
        f"q{number}/{number}" for number in range(1, 5)
    ]


@pytest.mark.parametrize(
    "given",
    [{"on_busy": "reject"}, {"affinity": "strict_fail_fast"}],
    ids=["reject", "strict_fail_fast"],
)
async def test_reject(
    own: Stack, talk: Conversations, model: ScriptedModel, given: dict[str, str]
) -> None:
    """Where turns do not wait, one that comes while another runs is refused at once."""
    await started(own)
    session = await talk.opened(**given)
    await talk.turn(session, "q0")
    count = len(model.requests)
    model.hang(times=1)
    asked = talk.begun(session, "q1", dspex_request="hangs")
    await asyncio.wait_for(model.received(count + 1), 10)

    refused = await talk.turn(session, "q2")
    await talk.ask.bus.publish(talk.ask.subjects.cancel("hangs"))
    stopped = await asked
    last = await talk.turn(session, "q3")

    assert refused.code == "overloaded"
    assert refused.body["retry_after_ms"] > 0
    assert stopped.code == "cancelled"
    assert last.body["outputs"] == {"answer": "q3/1"}


async def test_interrupt(own: Stack, talk: Conversations, model: ScriptedModel) -> None:
    """A newer turn stops the one that runs, which leaves no trace."""
    await started(own)
    session = await talk.opened(on_busy="interrupt")
    await talk.turn(session, "q0")
    count = len(model.requests)
    model.hang(times=1)
    asked = talk.begun(session, "q1")
    await asyncio.wait_for(model.received(count + 1), 10)

    newer = await talk.turn(session, "q2")

    assert (await asked).code == "cancelled"
    assert newer.body["outputs"] == {"answer": "q2/1"}
    assert await talk.transcript(session) == [("q0", "q0/0"), ("q2", "q2/1")]


@pytest.mark.parametrize(
    ("affinity", "ends"),
    [
        ("hint", "elsewhere"),
        ("strict_queue", "there"),
        ("strict_fail_fast", "overloaded"),
    ],
)
async def test_full_holder(
    own: Stack,
    talk: Conversations,
    model: ScriptedModel,
    affinity: str,
    ends: str,
) -> None:
    """Where its worker has no free slot, a session goes elsewhere, waits, or fails."""
    own.environ["DSPEX_POOLS_LIGHT_CONCURRENCY"] = "1"
    holders = await started(own)
    session = await talk.opened(affinity=affinity)
    first = await talk.turn(session, "q0")
    count = len(model.requests)
    model.latency = 1.0
    route = f"worker:{first.body['metadata']['worker']}"
    fills = asyncio.ensure_future(
        talk.ask.ask("predict", question(), dspex_route=route)
    )
    await asyncio.wait_for(model.received(count + 1), 10)

    second = await talk.turn(session, "q1")
    await fills

    if ends == "overloaded":
        assert second.code == "overloaded"
        return
    assert second.body["outputs"] == {"answer": "q1/1"}
    assert (holders.of(second) is holders.of(first)) is (ends == "there")


async def test_two_routers(own: Stack, talk: Conversations) -> None:
    """Whichever router a turn comes through, it finds the one holder."""
    await started(own, routers=2)
    sessions = [await talk.opened() for _ in range(4)]

    for number in range(6):
        answers = await asyncio.gather(
            *(talk.turn(session, f"q{number}") for session in sessions)
        )
        assert [one.body["outputs"] for one in answers] == [
            {"answer": f"q{number}/{number}"}
        ] * 4


async def test_first_turns_at_once(own: Stack, talk: Conversations) -> None:
    """Turns that come at once through two routers get one holder between them."""
    await started(own, routers=2)
    session = await talk.opened()

    answers = await asyncio.gather(*(talk.turn(session, f"q{n}") for n in range(5)))

    assert {one.code for one in answers} == {"done"}
    found = [answer for _, answer in await talk.transcript(session)]
    assert sorted(one.split("/")[1] for one in found) == [str(n) for n in range(5)]


async def test_state_is_replaced(own: Stack, talk: Conversations) -> None:
    """Turns need no state process, and a new one knows every session."""
    await started(own)
    session = await talk.opened()
    await talk.turn(session, "q0")
    state = next(one for one in own.programs if one.name == "services.state")

    await state.kill()
    second = await talk.turn(session, "q1")
    fresh = Program("dspex.services.state")
    await own.start(fresh)
    await own.serving(fresh)

    assert second.body["outputs"] == {"answer": "q1/1"}
    assert len(await talk.transcript(session)) == 2


async def test_nats_restarts(
    scripted: ScriptedModel, tmp_path: Path, model: ScriptedModel
) -> None:
    """Sessions outlive the server's restart, and so does a turn that was running."""
    model.reply_with(numbered)
    async with NatsServer(tmp_path / "nats") as server:
        environ = worker_environ(scripted.url)
        async with Stack(server.url, tmp_path, "restarted", environ) as stack:
            await started(stack)
            bus = await connect(BusSettings(url=server.url))
            talk = Conversations(Asker(bus, stack.subjects))
            session = await talk.opened()
            await talk.turn(session, "q0")
            model.latency = 0.5
            asked = talk.begun(session, "q1", dspex_request="running")
            await asyncio.wait_for(model.received(2), 10)
            await server.stop()
            await server.start()
            with pytest.raises(BusUnavailable):
                await asked
            again = await _until_back(talk, session)
            third = await talk.turn(session, "q2")
            found = await talk.transcript(session)
            await bus.close()

    assert again.body["outputs"] == {"answer": "q1/1"}
    assert third.body["outputs"] == {"answer": "q2/2"}
    assert [one for one, _ in found] == ["q0", "q1", "q2"]


async def _until_back(talk: Conversations, session: str) -> Answer:
    """The same turn again, until it is answered."""
    while True:
        try:
            answer = await talk.turn(session, "q1", dspex_request="running")
        except (BusUnavailable, NoResponders, TimeoutError):
            continue
        if answer.code == "done":
            return answer


async def test_forged_dispatch(own: Stack, talk: Conversations) -> None:
    """Who may publish on the subject of one session gets at no other, nor takes it."""
    await started(own)
    mine, other = await talk.opened(), await talk.opened()
    for session in (mine, other):
        await talk.turn(session, "q0")
    subject = talk.ask.subjects.session_run(mine)
    sent = {
        "Dspex-Operation": "predict",
        "Dspex-Request": "forged",
        "Dspex-Deadline": f"{(time.time() + 5) * 1000:.0f}",
    }
    named = {"Dspex-Session": other, "Dspex-Fence": "1"}
    taken = {"Dspex-Session": mine, "Dspex-Fence": "999999999999"}
    strange = {"Dspex-Session": mine, "Dspex-Fence": "1", "Dspex-Tenant": "acme"}
    body = b'{"inputs": {"question": "forged"}}'
    for forged in (named, strange):
        with pytest.raises(TimeoutError):
            await talk.ask.bus.request(
                subject, body, headers=sent | forged, timeout=0.5
            )
    refused = await talk.ask.bus.request(subject, body, headers=sent | taken, timeout=5)

    answers = [await talk.turn(session, "q1") for session in (mine, other)]

    assert [one.body["outputs"] for one in answers] == [{"answer": "q1/1"}] * 2
    assert json.loads(refused.data)["word"] == "moved"
    assert answers[1].body["metadata"]["reason"] == "session_holder"
