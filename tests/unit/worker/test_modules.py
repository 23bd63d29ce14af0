"""What parity with DSPy alone does not show of modules: what is told, and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy as untyped
import pytest
from tests.support.asking import chat
from tests.support.programs import Bench
from tests.support.scripted_model import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.dspy

# DSPy's annotations do not say all that it takes.
dspy: Any = untyped

QA = "question -> answer"


@pytest.fixture(name="bench")
async def _bench() -> AsyncIterator[Bench]:
    async with ScriptedModel() as model, Bench(model) as bench:
        yield bench


async def test_a_reward_is_told_inputs_and_outputs(bench: Bench) -> None:
    """The reward may be a function on a subject, and is asked for each attempt."""
    seen: list[Any] = []

    def score(said: Any) -> Any:
        seen.append(said)
        return {"score": float(said["outputs"]["answer"] == "Paris")}

    await bench.offer("dspex.v1.tool.reward", score)
    spec = {
        "module": "best_of_n",
        "program": {"module": "predict", "signature": QA},
        "attempts": 3,
        "reward": {"subject": "dspex.v1.tool.reward"},
        "threshold": 1.0,
    }
    bench.model.reply_with(chat(answer="Paris"))
    bench.model.reply_with(chat(answer="Bonn"), times=1)

    found = await bench.run(spec, {"question": "Capital?"})

    assert found == {"answer": "Paris"}
    assert seen == [
        {"inputs": {"question": "Capital?"}, "outputs": {"answer": answer}}
        for answer in ("Bonn", "Paris")
    ]


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
