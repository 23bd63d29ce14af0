"""How much GPU memory requests and programs declare."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.contracts import catalog, encoding, gpu_memory
from dspex.contracts.failures import BadRequest
from dspex.contracts.program_specs import MAX_DEPTH
from dspex.contracts.requests import MAX_GPU_MIB
from dspex.native.programs.planning import plan

QA = {"signature": "question -> answer"}
INPUTS = {"inputs": {"question": "Why?"}}
REWARD = {"subject": "dspex.v1.tool.r"}


def needs(mib: int, *fields: str) -> dict[str, Any]:
    """A program that needs so much; its outputs have these names."""
    signature = f"question -> {', '.join(fields or ('answer',))}"
    return {"module": "predict", "signature": signature, "gpu_memory_mib": mib}


def steps(*programs: Any) -> dict[str, Any]:
    return {"steps": [{"program": one} for one in programs]}


A, B = needs(3, "a"), needs(4, "b")
PROGRAMS: list[tuple[dict[str, Any], int]] = [
    (needs(0), 0),
    (needs(3), 3),
    ({"module": "chain", **steps(A, B)}, 4),
    ({"module": "parallel", **steps(A, B)}, 7),
    ({"module": "parallel", "gpu_memory_mib": 8, **steps(A, B)}, 8),
    ({"module": "parallel", **steps(A, "stored")}, 3),
    ({"module": "branch", "on": "k", "cases": {"x": A}, "otherwise": needs(4, "a")}, 4),
    ({"module": "ensemble", "programs": [A, needs(4, "a")]}, 7),
    ({"module": "majority", "attempts": 5, "program": A}, 15),
    (
        {
            "module": "best_of_n",
            "attempts": 5,
            "program": A,
            "reward": REWARD,
            "threshold": 1.0,
        },
        3,
    ),
    (
        {
            "module": "map",
            "over": "questions",
            "into": "question",
            "concurrency": 2,
            "program": {"module": "parallel", **steps(A, B)},
        },
        14,
    ),
    (
        {
            "module": "multi_chain_comparison",
            "signature": "question -> answer",
            "attempts": 2,
            "program": {"module": "chain_of_thought", "gpu_memory_mib": 9, **QA},
        },
        18,
    ),
]


@pytest.mark.parametrize(("program", "mib"), PROGRAMS)
def test_programs(program: dict[str, Any], mib: int) -> None:
    """Side by side adds up, one after another does not; checked or not, it is said."""
    body = _read("run", INPUTS | {"program": program})

    assert gpu_memory.declared(body) == mib
    assert plan(body.program).gpu_memory_mib == mib


def test_stored_programs_are_looked_up() -> None:
    """What a stored program declares is known once it is there."""
    stored = _read("run", INPUTS | {"program": needs(3)}).program

    assert plan("stored").gpu_memory_mib == 0
    assert plan("stored", {"stored": stored}.get).gpu_memory_mib == 3


@pytest.mark.parametrize(
    ("operation", "body", "mib", "field"),
    [
        ("predict", QA | INPUTS, 0, "options.gpu_memory_mib"),
        ("react", QA | INPUTS | {"tools": []}, 0, "options.gpu_memory_mib"),
        ("run", INPUTS | {"program": needs(3)}, 3, "program"),
        (
            "run",
            INPUTS | {"program": needs(3), "options": {"gpu_memory_mib": 5}},
            5,
            "options.gpu_memory_mib",
        ),
        (
            "program.evaluate",
            {"program": needs(3), "dataset": "d", "metric": {"name": "f1"}},
            24,
            "program",
        ),
        (
            "program.optimize",
            {
                "program": needs(3),
                "teacher": needs(4),
                "threads": 2,
                "trainset": "d",
                "optimizer": {"name": "LabeledFewShot"},
            },
            8,
            "program",
        ),
        (
            "program.optimize",
            {
                "program": needs(3),
                "threads": 2,
                "trainset": "d",
                "optimizer": {"name": "Ensemble", "programs": [needs(4), "stored"]},
            },
            14,
            "program",
        ),
        ("program.describe", {"program": needs(3)}, 0, "options.gpu_memory_mib"),
        ("session.open", {"program": needs(3)}, 0, "options.gpu_memory_mib"),
    ],
)
def test_requests(operation: str, body: dict[str, Any], mib: int, field: str) -> None:
    """A request needs what it declares, or what its programs do on so many examples."""
    found = _read(operation, body)

    assert (gpu_memory.declared(found), gpu_memory.field_of(found)) == (mib, field)


def test_bounds() -> None:
    """Nothing is more than any machine has, and too deep a program is not read."""
    program = {"module": "majority", "attempts": 64, "program": needs(MAX_GPU_MIB)}
    deep = needs(3)
    for _ in range(MAX_DEPTH):
        deep = {"module": "chain", **steps(deep)}

    assert gpu_memory.declared(_read("run", INPUTS | {"program": program})) == (
        MAX_GPU_MIB
    )
    assert gpu_memory.declared(_read("run", INPUTS | {"program": deep})) == 0
    with pytest.raises(BadRequest, match="gpu_memory_mib"):
        _read("run", INPUTS | {"program": needs(MAX_GPU_MIB + 1)})


def _read(operation: str, body: dict[str, Any]) -> Any:
    return encoding.read(body, catalog.operation(operation).request)
