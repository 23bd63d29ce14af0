"""What one release of DSPy has and does: run by the interpreter that has it.

``python tests/support/probe_release.py`` prints one JSON object of two: what a worker
does with the release, as its heartbeats say, and what else DSPy has and does.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import inspect
import json
import os
import sys
from typing import Any, get_args

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from dspex.contracts.optimizers import Optimizer
from dspex.contracts.program_specs import Specification
from dspex.contracts.requests import Adapter
from dspex.services.worker.features import lacking

dspy: Any = importlib.import_module("dspy")

MODULES = (
    *("Predict", "ChainOfThought", "ReAct", "ReActV2", "ProgramOfThought", "CodeAct"),
    *("RLM", "Refine", "BestOfN", "MultiChainComparison", "Parallel", "KNN"),
)
TYPES = (
    *("Image", "Audio", "File", "History", "Tool", "ToolCalls", "ToolCallResults"),
    *("Code", "Reasoning"),
)


def found(kind: str, names: tuple[str, ...]) -> dict[str, str]:
    return {
        f"{kind} `{name}`": "yes" if hasattr(dspy, name) else "no" for name in names
    }


def contexts() -> str:
    with dspy.context(branch_idx=-1):
        inside = contextvars.Context().run(lambda: dspy.settings.branch_idx)
    return "one per asyncio task" if inside != -1 else "one per thread"


def async_modules() -> str:
    names = [name for name in MODULES if hasattr(dspy, name)]
    return ", ".join(
        f"`{name}`"
        for name in names
        if inspect.iscoroutinefunction(
            getattr(getattr(dspy, name), "aforward", None) or print
        )
    )


def type_hint(text: str) -> str:
    try:
        dspy.Signature(text)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return type(error).__name__
    return "yes"


def asked(error: Exception | None, adapter: str) -> list[Any]:
    """What a model is asked that fails, or answers without fields; asynchronously."""
    calls: list[Any] = []

    class Model(dspy.LM):  # type: ignore[misc]
        async def acall(self, *_: Any, **said: Any) -> Any:
            calls.append(said)
            if error is not None:
                raise error
            return ["no fields"]

    async def ask() -> None:
        lm = Model("openai/gpt-4o-mini", cache=False)
        with dspy.context(lm=lm, adapter=getattr(dspy, adapter)()):
            await dspy.Predict("question -> answer").acall(question="?")

    with contextlib.suppress(Exception):  # it must fail; what it asked is the answer
        asyncio.run(ask())
    return calls


def asks_for_json() -> str:
    said = asked(None, "JSONAdapter")
    return "yes" if "response_format" in said[0] else "no"


def counts_in_threads() -> str:
    with dspy.track_usage():
        executor = dspy.utils.parallelizer.ParallelExecutor(
            num_threads=1, disable_progress_bar=True
        )
        return "yes" if executor.execute(str, [0]) == ["0"] else "no"


def served() -> dict[str, str]:
    """What a worker does: every module, adapter and optimizer there is."""
    lacks = {name.partition(":")[2] for name in lacking(dspy.PythonInterpreter)}
    names = {
        "module": [one.__struct_config__.tag for one in get_args(Specification)],
        "adapter": get_args(Adapter),
        "optimizer": [one.__struct_config__.tag for one in get_args(Optimizer)],
    }
    return {
        f"{kind} `{name}`": "no" if name in lacks else "yes"
        for kind, all_of in names.items()
        for name in all_of
    }


def probed() -> dict[str, dict[str, str]]:
    """What a worker does with this release, and what else DSPy has and does."""
    load = inspect.signature(dspy.load).parameters
    differs = {
        "contexts of `dspy.context`": contexts(),
        "engines of a language model's own": "yes"
        if "engine" in inspect.signature(dspy.LM.__init__).parameters
        else "no",
        "modules with `aforward`": async_modules(),
        "calls of a language model that is away, chat adapter": str(
            len(asked(ConnectionError("away"), "ChatAdapter"))
        ),
        "calls of one whose reply has no fields, chat adapter": str(
            len(asked(None, "ChatAdapter"))
        ),
        "JSON adapter asks for a JSON object or schema": asks_for_json(),
        "usage is counted in threads of DSPy's own": counts_in_threads(),
        "`int | None` in signature text": type_hint("q -> a: int | None"),
        "`dspy.load` refuses pickles": "yes" if "allow_pickle" in load else "no",
        **found("type", TYPES),
    }
    return {"served": served(), "differs": differs}


if __name__ == "__main__":
    json.dump(probed(), sys.stdout)
