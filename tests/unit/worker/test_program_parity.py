"""Every module and composition gives what DSPy gives, and asks what DSPy asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy as untyped
import pytest
from tests.support.asking import chat
from tests.support.programs import Bench
from tests.support.scripted_model import ScriptedModel

from dspex.services.worker.modules import Modules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.scripted_wire import Received

pytestmark = pytest.mark.dspy

# DSPy's annotations do not say all that it takes.
dspy: Any = untyped

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
    "subject": "dspex.v1.tool.weather",
}


class FakeInterpreter:
    """What stands in for Deno: it knows the one program of these tests."""

    tools: dict[str, Any]

    def __init__(self) -> None:
        self.tools = {}

    def start(self) -> None:
        """Nothing to start."""

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        if "SUBMIT" in code:
            return dspy.primitives.code_interpreter.FinalOutput({"answer": "42"})
        return "42"

    def shutdown(self) -> None:
        """Nothing to end."""


def weather(city: str) -> dict[str, Any]:
    """What the weather is like."""
    return {"city": city, "rain_mm": 12}


@pytest.fixture(name="bench")
async def _bench() -> AsyncIterator[Bench]:
    async with (
        ScriptedModel() as model,
        Bench(model, modules=Modules(FakeInterpreter)) as bench,
    ):
        await bench.offer(WEATHER["subject"], lambda said: weather(**said))
        yield bench


def scripted(*texts: str) -> Callable[[Received], str]:
    """Answer so, one after another, and the last again and again."""
    waiting = list(texts)
    return lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0]


def acting(thought: str, tool: str, arguments: str) -> str:
    return chat(next_thought=thought, next_tool_name=tool, next_tool_args=arguments)


async def compare(
    bench: Bench,
    spec: Any,
    work: Callable[..., Any],
    inputs: dict[str, Any],
    *texts: str,
) -> dict[str, Any]:
    """Run both against the same replies; outputs and prompts must be equal."""
    replies = texts or (chat(reasoning="Because.", answer="Paris"),)
    bench.model.reply_with(scripted(*replies))
    expected = await bench.in_process(lambda: work(**inputs))
    asked = bench.prompts()
    bench.model.reply_with(scripted(*replies))
    found = await bench.run(spec, inputs)
    assert found == expected
    assert bench.prompts() == asked
    assert asked
    return found


async def test_predict(bench: Bench) -> None:
    """``predict`` with instructions and demos."""
    program = dspy.Predict(dspy.Signature(QA, "Be brief."))
    program.demos = [dspy.Example(**DEMO)]
    spec = {
        "module": "predict",
        "signature": QA,
        "instructions": "Be brief.",
        "demos": [DEMO],
    }

    found = await compare(bench, spec, program, {"question": "Capital?"})

    assert found == {"answer": "Paris"}


async def test_chain_of_thought(bench: Bench) -> None:
    """``chain_of_thought`` reasons first."""
    spec = {"module": "chain_of_thought", "signature": QA}

    found = await compare(bench, spec, dspy.ChainOfThought(QA), {"question": "Why?"})

    assert list(found) == ["reasoning", "answer"]


async def test_react(bench: Bench) -> None:
    """``react`` calls a tool over the bus as DSPy calls a function."""
    args = WEATHER["schema"]["properties"]
    tool = dspy.Tool(weather, name="weather", desc=WEATHER["description"], args=args)
    spec = {"module": "react", "signature": QA, "tools": [WEATHER], "max_iters": 4}
    texts = (
        acting("Look.", "weather", '{"city": "Bergen"}'),
        acting("Done.", "finish", "{}"),
        chat(reasoning="It rains.", answer="Yes"),
    )

    found = await compare(
        bench, spec, dspy.ReAct(QA, [tool], 4), {"question": "Umbrella?"}, *texts
    )

    assert found["answer"] == "Yes"
    assert found["trajectory"]["observation_0"] == {"city": "Bergen", "rain_mm": 12}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_program_of_thought(bench: Bench) -> None:
    """``program_of_thought`` runs code in the interpreter it is given."""
    program = dspy.ProgramOfThought(QA, interpreter_factory=FakeInterpreter)
    spec = {"module": "program_of_thought", "signature": QA}
    code = "```python\nSUBMIT({'answer': 6*7})\n```"
    texts = (
        chat(reasoning="Compute.", generated_code=code),
        chat(reasoning="So.", answer="42"),
    )

    found = await compare(bench, spec, program, {"question": "6*7?"}, *texts)

    assert found == {"reasoning": "So.", "answer": "42"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_code_act(bench: Bench) -> None:
    """``code_act`` acts by code."""
    program = dspy.CodeAct(QA, [], interpreter_factory=FakeInterpreter)
    spec = {"module": "code_act", "signature": QA}
    code = "```python\nprint(6*7)\n```"
    texts = (
        chat(generated_code=code, finished="True"),
        chat(reasoning="So.", answer="42"),
    )

    found = await compare(bench, spec, program, {"question": "6*7?"}, *texts)

    assert found["answer"] == "42"


async def test_rlm(bench: Bench) -> None:
    """``rlm`` explores by code."""
    program = dspy.RLM(QA, interpreter_factory=FakeInterpreter)
    spec = {"module": "rlm", "signature": QA}
    code = "```python\nSUBMIT(answer='42')\n```"

    found = await compare(
        bench, spec, program, {"question": "6*7?"}, chat(reasoning="Go.", code=code)
    )

    assert found["answer"] == "42"
    assert found["final_reasoning"] == "Go."


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_multi_chain_comparison(bench: Bench) -> None:
    """``multi_chain_comparison`` of attempts that are given."""
    attempts = [{"reasoning": f"Because {i}.", "answer": f"a{i}"} for i in range(3)]
    spec = {"module": "multi_chain_comparison", "signature": QA}

    found = await compare(
        bench,
        spec,
        dspy.MultiChainComparison(QA),
        {"question": "Why?", "completions": attempts},
        chat(rationale="All in all.", answer="a1"),
    )

    assert found == {"rationale": "All in all.", "answer": "a1"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_comparison_of_a_program(bench: Bench) -> None:
    """The attempts may be made by another program."""
    inner = dspy.ChainOfThought(QA)
    outer = dspy.MultiChainComparison(QA, M=2)

    def work(question: str) -> Any:
        attempts = [inner(question=question) for _ in range(2)]
        return outer([dict(one) for one in attempts], question=question)

    spec = {
        "module": "multi_chain_comparison",
        "signature": QA,
        "attempts": 2,
        "program": {"module": "chain_of_thought", "signature": QA},
    }
    one = chat(reasoning="So.", answer="a")
    texts = (one, one, chat(rationale="All.", answer="a"))

    await compare(bench, spec, work, {"question": "Why?"}, *texts)


def _score(args: Any, prediction: Any) -> float:
    """One where the answer is Paris."""
    del args
    return 1.0 if prediction.answer == "Paris" else 0.0


REWARD = {"metric": "exact_match", "field": "answer", "answers": ["Paris"]}


async def test_best_of_n(bench: Bench) -> None:
    """``best_of_n`` stops at the first answer that is good enough."""
    program = dspy.BestOfN(dspy.Predict(QA), 3, _score, 1.0)
    spec = {
        "module": "best_of_n",
        "program": {"module": "predict", "signature": QA},
        "attempts": 3,
        "reward": REWARD,
        "threshold": 1.0,
    }
    texts = (chat(answer="Bonn"), chat(answer="Paris"))

    found = await compare(bench, spec, program, {"question": "Capital?"}, *texts)

    assert found == {"answer": "Paris"}


async def test_best_of_n_with_a_remote_reward(bench: Bench) -> None:
    """The reward may be a function on a subject."""
    seen: list[Any] = []

    def score(said: Any) -> Any:
        seen.append(said)
        return {"score": float(said["outputs"]["answer"] == "Paris")}

    await bench.offer("dspex.v1.tool.reward", score)
    program = dspy.BestOfN(dspy.Predict(QA), 3, _score, 1.0)
    spec = {
        "module": "best_of_n",
        "program": {"module": "predict", "signature": QA},
        "attempts": 3,
        "reward": {"subject": "dspex.v1.tool.reward"},
        "threshold": 1.0,
    }
    texts = (chat(answer="Bonn"), chat(answer="Paris"))

    await compare(bench, spec, program, {"question": "Capital?"}, *texts)

    assert seen[0] == {
        "inputs": {"question": "Capital?"},
        "outputs": {"answer": "Bonn"},
    }


async def test_refine(bench: Bench) -> None:
    """``refine`` gives advice; all but the source of the reward is asked alike."""
    program = dspy.Refine(dspy.ChainOfThought(QA), 3, _score, 1.0)
    program.reward_fn_code = (
        "The metric exact_match of the output `answer` and ['Paris']."
    )
    spec = {
        "module": "refine",
        "program": {"module": "chain_of_thought", "signature": QA},
        "attempts": 3,
        "reward": REWARD,
        "threshold": 1.0,
    }
    advice = chat(discussion="Wrong.", advice='{"predict": "Think of France."}')
    texts = (
        chat(reasoning="Hm.", answer="Bonn"),
        advice,
        chat(reasoning="Ah.", answer="Paris"),
    )

    found = await compare(bench, spec, program, {"question": "Capital?"}, *texts)

    assert found["answer"] == "Paris"


async def test_majority(bench: Bench) -> None:
    """``majority`` of several answers of one program."""
    inner = dspy.Predict(QA)

    def work(question: str) -> Any:
        return dspy.majority([inner(question=question) for _ in range(3)])

    spec = {
        "module": "majority",
        "program": {"module": "predict", "signature": QA},
        "attempts": 3,
    }
    texts = (chat(answer="a"), chat(answer="B"), chat(answer="b"))

    found = await compare(bench, spec, work, {"question": "Why?"}, *texts)

    assert found["answer"] in ("B", "b")


async def test_knn(bench: Bench) -> None:
    """``knn`` finds what DSPy finds, with vectors from a subject."""
    numpy = pytest.importorskip("numpy")

    def embed(texts: list[str]) -> Any:
        return [[float(len(text)), float(text.count("a"))] for text in texts]

    await bench.offer("dspex.v1.tool.embed", lambda said: embed(said["texts"]))
    trainset = [{"question": q, "answer": q} for q in ("a", "bb", "aaaa", "cccccc")]
    examples = [dspy.Example(**one).with_inputs("question") for one in trainset]
    knn = dspy.KNN(2, examples, lambda texts: numpy.array(embed(texts)))
    spec = {
        "module": "knn",
        "k": 2,
        "trainset": trainset,
        "inputs": ["question"],
        "vectorizer": {"subject": "dspex.v1.tool.embed"},
    }

    found = await bench.run(spec, {"question": "aaa"})

    assert found["examples"] == [dict(one) for one in knn(question="aaa")]


STEPS = [
    {"program": {"module": "predict", "signature": "text -> summary"}},
    {
        "program": {"module": "chain_of_thought", "signature": "summary -> title"},
        "outputs": {"title": "headline"},
    },
]


async def test_chain(bench: Bench) -> None:
    """``chain`` is one program after another, wired by names."""
    first, second = (
        dspy.Predict("text -> summary"),
        dspy.ChainOfThought("summary -> title"),
    )

    def work(text: str) -> Any:
        summary = first(text=text).summary
        return {"summary": summary, "headline": second(summary=summary).title}

    spec = {"module": "chain", "steps": STEPS, "outputs": ["summary", "headline"]}
    texts = (chat(summary="Short."), chat(reasoning="Hm.", title="Title"))

    found = await compare(bench, spec, work, {"text": "Long."}, *texts)

    assert found == {"summary": "Short.", "headline": "Title"}


async def test_parallel(bench: Bench) -> None:
    """``parallel`` gives what ``dspy.Parallel`` gives, under other names."""
    one, other = dspy.Predict(QA), dspy.Predict("question -> hint")

    def work(question: str) -> Any:
        pairs = [(one, {"question": question}), (other, {"question": question})]
        found = dspy.Parallel(num_threads=1, disable_progress_bar=True)(pairs)
        return {"answer": found[0].answer, "hint": found[1].hint}

    spec = {
        "module": "parallel",
        "steps": [
            {"program": {"module": "predict", "signature": QA}},
            {"program": {"module": "predict", "signature": "question -> hint"}},
        ],
    }

    bench.model.reply_with(lambda _: chat(answer="Paris", hint="France"))
    expected = await bench.in_process(lambda: work("Capital?"))
    asked = bench.prompts()
    found = await bench.run(spec, {"question": "Capital?"})

    assert found == expected
    assert sorted(map(str, bench.prompts())) == sorted(map(str, asked))


async def test_map(bench: Bench) -> None:
    """``map`` is one program for each element, in their order."""
    inner = dspy.Predict("text, language -> translation")

    def work(texts: list[str], language: str) -> Any:
        found = [inner(text=text, language=language) for text in texts]
        return {"translation": [one.translation for one in found]}

    spec = {
        "module": "map",
        "program": {"module": "predict", "signature": "text, language -> translation"},
        "over": "texts",
        "into": "text",
        "concurrency": 1,
    }
    texts = (chat(translation="eins"), chat(translation="zwei"))

    found = await compare(
        bench, spec, work, {"texts": ["one", "two"], "language": "de"}, *texts
    )

    assert found == {"translation": ["eins", "zwei"]}


async def test_branch(bench: Bench) -> None:
    """``branch`` runs the case that an input names."""
    spec = {
        "module": "branch",
        "on": "kind",
        "cases": {"sum": {"module": "predict", "signature": QA}},
        "otherwise": {"module": "chain_of_thought", "signature": QA},
    }
    program = dspy.Predict(QA)

    await compare(
        bench,
        spec,
        lambda kind, question: program(question=question),
        {"kind": "sum", "question": "2+2?"},
        chat(answer="4"),
    )


async def test_refine_around_a_chain(bench: Bench) -> None:
    """DSPy's own modules take a composition as a module."""
    spec = {
        "module": "best_of_n",
        "program": {"module": "chain", "steps": STEPS},
        "attempts": 2,
        "reward": {"metric": "exact_match", "field": "headline", "answers": ["Good"]},
        "threshold": 1.0,
    }
    bench.model.reply_with(
        scripted(
            chat(summary="s"),
            chat(reasoning="r", title="Bad"),
            chat(summary="s"),
            chat(reasoning="r", title="Good"),
        )
    )

    found = await bench.run(spec, {"text": "Long."})

    assert found == {"reasoning": "r", "headline": "Good"}
    assert [one["temperature"] for one in bench.prompts()] == [1.0] * 4


async def test_learned_state(bench: Bench) -> None:
    """What a module learned elsewhere is what it is asked with here."""
    learned = dspy.ChainOfThought(QA)
    learned.predict.demos = [dspy.Example(**DEMO, reasoning="Add.", augmented=True)]
    learned.predict.signature = learned.predict.signature.with_instructions("Think.")
    spec = {
        "module": "chain_of_thought",
        "signature": QA,
        "state": learned.dump_state(),
    }

    await compare(bench, spec, learned, {"question": "Why?"})


async def test_states_are_loaded_into_fresh_instances(bench: Bench) -> None:
    """More states than DSPy can load into one module are loaded one after another."""
    bench.model.reply_with(chat(answer="a"))
    state = dspy.Predict(QA).dump_state()

    for number in range(150):
        signature = state["signature"] | {"instructions": f"Way {number}."}
        spec = {
            "module": "predict",
            "signature": QA,
            "state": state | {"signature": signature},
        }
        await bench.run(spec, {"question": "Why?"})

    assert "Way 149." in bench.prompts()[-1]["messages"][0]["content"]
