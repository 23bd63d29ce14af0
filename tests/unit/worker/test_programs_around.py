"""``KNNFewShot`` and ``Ensemble``: what they make of a program is a program as well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dspy as untyped
import pytest
from tests.support.asking import chat
from tests.support.learning import EXACT, EXAMPLES, PREDICT, SIGNATURE, pupil
from tests.support.programs import Bench
from tests.support.scripted_model import ScriptedModel

from dspex.contracts.failures import BadRequest, Failure, Forbidden, ToolFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.scripted_wire import Received

pytestmark = pytest.mark.dspy
numpy: Any = pytest.importorskip("numpy")

dspy: Any = untyped
TRAIN, VAL = EXAMPLES[:5], EXAMPLES[5:]
QUESTION = {"question": "What is the capital of Greece, if not of Spain?"}
VECTORIZER = {"subject": "dspex.v1.tool.embed"}
FEW_SHOT: dict[str, Any] = {
    "module": "knn_few_shot",
    "program": PREDICT,
    "k": 3,
    "trainset": TRAIN,
    "vectorizer": VECTORIZER,
}


def embed(texts: list[str]) -> Any:
    """What is near each other has the same letters."""
    return numpy.array([[float(text.count(c)) for c in "aeiou"] for text in texts])


@pytest.fixture(name="bench")
async def _bench() -> AsyncIterator[Bench]:
    async with ScriptedModel() as model, Bench(model) as bench:
        model.reply_with(pupil)
        await bench.offer(
            VECTORIZER["subject"], lambda said: embed(said["texts"]).tolist()
        )
        yield bench


def exact(example: Any, prediction: Any, *_: Any) -> float:
    return float(dspy.evaluate.EM(prediction.answer, [example.answer]))


def examples(rows: list[dict[str, str]]) -> list[Any]:
    return [dspy.Example(**row).with_inputs("question") for row in rows]


ARGUMENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "labeled": {"max_bootstrapped_demos": 0, "max_labeled_demos": 2},
    "metric": {"max_bootstrapped_demos": 2, "max_labeled_demos": 1, "metric": EXACT},
}


@pytest.mark.parametrize("case", ARGUMENTS)
async def test_few_shot_is_that_of_dspy(bench: Bench, case: str) -> None:
    """The same demos are found and bootstrapped, and the same is asked."""
    arguments = ARGUMENTS[case]
    own = arguments | ({"metric": exact} if "metric" in arguments else {})

    def work() -> Any:
        made = dspy.KNNFewShot(3, examples(TRAIN), embed, **own)
        return made.compile(dspy.Predict(SIGNATURE))(**QUESTION)

    expected = await bench.in_process(work)
    asked = bench.prompts()

    found = await bench.run(FEW_SHOT | arguments, QUESTION)

    assert found == expected
    assert bench.prompts() == asked
    demos = [one for one in asked[-1]["messages"] if one["role"] == "assistant"]
    assert demos


async def test_a_teacher_shows_how(bench: Bench) -> None:
    """Demos are bootstrapped from runs of another program."""
    bench.model.reply_with(_taught)
    teacher = PREDICT | {"demos": [{"question": "How?", "answer": "Like this."}]}
    own = {"max_labeled_demos": 0, "teacher": teacher}

    found = await bench.run(FEW_SHOT | own, QUESTION)

    assert found == {"answer": "learned"}
    last = json.dumps(bench.prompts()[-1]["messages"])
    assert "taught" in last
    assert "Like this." not in last


def _taught(request: Received) -> str:
    shown = "Like this." in json.dumps(request.messages)
    return chat(answer="taught" if shown else "learned")


async def test_few_shot_around_a_chain(bench: Bench) -> None:
    """The program may be a composition; its vectors are asked for once in a request."""
    heard: list[int] = []

    def counted(said: Any) -> Any:
        heard.append(len(said["texts"]))
        return embed(said["texts"]).tolist()

    subject = bench.subjects.tool("counted")
    await bench.offer(subject, counted)
    chain = {"module": "chain", "steps": [{"program": PREDICT}]}
    spec = FEW_SHOT | {"program": chain, "vectorizer": {"subject": subject}}

    found = await bench.learn(
        "program.evaluate", {"program": spec, "dataset": VAL, "metric": EXACT}
    )

    assert found["count"] == len(VAL)
    assert sorted(heard) == [1] * len(VAL) + [len(TRAIN)]


def voters(*answers: str) -> list[dict[str, Any]]:
    return [PREDICT | {"instructions": f"Say {one}."} for one in answers]


def obedient(request: Received) -> str:
    """Answer what the instructions say."""
    said = request.text("system").rsplit("Say ", 1)[1]
    return chat(answer=said.split(".")[0])


async def test_an_ensemble_is_that_of_dspy(bench: Bench) -> None:
    """What most programs answer, the earlier first, as ``dspy.majority`` has it."""
    bench.model.reply_with(obedient)
    said = ("Rome", "oslo", "Oslo", "Rome", "Bergen")

    def work() -> Any:
        programs = [
            dspy.Predict(dspy.Signature(SIGNATURE, f"Say {one}.")) for one in said
        ]
        made = dspy.Ensemble(reduce_fn=dspy.majority).compile(programs)
        return made(**QUESTION)

    expected = await bench.in_process(work)
    asked = bench.prompts()

    found = await bench.run({"module": "ensemble", "programs": voters(*said)}, QUESTION)

    assert found == expected == {"answer": "Rome"}
    assert sorted(map(str, bench.prompts())) == sorted(map(str, asked))


async def test_some_of_an_ensemble(bench: Bench) -> None:
    """So many as are wanted are drawn for each request; all answers may be had."""
    bench.model.reply_with(obedient)
    said = tuple("abcdefgh")
    spec = {"module": "ensemble", "programs": voters(*said), "size": 3, "reduce": None}

    runs = [await bench.run(spec, QUESTION) for _ in range(12)]

    drawn = [tuple(one["answer"] for one in run["completions"]) for run in runs]
    assert all(len(set(one)) == 3 and set(one) <= set(said) for one in drawn)
    assert len(set(drawn)) > 1


async def test_knn_few_shot_as_an_optimizer(bench: Bench) -> None:
    """It calls no model; what it makes runs, and is scored."""
    found = await bench.learn(
        "program.optimize",
        {
            "program": PREDICT,
            "optimizer": {
                "name": "KNNFewShot",
                "k": 2,
                "vectorizer": VECTORIZER,
                "max_labeled_demos": 2,
            },
            "trainset": TRAIN,
            "valset": VAL,
            "metric": EXACT,
        },
    )

    made = found["specification"]
    assert (made["module"], made["k"], made["trainset"]) == ("knn_few_shot", 2, TRAIN)
    assert made["program"]["signature"] == SIGNATURE
    assert (found["calls"], found["scored"]) == (0, len(VAL))
    bench.prompts()
    again = await bench.run(made, QUESTION)
    assert set(again) == {"answer"}


async def test_ensemble_as_an_optimizer(bench: Bench) -> None:
    """The program and others become one that answers what most of them do."""
    bench.model.reply_with(obedient)
    first, *others = voters("Rome", "Oslo", "Oslo")

    found = await bench.learn(
        "program.optimize",
        {
            "program": first,
            "optimizer": {"name": "Ensemble", "programs": others},
            "trainset": EXAMPLES[:1],
            "metric": EXACT,
        },
    )

    assert found["score"] == 100  # of Norway
    instructions = [one["instructions"] for one in found["specification"]["programs"]]
    assert instructions == ["Say Rome.", "Say Oslo.", "Say Oslo."]


BAD: dict[str, tuple[dict[str, Any], type[Failure], str]] = {
    "example": (
        FEW_SHOT | {"trainset": [{"answer": "Oslo"}]},
        BadRequest,
        "program.trainset[0].question",
    ),
    "subject": (
        FEW_SHOT | {"vectorizer": {"subject": "acme.embed"}},
        Forbidden,
        "program.vectorizer.subject",
    ),
    "metric": (
        FEW_SHOT | {"metric": {"name": "f2"}},
        BadRequest,
        "program.metric.name",
    ),
    "metric-subject": (
        FEW_SHOT | {"metric": {"subject": "acme.metric"}},
        Forbidden,
        "program.metric.subject",
    ),
    "teacher": (
        FEW_SHOT | {"teacher": {"module": "nonsense"}},
        BadRequest,
        "program.teacher.module",
    ),
    "size": (
        {"module": "ensemble", "programs": [PREDICT], "size": 2},
        BadRequest,
        "program.size",
    ),
    "field": (
        {"module": "ensemble", "programs": [PREDICT], "field": "mood"},
        BadRequest,
        "program.field",
    ),
    "outputs": (
        {
            "module": "ensemble",
            "programs": [PREDICT, {"module": "predict", "signature": "question -> x"}],
        },
        BadRequest,
        "program.programs",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_faults_are_named(bench: Bench, case: str) -> None:
    """What cannot be run is refused by the path of the fault; nobody is asked."""
    spec, kind, field = BAD[case]

    with pytest.raises(kind) as refused:
        await bench.run(spec, QUESTION)

    assert refused.value.field == field
    assert bench.prompts() == []


async def test_vectors_of_two_lengths(bench: Bench) -> None:
    """A vectorizer that changes its mind is told from one that fails."""
    subject = bench.subjects.tool("fickle")
    await bench.offer(
        subject, lambda said: [[1.0] * len(said["texts"])] * len(said["texts"])
    )

    with pytest.raises(ToolFailed, match="vectors of 5 numbers, and then of 1"):
        await bench.run(FEW_SHOT | {"vectorizer": {"subject": subject}}, QUESTION)
