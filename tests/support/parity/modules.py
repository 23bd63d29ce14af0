"""Every module of DSPy that a program may have, with every adapter."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from tests.support.asking import chat
from tests.support.parity.case import TOOLS, Case, dspy

QA = "question -> answer"
DEMO = {"question": "2+2?", "answer": "4"}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "What the weather is like.",
    "schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
    "subject": f"{TOOLS}.weather",
}
REWARD = {"metric": "exact_match", "field": "answer", "answers": ["Paris"]}
TRAINSET = [{"question": q, "answer": q} for q in ("a", "bb", "aaaa", "cccccc")]
PREDICT = {"module": "predict", "signature": QA}


def weather(city: str) -> dict[str, Any]:
    """What the weather is like."""
    return {"city": city, "rain_mm": 12}


def embed(texts: list[str]) -> list[list[float]]:
    """Vectors of texts."""
    return [[float(len(text)), float(text.count("a"))] for text in texts]


def reward(_: Any, prediction: Any) -> float:
    """One where the answer is Paris."""
    return 1.0 if prediction.answer == "Paris" else 0.0


def _run(spec: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    return {"program": spec, "inputs": inputs}


def acting(tool: str, arguments: str) -> str:
    """What an agent writes to call a tool."""
    return chat(next_thought="So.", next_tool_name=tool, next_tool_args=arguments)


def _predict() -> Any:
    program = dspy.Predict(dspy.Signature(QA, "Be brief."))
    program.demos = [dspy.Example(**DEMO)]
    return program(question="Capital?")


def _react() -> Any:
    args = WEATHER["schema"]["properties"]
    tool = dspy.Tool(weather, name="weather", desc=WEATHER["description"], args=args)
    return dspy.ReAct(QA, [tool], 4)(question="Umbrella?")


def _typed() -> Any:
    signature = dspy.Signature(
        {
            "text": (str, dspy.InputField()),
            "limits": (dict[str, int], dspy.InputField()),
            "label": (Literal["a", "b"], dspy.OutputField()),
            "score": (float, dspy.OutputField()),
            "names": (list[str], dspy.OutputField()),
        },
        "Judge the text.",
    )
    # Asynchronously, as a worker does: before 3.0 the JSON adapter differs in that.
    inputs = {"text": "Ein Wort,\nnoch eins.", "limits": {"least": 2}}
    return asyncio.run(dspy.Predict(signature).acall(**inputs))


def _in_adapter(name: str, cls: str, reply: str) -> Case:
    spec = {
        "module": "predict",
        "signature": "text, limits: dict[str, int] -> label: Literal['a', 'b'], "
        "score: float, names: list[str]",
        "instructions": "Judge the text.",
        "adapter": name,
    }
    return Case(
        body=_run(spec, text="Ein Wort,\nnoch eins.", limits={"least": 2}),
        work=_typed,
        replies=(reply,),
        adapter=cls,
    )


_ACTING = (
    acting("weather", '{"city": "Bergen"}'),
    acting("finish", "{}"),
    chat(reasoning="It rains.", answer="Yes"),
)
_AGENT = {"signature": QA, "tools": [WEATHER], "max_iters": 4}


def _program_of_thought() -> Any:
    return dspy.ProgramOfThought(QA)(question="6*7?")


def _code_act() -> Any:
    return dspy.CodeAct(QA, [])(question="6*7?")


def _rlm() -> Any:
    return dspy.RLM(QA, max_iters=3)(question="6*7?")


# The name of what ends a program has changed; both are said.
_CODE = """```python
try:
    end = SUBMIT
except NameError:
    end = final_answer
end({'answer': 6 * 7})
```"""


def _comparison() -> Any:
    return dspy.MultiChainComparison(QA)(_ATTEMPTS, question="Why?")


_ATTEMPTS = [{"reasoning": f"Because {i}.", "answer": f"a{i}"} for i in range(3)]


def _comparison_of_a_program() -> Any:
    inner, outer = dspy.ChainOfThought(QA), dspy.MultiChainComparison(QA, M=2)
    attempts = [dict(inner(question="Why?")) for _ in range(2)]
    return outer(attempts, question="Why?")


def _best_of_n() -> Any:
    return dspy.BestOfN(dspy.Predict(QA), 3, reward, 1.0)(question="Capital?")


def _refine() -> Any:
    program = dspy.Refine(dspy.ChainOfThought(QA), 3, reward, 1.0)
    # The one thing that differs: the advice is on what the reward means.
    program.reward_fn_code = (
        "The metric exact_match of the output `answer` and ['Paris']."
    )
    return program(question="Capital?")


def _majority() -> Any:
    inner = dspy.Predict(QA)
    return dspy.majority([inner(question="Why?") for _ in range(3)])


def _knn() -> Any:
    import numpy

    examples = [dspy.Example(**one).with_inputs("question") for one in TRAINSET]
    knn = dspy.KNN(2, examples, lambda texts: numpy.array(embed(texts)))
    return {"examples": [dict(one) for one in knn(question="aaa")]}


def _learned() -> Any:
    learned = dspy.ChainOfThought(QA)
    learned.predict.demos = [dspy.Example(**DEMO, reasoning="Add.", augmented=True)]
    learned.predict.signature = learned.predict.signature.with_instructions("Think.")
    return learned(question="Why?")


_STATE = {
    "predict": {
        "signature": {
            "instructions": "Think.",
            "fields": [
                {"prefix": "Question:", "description": "${question}"},
                {"prefix": "Reasoning:", "description": "${reasoning}"},
                {"prefix": "Answer:", "description": "${answer}"},
            ],
        },
        "demos": [{**DEMO, "reasoning": "Add.", "augmented": True}],
    }
}

MODULES = {
    "predict": Case(
        body=_run(
            {**PREDICT, "instructions": "Be brief.", "demos": [DEMO]},
            question="Capital?",
        ),
        work=_predict,
        replies=(chat(answer="Paris"),),
    ),
    "config": Case(
        body=_run(
            {**PREDICT, "config": {"temperature": 0.3, "max_tokens": 50}},
            question="Capital?",
        ),
        work=lambda: dspy.Predict(QA)(question="Capital?"),
        replies=(chat(answer="Paris"),),
        options={"temperature": 0.3, "max_tokens": 50},
    ),
    "chain_of_thought": Case(
        body=_run({"module": "chain_of_thought", "signature": QA}, question="Why?"),
        work=lambda: dspy.ChainOfThought(QA)(question="Why?"),
        replies=(chat(reasoning="Because.", answer="So."),),
    ),
    "chat": _in_adapter(
        "chat", "ChatAdapter", chat(label="a", score="0.5", names='["Ada"]')
    ),
    "json": _in_adapter(
        "json", "JSONAdapter", '{"label": "a", "score": 0.5, "names": ["Ada"]}'
    ),
    "xml": _in_adapter(
        "xml",
        "XMLAdapter",
        '<label>a</label>\n<score>0.5</score>\n<names>["Ada"]</names>',
    ),
    "react": Case(
        operation="react",
        body={**_AGENT, "inputs": {"question": "Umbrella?"}},
        work=_react,
        replies=_ACTING,
    ),
    "react in a run": Case(
        body=_run({**_AGENT, "module": "react"}, question="Umbrella?"),
        work=_react,
        replies=_ACTING,
    ),
    "program_of_thought": Case(
        body=_run({"module": "program_of_thought", "signature": QA}, question="6*7?"),
        work=_program_of_thought,
        replies=(
            chat(reasoning="Compute.", generated_code=_CODE),
            chat(reasoning="So.", answer="42"),
        ),
        needs=("ProgramOfThought",),
    ),
    "code_act": Case(
        body=_run({"module": "code_act", "signature": QA}, question="6*7?"),
        work=_code_act,
        replies=(
            chat(generated_code="```python\nprint(6*7)\n```", finished="True"),
            chat(reasoning="So.", answer="42"),
        ),
        needs=("CodeAct",),
    ),
    "rlm": Case(
        body=_run({"module": "rlm", "signature": QA, "max_iters": 3}, question="6*7?"),
        work=_rlm,
        replies=(
            chat(reasoning="Look.", code="```python\nprint(question)\n```"),
            chat(reasoning="Go.", code="```python\nSUBMIT(answer='42')\n```"),
        ),
        needs=("RLM",),
    ),
    "multi_chain_comparison": Case(
        body=_run(
            {"module": "multi_chain_comparison", "signature": QA},
            question="Why?",
            completions=_ATTEMPTS,
        ),
        work=_comparison,
        replies=(chat(rationale="All in all.", answer="a1"),),
    ),
    "multi_chain_comparison of a program": Case(
        body=_run(
            {
                "module": "multi_chain_comparison",
                "signature": QA,
                "attempts": 2,
                "program": {"module": "chain_of_thought", "signature": QA},
            },
            question="Why?",
        ),
        work=_comparison_of_a_program,
        replies=(
            chat(reasoning="So.", answer="a"),
            chat(reasoning="So.", answer="a"),
            chat(rationale="All.", answer="a"),
        ),
    ),
    "best_of_n": Case(
        body=_run(
            {
                "module": "best_of_n",
                "program": PREDICT,
                "attempts": 3,
                "reward": REWARD,
                "threshold": 1.0,
            },
            question="Capital?",
        ),
        work=_best_of_n,
        replies=(chat(answer="Bonn"), chat(answer="Paris")),
    ),
    "best_of_n by a function": Case(
        body=_run(
            {
                "module": "best_of_n",
                "program": PREDICT,
                "attempts": 3,
                "reward": {"subject": f"{TOOLS}.reward"},
                "threshold": 1.0,
            },
            question="Capital?",
        ),
        work=_best_of_n,
        replies=(chat(answer="Bonn"), chat(answer="Paris")),
    ),
    "refine": Case(
        body=_run(
            {
                "module": "refine",
                "program": {"module": "chain_of_thought", "signature": QA},
                "attempts": 3,
                "reward": REWARD,
                "threshold": 1.0,
            },
            question="Capital?",
        ),
        work=_refine,
        replies=(
            chat(reasoning="Hm.", answer="Bonn"),
            chat(discussion="Wrong.", advice='{"predict": "Think of France."}'),
            chat(reasoning="Ah.", answer="Paris"),
        ),
    ),
    "majority": Case(
        body=_run(
            {"module": "majority", "program": PREDICT, "attempts": 3}, question="Why?"
        ),
        work=_majority,
        replies=(chat(answer="a"), chat(answer="b"), chat(answer="b")),
    ),
    "knn": Case(
        body=_run(
            {
                "module": "knn",
                "k": 2,
                "trainset": TRAINSET,
                "inputs": ["question"],
                "vectorizer": {"subject": f"{TOOLS}.embed"},
            },
            question="aaa",
        ),
        work=_knn,
        replies=("",),
    ),
    "state": Case(
        body=_run(
            {"module": "chain_of_thought", "signature": QA, "state": _STATE},
            question="Why?",
        ),
        work=_learned,
        replies=(chat(reasoning="Because.", answer="So."),),
    ),
}
