"""What DSPy's optimizers make around a program, that learns nothing."""

from __future__ import annotations

from typing import Any

from tests.support.asking import chat
from tests.support.parity.case import TOOLS, Case, dspy
from tests.support.parity.modules import PREDICT, QA, TRAINSET, embed


def _knn_few_shot() -> Any:
    import numpy

    examples = [dspy.Example(**one).with_inputs("question") for one in TRAINSET]
    optimizer = dspy.KNNFewShot(
        2,
        examples,
        lambda texts: numpy.array(embed(texts)),
        max_bootstrapped_demos=1,
        max_labeled_demos=2,
    )
    return optimizer.compile(dspy.Predict(QA))(question="aaa")


def _ensemble() -> Any:
    programs = [dspy.Predict(QA), dspy.ChainOfThought(QA), dspy.Predict(QA)]
    found = dspy.Ensemble(reduce_fn=dspy.majority).compile(programs)(question="Why?")
    return {"answer": found.answer}


AROUND = {
    "knn_few_shot": Case(
        body={
            "program": {
                "module": "knn_few_shot",
                "program": PREDICT,
                "k": 2,
                "trainset": TRAINSET,
                "vectorizer": {"subject": f"{TOOLS}.embed"},
                "max_bootstrapped_demos": 1,
                "max_labeled_demos": 2,
            },
            "inputs": {"question": "aaa"},
        },
        work=_knn_few_shot,
        replies=(chat(answer="shown"), chat(answer="learned")),
    ),
    "ensemble": Case(
        body={
            "program": {
                "module": "ensemble",
                "programs": [
                    PREDICT,
                    {"module": "chain_of_thought", "signature": QA},
                    PREDICT,
                ],
            },
            "inputs": {"question": "Why?"},
        },
        work=_ensemble,
        replies=lambda request: chat(
            reasoning="So.",
            answer="a" if "reasoning" in request.text("system") else "b",
        ),
        ordered=False,
    ),
}
"""All cases, by name."""
