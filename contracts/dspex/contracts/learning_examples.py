"""One example of every operation that scores or improves programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts import learning_requests as learning
from dspex.contracts.optimizers import BootstrapFewShot
from dspex.contracts.program_metrics import Metric
from dspex.contracts.program_specs import PredictSpec

if TYPE_CHECKING:
    from dspex.contracts.requests import Body

_EXAMPLE = {"question": "What is the capital of Norway?", "answer": "Oslo"}
_METRIC = Metric(name="exact_match", field="answer")

REQUESTS: dict[str, Body] = {
    "program.evaluate": learning.Evaluate(
        program=PredictSpec(signature="question -> answer"),
        dataset=[_EXAMPLE],
        metric=_METRIC,
        also={"overlap": Metric(name="f1")},
        threads=4,
    ),
    "program.optimize": learning.Optimize(
        program="capitals@1",
        optimizer=BootstrapFewShot(max_bootstrapped_demos=2, max_labeled_demos=4),
        trainset=[_EXAMPLE],
        metric=_METRIC,
        budget=learning.Budget(max_calls=100, max_seconds=600.0),
        put_as="capitals",
        expected_version=1,
    ),
}
"""The body of a request, by operation."""

OUTPUTS: dict[str, dict[str, Any]] = {
    "program.evaluate": {
        "score": 100.0,
        "count": 1,
        "errors": 0,
        "mean": 1.0,
        "means": {"overlap": 1.0},
        "scores": [1.0],
        "results": [
            {
                "inputs": {"question": "What is the capital of Norway?"},
                "outputs": {"answer": "Oslo"},
                "score": 1.0,
                "scores": {"overlap": 1.0},
                "failure": None,
            }
        ],
        "dataset": "",
    },
    "program.optimize": {
        "specification": {
            "module": "predict",
            "signature": "question -> answer",
            "state": {
                "signature": {
                    "instructions": "Given the fields `question`, produce the fields "
                    "`answer`.",
                    "fields": [
                        {"prefix": "Question:", "description": "${question}"},
                        {"prefix": "Answer:", "description": "${answer}"},
                    ],
                },
                "demos": [{"augmented": True, **_EXAMPLE}],
            },
        },
        "optimizer": "BootstrapFewShot",
        "calls": 1,
        "score": 100.0,
        "scored": 1,
        "name": "capitals",
        "version": 2,
        "trainset": "",
        "valset": "",
    },
}
"""The outputs that answer the request of the same operation."""
