"""What a router does when an attempt does not end well, on the in-memory bus."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from tests.unit.router.scene import BODY, QUICK, FakeWorker, Question, Scene, kind_of

from dspex.contracts import encoding
from dspex.contracts.admin import BreakerNotice
from dspex.contracts.configuration import Configuration, Lm
from dspex.contracts.envelope import failed
from dspex.contracts.failures import BY_CODE
from dspex.contracts.sharing import Fallback, Tenant
from dspex.contracts.words import FailedWord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.bus.core import Message


@pytest.fixture(name="scene")
async def _scene() -> AsyncIterator[Scene]:
    async with Scene() as scene:
        yield scene


async def fail(
    worker: FakeWorker, run: Message, code: str = "lm_unavailable", **said: Any
) -> None:
    """Hand a failure back to the router."""
    request = run.headers["Dspex-Request"]
    failure = failed(request, BY_CODE[code]("it failed", **said))
    await worker.say(run, FailedWord(request=request, failure=failure))


def either(*workers: FakeWorker) -> asyncio.Future[Any]:
    """The next run of whichever worker gets it."""

    async def first() -> tuple[FakeWorker, Message]:
        asked = {asyncio.ensure_future(one.runs.next()): one for one in workers}
        done, others = await asyncio.wait(asked, return_when="FIRST_COMPLETED")
        for other in others:
            other.cancel()
        [found] = done
        return asked[found], found.result()

    return asyncio.ensure_future(first())


async def decisions(question: Question, count: int) -> list[Any]:
    """The first decisions about a request."""
    told = [await question.events("accepted") for _ in range(count)]
    return [events[-1].decision for events in told]


async def test_a_lost_worker_is_replaced(scene: Scene) -> None:
    """A request whose worker is lost goes to another, and the first is to drop it."""
    workers = [await scene.worker(name) for name in "ab"]
    dropped: list[Message] = []
    question = await scene.ask()
    lost, run = await either(*workers)
    await scene.bus.subscribe(scene.subjects.worker_stop(lost.name), dropped.append)
    await lost.accept(run)
    other = next(one for one in workers if one is not lost)
    scene.router.targets.lose(lost.name)

    again = await other.runs.next()
    await other.accept(again)
    await other.finish(again)

    assert again.headers["Dspex-Attempt"] == "2"
    assert (await question.reply()).metadata.attempts == 2
    first, second = await decisions(question, 2)
    assert (first.worker, second.worker) == (lost.name, other.name)
    assert (second.attempt, second.reason) == (2, "only_candidate_after_worker_lost")
    await scene.until(lambda: len(dropped) == 1)
    assert dropped[0].headers["Dspex-Attempt"] == "1"


async def test_what_may_run_once_only(scene: Scene) -> None:
    """A request that must not run twice fails with its worker."""
    [worker, _] = [await scene.worker(name) for name in "ab"]
    route = {"Dspex-Route": f"worker:{worker.name}"}
    question = await scene.ask(BODY | {"options": {"idempotent": False}}, headers=route)
    await worker.accept(await worker.runs.next())
    scene.router.targets.lose(worker.name)

    reply = await question.reply()

    assert (reply.code, reply.retryable) == ("worker_lost", True)


async def test_a_failing_provider_is_asked_again(scene: Scene) -> None:
    """A failure of the provider that may pass is tried again, and told in the end."""
    worker = await scene.worker("a")
    question = await scene.ask()
    for attempt in "1234":
        run = await worker.runs.next()
        assert run.headers["Dspex-Attempt"] == attempt
        await worker.accept(run)
        await fail(worker, run, retry_after_ms=1)

    reply = await question.reply()

    assert reply.code == "lm_unavailable"
    assert scene.router._parts.record.counters["retries"] == 3


async def test_a_failure_that_stays(scene: Scene) -> None:
    """What the provider would say again is told at once."""
    worker = await scene.worker("a")
    question = await scene.ask()
    run = await worker.runs.next()
    await fail(worker, run, "lm_refused")

    assert (await question.reply()).code == "lm_refused"


LMS = Configuration(
    lms={"default": Lm(model="a"), "spare": Lm(model="b")},
    fallbacks={"*": Fallback(lms={"default": ["spare"]})},
)


async def test_another_language_model_stands_in() -> None:
    """When a language model fails, the next one of the chain is asked at once."""
    async with Scene(configuration=LMS) as scene:
        worker = await scene.worker("a", lms=["default", "spare"], lm="default")
        question = await scene.ask()
        run = await worker.runs.next()
        await fail(worker, run, "lm_auth")
        again = await worker.runs.next()
        await worker.accept(again)
        await worker.finish(again)

        assert "Dspex-Lm" not in run.headers
        assert again.headers["Dspex-Lm"] == "spare"
        _, second = await decisions(question, 2)
        assert (second.lm, second.reason) == ("spare", "only_candidate_after_lm_auth")


async def test_a_language_model_that_fails_too_often() -> None:
    """Its breaker opens, is told, another one is asked, and later it is tried again."""
    notices: list[Any] = []
    configuration = replace(LMS, fallbacks={})
    async with Scene(configuration=configuration) as scene:
        worker = await scene.worker("a", lms=["default", "spare"], lm="default")
        await scene.bus.subscribe(
            scene.subjects.notice("breaker"),
            lambda one: notices.append(encoding.decode(one.data, BreakerNotice)),
        )
        for _ in range(5):
            question = await scene.ask(BODY | {"options": {"idempotent": False}})
            await fail(worker, await worker.runs.next())
            assert (await question.reply()).code == "lm_unavailable"

        refused = await (await scene.ask()).reply()
        assert (refused.code, refused.metadata) == ("lm_unavailable", None)
        assert 0 < refused.retry_after_ms <= 5000
        await scene.until(lambda: len(notices) == 1)
        assert (notices[0].scope, notices[0].name) == ("lm", "predict default")
        assert (notices[0].state, notices[0].reason) == ("open", "5 failures in a row")

        scene.seconds += 6
        await worker.beat()
        for _ in range(3):
            question = await scene.ask()
            run = await worker.runs.next()
            await worker.accept(run)
            await worker.finish(run)
            await question.reply()
        await scene.until(lambda: notices[-1].state == "closed")


async def test_a_worker_that_fails_too_often(scene: Scene) -> None:
    """A worker whose breaker is open gets nothing while there is another one."""
    bad, good = await scene.worker("a"), await scene.worker("b")
    for _ in range(5):
        headers = {"Dspex-Route": "worker:a"}
        question = await scene.ask(
            BODY | {"options": {"idempotent": False}}, headers=headers
        )
        await fail(bad, await bad.runs.next(), "resource_memory")
        await question.reply()

    for _ in range(10):
        question = await scene.ask()
        run = await good.runs.next()
        await good.accept(run)
        await good.finish(run)
        await question.reply()
    assert len(bad.runs) == 0


async def test_pools_of_a_chain() -> None:
    """The second pool is asked when nobody in the first can, and not before."""
    configuration = Configuration(
        fallbacks={"predict": Fallback(pools=["light", "spare"])}
    )
    async with Scene(configuration=configuration) as scene:
        light = await scene.worker("a", in_flight=3)
        spare = await scene.worker("b", pool="spare")
        await scene.worker("c", pool="other")
        for expected in (light, spare):
            question = await scene.ask()
            run = await expected.runs.next()
            await expected.accept(run)
            await expected.finish(run)
            await question.reply()
            await light.stop_listening()
        assert len(spare.runs) == len(light.runs) == 0


async def test_native_operations_without_native_ops(scene: Scene) -> None:
    """With no native-ops alive a worker does what it can natively."""
    worker = await scene.worker("a", spare=["signature.parse"])
    native = await scene.worker(
        "n", pool="native", implementation="native", operations=["signature.parse"]
    )
    for expected in (native, worker):
        question = await scene.ask({"signature": "a -> b"}, operation="signature.parse")
        run = await expected.runs.next()
        await expected.accept(run)
        await expected.finish(run)
        await question.reply()
        await native.beat(state="leaving")


async def test_tenants_have_quotas() -> None:
    """A tenant beyond its concurrency is refused, others are not."""
    configuration = Configuration(tenants={"acme": Tenant(concurrency=1)})
    async with Scene(configuration=configuration) as scene:
        worker = await scene.worker("a")
        first = await scene.ask(tenant="acme")
        run = await worker.runs.next()
        await worker.accept(run)

        refused = await (await scene.ask(tenant="acme")).reply()
        other = await scene.ask(tenant="other")
        await worker.finish(await worker.runs.next())

        assert (refused.code, refused.retryable) == ("quota", True)
        assert (await other.reply()).outputs
        await worker.finish(run)
        await first.reply()
        again = await scene.ask(tenant="acme")
        await worker.finish(await worker.runs.next())
        assert (await again.reply()).outputs


async def test_a_rate() -> None:
    """A tenant beyond its rate is told when to come again."""
    configuration = Configuration(tenants={"*": Tenant(rate_per_s=2.0, burst=1)})
    async with Scene(configuration=configuration) as scene:
        worker = await scene.worker("a")
        first = await scene.ask()
        await worker.finish(await worker.runs.next())
        await first.reply()

        refused = await (await scene.ask()).reply()

        assert (refused.code, refused.retry_after_ms) == ("quota", 500)
        scene.seconds += 0.5
        again = await scene.ask()
        await worker.finish(await worker.runs.next())
        assert (await again.reply()).outputs


async def test_the_same_request_twice(scene: Scene) -> None:
    """Sent again under its id, a request goes to who answered it, not to another."""
    workers = [await scene.worker(name) for name in "abc"]
    question = await scene.ask()
    worker, run = await either(*workers)
    again = await scene.ask(headers={"Dspex-Request": question.name})
    await worker.accept(run)
    await worker.finish(run)
    await question.reply()
    copy = await worker.runs.next()
    await worker.finish(copy)

    assert copy.headers["Dspex-Request"] == question.name
    assert (await again.reply()).outputs
    told = [kind_of(one) for one in await question.events("accepted")]
    assert told == ["requested", "accepted"]
    assert all(len(one.runs) == 0 for one in workers)


async def test_another_request_of_the_same_id(scene: Scene) -> None:
    """Another request under the id of one in hand is refused."""
    worker = await scene.worker("a")
    question = await scene.ask()
    run = await worker.runs.next()
    other = await scene.ask(
        BODY | {"inputs": {"question": "!"}}, headers={"Dspex-Request": question.name}
    )

    assert (await other.reply()).code == "conflict"
    await worker.finish(run)
    assert (await question.reply()).outputs


async def test_a_retry_waits_for_its_turn() -> None:
    """Beyond the budget of retries, a failed request waits until another has ended."""
    async with Scene(settings=replace(QUICK, retries=1)) as scene:
        worker = await scene.worker("a", concurrency=16)
        questions = [await scene.ask() for _ in range(5)]
        runs = [await worker.runs.next() for _ in questions]
        for run in runs:
            await fail(worker, run, retry_after_ms=1)
        again = [await worker.runs.next() for _ in range(3)]
        health = scene.router._parts.health
        await scene.until(lambda: len(health._turns) == 2)
        assert len(worker.runs) == 0

        await worker.finish(again[0])
        last = [await worker.runs.next()]
        for run in [*again[1:], *last]:
            await worker.finish(run)
        await worker.finish(await worker.runs.next())
        assert all([(await one.reply()).outputs for one in questions])


def test_the_code_that_is_used_here() -> None:
    """What the tests fail with is what a provider's failure is called."""
