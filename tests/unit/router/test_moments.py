"""What happens in awkward moments: while workers drain, are full, or come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from tests.unit.router.scene import BODY, QUICK, Inbox, Scene, beat_of
from tests.unit.router.test_again import ONCE, answer, copy
from tests.unit.router.test_recovering import LMS, either, fail

from dspex.bus.core import Message
from dspex.bus.testing import MemoryBus, MemoryServer
from dspex.contracts import encoding
from dspex.contracts.configuration import Fallback
from dspex.contracts.envelope import failed
from dspex.contracts.failures import BusUnavailable, WorkerLost
from dspex.contracts.heartbeats import Gpu
from dspex.contracts.subjects import Subjects
from dspex.contracts.words import RefusedWord, ShortWord
from dspex.router.caching import Answer, Cache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.core import Handler, Subscription

STORED: dict[str, Any] = {"program": "stored", "inputs": {}}


@pytest.fixture(name="scene")
async def _scene() -> AsyncIterator[Scene]:
    async with Scene() as scene:
        yield scene


class Telling(MemoryBus):
    """A bus that tells what is sent to workers."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server)
        self.runs = Inbox()

    async def publish(self, subject: str, data: bytes = b"", **more: Any) -> None:
        await super().publish(subject, data, **more)
        if subject.endswith(".run"):
            self.runs.put(Message(subject, data, "", {}))


async def test_a_draining_worker_that_was_cut_off() -> None:
    """What a draining worker has is not run anew when it cannot be sent again."""
    async with Scene(bus=Telling) as scene:
        bus = scene.router._bus
        assert isinstance(bus, Telling)
        workers = [await scene.worker(name) for name in "ab"]
        question = await scene.ask(ONCE)
        has_it, run = await either(*workers)
        await has_it.accept(run)
        [other] = [one for one in workers if one is not has_it]
        await has_it.stop_listening()

        await has_it.beat(state="draining", reconnects=1)

        # The first, one for the worker that came back, one after nobody was there.
        sent = [await bus.runs.next() for _ in range(3)]
        assert {one.subject for one in sent} == {run.subject}
        await has_it.finish(run)
        assert (await question.reply()).metadata.worker == has_it.name
        assert len(other.runs) == 0


class Faltering(MemoryBus):
    """A bus that is away when the first router wants to hear of tenants."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server)
        self.asked = Inbox()
        self.is_away = True

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = ""
    ) -> Subscription:
        if subject == Subjects().tenant_events("accepted"):
            self.asked.put(Message(subject, b"", "", {}))
            if self.is_away:
                self.is_away = False
                raise BusUnavailable("away")
        return await super().subscribe(subject, handler, queue=queue)


@pytest.mark.parametrize(("body", "said"), [(ONCE, "once"), (BODY, None)])
async def test_who_had_it_before_is_told_so(body: Any, said: str | None) -> None:
    """What must run once is sent again as such: to who was cut off, and as a copy."""
    async with Scene() as scene:
        worker = await scene.worker("a")
        question = await scene.ask(body)
        runs = [await worker.runs.next()]
        await worker.accept(runs[0])
        await worker.beat(reconnects=1)
        runs.append(await worker.runs.next())
        await worker.finish(runs[1])
        await question.reply()
        await copy(scene, question, body)
        runs.append(await worker.runs.next())

        assert [run.headers.get("Dspex-Known") for run in runs] == [None, said, said]


async def test_a_process_that_forgot(scene: Scene) -> None:
    """A client is told that what it sent again may have run, where nobody knows."""
    worker = await scene.worker("a")
    question = await scene.ask(ONCE)
    await worker.finish(await worker.runs.next())
    await question.reply()
    again = await copy(scene, question, ONCE)
    run = await worker.runs.next()

    forgotten = failed(question.name, WorkerLost("forgotten"))
    await worker.say(run, RefusedWord(request=question.name, failure=forgotten))

    assert (await again.reply()).code == "worker_lost"
    assert len(worker.runs) == 0


async def test_other_routers_are_heard_in_the_end() -> None:
    """What a router could not listen to at first it listens to a moment later."""
    async with Scene(bus=Faltering) as scene:
        bus = scene.router._bus
        assert isinstance(bus, Faltering)
        other = beat_of("router-2", implementation="router", pool="router")
        subject = scene.subjects.heartbeat("router", "router-2")
        await scene.bus.publish(subject, encoding.encode(other))

        for _ in range(2):
            await bus.asked.next()

        await scene.until(lambda: len(scene.router._listening) == 2)


async def test_who_was_full_is_asked_again(scene: Scene) -> None:
    """A worker that had no room at first is asked when the one that had is lost."""
    full, other = [await scene.worker(name) for name in "ab"]
    question = await scene.ask()
    first, run = await either(full, other)
    await first.refuse(run)
    [second] = [one for one in (full, other) if one is not first]
    await second.accept(await second.runs.next())

    scene.router.targets.lose(second.name)

    again = await first.runs.next()
    await first.finish(again)
    assert (await question.reply()).metadata.worker == first.name


async def test_a_question_that_may_be_kept_waits_for_a_worker() -> None:
    """A request that would take a kept answer waits for who starts, as others do."""
    async with Scene(settings=replace(QUICK, hope=10.0)) as scene:
        worker = await scene.worker("a", state="starting")
        question = await scene.ask(headers={"Dspex-Cache": "use"})
        await scene.until(lambda: scene.router._handler.in_hand == 1)

        await worker.beat(state="ready")

        await worker.finish(await worker.runs.next())
        assert (await question.reply()).outputs


async def test_a_copy_needs_no_memory(scene: Scene) -> None:
    """A copy of what another router sent goes there though its GPU is full."""
    gpu = Gpu(name="H", uuid="g", total=8 << 30, free=2 << 30, reserved=2 << 30)
    has_it = await scene.worker("a", gpus=[gpu])
    await scene.worker("b", gpus=[replace(gpu, uuid="h", reserved=0)])
    body = BODY | {"options": {"gpu_memory_mib": 1024}}
    scene.router._handler.elsewhere("default", "r-1", "a")

    question = await scene.ask(body, headers={"Dspex-Request": "r-1"})

    await has_it.finish(await has_it.runs.next())
    assert (await question.reply()).metadata.worker == "a"


async def test_a_program_turns_out_to_need_memory(scene: Scene) -> None:
    """Who finds that a program needs more memory than it has is not asked again."""
    gpu = Gpu(name="H", uuid="g", total=8 << 30, free=8 << 30)
    small = await scene.worker("a", operations=["run"], gpus=[gpu])
    question = await scene.ask(STORED, operation="run")
    run = await small.runs.next()
    await small.accept(run)
    more = replace(gpu, uuid="h", total=20 << 30, free=20 << 30)
    large = await scene.worker("b", operations=["run"], gpus=[more])
    request = run.headers["Dspex-Request"]

    await small.say(run, ShortWord(request=request, gpu_memory_mib=9000))

    again = await large.runs.next()
    assert "Dspex-Gpu-Memory" not in run.headers
    assert again.headers["Dspex-Gpu-Memory"] == "9000"
    assert again.headers["Dspex-Reason"] == "only_candidate_after_short"
    await large.finish(again)
    assert (await question.reply()).metadata.worker == "b"


async def test_a_program_that_nobody_has_memory_for(scene: Scene) -> None:
    """The client is told that it is the program that needs so much."""
    worker = await scene.worker("a", operations=["run"])
    question = await scene.ask(STORED, operation="run")
    run = await worker.runs.next()
    request = run.headers["Dspex-Request"]

    await worker.say(run, ShortWord(request=request, gpu_memory_mib=9000))

    told = await question.reply()
    assert (told.code, told.field) == ("no_worker", "program")
    assert "9000 MiB" in told.message


async def test_a_copy_passes_a_breaker() -> None:
    """The end of a request is told again while its language model is left alone."""
    configuration = replace(LMS, fallbacks={})
    async with Scene(configuration=configuration) as scene:
        worker = await scene.worker("a", lms=["default"], lm="default")
        done = await scene.ask(ONCE)
        await worker.finish(await worker.runs.next())
        await done.reply()
        for _ in range(5):
            question = await scene.ask(ONCE)
            await fail(worker, await worker.runs.next())
            await question.reply()
        assert (await (await scene.ask(ONCE)).reply()).code == "lm_unavailable"

        again = await copy(scene, done, ONCE)

        await worker.finish(await worker.runs.next())
        assert (await again.reply()).outputs
        assert scene.router._parts.health.open(scene.seconds)


async def test_a_copy_says_nothing_of_how_long_requests_take(scene: Scene) -> None:
    """An answer told again is no measure of how long such a request takes."""
    worker = await scene.worker("a", lm="default")
    question = await scene.ask()
    await worker.finish(await worker.runs.next())
    await question.reply()
    router = scene.router
    await scene.until(lambda: router._handler.in_hand == 0)
    again = await copy(scene, question)
    scene.seconds += 0.5
    await worker.finish(await worker.runs.next())
    await again.reply()
    await scene.until(lambda: router._handler.in_hand == 0)

    times = router._parts.times
    assert len(times) == 1
    assert times.typical("predict default", scene.seconds) == 0.0


async def test_another_router_sent_it_on(scene: Scene) -> None:
    """A copy follows a request to the worker that another router chose anew."""
    first, second, third = [await scene.worker(name) for name in "abc"]
    handler = scene.router._handler
    handler.elsewhere("default", "r-1", "a")
    question = await scene.ask(headers={"Dspex-Request": "r-1"})
    run = await first.runs.next()
    handler._known.note(("default", "r-1"), "b", scene.seconds)

    await fail(first, run, "worker_lost")

    await second.finish(await second.runs.next())
    assert (await question.reply()).metadata.worker == "b"
    assert len(third.runs) == 0


async def test_a_stand_in_that_is_out_of_reach() -> None:
    """A language model that only other pools have does not stand in."""
    configuration = replace(
        LMS, fallbacks={"*": Fallback(lms={"default": ["spare", "last"]})}
    )
    async with Scene(configuration=configuration) as scene:
        worker = await scene.worker("a", lms=["default", "last"], lm="default")
        await scene.worker("b", pool="other", lms=["spare"], lm="spare")
        question = await scene.ask(headers={"Dspex-Route": "pool:light"})
        await fail(worker, await worker.runs.next(), "lm_auth")

        again = await worker.runs.next()

        assert again.headers["Dspex-Lm"] == "last"
        await worker.finish(again)
        assert (await question.reply()).outputs


async def test_a_chain_of_language_models() -> None:
    """When the one that stands in fails too, the next of the chain is asked."""
    chain = {"*": Fallback(lms={"default": ["spare", "last"]})}
    async with Scene(configuration=replace(LMS, fallbacks=chain)) as scene:
        lms = ["default", "spare", "last"]
        worker = await scene.worker("a", lms=lms, lm="default", concurrency=1)
        question = await scene.ask()
        asked = []
        for _ in range(3):
            run = await worker.runs.next()
            asked.append(run.headers.get("Dspex-Lm"))
            await fail(worker, run, "lm_auth")

        assert (await question.reply()).code == "lm_auth"
        assert asked == [None, "spare", "last"]


async def test_a_router_that_stops_before_it_tries_again(scene: Scene) -> None:
    """A request whose next attempt has not begun is told that its router stops."""
    worker = await scene.worker("a")
    question = await scene.ask()
    run = await worker.runs.next()
    await worker.accept(run)
    await fail(worker, run, "lm_rate_limit", retry_after_ms=60_000)
    record = scene.router._parts.record
    await scene.until(lambda: record.counters["retries"] == 1)

    await scene.router.stop(grace=0)

    reply = await question.reply()
    assert (reply.code, reply.retryable) == ("worker_lost", True)


class Silent:
    """A place that routers share, and that says nothing."""

    async def get(self, key: str) -> bytes | None:
        await asyncio.Event().wait()
        return None

    async def put(self, key: str, value: bytes) -> None:
        await asyncio.Event().wait()


async def test_answers_are_kept_though_sharing_hangs() -> None:
    """Where what routers share is silent, an answer is kept here and told on."""
    async with Scene() as scene:
        worker = await scene.worker("a")
        cache: Cache = scene.router._parts.cache
        cache._shared = Silent()
        asked = [await scene.ask(headers={"Dspex-Cache": "use"}) for _ in range(2)]

        await answer(worker, await worker.runs.next())

        assert (await asked[1].reply()).metadata.cache_hit
        assert isinstance(await cache.find(next(iter(cache._kept))), Answer)
        assert len(worker.runs) == 0
