"""What requests need that not every worker has."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.contracts import catalog, encoding
from dspex.contracts.features import needed

QA = {"signature": "question -> answer"}
RLM = {"module": "rlm", **QA}
PREDICT = {"module": "predict", **QA}
INPUTS = {"inputs": {"question": "Why?"}}
LEARN = {"program": PREDICT, "trainset": [{"question": "a", "answer": "b"}]}

NEEDED: list[tuple[str, dict[str, Any], set[str]]] = [
    ("predict", QA | INPUTS, set()),
    ("predict", QA | INPUTS | {"adapter": "chat"}, set()),
    ("predict", QA | INPUTS | {"adapter": "xml"}, {"adapter:xml"}),
    ("react", QA | INPUTS | {"adapter": "xml", "tools": []}, {"adapter:xml"}),
    ("run", INPUTS | {"program": "stored"}, set()),
    (
        "run",
        INPUTS
        | {
            "program": {
                "module": "parallel",
                "steps": [
                    {"program": PREDICT | {"adapter": "xml"}},
                    {"program": {"module": "majority", "program": RLM}},
                ],
            }
        },
        {"adapter:xml", "module:rlm"},
    ),
    (
        "program.optimize",
        LEARN | {"optimizer": {"name": "GEPA"}, "teacher": RLM},
        {"optimizer:GEPA", "module:rlm"},
    ),
    (
        "program.optimize",
        LEARN
        | {
            "optimizer": {
                "name": "BetterTogether",
                "optimizers": {"s": {"name": "SIMBA"}},
                "strategy": "s",
            }
        },
        {"optimizer:BetterTogether", "optimizer:SIMBA"},
    ),
]


@pytest.mark.parametrize(("operation", "body", "features"), NEEDED)
def test_needed(operation: str, body: dict[str, Any], features: set[str]) -> None:
    """Wherever in a program it stands, a module, adapter or optimizer is found."""
    kind = catalog.operation(operation).request

    assert needed(encoding.read(body, kind)) == features
