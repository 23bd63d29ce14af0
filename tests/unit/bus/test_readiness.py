"""Waiting until every part of a stack answers."""

import asyncio
from pathlib import Path

import pytest

from dspex.bus.children import Child, Ended, Program
from dspex.bus.core import Message
from dspex.bus.readiness import ROUTER_PING, News, Readiness, Waiting
from dspex.bus.tasks import Tasks
from dspex.bus.testing import MemoryServer
from dspex.contracts import encoding
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.subjects import Subjects

SUBJECTS = Subjects()


def _heartbeat(pid: int, state: str = "ready", host: str = "here") -> Heartbeat:
    given = {
        "type": "heartbeat",
        "worker": "w",
        "pool": "light",
        "implementation": "python",
        "state": state,
        "seq": 1,
        "at": 0.0,
        "operations": [],
        "concurrency": 1,
        "pid": pid,
        "host": host,
    }
    found: Heartbeat = encoding.read(given, Heartbeat)
    return found


def test_ready_process_is_ticked_off() -> None:
    """A ready heartbeat of an awaited process is what it takes."""
    readiness = Readiness({7: "native"}, "here")

    noted = readiness.note(_heartbeat(7))

    assert noted == "native"
    assert readiness.missing() == ["router"]


@pytest.mark.parametrize(
    "heartbeat",
    [_heartbeat(7, "starting"), _heartbeat(8), _heartbeat(7, host="elsewhere")],
)
def test_other_heartbeats_change_nothing(heartbeat: Heartbeat) -> None:
    """Starting processes, strangers and other machines are not waited for."""
    readiness = Readiness({7: "native"}, "here")

    assert readiness.note(heartbeat) is None
    assert readiness.missing() == ["router", "native"]


async def test_waiting_ends_when_all_answer() -> None:
    """A router that answers discovery and a ready worker end the wait."""
    server = MemoryServer()
    bus, other = server.connect(), server.connect()
    news: News = asyncio.Queue(8)
    said: list[str] = []
    tasks = Tasks()

    def pong(message: Message) -> None:
        tasks.start(other.publish(message.reply, b"{}"), "pong")

    def beat(message: Message) -> None:
        subject = SUBJECTS.heartbeat("light", "w")
        for body in (b"not ours", encoding.encode(_heartbeat(7))):
            tasks.start(other.publish(subject, body), "beat")

    await other.subscribe(ROUTER_PING, pong)
    await other.subscribe(SUBJECTS.discover(), beat)
    waiting = Waiting(bus, SUBJECTS, news, said.append)

    await waiting.until_ready(Readiness({7: "worker"}, "here"))

    assert sorted(said) == ["router: ready", "worker: ready"]


async def test_child_that_ends_ends_the_wait(tmp_path: Path) -> None:
    """A child that dies while others start is reported at once."""
    news: News = asyncio.Queue(8)
    program = Program(name="native", role="native", argv=("sh", "-c", "exit 3"))
    child = Child(program, tmp_path / "native.log")
    await child.start()
    await child.wait()
    await news.put(child)
    waiting = Waiting(MemoryServer().connect(), SUBJECTS, news, print)

    with pytest.raises(Ended, match="native ended with status 3"):
        await waiting.until_ready(Readiness({7: "native"}, "here"))
    await child.stop(1)
