"""Evaluating, and every optimizer whose result is a program."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

from tests.support.learning import EXACT, EXAMPLES, PREDICT, SIGNATURE, pupil
from tests.support.parity.case import Case, dspy

if TYPE_CHECKING:
    from collections.abc import Callable

TRAIN, VAL = EXAMPLES[:5], EXAMPLES[5:]
_SMALL = {"max_bootstrapped_demos": 2, "max_labeled_demos": 2}
_COMPILED = {"num_trials", "minibatch"}

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "LabeledFewShot": {"k": 3},
    "BootstrapFewShot": _SMALL | {"max_rounds": 1},
    "BootstrapFewShotWithRandomSearch": _SMALL | {"num_candidate_programs": 2},
    "COPRO": {"breadth": 2, "depth": 2},
    "InferRules": _SMALL | {"num_candidates": 2, "num_rules": 3},
    "MIPROv2": _SMALL | {"num_candidates": 2, "num_trials": 3, "minibatch": False},
    "SIMBA": {"bsize": 4, "num_candidates": 2, "max_steps": 1},
    "GEPA": {"max_metric_calls": 24},
}


def exact(example: Any, prediction: Any, *_: Any, **__: Any) -> float:
    """What the native metric says, in process."""
    return float(dspy.evaluate.EM(prediction.answer, [example.answer]))


def _examples(rows: list[dict[str, str]]) -> list[Any]:
    return [dspy.Example(**row).with_inputs("question") for row in rows]


def _evaluate() -> Any:
    evaluation = dspy.Evaluate(
        devset=_examples(EXAMPLES), metric=exact, num_threads=1, display_progress=False
    )
    found = evaluation(dspy.Predict(SIGNATURE))
    return {"score": getattr(found, "score", found)}


def _optimized(name: str) -> Callable[[], Any]:
    """Make the optimizer and compile, as one who uses DSPy would write it."""

    def work() -> Any:
        cls = getattr(dspy, name, None) or getattr(dspy.teleprompt, name)
        made, compiled = _arguments(name)
        if "requires_permission_to_run" in inspect.signature(cls.compile).parameters:
            compiled["requires_permission_to_run"] = False
        found = cls(**made).compile(
            dspy.Predict(SIGNATURE), trainset=_examples(TRAIN), **compiled
        )
        return _learned(found)

    return work


def _arguments(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the constructor, and those of ``compile``."""
    said = OPTIMIZERS[name]
    made = {k: v for k, v in said.items() if k not in _COMPILED}
    compiled = {k: v for k, v in said.items() if k in _COMPILED}
    if name != "LabeledFewShot":
        made["metric"] = exact
    if name in ("BootstrapFewShotWithRandomSearch", "InferRules", "MIPROv2", "GEPA"):
        compiled["valset"] = _examples(VAL)
    if name == "GEPA":
        made["reflection_lm"] = dspy.settings.lm
    if name == "MIPROv2":
        made["auto"] = None
    if name == "COPRO":
        compiled["eval_kwargs"] = {"num_threads": 1, "display_progress": False}
    elif name not in ("LabeledFewShot", "BootstrapFewShot"):
        made["num_threads"] = 1
    return made, compiled


def _better_together() -> Any:
    both = dspy.BetterTogether(
        metric=exact,
        p=dspy.COPRO(metric=exact, breadth=2, depth=1),
        d=dspy.LabeledFewShot(k=2),
    )
    student = dspy.Predict(SIGNATURE)
    student.set_lm(dspy.settings.lm)
    found = both.compile(
        student,
        trainset=_examples(TRAIN),
        valset=_examples(VAL),
        strategy="p -> d",
        num_threads=1,
        seed=3,
        optimizer_compile_args={
            "p": {"eval_kwargs": {"num_threads": 1, "display_progress": False}}
        },
    )
    return _learned(found)


def _learned(program: Any) -> dict[str, Any]:
    program.set_lm(None)
    state = copy.deepcopy(program.dump_state())
    demos = [dict(demo) for demo in state["demos"]]
    return {"state": {"signature": state["signature"], "demos": demos}}


def _optimize(optimizer: dict[str, Any]) -> dict[str, Any]:
    body = {
        "program": PREDICT,
        "optimizer": optimizer,
        "trainset": TRAIN,
        "valset": VAL,
        "threads": 1,
    }
    return body if optimizer["name"] == "LabeledFewShot" else body | {"metric": EXACT}


LEARNING = {
    "evaluate": Case(
        operation="program.evaluate",
        body={
            "program": PREDICT,
            "dataset": EXAMPLES,
            "metric": EXACT,
            "threads": 1,
            "results": False,
        },
        work=_evaluate,
        replies=pupil,
    ),
    **{
        name: Case(
            operation="program.optimize",
            body=_optimize({"name": name} | arguments),
            work=_optimized(name),
            replies=pupil,
            needs=(name,),
        )
        for name, arguments in OPTIMIZERS.items()
    },
    "BetterTogether": Case(
        operation="program.optimize",
        body=_optimize(
            {
                "name": "BetterTogether",
                "optimizers": {
                    "p": {"name": "COPRO", "breadth": 2, "depth": 1},
                    "d": {"name": "LabeledFewShot", "k": 2},
                },
                "strategy": "p -> d",
                "seed": 3,
            }
        ),
        work=_better_together,
        replies=pupil,
        needs=("BetterTogether.optimizers",),
    ),
}
