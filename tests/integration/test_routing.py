"""What a router does beyond choosing: waiting, refusing, keeping, telling."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Answer, Asker, question, read
from tests.support.stack import Program, Stack

from dspex.cli.__main__ import parse
from dspex.cli.decisions import ask as ask_decisions
from dspex.cli.decisions import main as decisions_command
from dspex.contracts.admin import Decisions, DecisionsRequest

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.core import Message

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

WORKER = ("dspex.services.worker", "--pool", "light")
PARSE = {"signature": "question -> answer: int"}


async def start(own: Stack, *, routers: int = 1, **environ: str) -> None:
    """Routers, native-ops and a worker of one slot."""
    own.environ |= {"DSPEX_POOLS_LIGHT_CONCURRENCY": "1"} | environ
    await own.start(*(Program("dspex.router") for _ in range(routers)))
    await own.start(Program("dspex.native"), Program(*WORKER))
    await own.ready(workers=1, routers=routers)


def asked(text: str, **options: Any) -> dict[str, Any]:
    return question(question=text) | ({"options": options} if options else {})


def soon(answer: Coroutine[Any, Any, Answer]) -> asyncio.Future[Answer]:
    return asyncio.ensure_future(answer)


def texts(model: ScriptedModel) -> list[str]:
    """What the language model was asked, in order."""
    prompts = (request.text("user") for request in model.requests)
    return [prompt.split("]]\n")[1].split("\n")[0] for prompt in prompts]


async def look(ask: Asker) -> Decisions:
    [found] = await ask_decisions(ask.bus, ask.subjects, DecisionsRequest(limit=100))
    return found


async def queued(ask: Asker, count: int) -> None:
    """Wait until so many requests wait in the router."""
    async with asyncio.timeout(10):
        while sum(pool.queued for pool in (await look(ask)).pools) != count:
            pass


async def test_priorities(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """Of those that wait the most important goes first, whenever it came."""
    await start(own)
    model.latency = 0.3
    running = [soon(ask.ask("predict", asked("first")))]
    await model.received(1)
    for count, (text, priority) in enumerate(
        [("last", 5), ("usual", 3), ("urgent", 1)], 1
    ):
        running.append(soon(ask.ask("predict", asked(text, priority=priority))))
        await queued(ask, count)

    assert [one.code for one in await asyncio.gather(*running)] == ["done"] * 4
    assert texts(model) == ["first", "urgent", "usual", "last"]


async def test_tenants_take_turns(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A tenant that sends much does not keep one that sends little waiting."""
    await start(own)
    model.latency = 0.2
    greedy, modest = (Asker(ask.bus, own.subjects.of(one)) for one in ("a", "b"))
    running = [soon(greedy.ask("predict", asked("a0")))]
    await model.received(1)
    for number in range(1, 5):
        running.append(soon(greedy.ask("predict", asked(f"a{number}"))))
        await queued(ask, number)
    running.append(soon(modest.ask("predict", asked("b"))))

    await asyncio.gather(*running)
    assert texts(model).index("b") <= 2


async def test_cancelled_while_it_waits(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """A request that is cancelled while it waits ends at once and is never run."""
    await start(own)
    model.hang(times=1)
    running = soon(ask.ask("predict", asked("running"), dspex_request="r1"))
    await model.received(1)
    waiting = soon(ask.ask("predict", asked("waiting"), dspex_request="r2"))
    await queued(ask, 1)

    await ask.bus.publish(own.subjects.cancel("r2"))

    assert (await waiting).code == "cancelled"
    await ask.bus.publish(own.subjects.cancel("r1"))
    assert (await running).code == "cancelled"
    assert (await ask.ask("predict", asked("next"))).code == "done"
    assert texts(model) == ["running", "next"]


async def test_a_reader_leaves_while_its_stream_waits(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """A stream that nobody reads any more leaves the queue."""
    await start(own)
    model.hang(times=1)
    running = soon(ask.ask("predict", asked("running"), dspex_request="r1"))
    await model.received(1)
    waiting = asyncio.ensure_future(ask.stream("predict", asked("waiting")))
    await queued(ask, 1)

    waiting.cancel()

    await queued(ask, 0)
    await ask.bus.publish(own.subjects.cancel("r1"))
    await running
    assert texts(model) == ["running"]


async def test_waiting_has_an_end(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A request waits for a slot as long as is configured, and no longer."""
    await start(own, DSPEX_ROUTER_QUEUE_TIMEOUT_S="0.2")
    model.hang(times=1)
    running = soon(ask.ask("predict", asked("running"), dspex_request="r1"))
    await model.received(1)

    refused = await ask.ask("predict", asked("waiting"))

    assert (refused.code, refused.body["retryable"]) == ("overloaded", True)
    assert refused.body["retry_after_ms"] > 0
    await ask.bus.publish(own.subjects.cancel("r1"))
    await running


async def test_a_full_queue_makes_room_for_what_matters(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """With the queue full the youngest of the least important is refused."""
    await start(own, DSPEX_ROUTER_QUEUE="1")
    model.latency = 0.5
    running = soon(ask.ask("predict", asked("running")))
    await model.received(1)
    usual = soon(ask.ask("predict", asked("usual")))
    await queued(ask, 1)

    late = await ask.ask("predict", asked("late"))
    urgent = soon(ask.ask("predict", asked("urgent", priority=1)))

    assert late.code == "overloaded"
    assert (await usual).code == "overloaded"
    assert {(await one).code for one in (running, urgent)} == {"done"}
    assert texts(model) == ["running", "urgent"]


async def test_a_deadline_that_cannot_be_met(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """What takes longer than its deadline allows is refused before it is run."""
    await start(own)
    model.latency = 0.25
    for number in range(8):
        await ask.ask("predict", asked(f"{number}"))

    refused = await ask.ask("predict", asked("late"), timeout=0.2)

    assert refused.code == "deadline_exceeded"
    assert "the fastest of the last" in refused.body["message"]
    assert "late" not in texts(model)
    assert (await ask.ask("predict", asked("patient"))).code == "done"


async def test_a_kept_answer(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A kept answer is told as one, to its tenant, until a new one is asked for."""
    await start(own)
    first, hit, other, off, anew = [
        await asker.ask("predict", asked("why"), dspex_cache=use)
        for asker, use in (
            (ask, "use"),
            (ask, "use"),
            (Asker(ask.bus, own.subjects.of("acme")), "use"),
            (ask, "off"),
            (ask, "refresh"),
        )
    ]

    hits = [one.body["metadata"]["cache_hit"] for one in (first, hit, other, off, anew)]
    assert hits == [False, True, False, False, False]
    assert hit.body["outputs"] == first.body["outputs"]
    metadata = hit.body["metadata"]
    assert (metadata["reason"], metadata["usage"]) == ("cache", None)
    assert metadata["worker"] == first.body["metadata"]["worker"]
    assert metadata["lm"] == "openai/scripted"
    assert len(model.requests) == 4


async def test_answers_are_kept_for_a_while(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """Answers are kept where the configuration says so, and as long as it says."""
    await start(own, DSPEX_ROUTER_CACHE="use", DSPEX_ROUTER_CACHE_TTL_S="2")
    found = [await ask.ask("predict", asked("why")) for _ in range(2)]

    async with asyncio.timeout(20):
        while len(model.requests) == 1:
            found.append(await ask.ask("predict", asked("why")))

    hits = [one.body["metadata"]["cache_hit"] for one in found]
    assert (hits[0], hits[1], hits[-1]) == (False, True, False)
    assert all(hits[1:-1])


async def test_no_room_for_answers(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """A router that may use no memory for answers keeps none."""
    await start(own, DSPEX_ROUTER_CACHE="use", DSPEX_ROUTER_CACHE_MIB="0")

    for _ in range(2):
        found = await ask.ask("predict", asked("why"))
        assert found.body["metadata"]["cache_hit"] is False

    assert len(model.requests) == 2


async def test_a_stream_of_a_kept_answer(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """A stream of a kept answer tells the deltas again, numbered without gaps."""
    await start(own)
    first, again = [
        await ask.stream("predict", asked("why"), dspex_cache="use") for _ in range(2)
    ]

    assert again.last["metadata"]["cache_hit"] is True
    assert (
        again.text("answer") == first.text("answer") == first.last["outputs"]["answer"]
    )
    assert [event["seq"] for event in again.all] == list(range(1, len(again.all) + 1))
    assert len(model.requests) == 1


async def test_the_same_question_at_once(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """Many who ask the same at once cost one call of the language model."""
    await start(own)
    model.latency = 0.2

    answers = await asyncio.gather(
        *(ask.ask("predict", asked("why"), dspex_cache="use") for _ in range(20))
    )

    assert {answer.code for answer in answers} == {"done"}
    hits = [answer.body["metadata"]["cache_hit"] for answer in answers]
    assert hits.count(False) == 1
    assert len(model.requests) == 1


async def test_the_one_who_asked_for_all_is_cancelled(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """When the request that others wait for is cancelled, another one asks."""
    await start(own)
    model.hang(times=1)
    first = soon(
        ask.ask("predict", asked("why"), dspex_cache="use", dspex_request="r1")
    )
    await model.received(1)
    others = [
        soon(ask.ask("predict", asked("why"), dspex_cache="use")) for _ in range(3)
    ]

    await ask.bus.publish(own.subjects.cancel("r1"))

    assert (await first).code == "cancelled"
    assert {(await one).code for one in others} == {"done"}
    assert len(model.requests) == 2


async def test_routers_share_what_is_kept(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """An answer outlives its router in the bucket that routers share."""
    await start(own, DSPEX_ROUTER_SHARED_CACHE="true")
    text = uuid4().hex
    first = await ask.ask("predict", asked(text), dspex_cache="use")
    old = own.programs[0]
    old.signal(signal.SIGTERM)
    await old.wait()
    await own.start(Program("dspex.router"))
    await own.ready(workers=1)

    again = await ask.ask("predict", asked(text), dspex_cache="use")

    assert again.body["metadata"]["cache_hit"] is True
    assert again.body["outputs"] == first.body["outputs"]
    assert len(model.requests) == 1


async def test_the_same_request_to_two_routers(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """Sent again and again, a request runs once, whichever router gets it."""
    await start(own, routers=2, DSPEX_POOLS_LIGHT_CONCURRENCY="4")
    await own.start(Program(*WORKER))
    await own.ready(workers=2, routers=2)
    await _routers_know_each_other(ask)
    model.latency = 0.3
    first = soon(ask.ask("predict", asked("why"), dspex_request="r1"))
    await model.received(1)

    answers = [await ask.ask("predict", asked("why"), dspex_request="r1")] + [
        await ask.ask("predict", asked("why"), dspex_request="r1") for _ in range(9)
    ]

    assert {one.code for one in (await first, *answers)} == {"done"}
    assert len(model.requests) == 1
    other = await ask.ask("predict", asked("else"), dspex_request="r1")
    assert other.code == "conflict"


async def _routers_know_each_other(ask: Asker) -> None:
    async with asyncio.timeout(10):
        while True:
            found = await ask_decisions(ask.bus, ask.subjects, DecisionsRequest())
            if [one.routers for one in found] == [2, 2]:
                return


async def test_what_must_not_run_twice(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """A request marked so fails with its worker instead of running again."""
    await start(own)
    await own.start(Program(*WORKER))
    await own.ready(workers=2)
    model.hang(times=1)
    running = soon(ask.ask("predict", asked("why", idempotent=False)))
    await model.received(1)
    await own.until(lambda: any(beat.in_flight for beat in own.beats()))
    pid = next(beat.pid for beat in own.beats() if beat.in_flight)

    next(one for one in own.programs if one.pid == pid).signal(signal.SIGKILL)

    lost = await running
    assert (lost.code, lost.body["retryable"]) == ("worker_lost", True)
    assert len(model.requests) == 1


async def test_native_operations_without_native_ops(own: Stack, ask: Asker) -> None:
    """With no native-ops alive a worker does what it can natively, DSPy or not."""
    await own.start(Program("dspex.router"), Program(*WORKER))
    await own.ready(workers=1, native=0)

    found = await ask.ask("signature.parse", PARSE)

    assert found.code == "done"
    assert found.body["outputs"]["signature"]["fields"][1]["type"] == "int"
    assert found.body["metadata"]["pool"] == "light"


async def test_with_a_pool_down(own: Stack, ask: Asker) -> None:
    """Without workers, what native-ops can do is done, the rest refused with a hint."""
    await own.start(Program("dspex.router"), Program("dspex.native"))
    await own.ready(workers=0)

    done, refused = [
        await ask.ask("signature.parse", PARSE),
        await ask.ask("predict", asked("why")),
    ]

    assert done.code == "done"
    assert (refused.code, refused.body["retryable"]) == ("no_worker", True)
    assert "dspex-worker" in refused.body["hint"]


async def test_releases_and_gpus(own: Stack, ask: Asker) -> None:
    """Who answers runs an allowed release of DSPy and has the GPU memory free."""
    await start(own)
    wants: dict[str, dict[str, Any]] = {
        "fine": {"dspy": ">=3.0"},
        "too new": {"dspy": ">=99"},
        "no version": {"dspy": "new"},
        "too much": {"gpu_memory_mib": 20_000},
    }

    found = {
        name: await ask.ask("predict", asked("why", **options))
        for name, options in wants.items()
    }

    assert found["fine"].code == "done"
    for name, code, field in (
        ("too new", "no_worker", "options.dspy"),
        ("no version", "bad_request", "options.dspy"),
        ("too much", "no_worker", "options.gpu_memory_mib"),
    ):
        assert (found[name].code, found[name].body["field"]) == (code, field)


CONFIGURED = """
[fallbacks."*"]
pools = ["light", "spare"]

[pools.light]
concurrency = 1
[pools.spare]
concurrency = 1

[tenants.acme]
rate_per_s = 0.1
burst = 2
concurrency = 1
"""


@pytest.fixture(name="configured")
async def _configured(own: Stack, tmp_path: Path) -> Stack:
    file = tmp_path / "dspex.toml"
    file.write_text(CONFIGURED)
    own.environ["DSPEX_CONFIG"] = str(file)
    await own.start(Program("dspex.router"), Program("dspex.native"))
    await own.start(
        *(Program("dspex.services.worker", "--pool", one) for one in ("light", "spare"))
    )
    await own.ready(workers=2)
    return own


async def test_pools_of_a_chain(
    configured: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """The spare pool serves when the first is down, and not before."""
    answers = await asyncio.gather(*(ask.ask("predict", asked("x")) for _ in range(4)))
    assert {one.body["metadata"]["pool"] for one in answers} == {"light"}
    light = next(one for one in configured.beats() if one.pool == "light")

    next(one for one in configured.programs if one.pid == light.pid).signal(
        signal.SIGKILL
    )

    answers = await asyncio.gather(*(ask.ask("predict", asked("x")) for _ in range(4)))
    assert {one.body["metadata"]["pool"] for one in answers} == {"spare"}
    named = await ask.ask("predict", asked("x"), dspex_route="pool:light")
    assert named.code == "no_worker"


async def test_a_chain_of_language_models(
    own: Stack, ask: Asker, model: ScriptedModel, tmp_path: Path
) -> None:
    """When one that stands in fails too, the next one of the chain answers."""
    file = tmp_path / "dspex.toml"
    file.write_text('[fallbacks."*"]\nlms = { default = ["spare", "last"] }\n')
    own.environ["DSPEX_CONFIG"] = str(file)
    for name in ("spare", "last"):
        for key in ("MODEL", "API_BASE", "API_KEY"):
            usual = own.environ[f"DSPEX_LMS_DEFAULT_{key}"]
            said = f"openai/{name}" if key == "MODEL" else usual
            own.environ[f"DSPEX_LMS_{name.upper()}_{key}"] = said
    await start(own)
    model.fail_with(500, times=2)

    found = await ask.ask("predict", asked("why"))

    metadata = found.body["metadata"]
    assert (found.code, metadata["lm"]) == ("done", "openai/last")
    assert metadata["attempts"] == len(model.requests) == 3


async def test_quotas(configured: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A tenant beyond its rate is refused and told when to come; others are served."""
    acme = Asker(ask.bus, configured.subjects.of("acme"))
    codes = [(await acme.ask("predict", asked("x"))).code for _ in range(3)]
    refused = await acme.ask("predict", asked("x"))

    assert codes == ["done", "done", "quota"]
    assert 0 < refused.body["retry_after_ms"] <= 10_000
    assert "'acme'" in refused.body["message"]
    assert (await ask.ask("predict", asked("x"))).code == "done"


async def test_a_breaker_is_told(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """A language model that fails too often is left alone, and operators hear it."""
    await start(own)
    notices: asyncio.Queue[Message] = asyncio.Queue()
    await ask.bus.subscribe(own.subjects.notice("breaker"), notices.put_nowait)
    model.fail_with(500)
    for _ in range(5):
        await ask.ask("predict", asked("x", idempotent=False))
    asked_before = len(model.requests)

    refused = await ask.ask("predict", asked("x"))

    async with asyncio.timeout(10):
        notice = read(await notices.get())
    assert (notice["scope"], notice["state"]) == ("lm", "open")
    assert notice["name"] == "predict default"
    assert (refused.code, len(model.requests)) == ("lm_unavailable", asked_before)
    assert 0 < refused.body["retry_after_ms"] <= 5000
    [breaker] = (await look(ask)).breakers
    assert (breaker.name, breaker.state) == ("predict default", "open")


async def test_what_is_refused_is_counted(own: Stack, ask: Asker) -> None:
    """A router counts every request it was sent, with how each one ended."""
    await start(own)
    await ask.ask("predict", asked("x"))
    await ask.ask("predict", asked("x"), dspex_stream="loud")
    await ask.ask("predict", asked("x"), dspex_deadline="1")
    await ask.ask("predict", {"signature": "question -> answer"})
    await ask.ask("guess", {})

    counters = (await look(ask)).counters

    assert counters.pop("dispatches") == 1
    assert counters == {
        "requests": 5,
        "done": 1,
        "failed.bad_request": 2,
        "failed.deadline_exceeded": 1,
        "failed.unknown_operation": 1,
    }


async def test_slow_calls_are_told(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """A language model that is slow all the time is left alone, and operators hear."""
    notices: asyncio.Queue[Message] = asyncio.Queue()
    await ask.bus.subscribe(own.subjects.notice("breaker"), notices.put_nowait)
    await start(own, DSPEX_ROUTER_SLOW_CALL_S="0.05")
    model.latency = 0.1

    for _ in range(20):
        assert (await ask.ask("predict", asked("x"))).code == "done"

    async with asyncio.timeout(10):
        notice = read(await notices.get())
    assert (notice["scope"], notice["state"]) == ("lm", "open")
    assert notice["reason"].endswith("calls took longer than 0.05 s")
    assert 0 < notice["open_for_ms"] <= 5000


async def test_decisions(
    own: Stack, ask: Asker, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last decisions can be read, on the bus and on the command line."""
    await start(own)
    await ask.ask("predict", asked("x"), dspex_request="r1")
    await ask.ask("signature.parse", PARSE, dspex_request="r2")

    found = await look(ask)
    arguments = ["decisions", "--url", own.url, "--request", "r1"]
    own_prefix = pytest.MonkeyPatch()
    own_prefix.setenv("DSPEX_PREFIX", own.prefix)
    status = await asyncio.to_thread(decisions_command, parse(arguments))
    own_prefix.undo()

    assert [one.request for one in found.decisions] == ["r2", "r1"]
    assert found.decisions[1].decision.candidates[0].pool == "light"
    assert found.counters["done"] == 2
    printed = capsys.readouterr().out
    assert status == 0
    assert "r1" in printed
    assert "r2" not in printed
    assert "only_candidate" in printed
