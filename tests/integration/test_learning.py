"""Evaluating and optimising over NATS: as requests, as jobs, stored and run again."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pytest
from tests.support.asking import Asker, read
from tests.support.jobs import about, ended, failures, submit
from tests.support.learning import EXACT, EXAMPLES, PREDICT, SIGNATURE, pupil
from tests.support.programs import answering
from tests.support.stack import Program, Stack

from dspex.contracts import encoding

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.core import Message

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

EVALUATE: dict[str, Any] = {"program": PREDICT, "dataset": EXAMPLES, "metric": EXACT}
OPTIMIZE: dict[str, Any] = {
    "program": PREDICT,
    "optimizer": {"name": "BootstrapFewShot", "max_labeled_demos": 0},
    "trainset": EXAMPLES[:5],
    "valset": EXAMPLES[5:],
    "metric": EXACT,
}


@pytest.fixture(name="name")
def _name() -> str:
    return f"p{uuid4().hex[:8]}"


def table(body: dict[str, Any], rows: list[dict[str, str]]) -> bytes:
    """A dataset as an Arrow stream, with what else is asked beside it."""
    metadata = {"dspex": json.dumps(body)}
    column = pa.array(rows)
    schema = pa.schema({"example": column.type}, metadata=metadata)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table([column], schema=schema))
    return sink.getvalue()


async def test_evaluate(asker: Asker, model: ScriptedModel) -> None:
    """Every example is answered and scored, and progress is told meanwhile."""
    model.reply_with(pupil)

    events = await asker.stream("program.evaluate", EVALUATE)

    found = events.last["outputs"]
    answers = [one["outputs"]["answer"] for one in found["results"]]
    right = [a == one["answer"] for a, one in zip(answers, EXAMPLES, strict=True)]
    assert [one["score"] for one in found["results"]] == right
    assert found["score"] == 100 * found["mean"] > 0
    assert found["errors"] == 0
    told = events.of("status")[-1]
    assert (told["done"], told["total"]) == (len(EXAMPLES), len(EXAMPLES))
    assert events.last["metadata"]["usage"]["calls"] == len(EXAMPLES)


async def test_steps_of_examples_are_not_told(
    asker: Asker, model: ScriptedModel
) -> None:
    """Of the many runs of a composition it is told how many there were, and no more."""
    model.reply_with(pupil)
    chain = {"module": "chain", "steps": [{"program": PREDICT}]}

    events = await asker.stream("program.evaluate", EVALUATE | {"program": chain})

    assert events.last["outputs"]["count"] == len(EXAMPLES)
    assert events.of("step") == []


async def test_evaluate_in_columns(asker: Asker, model: ScriptedModel) -> None:
    """A dataset may be an Arrow stream; the results come back as one."""
    model.reply_with(pupil)
    wanted = (await asker.ask("program.evaluate", EVALUATE)).body["outputs"]
    body = {"program": PREDICT, "metric": EXACT}

    message = await asker.bus.request(
        asker.subjects.call("program.evaluate"),
        table(body, EXAMPLES),
        headers={"Content-Type": encoding.ARROW},
    )

    assert message.headers["Content-Type"] == encoding.ARROW
    found = pa.ipc.open_stream(message.data).read_all()
    reply = json.loads(found.schema.metadata[b"dspex"])
    assert reply["outputs"]["score"] == wanted["score"]
    assert found["score"].to_pylist() == wanted["scores"]
    assert list(map(json.loads, found["result"].to_pylist())) == wanted["results"]


async def test_evaluate_with_a_metric_elsewhere(
    asker: Asker, model: ScriptedModel
) -> None:
    """A metric is a function on a subject, in whatever language."""
    model.reply_with(pupil)
    subject = asker.subjects.tool(f"metric-{uuid4().hex[:8]}")

    async def score(message: Message) -> None:
        said = read(message)
        right = said["outputs"]["answer"] == said["example"]["answer"]
        await asker.bus.publish(message.reply, json.dumps(right).encode())

    subscription = await answering(asker.bus, subject, score)
    found = await asker.ask(
        "program.evaluate", EVALUATE | {"metric": {"subject": subject}}
    )
    await subscription.unsubscribe()
    native = await asker.ask("program.evaluate", EVALUATE)
    silent = await asker.ask(
        "program.evaluate",
        EVALUATE | {"metric": {"subject": subject}, "max_errors": 1},
    )

    assert found.body["outputs"]["score"] == native.body["outputs"]["score"]
    assert silent.code == "tool_failed"


async def test_cancelling_stops_it(asker: Asker, model: ScriptedModel) -> None:
    """A cancelled evaluation asks no more, and its requests are closed."""
    model.hang()
    request = uuid4().hex
    job = await submit(
        asker, "program.evaluate", EVALUATE | {"threads": 2}, job=request
    )
    await model.received(2)

    await about(asker, "cancel", job["job"])
    await model.disconnected(2)

    assert (await ended(asker, job["job"]))["state"] == "cancelled"
    assert len(model.requests) == 2


async def test_a_killed_worker(own: Stack, ask: Asker, model: ScriptedModel) -> None:
    """An optimisation is a job: it outlives the worker that had it."""
    own.environ |= {"DSPEX_JOBS_ACK_WAIT_S": "1"}
    workers = [Program("dspex.services.worker", "--pool", "light") for _ in range(2)]
    await own.start(Program("dspex.router"), Program("dspex.services.state"), *workers)
    await own.ready(workers=2, native=0, state=1)
    model.reply_with(pupil)
    model.hang(times=1)
    job = await submit(ask, "program.optimize", OPTIMIZE)
    await model.received(1)

    had = (await about(ask, "get", job["job"]))["attempts"][-1]["worker"]
    pid = next(beat.pid for beat in own.beats() if beat.worker == had)
    await next(one for one in workers if one.pid == pid).kill()
    done = await ended(ask, job["job"])

    assert (done["state"], failures(done)) == ("done", ["worker_lost", None])
    assert done["result"]["outputs"]["specification"]["state"]["demos"]


async def test_from_one_worker_to_the_others(
    asker: Asker, stack: Stack, model: ScriptedModel, name: str
) -> None:
    """Optimised by one worker: stored, run by another, described, and rolled back."""
    model.reply_with(pupil)
    one, other = [beat.worker for beat in stack.beats()]
    question = {"question": EXAMPLES[0]["question"]}
    await asker.ask("program.put", {"name": name, "specification": PREDICT})
    run = {"program": name, "inputs": question}
    await asker.ask("run", run, dspex_route=f"worker:{other}")
    plain = model.requests[-1].messages
    body = OPTIMIZE | {"program": name, "put_as": name, "expected_version": 1}

    optimised = await asker.ask("program.optimize", body, dspex_route=f"worker:{one}")
    model.requests.clear()
    ran = await asker.ask("run", run, dspex_route=f"worker:{other}")
    asked = model.requests[-1].messages
    described = await asker.ask("program.describe", {"program": name})
    stored = await asker.ask("program.get", {"name": name})
    first = await asker.ask("program.get", {"name": name, "version": 1})
    rolled = await asker.ask(
        "program.put",
        {"name": name, "specification": first.body["outputs"]["specification"]},
    )
    model.requests.clear()
    await asker.ask("run", run, dspex_route=f"worker:{other}")

    outputs = optimised.body["outputs"]
    assert optimised.body["metadata"]["worker"] == one
    assert (outputs["name"], outputs["version"]) == (name, 2)
    demos = outputs["specification"]["state"]["demos"]
    assert demos
    assert ran.body["metadata"]["worker"] == other
    assert len(asked) == len(plain) + 2 * len(demos)
    assert described.body["outputs"]["predictors"][0]["demos"] == len(demos)
    assert stored.body["outputs"]["score"] == outputs["score"] is not None
    assert rolled.body["outputs"]["version"] == 3
    assert model.requests[-1].messages == plain


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ({"lm": {"api_base": "http://evil.example"}}, "forbidden"),
        ({"lm": {"_dspy_lm_class": "os.system"}}, "forbidden"),
        ({"pickle": "gASVAA=="}, "bad_request"),
    ],
)
async def test_a_tampered_state_is_refused(
    asker: Asker, model: ScriptedModel, name: str, where: dict[str, Any], code: str
) -> None:
    """What was learned is stored and run only if it holds nothing else."""
    model.reply_with(pupil)
    learned = (await asker.ask("program.optimize", OPTIMIZE)).body["outputs"]
    tampered = learned["specification"] | {
        "state": learned["specification"]["state"] | where
    }

    put = await asker.ask("program.put", {"name": name, "specification": tampered})
    run = await asker.ask(
        "run", {"program": tampered, "inputs": {"question": EXAMPLES[0]["question"]}}
    )
    fine = await asker.ask(
        "program.put", {"name": name, "specification": learned["specification"]}
    )

    assert put.code == run.code == code
    assert ".state." in put.body["field"]
    assert fine.code == "done"


async def test_a_version_that_is_not_the_newest(
    asker: Asker, model: ScriptedModel, name: str
) -> None:
    """What was learned is not stored over what somebody else put meanwhile."""
    model.reply_with(pupil)
    body = OPTIMIZE | {"put_as": name, "expected_version": 4}

    found = await asker.ask("program.optimize", body)

    assert (found.code, found.body["field"]) == ("conflict", "expected_version")


async def test_progress_and_budget(asker: Asker, model: ScriptedModel) -> None:
    """An optimisation tells how many calls it made, and makes no more than allowed."""
    model.reply_with(pupil)
    body = OPTIMIZE | {
        "program": {"module": "chain_of_thought", "signature": SIGNATURE}
    }

    told = await asker.stream("program.optimize", body)
    spent = await asker.ask("program.optimize", body | {"budget": {"max_calls": 2}})

    assert told.last["outputs"]["calls"] > 2
    assert told.of("status")[-1]["message"] == "3 of 3 examples"
    assert (spent.code, spent.body["field"]) == ("bad_request", "budget.max_calls")


async def test_programs_around_others_are_stored(
    asker: Asker, model: ScriptedModel, name: str
) -> None:
    """What ``Ensemble`` and ``KNNFewShot`` make is stored, described, run by name."""
    model.reply_with(pupil)
    subject = asker.subjects.tool(f"embed-{uuid4().hex[:8]}")

    async def embed(message: Message) -> None:
        texts = read(message)["texts"]
        found = [[float(len(text)), float(text.count("a"))] for text in texts]
        await asker.bus.publish(message.reply, json.dumps(found).encode())

    subscription = await answering(asker.bus, subject, embed)
    few_shot = {"name": "KNNFewShot", "k": 2, "vectorizer": {"subject": subject}}
    first = await asker.ask(
        "program.optimize", OPTIMIZE | {"optimizer": few_shot, "put_as": name}
    )
    ensemble = {"name": "Ensemble", "programs": [f"{name}@1"]}
    second = await asker.ask(
        "program.optimize", OPTIMIZE | {"optimizer": ensemble, "put_as": name}
    )
    described = await asker.ask("program.describe", {"program": name})
    model.requests.clear()
    inputs = {"question": EXAMPLES[0]["question"]}
    found = await asker.ask("run", {"program": name, "inputs": inputs})
    await subscription.unsubscribe()

    assert [one.body["outputs"]["version"] for one in (first, second)] == [1, 2]
    outputs = described.body["outputs"]
    assert (outputs["module"], outputs["needs"]) == ("ensemble", ["numpy"])
    paths = [one["path"] for one in outputs["predictors"]]
    assert paths == ["program.programs[0]", "program.programs[1].program"]
    assert set(found.body["outputs"]) == {"answer"}
    # One question of the program alone; two for demos and one of that with demos.
    assert len(model.requests) == 4
