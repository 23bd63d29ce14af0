"""Requests that come twice, and attempts that begin anew, on the in-memory bus."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from tests.unit.router.scene import BODY, QUICK, FakeWorker, Question, Scene
from tests.unit.router.test_recovering import LMS, either, fail

from dspex.client import Client, Options
from dspex.contracts import encoding
from dspex.contracts.configuration import Configuration
from dspex.contracts.envelope import Done, Metadata, failed
from dspex.contracts.failures import Failure, NoWorker, ParseFailed
from dspex.contracts.sharing import Tenant
from dspex.contracts.words import FinishedWord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.core import Message

ONCE = BODY | {"options": {"idempotent": False}}


@pytest.fixture(name="scene")
async def _scene() -> AsyncIterator[Scene]:
    async with Scene() as scene:
        yield scene


async def copy(scene: Scene, question: Question, body: Any = BODY) -> Question:
    """The same request once more."""
    return await scene.ask(body, headers={"Dspex-Request": question.name})


async def answer(worker: FakeWorker, run: Message) -> None:
    """Answer, and let the router have the answer too."""
    request = run.headers["Dspex-Request"]
    metadata = Metadata(implementation="python", pool="light", worker=worker.name)
    done = Done(request=request, outputs={"answer": "!"}, metadata=metadata)
    await worker.say(run, FinishedWord(request=request, code="done", reply=done))


async def test_a_copy_of_what_failed(scene: Scene) -> None:
    """Sent again, a request whose worker told its failure goes to that worker."""
    workers = [await scene.worker(name) for name in "abc"]
    question = await scene.ask()
    worker, run = await either(*workers)
    told = failed(question.name, ParseFailed("no fields"))
    await scene.bus.publish(run.headers["Dspex-Reply"], encoding.encode(told))
    await worker.say(run, FinishedWord(request=question.name, code="parse_failed"))
    assert (await question.reply()).code == "parse_failed"

    again = await copy(scene, question)

    run = await worker.runs.next()
    await worker.finish(run)
    assert (await again.reply()).outputs
    assert all(len(one.runs) == 0 for one in workers)


async def test_a_copy_of_what_may_have_run(scene: Scene) -> None:
    """What may run once only never runs again, also when its worker is gone."""
    workers = [await scene.worker(name) for name in "ab"]
    question = await scene.ask(ONCE)
    lost, run = await either(*workers)
    await lost.accept(run)
    scene.router.targets.lose(lost.name)
    assert (await question.reply()).code == "worker_lost"

    again = await copy(scene, question, ONCE)

    reply = await again.reply()
    assert (reply.code, "It may have run" in reply.hint) == ("worker_lost", True)
    assert all(len(one.runs) == 0 for one in workers)


async def test_a_copy_shares_the_failure(scene: Scene) -> None:
    """Two copies at once get the one failure of the one run."""
    worker = await scene.worker("a")
    question = await scene.ask(ONCE)
    run = await worker.runs.next()
    again = await copy(scene, question, ONCE)
    await fail(worker, run)

    assert (await question.reply()).code == "lm_unavailable"
    assert (await again.reply()).code == "lm_unavailable"
    assert len(worker.runs) == 0


async def test_a_copy_needs_no_quota() -> None:
    """A copy of what is in hand is no request more."""
    configuration = Configuration(tenants={"*": Tenant(concurrency=1)})
    async with Scene(configuration=configuration) as scene:
        worker = await scene.worker("a")
        question = await scene.ask()
        run = await worker.runs.next()
        again = await copy(scene, question)
        await worker.accept(run)
        await worker.finish(run)
        await worker.finish(await worker.runs.next())

        assert (await question.reply()).outputs
        assert (await again.reply()).outputs


async def test_another_router_was_quicker(scene: Scene) -> None:
    """A request that waits here and runs by another router is followed there."""
    full = await scene.worker("a", concurrency=1)
    first = await scene.ask()
    run = await full.runs.next()
    question = await scene.ask()
    await scene.until(lambda: scene.router._parts.places.queued == {"light": 1})
    other = await scene.worker("b", pool="other")

    scene.router._handler.elsewhere("default", question.name, "b")

    await other.finish(await other.runs.next())
    assert (await question.reply()).metadata.worker == "b"
    await full.finish(run)
    await first.reply()
    assert len(full.runs) == 0


async def test_the_last_worker_is_asked(scene: Scene) -> None:
    """A worker that failed too often, or was silent, is asked where it is the last."""
    worker = await scene.worker("a")
    for _ in range(6):
        question = await scene.ask(ONCE)
        await fail(worker, await worker.runs.next(), "resource_memory")
        assert (await question.reply()).code == "resource_memory"
    [target] = scene.router.targets.all()
    target.suspect = True
    assert target.barred

    question = await scene.ask()

    await worker.finish(await worker.runs.next())
    assert (await question.reply()).outputs


async def test_a_stand_in_is_not_kept() -> None:
    """The answer of a language model that stood in is not kept as the other's."""
    async with Scene(configuration=LMS) as scene:
        worker = await scene.worker("a", lms=["default", "spare"], lm="default")
        for _ in range(2):
            question = await scene.ask(headers={"Dspex-Cache": "use"})
            await fail(worker, await worker.runs.next(), "lm_auth")
            run = await worker.runs.next()
            assert run.headers["Dspex-Lm"] == "spare"
            await answer(worker, run)
            await scene.until(lambda: scene.router._handler.in_hand == 0)
        question = await scene.ask(headers={"Dspex-Cache": "use"})
        await answer(worker, await worker.runs.next())
        await scene.until(lambda: scene.router._handler.in_hand == 0)

        question = await scene.ask(headers={"Dspex-Cache": "use"})
        assert (await question.reply()).metadata.cache_hit


async def test_a_stand_in_nobody_has() -> None:
    """A stand-in that no worker is set up for is passed over."""
    async with Scene(configuration=LMS) as scene:
        worker = await scene.worker("a", lms=["default"], lm="default")
        question = await scene.ask()
        await fail(worker, await worker.runs.next(), "lm_auth")

        assert (await question.reply()).code == "lm_auth"


async def test_who_waited_for_a_failure_asks_itself(scene: Scene) -> None:
    """When the one that asked for all fails, the others ask side by side."""
    worker = await scene.worker("a", concurrency=8)
    questions = [
        await scene.ask(ONCE | {"options": {}}, headers={"Dspex-Cache": "use"})
        for _ in range(4)
    ]
    first = await worker.runs.next()
    await scene.until(lambda: scene.router._handler.in_hand == 4)
    await fail(worker, first, "lm_refused")

    runs = [await worker.runs.next() for _ in range(3)]

    assert (await questions[0].reply()).code == "lm_refused"
    for run in runs:
        await answer(worker, run)


async def test_a_busy_worker_costs_no_turn(scene: Scene) -> None:
    """Who had its turn and found its worker busy keeps its place in the pool."""
    workers = [await scene.worker(name, concurrency=1) for name in "ab"]
    running = [await scene.ask() for _ in workers]
    runs = [(one, await one.runs.next()) for one in workers]
    waiting = [await scene.ask() for _ in range(2)]
    places = scene.router._parts.places
    await scene.until(lambda: places.queued == {"light": 2})

    (free, run), (other, _) = runs
    await free.finish(run)
    chosen = await free.runs.next()
    await free.refuse(chosen)

    again = await other.runs.next()
    assert chosen.headers["Dspex-Request"] == waiting[0].name
    assert again.headers["Dspex-Request"] == waiting[0].name
    assert len(running) == 2


async def test_the_deadline_in_the_queue(scene: Scene) -> None:
    """Whose deadline comes while it waits for a place is told so."""
    worker = await scene.worker("a", concurrency=1)
    await scene.ask()
    await worker.runs.next()
    soon = f"{(time.time() + 0.4) * 1000:.0f}"

    question = await scene.ask(headers={"Dspex-Deadline": soon})

    reply = await question.reply()
    assert (reply.code, "No place became free" in reply.message) == (
        "deadline_exceeded",
        True,
    )


async def test_a_turn_that_comes_too_late() -> None:
    """Who would have its turn after its deadline is refused at once."""
    async with Scene(settings=replace(QUICK, silence=1e9)) as scene:
        worker = await scene.worker("a", concurrency=1)
        for _ in range(20):
            question = await scene.ask()
            run = await worker.runs.next()
            await worker.accept(run)
            scene.seconds += 50
            await worker.finish(run)
            await question.reply()
        await scene.ask()
        await worker.runs.next()
        soon = f"{(time.time() + 60) * 1000:.0f}"

        waits = await scene.ask(headers={"Dspex-Deadline": soon})
        late = await scene.ask(headers={"Dspex-Deadline": soon})

        reply = await late.reply()
        assert reply.code == "deadline_exceeded"
        assert "1 requests wait before it" in reply.message
        assert not scene.ticket(waits).cancelled


async def test_a_process_that_is_too_late_is_dropped(scene: Scene) -> None:
    """Before the router tells the deadline, it makes the process keep silent."""
    worker = await scene.worker("a")
    dropped: list[Message] = []
    await scene.bus.subscribe(scene.subjects.worker_stop("a"), dropped.append)
    soon = f"{(time.time() + 0.4) * 1000:.0f}"
    question = await scene.ask(headers={"Dspex-Deadline": soon})
    await worker.accept(await worker.runs.next())

    assert (await question.reply()).code == "deadline_exceeded"
    assert [one.headers["Dspex-Request"] for one in dropped] == [question.name]


async def test_a_worker_that_was_cut_off(scene: Scene) -> None:
    """A worker that lost its connection for a moment gets its requests once more."""
    worker = await scene.worker("a")
    question = await scene.ask()
    run = await worker.runs.next()
    await worker.accept(run)
    await worker.beat(reconnects=1)

    again = await worker.runs.next()

    assert again.headers["Dspex-Attempt"] == run.headers["Dspex-Attempt"] == "1"
    await worker.finish(again)
    assert (await question.reply()).outputs


async def test_places_stay_when_a_worker_leaves() -> None:
    """Breakers of processes that left are forgotten."""
    async with Scene(settings=QUICK) as scene:
        worker = await scene.worker("a")
        question = await scene.ask(ONCE)
        await fail(worker, await worker.runs.next(), "resource_memory")
        await question.reply()
        kept = scene.router._parts.health._breakers._kept
        assert ("worker", "a") in kept

        await worker.beat(state="leaving")

        await scene.until(lambda: ("worker", "a") not in kept)


class TestClient:
    """What the Python client does about requests that may be lost."""

    async def test_a_router_that_died_with_it(self, scene: Scene) -> None:
        """With its router gone, a request waits for the worker that has it."""
        worker = await scene.worker("a")
        client = Client(scene.bus, scene.subjects, Options(resend=0.1, timeout=30))
        asked = asyncio.ensure_future(
            client.predict("question -> answer", question="?")
        )
        run = await worker.runs.next()
        await worker.accept(run)
        await scene.router._service.stop(grace=0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asked), 0.5)
        await worker.finish(run)

        assert (await asked).outputs == {"answer": "!"}

    async def test_nobody_at_all(self, scene: Scene) -> None:
        """Without any router it is refused at once."""
        await scene.router._service.stop(grace=0)
        client = Client(scene.bus, scene.subjects, Options(resend=0.1, timeout=30))

        with pytest.raises(NoWorker):
            await client.predict("question -> answer", question="?")

    async def test_who_stops_waiting_stops_the_request(self, scene: Scene) -> None:
        """A call that is cancelled tells so."""
        worker = await scene.worker("a")
        client = Client(scene.bus, scene.subjects, Options(request="r-1"))
        asked = asyncio.ensure_future(
            client.predict("question -> answer", question="?")
        )
        await worker.accept(await worker.runs.next())

        asked.cancel()
        with pytest.raises((asyncio.CancelledError, Failure)):
            await asked

        assert (await worker.cancels.next()).subject.endswith(".r-1")
