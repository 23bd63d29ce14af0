"""How much sooner than DSPy a prompt is written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dspy
from tests.bench.measure import middle
from tests.bench.results import Bar, Findings, Result

from dspex.contracts.native_requests import RenderPrompt
from dspex.native.prompts.rendering import render_prompt
from dspex.native.signatures.compiling import compile_signature
from dspex.services.worker.signatures import dspy_signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.rig import Rig

SIGNATURE = "question, context: list[str] -> answer: str, confidence: float"
INPUTS = {
    "question": "Which of the two rivers is longer?",
    "context": ["The first is 300 km long.", "The second is 280 km long."],
}
DEMO = {
    "question": "Which of the two is older?",
    "context": ["The first is from 1900.", "The second is from 1950."],
    "answer": "The first.",
    "confidence": 0.9,
}
ROUNDS = 7
CALLS = 20
"""Calls of DSPy in a round; ours are a hundred times as many."""


async def prompts(_: Rig | None) -> Findings:
    """Prompts with and without examples, against DSPy's own adapter."""
    return Findings(results=[_compared(demos) for demos in (0, 4)])


def _compared(count: int) -> Result:
    demos = [DEMO] * count
    body = RenderPrompt(signature=SIGNATURE, inputs=INPUTS, demos=demos)
    signature = dspy_signature(compile_signature(SIGNATURE))
    adapter = dspy.ChatAdapter()

    def ours() -> Any:
        return render_prompt(body)

    def theirs() -> Any:
        return adapter.format(signature, demos, INPUTS)

    ratios = []
    spent = []
    for _ in range(ROUNDS + 1):
        native, slow = _timed(ours, CALLS * 100), _timed(theirs, CALLS)
        ratios.append(slow / native)
        spent.append(native)
    value, spread = middle(ratios[1:])
    typical, _ = middle(spent[1:])
    return Result(
        name=f"native_prompt_{count}_demos",
        value=value,
        unit="x",
        bar=Bar(50.0, at_least=True),
        spread=spread,
        how=f"DSPy's `ChatAdapter.format` over `prompt.render`, {count} demos, in "
        f"turns in one process, {ROUNDS} rounds; ours takes {typical * 1e6:.1f} µs.",
    )


def _timed(call: Callable[[], Any], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begun) / times
