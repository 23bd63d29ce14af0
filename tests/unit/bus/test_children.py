"""Child processes: started, read, stopped."""

import re
import sys
from pathlib import Path

import pytest

from dspex.bus.children import Child, Ended, Program
from dspex.bus.tasks import Tasks
from dspex.cli import server

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""


def _child(folder: Path, *argv: str) -> Child:
    program = Program(name="child", role="worker", argv=argv, environ={"WORD": "hi"})
    return Child(program, folder / "logs" / "child.log")


async def test_output_goes_to_the_log(tmp_path: Path) -> None:
    """What a child writes, with the variables it was given, is in its log."""
    child = _child(tmp_path, "sh", "-c", "echo $WORD; echo $WORD >&2")

    await child.start()
    await child.wait()
    await child.stop(1)

    assert child.tail() == "hi\nhi"
    assert not child.running


async def test_announcement_is_awaited(tmp_path: Path) -> None:
    """A piped child is ready at the line that says so; all it wrote is returned."""
    child = _child(tmp_path, "sh", "-c", "echo one; echo ready 2; read _")
    said: list[str] = []

    await child.start(piped=True)
    text = await child.announced(re.compile("ready"), said.append)
    await child.stop(1)

    assert text == "one\nready 2\n"
    assert said == ["child: one"]


async def test_output_after_the_announcement_is_kept(tmp_path: Path) -> None:
    """The rest of a piped child's output goes to its log."""
    child = _child(tmp_path, "sh", "-c", "echo ready; echo more")
    tasks = Tasks()

    await child.start(piped=True)
    await child.announced(re.compile("ready"))
    tasks.start(child.pump(), "pump")
    await child.wait()
    await tasks.join(5)
    await child.stop(1)

    assert child.tail() == "ready\nmore"


async def test_end_before_the_announcement(tmp_path: Path) -> None:
    """A child that ends first is an error with its status and its last words."""
    child = _child(tmp_path, "sh", "-c", "echo no such thing; exit 7")
    await child.start(piped=True)

    with pytest.raises(Ended, match=r"child ended with status 7.*\nno such thing"):
        await child.announced(re.compile("ready"))
    await child.stop(1)


async def test_stubborn_child_is_killed(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is ended when its grace is over."""
    child = _child(tmp_path, sys.executable, "-c", STUBBORN)
    await child.start(piped=True)
    await child.announced(re.compile("ready"))

    await child.stop(0.05)

    assert child.status == -9
    assert "was ended by SIGKILL" in child.describe_end()


async def test_stop_twice_and_never_started(tmp_path: Path) -> None:
    """Stopping is harmless before the start and after the end."""
    child = _child(tmp_path, "sh", "-c", "read _")
    await child.stop(1)
    await child.start()

    await child.stop(5)
    await child.stop(5)

    assert child.status is not None
    assert child.pid


async def test_guard_ends_a_process_when_its_pipe_closes(tmp_path: Path) -> None:
    """The guard of the server ends it when whoever held the pipe is gone."""
    guarded = _child(tmp_path, "sh", "-c", "while :; do sleep 60; done")
    await guarded.start()
    program = Program(name="guard", role="guard", argv=server.guard(guarded.pid))
    guard = Child(program, tmp_path / "guard.log")
    await guard.start()

    guard.release()
    await guarded.wait()
    await guard.wait()

    assert guarded.status == -15
