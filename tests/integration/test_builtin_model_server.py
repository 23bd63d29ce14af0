from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from tests.support.builtin import KEY, Running, begin, end, start, weights_folder

from dspex.contracts.configuration import Lm
from dspex.services.model.weights import FILE, WeightsError
from dspex.services.worker.adapters import adapter
from dspex.services.worker.lms import Builtin, LanguageModels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.model, pytest.mark.dspy]

EXTRACT = dspy.make_signature(
    "text: str -> name: str, age: int", "Extract the person's name and age."
)


@pytest.fixture(scope="module")
def weights() -> Path:
    try:
        return weights_folder()
    except WeightsError as error:
        pytest.skip(f"The weights of the built-in model cannot be fetched: {error}")


@pytest.fixture(scope="module")
def server(weights: Path) -> Iterator[Running]:
    running = start(weights)
    yield running
    end(running.process)


@pytest.fixture
async def lm(server: Running) -> AsyncIterator[dspy.LM]:
    configured = {"default": Lm(model="builtin", temperature=0.0, max_tokens=60)}
    builtin = Builtin(server.ready["url"], KEY)
    known = LanguageModels(configured, environ={}, builtin=builtin)
    yield known.build("default")
    await known.aclose()


def test_it_says_when_it_is_ready(server: Running) -> None:
    """The one line on standard output says where the model is and its name."""
    assert server.ready["type"] == "ready"
    assert server.ready["url"].startswith("http://127.0.0.1:")
    assert server.ready["model"] == "smollm2-135m"


def test_it_wants_its_key(server: Running) -> None:
    """A request without the key is refused."""
    request = urllib.request.Request(
        f"{server.ready['url']}/chat/completions", data=b'{"messages": []}'
    )

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)

    refused.value.close()
    assert refused.value.code == 401


async def test_it_extracts_into_the_types_of_a_signature(lm: dspy.LM) -> None:
    """Constrained by the JSON Schema, even a toy finds a name and an age."""
    with dspy.context(lm=lm, adapter=adapter(None, True)):
        answer = await dspy.Predict(EXTRACT).acall(text="Anna is 31 years old.")

    assert answer.name.startswith("Anna")
    assert answer.age == 31


async def test_its_streamed_pieces_are_its_answer(lm: dspy.LM) -> None:
    """Joined, the chunks of a stream are the JSON of the final prediction."""
    program: Any = dspy.streamify(dspy.Predict(EXTRACT), is_async_program=True)
    answer: dict[str, Any] = {}
    pieces: list[str] = []

    with dspy.context(lm=lm, adapter=adapter(None, True)):
        async for value in program(text="Bob is 45 years old."):
            if isinstance(value, dspy.Prediction):
                answer = value.toDict()
            else:
                pieces.append(value.choices[0].delta.content or "")

    assert len([piece for piece in pieces if piece]) > 3
    assert json.loads("".join(pieces)) == answer


def test_it_ends_with_its_standard_input(weights: Path) -> None:
    """When its parent's end of the pipe closes, it leaves at once and in order."""
    assert end(start(weights).process) == 0


def test_it_ends_when_told(weights: Path) -> None:
    """SIGTERM is an orderly end too."""
    process = start(weights).process

    process.terminate()

    assert end(process) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="Only there is it seen to load.")
def test_it_ends_when_told_while_it_loads(weights: Path) -> None:
    """SIGTERM is not lost in the library that loads the weights."""
    process = begin(weights)
    maps = Path(f"/proc/{process.pid}/maps")
    while FILE not in maps.read_text():  # its end is that of the process, or of this
        assert process.poll() is None
        time.sleep(0.01)

    process.terminate()

    assert end(process) == 0


def test_it_refuses_weights_that_are_not_its_own(weights: Path, tmp_path: Path) -> None:
    """What lies in the cache under the right name is checked before it is loaded."""
    (tmp_path / FILE).write_bytes(b"GGUF not really")
    environ = {**os.environ, "DSPEX_MODELS": str(tmp_path), "PIP_NO_INDEX": "1"}

    done = subprocess.run(
        [sys.executable, "-m", "dspex.services.model", "--prepare"],
        env={**environ, "PIP_FIND_LINKS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "damaged" in done.stderr
    assert not (tmp_path / FILE).exists()
