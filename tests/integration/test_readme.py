"""The README's own program, its Python and its JavaScript, as they stand there."""

from __future__ import annotations

import asyncio
import os
import sys
from textwrap import indent
from typing import TYPE_CHECKING

import pytest
from tests.conformance import node_client
from tests.support.asking import chat
from tests.support.commands import dspex
from tests.support.documents import snippets
from tests.support.stack import Program, Stack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

TRIAGE = {"reasoning": "Down.", "urgency": "high", "team": "database"}


def snippet(language: str, holds: str) -> str:
    """The one block of the README that holds some words."""
    [found] = [
        one.text
        for one in snippets(language)
        if one.page == "README.md" and holds in one.text
    ]
    return found


async def python(folder: Path, text: str, environ: dict[str, str]) -> str:
    """What a text prints that awaits at its top, as in a notebook."""
    file = folder / "snippet.py"
    file.write_text(
        f"import asyncio\n\nasync def main():\n{indent(text, '    ')}\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(file)),
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_a_program_of_ones_own(
    own: Stack, model: ScriptedModel, tmp_path: Path
) -> None:
    """The module and the configuration of the README run, named as it says."""
    (tmp_path / "triage.py").write_text(snippet("python", "class Triage"))
    file = tmp_path / "dspex.toml"
    file.write_text(snippet("toml", "triage:Triage"))
    model.reply_with(chat(**TRIAGE))
    own.environ |= {"DSPEX_CONFIG": str(file), "PYTHONPATH": str(tmp_path)}
    own.environ |= {"OPENAI_API_KEY": "none"}
    await own.start(*(Program(f"dspex.{one}") for one in ("native", "router")))
    await own.start(Program("dspex.services.worker", "--pool", "light"))
    await own.ready(workers=1)

    words = ("call", "run", "--program", "triage", "ticket=The database is down.")
    status, out, err = await dspex(own, *words)

    assert (status, err) == (0, "")
    assert out.splitlines()[1:3] == ["urgency: high", "team: database"]


async def test_python(own: Stack, tmp_path: Path) -> None:
    """Every line of the client's example runs."""
    await own.start(*(Program(f"dspex.{one}") for one in ("native", "router")))
    others = (Program(f"dspex.services.{one}") for one in ("state", "replay"))
    await own.start(*others)
    await own.start(Program("dspex.services.worker", "--pool", "light"))
    await own.ready(workers=1, state=1)
    environ = {"DSPEX_NATS_URL": own.url, "DSPEX_PREFIX": own.prefix}

    out = await python(tmp_path, snippet("python", "dspex.client.connect"), environ)

    assert "identical" in out


async def test_node(stack: Stack, model: ScriptedModel, tmp_path: Path) -> None:
    """The example prints the answer, then the same as it is written, and ends."""
    model.reply_with(chat(answer="So it is."))
    text = snippet("js", "requestMany")
    for there, here in (
        ("nats://127.0.0.1:4222", stack.url),
        ("dspex.v1.", f"{stack.prefix}.v1."),
    ):
        assert there in text
        text = text.replace(there, here)
    (tmp_path / "snippet.mjs").write_text(text)
    (folder := tmp_path / "node").mkdir()

    out = await node_client.run(tmp_path / "snippet.mjs", folder=folder, environ={})

    assert out == "So it is.\nSo it is."
