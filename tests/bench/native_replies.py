"""How much sooner than DSPy a reply is read."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy
import json_repair
import msgspec
from tests.bench.measure import middle
from tests.bench.results import Bar, Findings, Result

from dspex.contracts.native_requests import ParseResponse
from dspex.native.replies.json_text import REPAIR_STEPS, loads
from dspex.native.replies.parsing import parse_response, replies
from dspex.native.signatures.compiling import compile_signature
from dspex.native.work import Work
from dspex.services.worker.signatures import dspy_signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.rig import Rig

    from dspex.contracts.requests import Adapter

ROUNDS = 9
CALLS = 200
"""Calls of DSPy in a round; ours are ten times as many."""


class Case(NamedTuple):
    """A reply.

    Attributes:
        name: What kind of one.
        signature: Its signature.
        values: What each output is, as a model writes it.
        adapter: How it is written.
    """

    name: str
    signature: str
    values: dict[str, str]
    adapter: Adapter = "chat"


_LONG = "\n".join(f"Line {i} of a long answer, with some words." for i in range(200))
_MIXED = {
    "answer": "Paris",
    "pages": "3",
    "confidence": "0.93",
    "known": "True",
    "tags": '["a", "b"]',
    "kind": "city",
}
_MIXED_SIGNATURE = (
    "question -> answer, pages: int, confidence: float, known: bool, "
    "tags: list[str], kind: Literal['city', 'river']"
)
CASES = (
    Case(
        "chat_short",
        "question -> reasoning, answer",
        {"reasoning": "It is the capital of France.", "answer": "Paris"},
    ),
    Case("chat_mixed", _MIXED_SIGNATURE, _MIXED),
    Case("chat_long", "question -> answer, note", {"answer": _LONG, "note": "end"}),
    Case("json_mixed", _MIXED_SIGNATURE, _MIXED, "json"),
    Case("xml_mixed", _MIXED_SIGNATURE, _MIXED, "xml"),
)
_ADAPTERS: dict[Adapter, Any] = {
    "chat": dspy.ChatAdapter(),
    "json": dspy.JSONAdapter(),
    "xml": dspy.XMLAdapter(),
}


async def native_replies(_: Rig | None) -> Findings:
    """Replies of each format, against DSPy's own adapters; and JSON by itself."""
    return Findings(results=[*map(_compared, CASES), _json()])


def _compared(case: Case) -> Result:
    text = _written(case)
    body = ParseResponse(signature=case.signature, text=text, adapter=case.adapter)
    compiled = compile_signature(case.signature)
    signature, adapter = dspy_signature(compiled), _ADAPTERS[case.adapter]
    ready = replies(body, compiled)
    assert ready.parse(text) == adapter.parse(signature, text)
    whole = _timed(lambda: parse_response(body), CALLS * 10)
    return _result(
        f"native_reply_{case.name}",
        lambda: ready.parse(text),
        lambda: adapter.parse(signature, text),
        f"DSPy's `{type(adapter).__name__}.parse` over ours, signatures made ready "
        f"before; with finding the signature ours takes {whole * 1e6:.1f} µs",
    )


def _json() -> Result:
    text = json.dumps({"answer": "Paris", "tags": ["a", "b"], "n": [1, 2.5, None]})
    work, alone = Work(REPAIR_STEPS), msgspec.json.Decoder().decode
    ratios = [
        _timed(lambda: json_repair.loads(text), CALLS)
        / _timed(lambda: alone(text), CALLS * 10)
        for _ in range(ROUNDS)
    ]
    most, _ = middle(ratios)
    return _result(
        "native_json",
        lambda: loads(text, work),
        lambda: json_repair.loads(text),
        "`json_repair.loads`, which DSPy reads JSON with, over ours on sound JSON; it "
        "tries the C parser of Python's `json` first, and msgspec's alone, with no "
        f"look at what came of it, would be {most:.1f} times as fast (decision 0031)",
    )


def _written(case: Case) -> str:
    if case.adapter == "json":
        shown = {n: _plain(value) for n, value in case.values.items()}
        return json.dumps(shown)
    if case.adapter == "xml":
        return "\n".join(f"<{n}>\n{v}\n</{n}>" for n, v in case.values.items())
    sections = (f"[[ ## {n} ## ]]\n{v}\n\n" for n, v in case.values.items())
    return "".join(sections) + "[[ ## completed ## ]]"


def _plain(text: str) -> Any:
    try:
        return json.loads(text.replace("True", "true"))
    except ValueError:
        return text


def _result(
    name: str, ours: Callable[[], Any], theirs: Callable[[], Any], how: str
) -> Result:
    ratios = []
    spent = []
    for _ in range(ROUNDS + 1):
        native, slow = _timed(ours, CALLS * 10), _timed(theirs, CALLS)
        ratios.append(slow / native)
        spent.append(native)
    value, spread = middle(ratios[1:])
    typical, _ = middle(spent[1:])
    return Result(
        name=name,
        value=value,
        unit="x",
        bar=Bar(10.0, at_least=True),
        spread=spread,
        how=f"{how}, in turns in one process, {ROUNDS} rounds; ours takes "
        f"{typical * 1e6:.2f} µs.",
    )


def _timed(call: Callable[[], Any], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begun) / times
