"""Jobs, asked by a plain NATS client of the real programs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.asking import Asker, chat, question, read
from tests.support.jobs import PARSE, about, all_jobs, ended, failures, submit

from dspex.bus.durable import api
from dspex.bus.provisioning import Names
from dspex.bus.stores import Blobs

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


def new() -> str:
    return f"j{uuid4().hex[:12]}"


async def test_submit_and_wait(asker: Asker, model: ScriptedModel) -> None:
    """A job is done by a worker, and its result is what a request would have got."""
    queued = await submit(asker, "predict", question())

    done = await ended(asker, queued["job"])

    assert queued["state"] in ("queued", "running")  # it may be quick
    assert queued["pool"] == "light"
    assert done["state"] == "done"
    assert done["result"]["outputs"].keys() == {"answer"}
    assert done["result"]["metadata"]["implementation"] == "python"
    assert failures(done) == [None]
    assert await about(asker, "get", queued["job"]) == done


async def test_native_operations(asker: Asker) -> None:
    """Native operations are jobs too, done by native-ops or a pool of workers."""
    one = await submit(asker, "signature.parse", PARSE)
    other = await submit(asker, "signature.parse", PARSE, pool="light")

    done = [await ended(asker, job["job"]) for job in (one, other)]

    found = [job["result"]["metadata"]["implementation"] for job in done]
    assert found == ["native", "python"]
    assert done[0]["result"]["outputs"] == done[1]["result"]["outputs"]


async def test_submitted_twice(asker: Asker, model: ScriptedModel) -> None:
    """The id makes a job: the same one again changes nothing, another is refused."""
    job = new()
    model.latency = 0.2
    body = {"operation": "predict", "body": question(), "job": job}

    answers = await asyncio.gather(*(asker.ask("job.submit", body) for _ in range(5)))
    await ended(asker, job)
    again = await asker.ask("job.submit", body)
    other = await asker.ask("job.submit", body | {"body": question(question="Who?")})

    assert [one.code for one in answers] == ["done"] * 5
    assert (again.code, again.body["outputs"]["state"]) == ("done", "done")
    assert (other.code, other.body["field"]) == ("conflict", "job")
    assert len(model.requests) == 1


async def test_submitted_anew(asker: Asker, stack: Stack) -> None:
    """Once a job is forgotten its id is free: the same one is done once more."""
    job = new()
    await submit(asker, "signature.parse", PARSE, job=job, keep_result_s=1)
    first = await ended(asker, job)
    async with asyncio.timeout(30):
        while (await asker.ask("job.get", {"job": job})).code != "not_found":
            await stack.news()

    await submit(asker, "signature.parse", PARSE, job=job, keep_result_s=1)
    second = await ended(asker, job)

    assert (first["state"], second["state"]) == ("done", "done")
    assert second["submitted_at"] > first["submitted_at"]


async def test_the_request_is_the_job(asker: Asker, model: ScriptedModel) -> None:
    """A job without an id of its own has that of the request."""
    request = new()
    body = {"operation": "predict", "body": question()}

    await asker.ask("job.submit", body, dspex_request=request)

    assert (await ended(asker, request))["job"] == request


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"operation": "predikt"}, "unknown_operation", None),
        ({"operation": "job.get"}, "unsupported", "operation"),
        ({"body": {"signature": "question -> answer"}}, "bad_request", None),
        ({"body": question() | {"inptus": 1}}, "bad_request", None),
        ({"body": question("n: int -> m", n="x")}, "invalid_inputs", "inputs.n"),
        ({"body": question("-> ->")}, "invalid_signature", None),
        ({"pool": "lihgt"}, "not_found", "pool"),
        ({"pool": "native"}, "unsupported", "pool"),
        ({"job": "a.b"}, "bad_request", "job"),
        ({"priority": 6}, "bad_request", "priority"),
        ({"deadline": 1.0}, "bad_request", "deadline"),
        ({"max_attempts": 0}, "bad_request", "max_attempts"),
    ],
)
async def test_bad_jobs_are_refused_at_once(
    asker: Asker, changes: dict[str, Any], code: str, field: str | None
) -> None:
    """What could not be done is refused when it is submitted, and says why."""
    job = {"operation": "predict", "body": question(), "job": new()} | changes

    refused = await asker.ask("job.submit", job)

    assert refused.code == code, refused.body
    assert refused.body["message"]
    if field is not None:
        assert refused.body["field"] == field


@pytest.mark.parametrize("operation", ["get", "wait", "cancel", "retry"])
async def test_no_such_job(asker: Asker, operation: str) -> None:
    """Nobody knows of a job that was never submitted."""
    answer = await asker.ask(f"job.{operation}", {"job": new()})

    assert (answer.code, answer.body["field"]) == ("not_found", "job")


async def test_list(own_tenant: Asker) -> None:
    """Jobs are listed by state and operation, page by page, without results."""
    jobs = [
        (await submit(own_tenant, "signature.parse", PARSE))["job"] for _ in range(5)
    ]
    for job in jobs:
        await ended(own_tenant, job)
    later = await submit(
        own_tenant, "template.render", {"template": "x", "values": {}}, not_before=9e12
    )

    pages = await all_jobs(own_tenant, operation="signature.parse", limit=2)

    assert sorted(one["job"] for one in pages) == sorted(jobs)
    assert {one["result"] for one in pages} == {None}
    queued = await all_jobs(own_tenant, state="queued")
    assert [one["job"] for one in queued] == [later["job"]]


async def test_tenants(own_tenant: Asker, asker: Asker) -> None:
    """What a tenant submits, no other can see or end, even under the same id."""
    job = new()
    await submit(own_tenant, "signature.parse", PARSE, job=job, not_before=9e12)

    unseen = [
        await asker.ask(f"job.{one}", {"job": job}) for one in ("get", "cancel", "wait")
    ]
    mine = await submit(asker, "signature.parse", PARSE, job=job)

    assert [one.code for one in unseen] == ["not_found"] * 3
    assert (await ended(asker, mine["job"]))["state"] == "done"
    assert (await about(own_tenant, "get", job))["state"] == "queued"


async def test_tried_again(asker: Asker, model: ScriptedModel) -> None:
    """What another attempt may get around is tried again, after a pause."""
    model.fail_with(500, times=1)
    queued = await submit(asker, "predict", question(), backoff_s=0.2)

    done = await ended(asker, queued["job"])

    assert (done["state"], failures(done)) == ("done", ["lm_unavailable", None])
    first, second = (one["at"] for one in done["attempts"])
    assert second - first >= 200


async def test_callers_errors_are_final(asker: Asker) -> None:
    """What no attempt can get around is not tried again."""
    queued = await submit(asker, "predict", question() | {"lm": "nobody"})

    failed = await ended(asker, queued["job"])

    assert failed["state"] == "failed"
    assert failed["result"]["category"] == "caller"
    assert len(failed["attempts"]) == 1


async def test_dead_letters(
    asker: Asker, model: ScriptedModel, stack: Stack, bus: NatsBus
) -> None:
    """A job whose every attempt failed is a dead letter, and blocks nobody."""
    job = new()
    model.fail_with(500)
    body = question(question="poison")
    await submit(asker, "predict", body, job=job, max_attempts=2, backoff_s=0.1)

    dead = await ended(asker, job)
    model.reset()
    next_one = await ended(asker, (await submit(asker, "predict", question()))["job"])
    letter = await last_letter(bus, stack)
    again = await about(asker, "retry", job)
    done = await ended(asker, job)

    assert (dead["state"], failures(dead)) == ("dead", ["lm_unavailable"] * 2)
    assert "2 of 2 attempts failed" in dead["result"]["message"]
    assert next_one["state"] == "done"
    assert letter["job"]["job"] == job
    assert letter["reason"]["code"] == "lm_unavailable"
    assert len(letter["attempts"]) == 2
    assert again["state"] in ("queued", "running", "done")
    assert (done["state"], len(done["attempts"])) == ("done", 3)


async def last_letter(bus: NatsBus, stack: Stack) -> dict[str, Any]:
    subject = stack.subjects.dead("light")
    stream = Names(stack.prefix).dead
    found = await bus.request(f"$JS.API.DIRECT.GET.{stream}.{subject}")
    return read(found)


async def test_only_the_dead_are_tried_again(asker: Asker) -> None:
    """A job that was done is not done again."""
    queued = await submit(asker, "signature.parse", PARSE)
    await ended(asker, queued["job"])

    refused = await asker.ask("job.retry", {"job": queued["job"]})

    assert refused.code == "conflict"
    assert "not dead" in refused.body["message"]


async def test_cancelled_while_it_waits(asker: Asker, model: ScriptedModel) -> None:
    """A job that is cancelled before it began is never run."""
    at = time.time() * 1000 + 1500
    queued = await submit(asker, "predict", question(), not_before=at)

    cancelled = await about(asker, "cancel", queued["job"])
    sentinel = await submit(asker, "predict", question(), not_before=at + 200)
    await ended(asker, sentinel["job"])

    assert cancelled["state"] == "cancelled"
    assert cancelled["result"]["code"] == "cancelled"
    assert (await about(asker, "get", queued["job"]))["attempts"] == []
    assert len(model.requests) == 1


async def test_cancelled_while_it_runs(asker: Asker, model: ScriptedModel) -> None:
    """A job that is cancelled while it runs stops, and its model's request too."""
    model.hang(times=1)
    queued = await submit(asker, "predict", question())
    await model.received(1)

    waiting = asyncio.ensure_future(about(asker, "wait", queued["job"]))
    cancelled = await about(asker, "cancel", queued["job"])

    assert cancelled["state"] == "cancelled"
    assert (await waiting)["state"] == "cancelled"
    async with asyncio.timeout(10):
        while model.active:
            await about(asker, "get", queued["job"])
    assert (await about(asker, "cancel", queued["job"]))["state"] == "cancelled"


async def test_not_before(asker: Asker, model: ScriptedModel) -> None:
    """A job begins at its time, not earlier."""
    at = time.time() * 1000 + 1200
    queued = await submit(asker, "predict", question(), not_before=at)

    early = await about(asker, "wait", queued["job"], timeout_s=0.3)
    done = await ended(asker, queued["job"])

    assert (early["state"], early["attempts"]) == ("queued", [])
    assert done["state"] == "done"
    assert done["attempts"][0]["at"] >= at


async def test_deadline(asker: Asker, model: ScriptedModel) -> None:
    """A job that has not ended by its deadline has failed."""
    model.hang(times=1)
    now = time.time() * 1000
    running = await submit(asker, "predict", question(), deadline=now + 1500)
    waiting = await submit(
        asker, "predict", question(), deadline=now + 500, not_before=9e12
    )

    found = [await ended(asker, one["job"]) for one in (running, waiting)]

    assert [one["state"] for one in found] == ["failed"] * 2
    assert {one["result"]["code"] for one in found} == {"deadline_exceeded"}


async def test_an_attempt_that_takes_too_long(
    asker: Asker, model: ScriptedModel
) -> None:
    """An attempt has its own time; one that takes longer is tried again."""
    model.hang(times=1)
    queued = await submit(asker, "predict", question(), timeout_s=0.5, backoff_s=0)

    done = await ended(asker, queued["job"])

    assert failures(done) == ["deadline_exceeded", None]


@pytest.mark.parametrize("size", [400_000, 900_000])
async def test_large_results(
    asker: Asker, stack: Stack, bus: NatsBus, size: int
) -> None:
    """A result too large for a record comes from the store of blobs."""
    body = {"template": "{{ a }}", "values": {"a": "x" * size}}
    queued = await submit(asker, "template.render", body)

    done = await ended(asker, queued["job"])

    assert done["result"]["outputs"] == {"text": "x" * size}
    names = Names(stack.prefix)
    stored = await api(bus, f"STREAM.INFO.OBJ_{names.blobs}")
    assert stored["state"]["bytes"] > size
    record = await api(
        bus,
        f"STREAM.MSG.GET.KV_{names.job_states}",
        {"last_by_subj": f"$KV.{names.job_states}.default.{queued['job']}"},
    )
    assert len(record["message"]["data"]) < 10_000


async def test_results_larger_than_a_message(
    asker: Asker, model: ScriptedModel, bus: NatsBus
) -> None:
    """A result that no message has room for is told by where it lies."""
    model.chunk = 2_000_000  # in one piece, which no event has room for either
    model.reply_with(chat(answer="x" * 1_500_000))
    queued = await submit(asker, "predict", question())

    done = await ended(asker, queued["job"])

    assert (done["state"], done["result"]) == ("done", None)
    blob = done["result_blob"]
    data = await Blobs(bus, blob["bucket"]).get(blob["name"])
    assert len(data) == blob["size"] > 1_500_000


async def test_events(asker: Asker, model: ScriptedModel, bus: NatsBus) -> None:
    """The life of a job is told on the event subjects of its id."""
    job = new()
    arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    subject = asker.subjects.events(job)
    await bus.subscribe(subject, lambda message: arrived.put_nowait(read(message)))
    model.fail_with(500, times=1)

    await submit(asker, "predict", question(), job=job, backoff_s=0)
    events = [await asyncio.wait_for(arrived.get(), 20)]
    while events[-1]["kind"] != "done":
        events.append(await asyncio.wait_for(arrived.get(), 20))

    events.sort(key=lambda one: (one["attempt"], one["seq"]))
    first, *_, last = [one for one in events if one["kind"] == "status"]
    assert "queued in pool light" in first["message"]
    assert "attempt 1 of 4 failed" in last["message"]
    kinds = [one["kind"] for one in events]
    assert kinds.count("started") == 2
    assert kinds.count("delta") >= 1
    assert kinds.count("failed") == 0
    known_by = [(one["attempt"], one["seq"]) for one in events]
    assert len(known_by) == len(set(known_by))
    assert min(known_by)[0] == 100


async def test_waiting_ends(asker: Asker, model: ScriptedModel) -> None:
    """A wait shows the job as it is when its time is up."""
    model.hang(times=1)
    queued = await submit(asker, "predict", question())
    await model.received(1)

    found = await about(asker, "wait", queued["job"], timeout_s=0.2)

    assert (found["state"], found["result"]) == ("running", None)
    await about(asker, "cancel", queued["job"])


@pytest.fixture(name="own_tenant")
async def _own_tenant(stack: Stack, bus: NatsBus) -> Asker:
    return Asker(bus, stack.subjects.of(f"t{uuid4().hex[:8]}"))
