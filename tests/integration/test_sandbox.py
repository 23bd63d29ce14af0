"""Modules that run code which a model writes, in DSPy's own sandbox: Deno, Pyodide."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from tests.support.asking import chat
from tests.support.stack import Program

from dspex.client import tools
from dspex.services.worker.interpreters import IMPORTS, deno

if TYPE_CHECKING:
    from tests.support.asking import Asker
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.deno]

QA = "question -> answer"
QUESTION = {"question": "How much is it?"}


@pytest.fixture(scope="module", autouse=True)
async def _ready() -> None:
    """Pyodide is fetched from the registry of npm packages, once for a machine."""
    found = deno()
    if found is None:
        pytest.skip('Deno is not installed: pip install "dspex[sandbox]"')
    make: Any = dspy.PythonInterpreter
    runner = make()._get_runner_path()
    fetching = await asyncio.create_subprocess_exec(
        *(found, "cache", "--no-config", "--no-lock", f"--import-map={IMPORTS}"),
        runner,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await fetching.communicate()
    if fetching.returncode:
        pytest.skip(f"Pyodide cannot be fetched: {said.decode()[-300:]}")


def python(code: str) -> str:
    return f"```python\n{code}\n```"


async def run(asker: Asker, **program: Any) -> Any:
    body = {"program": program | {"signature": QA}, "inputs": QUESTION}
    found = await asker.ask("run", body, timeout=100)
    assert found.code == "done", found.body
    return found.body["outputs"]


async def test_program_of_thought(asker: Asker, model: ScriptedModel) -> None:
    """The program that the model writes is run, and its result is what it is shown."""
    code = python("total = sum(n * n for n in range(5))\nSUBMIT({'total': total})")
    model.reply_with(chat(reasoning="Sum.", generated_code=code), times=1)
    model.reply_with(chat(reasoning="So.", answer="30"), times=1)

    found = await run(asker, module="program_of_thought")

    assert found == {"reasoning": "So.", "answer": "30"}
    assert "{'total': 30}" in model.requests[1].text("user").replace('"', "'")


async def test_code_act(asker: Asker, model: ScriptedModel) -> None:
    """What a piece of code prints is seen by the next one; state stays."""
    model.reply_with(chat(generated_code=python("x = 6"), finished="False"), times=1)
    code = python("print(x * 7)")
    model.reply_with(chat(generated_code=code, finished="True"), times=1)
    model.reply_with(chat(reasoning="So.", answer="42"), times=1)

    found = await run(asker, module="code_act")

    assert found["answer"] == "42"
    assert "42" in str(found["trajectory"]["code_output_1"])


async def test_rlm_calls_tools_from_code(
    client: Client, asker: Asker, model: ScriptedModel
) -> None:
    """Code in the sandbox calls functions on subjects, and cannot do much else."""
    heard: list[tuple[str, int]] = []

    async def rain(city: str, days: int = 1) -> dict[str, Any]:
        """Millimetres of rain in a city."""
        heard.append((city, days))
        return {"mm": 12 * days}

    first = python("found = rain(city='Bergen', days=2)\nprint(found['mm'] + 1)")
    second = python("import os\nprint(os.listdir('/root'))")
    last = python("SUBMIT(answer=str(found['mm']))")
    for code in (first, second, last):
        model.reply_with(chat(reasoning="Go.", code=code), times=1)

    async with tools.serve(client, rain) as tool:
        found = await run(asker, module="rlm", tools=[tool])

    assert heard == [("Bergen", 2)]
    assert found["answer"] == "24"
    steps = [str(one) for one in found["trajectory"]]
    assert "25" in steps[0]
    assert "No such file" in steps[1]


async def test_rlm_asks_another_model(
    own: Stack, ask: Asker, model: ScriptedModel
) -> None:
    """What its code asks goes to the language model that ``sub_lm`` names."""
    small = "DSPEX_LMS_SMALL"
    own.environ |= {
        f"{small}_MODEL": "openai/small",
        f"{small}_API_BASE": model.url,
        f"{small}_API_KEY": "test-key-not-a-secret",
    }
    code = python("SUBMIT(answer=llm_query('Who?'))")
    model.reply_with(chat(reasoning="Ask.", code=code), times=1)
    model.reply_with("Goethe.", times=1)
    await own.start(Program("dspex.router"), Program("dspex.services.worker"))
    await own.ready(workers=1, native=0)

    found = await run(ask, module="rlm", sub_lm="small")

    assert found["answer"] == "Goethe."
    assert [one.body["model"] for one in model.requests] == ["scripted", "small"]
