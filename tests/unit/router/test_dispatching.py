"""One request from its decision to its end, with workers that the test plays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.unit.router.scene import BODY, PATIENCE, QUICK, FakeWorker, Scene, kind_of

from dspex.bus.core import connection_lost
from dspex.contracts.envelope import Done, failed
from dspex.contracts.failures import DeadlineExceeded
from dspex.contracts.words import RefusedWord
from dspex.router.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(name="scene")
async def _scene() -> AsyncIterator[Scene]:
    async with Scene() as scene:
        yield scene


def load(scene: Scene, worker: FakeWorker) -> int:
    target = scene.router.targets.get(worker.name)
    return target.own if target else -1


async def until_free(scene: Scene, worker: FakeWorker) -> None:
    """Let the router take in that a worker has nothing left."""
    await scene.until(lambda: load(scene, worker) == 0)


async def test_accepted_and_finished(scene: Scene) -> None:
    """A worker takes the request, answers the client, and is free again."""
    worker = await scene.worker("a")
    question = await scene.ask()

    run = await worker.runs.next()
    assert load(scene, worker) == 1
    await worker.accept(run)
    await worker.finish(run)

    reply = await question.reply()
    assert isinstance(reply, Done)
    assert reply.request == question.name
    assert reply.metadata.reason == "only_candidate"
    await until_free(scene, worker)


async def test_the_answer_takes_no_detour(scene: Scene) -> None:
    """The worker gets the client's reply subject in a header, the router's as reply."""
    worker = await scene.worker("a")
    question = await scene.ask()

    run = await worker.runs.next()

    assert run.headers["Dspex-Reply"] == question.replies.subject
    assert run.reply.startswith("_INBOX.")
    assert run.reply != question.replies.subject


async def test_busy(scene: Scene) -> None:
    """When one is busy the next one is asked, and the decision says why."""
    first = await scene.worker("a", concurrency=8)
    second = await scene.worker("b", in_flight=3)
    question = await scene.ask()

    await first.refuse(await first.runs.next())
    run = await second.runs.next()
    await second.finish(run)

    reply = await question.reply()
    assert reply.metadata.attempts == 2
    assert reply.metadata.reason == "only_candidate_after_busy"
    events = [await question.event() for _ in range(3)]
    assert [kind_of(one) for one in events] == ["requested", "accepted", "accepted"]
    assert [one.decision.worker for one in events[1:]] == ["a", "b"]


async def test_all_busy(scene: Scene) -> None:
    """When all are busy the client is told so at once, and when to come again."""
    workers = [await scene.worker("a"), await scene.worker("b", in_flight=2)]
    question = await scene.ask()

    for worker in workers:
        await worker.refuse(await worker.runs.next())

    reply = await question.reply()
    assert (reply.code, reply.retryable, reply.retry_after_ms) == (
        "overloaded",
        True,
        1000,
    )
    assert "Every worker" in reply.message


async def test_busy_and_gone(scene: Scene) -> None:
    """One that is full counts, whichever fell through last."""
    gone = await scene.worker("gone", in_flight=3)
    busy = await scene.worker("busy")
    await gone._bus.close()
    question = await scene.ask()

    await busy.refuse(await busy.runs.next())

    assert (await question.reply()).code == "overloaded"


async def test_no_responders_leaves_others_alone(scene: Scene) -> None:
    """A worker that takes nothing new still finishes what it has."""
    worker = await scene.worker("a")
    first = await scene.ask()
    run = await worker.runs.next()
    await worker.accept(run)

    await worker.stop_listening()
    second = await scene.ask()
    assert (await second.reply()).code == "no_worker"
    await worker.finish(run)

    assert isinstance(await first.reply(), Done)
    kinds = [kind_of(event) for event in await first.events("accepted")]
    assert kinds == ["requested", "accepted"]


async def test_the_bus_was_away(scene: Scene) -> None:
    """An accepted request is not failed because the router was deaf for a while."""
    worker = await scene.worker("a")
    question = await scene.ask()
    run = await worker.runs.next()
    await worker.accept(run)
    await scene.until(lambda: scene.ticket(question).accepted)

    scene.router._bus._fail_open(connection_lost())
    await worker.finish(run)

    assert isinstance(await question.reply(), Done)
    await until_free(scene, worker)


async def test_no_responders(scene: Scene) -> None:
    """A process that is gone is found out at once, and the next one is asked."""
    gone = await scene.worker("gone", concurrency=100)
    other = await scene.worker("other", in_flight=2)
    await gone._bus.close()
    question = await scene.ask()

    await other.finish(await other.runs.next())

    reply = await question.reply()
    assert reply.metadata.reason == "only_candidate_after_no_responders"
    assert reply.metadata.attempts == 2
    target = scene.router.targets.get("gone")
    assert target is not None
    assert target.unreachable


async def test_nobody_responds(scene: Scene) -> None:
    """When every process known is gone, nobody is there."""
    for name in ("a", "b"):
        await (await scene.worker(name))._bus.close()
    question = await scene.ask()

    reply = await question.reply()

    assert reply.code == "no_worker"


async def test_no_worker(scene: Scene) -> None:
    """Without any process the client is told at once."""
    question = await scene.ask()

    reply = await question.reply()

    assert (reply.code, reply.category) == ("no_worker", "capacity")
    assert "dspex up" in reply.hint


async def test_worker_lost(scene: Scene) -> None:
    """A worker that accepts and then falls silent is lost, and the client told."""
    worker = await scene.worker("a")
    question = await scene.ask()

    await worker.accept(await worker.runs.next())
    await scene.lose("a")

    reply = await question.reply()
    assert (reply.code, reply.retryable) == ("worker_lost", True)
    assert "'a'" in reply.message
    assert kind_of((await question.events("failed"))[-1]) == "failed"


async def test_the_reason_comes_late() -> None:
    """What a supervisor says just after a worker was found to be gone is told."""
    async with Scene(settings=replace(QUICK, reason=PATIENCE)) as scene:
        worker = await scene.worker("a")
        question = await scene.ask(BODY | {"options": {"idempotent": False}})

        await worker.accept(await worker.runs.next())
        await scene.lose("a")
        await scene.tell_busy("a", "was kept busy")

        reply = await question.reply()
    assert reply.code == "resource_cpu"
    assert "was kept busy" in reply.message


async def test_silent_before_accepting(scene: Scene) -> None:
    """A worker that never says a word is lost too: it may have the request."""
    worker = await scene.worker("a")
    question = await scene.ask()

    await worker.runs.next()
    scene.seconds += 3.1

    assert (await question.reply()).code == "worker_lost"


async def test_leaving_with_a_request(scene: Scene) -> None:
    """A worker that says it leaves before it has answered is lost at once."""
    worker = await scene.worker("a")
    question = await scene.ask()

    await worker.accept(await worker.runs.next())
    await worker.beat(state="leaving")

    assert (await question.reply()).code == "worker_lost"


async def test_alive_but_slow(scene: Scene) -> None:
    """A worker that keeps beating keeps its request, however long it takes."""
    worker = await scene.worker("a")
    question = await scene.ask()
    run = await worker.runs.next()
    await worker.accept(run)

    for _ in range(10):
        scene.seconds += 2.9
        await worker.beat()
        await scene.bus.flush()
    await worker.finish(run)

    assert isinstance(await question.reply(), Done)


async def test_suspect(scene: Scene) -> None:
    """Who leaves a dispatch without a word gets no new ones until it beats again."""
    quiet = await scene.worker("quiet", concurrency=100)
    other = await scene.worker("other", in_flight=2)
    await scene.ask()
    first = await quiet.runs.next()
    while not (target := scene.router.targets.get("quiet")) or not target.suspect:
        await scene.bus.flush()

    second = await scene.ask()
    await other.finish(await other.runs.next())

    assert isinstance(await second.reply(), Done)
    assert len(quiet.runs) == 0
    await quiet.finish(first)


@pytest.mark.parametrize("accepts", [True, False])
async def test_deadline(scene: Scene, accepts: bool) -> None:
    """The client is told before its deadline, whether the worker spoke or not."""
    worker = await scene.worker("a")
    deadline = (time.time() + 3.0) * 1000
    question = await scene.ask(headers={"Dspex-Deadline": f"{deadline:.0f}"})

    run = await worker.runs.next()
    if accepts:
        await worker.accept(run)

    reply = await question.reply()
    assert time.time() * 1000 < deadline
    assert (reply.code, reply.category) == ("deadline_exceeded", "deadline")
    await until_free(scene, worker)


async def test_deadline_has_passed(scene: Scene) -> None:
    """A request that comes too late is not dispatched."""
    worker = await scene.worker("a")
    question = await scene.ask(headers={"Dspex-Deadline": "1000"})

    reply = await question.reply()

    assert reply.code == "deadline_exceeded"
    assert reply.field == "Dspex-Deadline"
    assert len(worker.runs) == 0


@pytest.mark.parametrize("tenant", ["default", "acme"])
async def test_cancel_before_the_worker_has_it(scene: Scene, tenant: str) -> None:
    """A wish to stop that came before the worker listened is told to it again."""
    worker = await scene.worker("a")
    question = await scene.ask(tenant=tenant)
    run = await worker.runs.next()

    await scene.cancel(question, tenant)
    client_said = await worker.cancels.next()
    await worker.accept(run)
    router_said = await worker.cancels.next()

    subject = scene.subjects.of(tenant).cancel(question.name)
    assert (client_said.subject, router_said.subject) == (subject, subject)
    await worker.finish(run)


async def test_cancel_between_two_choices(scene: Scene) -> None:
    """A request cancelled while its worker was busy is not given to another."""
    first = await scene.worker("a", concurrency=8)
    second = await scene.worker("b", in_flight=3)
    question = await scene.ask()
    run = await first.runs.next()

    await scene.cancel(question)
    await first.cancels.next()
    await first.refuse(run)

    assert (await question.reply()).code == "cancelled"
    assert kind_of((await question.events("cancelled"))[-1]) == "cancelled"
    assert len(second.runs) == 0


async def test_cancel_of_another_tenant(scene: Scene) -> None:
    """Nobody stops the request of another tenant by guessing its id."""
    worker = await scene.worker("a")
    question = await scene.ask(tenant="acme")
    run = await worker.runs.next()

    await scene.cancel(question, "default")
    await worker.cancels.next()
    await worker.accept(run)
    await worker.finish(run)

    assert isinstance(await question.reply(), Done)
    assert len(worker.cancels) == 0


async def test_a_worker_that_cannot_read_it(scene: Scene) -> None:
    """What a worker refuses for good is told to the client, and not tried again."""
    worker, other = await scene.worker("a"), await scene.worker("b", in_flight=3)
    question = await scene.ask()
    said = failed(question.name, DeadlineExceeded("Too late.", hint="Hurry."))

    run = await worker.runs.next()
    await worker.say(run, RefusedWord(request=question.name, failure=said))

    reply = await question.reply()
    assert (reply.code, reply.hint) == ("deadline_exceeded", "Hurry.")
    assert len(other.runs) == 0
    await until_free(scene, worker)


async def test_nonsense_from_a_worker(scene: Scene) -> None:
    """A word that cannot be read fails the request; the router goes on."""
    worker = await scene.worker("a")
    question = await scene.ask()

    run = await worker.runs.next()
    await worker._bus.publish(run.reply, b"what?")

    reply = await question.reply()
    assert reply.code == "internal"
    assert "'a'" in reply.message
    await until_free(scene, worker)


async def test_the_worker_leaves_while_it_is_chosen(scene: Scene) -> None:
    """A worker that drains keeps what it has and gets nothing new."""
    worker = await scene.worker("a", concurrency=8)
    first = await scene.ask()
    run = await worker.runs.next()
    await worker.accept(run)
    await worker.beat(state="draining")
    await scene.bus.flush()

    second = await scene.ask()

    assert (await second.reply()).code == "no_worker"
    await worker.finish(run)
    assert isinstance(await first.reply(), Done)


@pytest.mark.parametrize("count", [2, 3])
async def test_load_is_spread(scene: Scene, count: int) -> None:
    """Requests sent at once go to all workers, before any heartbeat says so."""
    workers = [await scene.worker(str(i)) for i in range(count)]
    questions = [await scene.ask() for _ in range(2 * count)]

    for worker in workers:
        for _ in range(2):
            await worker.finish(await worker.runs.next())

    replies = [await question.reply() for question in questions]
    assert all(isinstance(reply, Done) for reply in replies)


async def test_two_routers(scene: Scene) -> None:
    """Two routers share the requests, and each follows its own."""
    await scene.second_router()
    worker = await scene.worker("a", concurrency=100)
    await worker.beat()
    await scene.bus.flush()
    questions = [await scene.ask() for _ in range(20)]

    runs = [await worker.runs.next() for _ in questions]
    inboxes = {run.reply.rpartition(".")[0] for run in runs}
    for run in runs:
        await worker.finish(run)

    assert len(inboxes) == 2
    assert {(await question.reply()).request for question in questions} == {
        question.name for question in questions
    }


def test_usual_waiting_times() -> None:
    """A process is suspect after 250 ms and lost after 3 s, unless set otherwise."""
    assert Settings().handshake == 0.25
    assert Settings().silence == 3.0
