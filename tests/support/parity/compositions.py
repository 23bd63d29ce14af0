"""Every composition, beside what a program of DSPy's would say in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.asking import chat
from tests.support.parity.case import Case, dspy
from tests.support.parity.modules import PREDICT, QA

if TYPE_CHECKING:
    from tests.support.scripted_wire import Received

_STEPS = [
    {"program": {"module": "predict", "signature": "text -> summary"}},
    {
        "program": {"module": "chain_of_thought", "signature": "summary -> title"},
        "outputs": {"title": "headline"},
    },
]


def _run(spec: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    return {"program": spec, "inputs": inputs}


def _chain() -> Any:
    summary = dspy.Predict("text -> summary")(text="Long.").summary
    title = dspy.ChainOfThought("summary -> title")(summary=summary).title
    return {"summary": summary, "headline": title}


def _parallel() -> Any:
    one, other = dspy.Predict(QA), dspy.Predict("question -> hint")
    pairs = [(one, {"question": "Capital?"}), (other, {"question": "Capital?"})]
    found = dspy.Parallel(num_threads=1, disable_progress_bar=True)(pairs)
    return {"answer": found[0].answer, "hint": found[1].hint}


def _apart() -> Any:
    """Side by side, each with options of its own."""
    pairs = [
        (_Warm("question -> answer", 0.1), {"question": "Capital?"}),
        (_Warm("question -> hint", 0.9), {"question": "Capital?"}),
    ]
    found = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
    return {"answer": found[0].answer, "hint": found[1].hint}


class _Warm(dspy.Module):  # type: ignore[misc]  # DSPy ships no types
    def __init__(self, signature: str, temperature: float) -> None:
        super().__init__()
        self.step = dspy.Predict(signature)
        self.temperature = temperature

    def forward(self, **inputs: Any) -> Any:
        lm = dspy.settings.lm.copy(temperature=self.temperature)
        with dspy.context(lm=lm):
            return self.step(**inputs)


def _map() -> Any:
    inner = dspy.Predict("text, language -> translation")
    found = [inner(text=text, language="de") for text in ("one", "two", "three")]
    return {"translation": [one.translation for one in found]}


def _translated(request: Received) -> str:
    said = request.text("user")
    known = {"one": "eins", "two": "zwei", "three": "drei"}
    return chat(translation=next(de for en, de in known.items() if en in said))


class _Headline(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.summarise = dspy.Predict("text -> summary")
        self.entitle = dspy.ChainOfThought("summary -> title")

    def forward(self, text: str) -> Any:
        found = self.entitle(summary=self.summarise(text=text).summary)
        return dspy.Prediction(reasoning=found.reasoning, headline=found.title)


def _best_headline() -> Any:
    def good(_: Any, prediction: Any) -> float:
        return float(prediction.headline == "Good")

    return dspy.BestOfN(_Headline(), 2, good, 1.0)(text="Long.")


COMPOSITIONS = {
    "chain": Case(
        body=_run(
            {"module": "chain", "steps": _STEPS, "outputs": ["summary", "headline"]},
            text="Long.",
        ),
        work=_chain,
        replies=(chat(summary="Short."), chat(reasoning="Hm.", title="Title")),
    ),
    "parallel": Case(
        body=_run(
            {
                "module": "parallel",
                "steps": [
                    {"program": PREDICT},
                    {"program": {**PREDICT, "signature": "question -> hint"}},
                ],
            },
            question="Capital?",
        ),
        work=_parallel,
        replies=(chat(answer="Paris", hint="France"),),
        ordered=False,
    ),
    "parallel with options": Case(
        body=_run(
            {
                "module": "parallel",
                "steps": [
                    {"program": {**PREDICT, "config": {"temperature": 0.1}}},
                    {
                        "program": {
                            **PREDICT,
                            "signature": "question -> hint",
                            "config": {"temperature": 0.9},
                        }
                    },
                ],
            },
            question="Capital?",
        ),
        work=_apart,
        replies=(chat(answer="Paris", hint="France"),),
        ordered=False,
    ),
    "map": Case(
        body=_run(
            {
                "module": "map",
                "program": {**PREDICT, "signature": "text, language -> translation"},
                "over": "texts",
                "into": "text",
            },
            texts=["one", "two", "three"],
            language="de",
        ),
        work=_map,
        replies=_translated,
        ordered=False,
    ),
    "branch": Case(
        body=_run(
            {
                "module": "branch",
                "on": "kind",
                "cases": {"sum": PREDICT},
                "otherwise": {"module": "chain_of_thought", "signature": QA},
            },
            kind="sum",
            question="2+2?",
        ),
        work=lambda: dspy.Predict(QA)(question="2+2?"),
        replies=(chat(answer="4"),),
    ),
    "best_of_n of a chain": Case(
        body=_run(
            {
                "module": "best_of_n",
                "program": {"module": "chain", "steps": _STEPS},
                "attempts": 2,
                "reward": {
                    "metric": "exact_match",
                    "field": "headline",
                    "answers": ["Good"],
                },
                "threshold": 1.0,
            },
            text="Long.",
        ),
        work=_best_headline,
        replies=(
            chat(summary="s"),
            chat(reasoning="r", title="Bad"),
            chat(summary="s"),
            chat(reasoning="r", title="Good"),
        ),
    ),
}
