"""A stack whose parts do not do what they should."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from dspex.cli.embedded import EmbeddedServer
from dspex.cli.lm import Choice
from dspex.cli.plan import Plan
from dspex.cli.server import Server
from dspex.cli.stack import Settings, Stack, StackFailed
from dspex.contracts import configuration
from dspex.contracts.configuration import Lm

pytestmark = pytest.mark.nats


def _stack(
    folder: Path,
    script: str,
    environ: dict[str, str] | None = None,
    ready_s: float = 30,
    say: Callable[[str], None] = lambda line: None,
) -> Stack:
    """A stack whose programs are a shell script."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    free = {"DSPEX_NATS_LISTEN": "127.0.0.1:0"}
    found = configuration.parse("", free | (environ or {}))
    lm = found.lms.get("default", Lm(model="openai/x"))
    choice = Choice(lm=lm, why="a test")
    plan = Plan(configuration=found, choice=choice, python=str(python))
    settings = Settings(home=folder, logs=folder / "logs", ready_s=ready_s, grace_s=0.5)
    return Stack(plan, settings, say)


async def test_program_that_ends_fails_the_start(tmp_path: Path) -> None:
    """A program that ends at once fails the start with its name and last words."""
    stack = _stack(tmp_path, "echo no module >&2; exit 3")

    with pytest.raises(StackFailed, match=r"ended with status 3.*\nno module"):
        await stack.__aenter__()

    assert stack.processes() == {}


async def test_program_that_never_answers_fails_the_start(tmp_path: Path) -> None:
    """When the wait is over the message lists what is not ready, with its log."""
    stack = _stack(tmp_path, "echo thinking; read _", ready_s=1)

    with pytest.raises(StackFailed) as failed:
        await stack.__aenter__()

    assert "router, native, state, replay, supervisor" in str(failed.value)
    assert "thinking" in str(failed.value)
    assert stack.processes() == {}


async def test_model_that_cannot_start_fails_the_start(tmp_path: Path) -> None:
    """Nothing takes its place, and its words are told once, as they come."""
    script = 'case "$*" in *model*) echo no weights; exit 2;; *) read _;; esac'
    said: list[str] = []
    stack = _stack(tmp_path, script, {"DSPEX_LM": "builtin"}, say=said.append)

    with pytest.raises(StackFailed, match=r"model ended with status 2") as failed:
        await stack.__aenter__()

    assert "\n".join([*said, str(failed.value)]).count("no weights") == 1
    assert "model.log" in str(failed.value)
    assert stack.processes() == {}


async def test_taken_port_is_explained(tmp_path: Path) -> None:
    """A port that is taken is named, with what to set."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    environ = {"DSPEX_NATS_LISTEN": f"127.0.0.1:{port}"}
    stack = _stack(tmp_path, "read _", environ)

    async with server:
        with pytest.raises(StackFailed, match=rf"port {port}\. Set nats\.") as failed:
            await stack.__aenter__()
    assert "[INF]" not in str(failed.value)

    assert stack.processes() == {}


async def test_taken_port_of_nats_has_a_second_choice(tmp_path: Path) -> None:
    """Where any port will do, a taken one is left alone and it is said."""
    other = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    wanted = Server(host="127.0.0.1", port=port, store=tmp_path, or_free=True)
    embedded = EmbeddedServer(wanted, tmp_path / "logs")

    async with other:
        try:
            await embedded.start()
            first = embedded.url
            await embedded.child.stop(5)
            await embedded.start()
        finally:
            await embedded.stop()

    assert embedded.moved == f"127.0.0.1:{port} is taken"
    assert first.rpartition(":")[2] not in {str(port), "0", "-1"}
    assert embedded.url == first


async def test_file_in_the_way_fails_the_start(tmp_path: Path) -> None:
    """What cannot be written is named, with what to do."""
    (tmp_path / "logs").write_text("")
    stack = _stack(tmp_path, "read _")

    with pytest.raises(StackFailed, match="logs cannot be used"):
        await stack.__aenter__()
