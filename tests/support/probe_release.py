"""What one release of DSPy has and does: run by the interpreter that has it.

``python tests/support/probe_release.py`` prints one JSON object, name -> what was
found, and needs nothing but DSPy.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import json
import os
import sys
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
dspy: Any = importlib.import_module("dspy")

MODULES = (
    *("Predict", "ChainOfThought", "ReAct", "ReActV2", "ProgramOfThought", "CodeAct"),
    *("RLM", "Refine", "BestOfN", "MultiChainComparison", "Parallel", "KNN"),
)
ADAPTERS = ("ChatAdapter", "JSONAdapter", "XMLAdapter", "TwoStepAdapter")
TYPES = (
    *("Image", "Audio", "File", "History", "Tool", "ToolCalls", "ToolCallResults"),
    *("Code", "Reasoning"),
)
OPTIMIZERS = (
    *("LabeledFewShot", "BootstrapFewShot", "BootstrapFewShotWithRandomSearch"),
    *("COPRO", "MIPROv2", "GEPA", "SIMBA", "InferRules", "KNNFewShot", "Ensemble"),
    *("BootstrapFinetune", "BetterTogether", "AvatarOptimizer"),
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


def fallback() -> str:
    """What a chat reply without fields leads to, asynchronously."""
    calls: list[Any] = []

    class Silent(dspy.BaseLM):  # type: ignore[misc]
        def forward(self, *_: Any, **said: Any) -> Any:
            calls.append(said)
            raise ConnectionError("away")

        async def aforward(self, *_: Any, **said: Any) -> Any:
            return self.forward(**said)

    async def ask() -> None:
        with dspy.context(lm=Silent("silent"), adapter=dspy.ChatAdapter()):
            await dspy.Predict("question -> answer").acall(question="?")

    try:
        asyncio.run(ask())
    except Exception:  # noqa: BLE001 - it must fail; how often it asked is the answer
        return str(len(calls))
    return "answered"


def main() -> None:
    """Print what was found."""
    load = inspect.signature(dspy.load).parameters
    said = {
        "contexts of `dspy.context`": contexts(),
        "engines of a language model's own": "yes"
        if "engine" in inspect.signature(dspy.LM.__init__).parameters
        else "no",
        "modules with `aforward`": async_modules(),
        "calls of a language model that is away, chat adapter": fallback(),
        "`int | None` in signature text": type_hint("q -> a: int | None"),
        "`dspy.load` refuses pickles": "yes" if "allow_pickle" in load else "no",
        **found("module", MODULES),
        **found("adapter", ADAPTERS),
        **found("type", TYPES),
        **found("optimizer", OPTIMIZERS),
    }
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
