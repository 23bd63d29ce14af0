"""Evaluating and optimising give what DSPy gives, with the same data and replies."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import dspy as untyped
import pytest
from tests.support.asking import chat
from tests.support.learning import EXACT, EXAMPLES, PREDICT, SIGNATURE, pupil
from tests.support.programs import Bench
from tests.support.scripted_model import ScriptedModel

from dspex.bus.tasks import Tasks
from dspex.contracts.failures import BadRequest, Failure, Forbidden, Unsupported
from dspex.services.worker.stoppable import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.scripted_wire import Received

pytestmark = pytest.mark.dspy

# DSPy's annotations do not say all that it takes.
dspy: Any = untyped
TRAIN, VAL = EXAMPLES[:5], EXAMPLES[5:]


@pytest.fixture(name="bench")
async def _bench() -> AsyncIterator[Bench]:
    async with ScriptedModel() as model, Bench(model) as bench:
        model.reply_with(pupil)
        yield bench


def exact(example: Any, prediction: Any, *_: Any, **__: Any) -> float:
    """What the native metric says, in process."""
    return float(dspy.evaluate.EM(prediction.answer, [example.answer]))


def examples(rows: list[dict[str, str]]) -> list[Any]:
    return [dspy.Example(**row).with_inputs("question") for row in rows]


async def in_process(bench: Bench, work: Any) -> Any:
    """Do something with DSPy alone, in a thread, as its users do."""
    lm = bench.lms.build("default")
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), trace=[]):
        return await in_thread(work)


async def test_evaluate_gives_the_score_of_dspy(bench: Bench) -> None:
    """Score, outputs and prompts are those of ``dspy.Evaluate``."""
    evaluation = dspy.Evaluate(
        devset=examples(EXAMPLES), metric=exact, num_threads=1, display_progress=False
    )
    wanted = await in_process(bench, lambda: evaluation(dspy.Predict(SIGNATURE)))
    asked = bench.prompts()

    found = await bench.learn(
        "program.evaluate",
        {"program": PREDICT, "dataset": EXAMPLES, "metric": EXACT, "threads": 1},
    )

    assert found["score"] == wanted.score
    assert 0 < found["score"] < 100
    assert [one["outputs"]["answer"] for one in found["results"]] == [
        prediction.answer for _, prediction, _ in wanted.results
    ]
    assert [one["score"] for one in found["results"]] == [s for *_, s in wanted.results]
    assert bench.prompts() == asked


async def test_what_fails_counts_as_nothing(bench: Bench) -> None:
    """An example that fails says why, and scores 0, as in DSPy."""
    bench.model.reply_with(
        lambda request: "no" if "Italy" in request.text("user") else chat(answer="Oslo")
    )
    evaluation = dspy.Evaluate(
        devset=examples(EXAMPLES[:4]), metric=exact, display_progress=False
    )
    wanted = await in_process(bench, lambda: evaluation(dspy.Predict(SIGNATURE)))

    found = await bench.learn(
        "program.evaluate",
        {
            "program": PREDICT,
            "dataset": EXAMPLES[:4],
            "metric": EXACT,
            "also": {"f1": {"name": "f1"}},
        },
    )
    short = await bench.learn(
        "program.evaluate",
        {
            "program": PREDICT,
            "dataset": EXAMPLES[:4],
            "metric": EXACT,
            "results": False,
        },
    )

    assert found["score"] == wanted.score == 25
    assert (found["errors"], found["count"], found["means"]) == (1, 4, {"f1": 0.25})
    failed = found["results"][1]
    assert failed["failure"]["code"] == "parse_failed"
    assert (failed["score"], failed["outputs"]) == (0, {})
    assert (short["scores"], short["results"]) == ([1, 0, 0, 0], None)


async def test_too_many_failures_end_it(bench: Bench) -> None:
    """The failure that is one too many is the answer."""
    bench.model.reply_with("no")

    with pytest.raises(Failure) as failed:
        await bench.learn(
            "program.evaluate",
            {
                "program": PREDICT,
                "dataset": EXAMPLES,
                "metric": EXACT,
                "threads": 1,
                "max_errors": 2,
            },
        )

    assert failed.value.code == "parse_failed"
    assert "2 of 2 examples failed" in failed.value.message
    assert len(bench.prompts()) == 4  # DSPy asks each twice, once for JSON


async def test_a_remote_metric(bench: Bench) -> None:
    """A function on a subject scores; it gets the example and the outputs."""
    heard: list[Any] = []

    def score(said: Any) -> Any:
        heard.append(said)
        return {"score": said["outputs"]["answer"] == said["example"]["answer"]}

    subject = bench.subjects.tool("score")
    await bench.offer(subject, score)

    found = await bench.learn(
        "program.evaluate",
        {"program": PREDICT, "dataset": EXAMPLES, "metric": {"subject": subject}},
    )
    native = await bench.learn(
        "program.evaluate", {"program": PREDICT, "dataset": EXAMPLES, "metric": EXACT}
    )

    assert found["score"] == native["score"]
    assert sorted(one["example"]["answer"] for one in heard) == sorted(
        row["answer"] for row in EXAMPLES
    )


BAD: dict[str, tuple[dict[str, Any], type[Failure], str]] = {
    "metric": ({"metric": {}}, BadRequest, "metric"),
    "both": (
        {"metric": {"name": "f1", "subject": "dspex.v1.tool.a"}},
        BadRequest,
        "metric",
    ),
    "unknown metric": ({"metric": {"name": "f11"}}, BadRequest, "metric.name"),
    "output": ({"metric": {"name": "f1", "field": "x"}}, BadRequest, "metric.field"),
    "answers": (
        {"metric": {"name": "f1", "answers": "x"}},
        BadRequest,
        "metric.answers",
    ),
    "subject": ({"metric": {"subject": "acme.a"}}, Forbidden, "metric.subject"),
    "input": ({"dataset": [{"answer": "Oslo"}]}, Failure, "dataset[0].question"),
    "empty": ({"dataset": []}, BadRequest, "dataset"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_evaluations(bench: Bench, case: str) -> None:
    """What cannot be scored is refused, by name, before any model is asked."""
    changes, kind, field = BAD[case]
    said = {"program": PREDICT, "dataset": EXAMPLES, "metric": EXACT} | changes

    with pytest.raises(kind) as refused:
        await bench.learn("program.evaluate", said)

    assert refused.value.field == field
    assert bench.prompts() == []


async def test_what_is_learned_stays_with_who_learned_it(bench: Bench) -> None:
    """An optimizer that writes into signatures writes into those of a copy."""
    before = await bench.run(PREDICT, {"question": EXAMPLES[0]["question"]})
    asked = bench.prompts()
    body = {
        "program": PREDICT,
        "optimizer": {"name": "InferRules", "num_candidates": 2, "num_rules": 3},
        "trainset": TRAIN,
        "valset": VAL,
        "metric": EXACT,
    }
    await bench.learn("program.optimize", body)
    bench.prompts()

    after = await bench.run(PREDICT, {"question": EXAMPLES[0]["question"]})

    assert bench.prompts() == asked
    assert after == before


async def test_every_part_of_a_composition_learns(bench: Bench) -> None:
    """Demos are learned for each part, and stand where the part stands."""
    chain = {
        "module": "chain",
        "steps": [
            {"program": {"module": "chain_of_thought", "signature": SIGNATURE}},
            {
                "program": {"module": "predict", "signature": "question -> answer"},
                "outputs": {"answer": "checked"},
            },
        ],
    }
    body = {
        "program": chain,
        "optimizer": {"name": "BootstrapFewShot", "max_labeled_demos": 0},
        "trainset": TRAIN,
        "metric": {"name": "exact_match", "field": "checked", "answers": "answer"},
        "threads": 4,
    }

    found = await bench.learn("program.optimize", body)

    steps = found["specification"]["steps"]
    first, second = (one["program"]["state"] for one in steps)
    assert first["predict"]["demos"][0].keys() >= {"question", "reasoning", "answer"}
    assert second["demos"][0].keys() >= {"question", "answer"}
    assert steps[1]["outputs"] == {"answer": "checked"}
    again = await bench.run(found["specification"], {"question": TRAIN[0]["question"]})
    assert set(again) == {"checked"}


async def test_an_agent_is_optimised_with_its_tools(bench: Bench) -> None:
    """Tools are called from the optimizer's thread as from any request."""
    subject = bench.subjects.tool("look")
    heard: list[Any] = []

    def look(said: Any) -> str:
        heard.append(said)
        return "Oslo"

    await bench.offer(subject, look)
    turns = {"next_thought": "Hm.", "next_tool_name": "look", "next_tool_args": "{}"}

    def acting(request: Received) -> str:
        asked = request.text("user")
        if "next_tool_name" not in request.text("system"):
            return chat(reasoning="Hm.", answer="Oslo")
        done = "observation_0" in asked
        return chat(**(turns | {"next_tool_name": "finish" if done else "look"}))

    bench.model.reply_with(acting)
    agent = {
        "module": "react",
        "signature": SIGNATURE,
        "tools": [{"name": "look", "subject": subject}],
    }

    found = await bench.learn(
        "program.optimize",
        {
            "program": agent,
            "optimizer": {"name": "BootstrapFewShot", "max_labeled_demos": 0},
            "trainset": EXAMPLES[:1],
            "metric": EXACT,
            "threads": 2,
        },
    )

    assert heard == [{}, {}]  # once to learn from, once to be scored
    states = found["specification"]["state"]
    assert states["extract.predict"]["demos"][0]["answer"] == "Oslo"


async def test_the_budget_ends_it(bench: Bench) -> None:
    """No more calls are made than allowed, and the failure says so."""
    with pytest.raises(BadRequest) as spent:
        await bench.learn(
            "program.optimize",
            {
                "program": PREDICT,
                "optimizer": {"name": "COPRO", "breadth": 2, "depth": 1},
                "trainset": TRAIN,
                "metric": EXACT,
                "threads": 1,
                "budget": {"max_calls": 3},
            },
        )

    assert spent.value.field == "budget.max_calls"
    assert len(bench.prompts()) == 3


async def test_cancelling_ends_the_thread(bench: Bench) -> None:
    """Who stops waiting stops the optimizer too, in the middle of a metric."""
    subject = bench.subjects.tool("slow")
    asked = asyncio.Event()
    await bench.bus.subscribe(subject, lambda _: asked.set())
    body = {
        "program": PREDICT,
        "optimizer": {"name": "BootstrapFewShot"},
        "trainset": TRAIN,
        "metric": {"subject": subject},
    }
    tasks = Tasks()
    before = set(threading.enumerate())
    work = tasks.start(bench.learn("program.optimize", body), "optimize")
    await asked.wait()
    threads = [one for one in set(threading.enumerate()) - before if one.name == "dspy"]

    work.cancel()
    await asyncio.wait([work])
    for thread in threads:
        await asyncio.to_thread(thread.join, 30)

    assert threads
    assert not any(thread.is_alive() for thread in threads)
    assert len(bench.prompts()) == 1


REFUSED: dict[str, tuple[dict[str, Any], type[Failure], str]] = {
    "argument": ({"optimizer": {"name": "COPRO", "bread": 2}}, BadRequest, "bread"),
    "name": ({"optimizer": {"name": "Copro"}}, BadRequest, "optimizer.name"),
    "value": ({"optimizer": {"name": "COPRO", "breadth": 1}}, BadRequest, "breadth"),
    "knn": ({"optimizer": {"name": "KNNFewShot", "k": 3}}, BadRequest, "optimizer"),
    "vectorizer": (
        {
            "optimizer": {
                "name": "KNNFewShot",
                "k": 3,
                "vectorizer": {"subject": "acme.embed"},
            }
        },
        Forbidden,
        "optimizer.vectorizer.subject",
    ),
    "ensemble": ({"optimizer": {"name": "Ensemble"}}, BadRequest, "optimizer"),
    "other program": (
        {"optimizer": {"name": "Ensemble", "programs": [{"module": "nonsense"}]}},
        BadRequest,
        "optimizer.programs[0].module",
    ),
    "one of several": (
        {
            "optimizer": {
                "name": "BetterTogether",
                "strategy": "e",
                "optimizers": {"e": {"name": "Ensemble", "programs": [PREDICT]}},
            }
        },
        Unsupported,
        "optimizer.optimizers.e.name",
    ),
    "finetune": ({"optimizer": {"name": "BootstrapFinetune"}}, Unsupported, "name"),
    "metric": ({"metric": None}, BadRequest, "metric"),
    "teacher": ({"teacher": PREDICT}, BadRequest, "teacher"),
    "gepa": ({"optimizer": {"name": "GEPA"}}, BadRequest, "optimizer"),
    "trainset": ({"trainset": [{"answer": "a"}]}, Failure, "trainset[0].question"),
    "valset": ({"valset": [{"answer": "a"}]}, Failure, "valset[0].question"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_bad_optimisations(bench: Bench, case: str) -> None:
    """What cannot be optimised is refused, by name, before any model is asked."""
    changes, kind, field = REFUSED[case]
    said = {
        "program": PREDICT,
        "optimizer": {"name": "COPRO"},
        "trainset": TRAIN,
        "metric": EXACT,
    }

    with pytest.raises(kind) as refused:
        await bench.learn("program.optimize", said | changes)

    assert (refused.value.field or "").endswith(field)
    assert bench.prompts() == []
