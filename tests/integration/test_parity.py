"""What a worker answers and asks is what the same program does in process.

Every module, adapter and optimizer of every supported release: the same inputs and the
same replies give equal outputs from equal prompts.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support import deno, write_releases
from tests.support.asking import Asker, read
from tests.support.parity.case import TOOLS
from tests.support.parity.cases import CASES
from tests.support.parity.modules import embed, weather
from tests.support.programs import answering
from tests.support.releases import RELEASES, on, python_of

from dspex.contracts import catalog, encoding
from dspex.contracts.features import needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.parity.case import Case
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.xdist_group("releases")]

ROOT = Path(__file__).parents[2]
ENDS_WITHIN = 150.0
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "weather": lambda said: weather(**said),
    "reward": lambda said: {"score": float(said["outputs"]["answer"] == "Paris")},
    "embed": lambda said: embed(said["texts"]),
}


class InProcess:
    """What all programs do with DSPy alone, by release; each in one process.

    Args:
        releases: A stack with a worker of each.
        environ: Of those processes.
    """

    def __init__(self, releases: Stack, environ: dict[str, str]) -> None:
        self._releases = releases
        self._environ = os.environ | environ
        self._found: dict[str, dict[str, Any]] = {}

    async def of(self, release: str) -> dict[str, Any]:
        """Its ``cases`` by their names, and what was ``probed`` beside them."""
        if release not in self._found:
            ran = await asyncio.to_thread(
                subprocess.run,
                (python_of(release), "-m", "tests.support.parity"),
                cwd=ROOT,
                env=self._environ,
                capture_output=True,
                check=True,
                timeout=ENDS_WITHIN,
            )
            self._found[release] = json.loads(ran.stdout)
        return self._found[release]

    def lacks(self, release: str, operation: str, body: Any) -> frozenset[str]:
        """What a request needs, and the release's worker says it has not."""
        kind = catalog.operation(operation).request
        [beat] = [one for one in self._releases.beats() if one.dspy == release]
        return needed(encoding.read(body, kind)) & set(beat.lacks)


@pytest.fixture(scope="module", name="in_process")
async def _in_process(
    releases: Stack, tmp_path_factory: pytest.TempPathFactory
) -> InProcess:
    standing = deno.environ(tmp_path_factory.mktemp("deno"))
    paths = f"{standing['PYTHONPATH']}{os.pathsep}{ROOT}"
    environ = {"PYTHONPATH": paths, "PYTHONHASHSEED": "0"}
    return InProcess(releases, standing | environ)


@pytest.fixture(name="ask")
async def _ask(releases: Stack, bus: NatsBus) -> Asker:
    """A client that also offers what the programs call."""
    ask = Asker(bus, releases.subjects)
    for name, function in FUNCTIONS.items():

        async def answer(message: Message, do: Any = function) -> None:
            found = json.dumps(do(read(message))).encode()
            await bus.publish(message.reply, found)

        await answering(bus, ask.subjects.tool(name), answer)
    return ask


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("release", RELEASES)
async def test_a_program_does_what_it_does_in_process(
    ask: Asker, model: ScriptedModel, in_process: InProcess, name: str, release: str
) -> None:
    """Equal outputs from equal prompts; what the release lacks is refused."""
    wanted, case = (await in_process.of(release))["cases"][name], CASES[name]
    model.reply_with(case.answers())
    tools = ask.subjects.tool("x").removesuffix(".x")
    body = json.loads(json.dumps(case.body).replace(TOOLS, tools))

    answer = await ask.ask(case.operation, on(release, body), timeout=60)

    assert ("lacks" in wanted) == bool(in_process.lacks(release, case.operation, body))
    asked = [request.body for request in model.requests]
    if "lacks" in wanted:
        assert (answer.code, asked) == ("unsupported", [])
        assert f"DSPy {release}" in answer.body["message"]
        assert answer.body["hint"]
        return
    assert answer.code == "done", answer.body
    assert compared(case, answer.body["outputs"]) == wanted["outputs"]
    if case.operation == "program.optimize":
        asked = asked[: len(wanted["prompts"])]  # what comes out is scored once more
    assert in_order(case, asked) == in_order(case, wanted["prompts"])


async def test_the_table_of_releases_is_true(in_process: InProcess) -> None:
    """docs/dspy-releases.md says what the releases say of themselves."""
    probed = [(await in_process.of(release))["probed"] for release in RELEASES]

    assert write_releases.FILE.read_text(encoding="utf-8") == write_releases.text(
        probed
    )


def compared(case: Case, outputs: dict[str, Any]) -> dict[str, Any]:
    """The part of the outputs that DSPy has too."""
    if case.operation == "program.evaluate":
        return {"score": outputs["score"]}
    if case.operation == "program.optimize":
        return {"state": outputs["specification"]["state"]}
    return outputs


def in_order(case: Case, prompts: list[Any]) -> list[Any]:
    """Prompts as they came, or, where that may differ, sorted."""
    return prompts if case.ordered else sorted(prompts, key=json.dumps)
