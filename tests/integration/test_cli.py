"""The commands as a user runs them, on real processes and a scripted model."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest
from tests.support.scripted_model import ScriptedModel
from tests.support.stack import worker_environ

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

SENTIMENT = "text -> sentiment: Literal['positive', 'negative']"
MARK = "DSPEX_TEST_MARK"
SECONDS = 60
BASE = '[nats]\nlisten = "127.0.0.1:0"\n[pools.light]\nprocesses = 1\n'
"""One worker; a port that nobody else has."""

SNIPPET = """
import asyncio, dspex.client
async def main():
    async with dspex.client.connect() as client:
        print((await client.predict("question -> answer", question="Why?")).outputs)
asyncio.run(main())
"""


class Folder:
    """A user's folder, with the environment of a user who has a scripted model."""

    def __init__(self, path: Path, model: ScriptedModel) -> None:
        self.path = path
        self.model = model
        self.mark = uuid4().hex
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DSPEX_")}
        self.environ = inherited | worker_environ(model.url) | {MARK: self.mark}

    def file(self, text: str) -> None:
        (self.path / "dspex.toml").write_text(text)

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await self._start("-m", "dspex.cli", *words)

    async def _start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *words),
            cwd=self.path,
            env=self.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str) -> tuple[int | None, str, str]:
        """Exit status, output and errors of a command."""
        return await self.python("-m", "dspex.cli", *words)

    async def python(self, *words: str) -> tuple[int | None, str, str]:
        """Exit status, output and errors of a Python program."""
        process = await self._start(*words)
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    def left(self) -> dict[int, str]:
        """Processes that a command of this folder started and that still run."""
        found: dict[int, str] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark in (entry / "environ").read_text():
                    words = (entry / "cmdline").read_text().split("\0")
                    found[int(entry.name)] = " ".join(words)
            except (OSError, UnicodeDecodeError):
                continue  # it ended, or is not ours to look at
        return found


class Up:
    """A running `dspex up`."""

    def __init__(self, folder: Folder, *words: str) -> None:
        self.folder = folder
        self._words = words
        self.process: asyncio.subprocess.Process
        self.said: list[str] = []

    async def __aenter__(self) -> Self:
        self.process = await self.folder.start("up", *self._words)
        await self.until("Ctrl-C")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.communicate()

    async def until(self, words: str) -> None:
        """Read what it prints until a line holds `words`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(SECONDS):
            while line := await self.process.stdout.readline():
                self.said.append(line.decode())
                if words in self.said[-1]:
                    return
        raise AssertionError("".join(self.said))

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(SECONDS):
            await self.process.communicate()
            return await self.process.wait()


@pytest.fixture(name="folder")
async def _folder(tmp_path: Path) -> AsyncIterator[Folder]:
    async with ScriptedModel() as model:
        folder = Folder(tmp_path, model)
        folder.file(BASE)
        yield folder
        if sys.platform == "linux":
            assert folder.left() == {}


async def _ended(pids: list[int]) -> None:
    """Wait for processes that are not our children."""
    loop = asyncio.get_running_loop()
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        over = asyncio.Event()
        loop.add_reader(descriptor, over.set)
        try:
            async with asyncio.timeout(SECONDS):
                await over.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


async def test_up_answers_calls_and_stops(folder: Folder) -> None:
    """`up` serves `call`, whole and streamed, and Ctrl-C ends it with status 0."""
    ask = ("call", "predict", "--signature", SENTIMENT, "text=I loved it")
    async with Up(folder) as up:
        whole = await folder.run(*ask)
        url = (folder.path / ".dspex" / "url").read_text().strip()
        plain = await folder.run(*ask, "--url", url.removeprefix("nats://"))
        streamed = await folder.run(*ask, "--stream", "--json")
        refused = await folder.run("call", "predict", "--signature", "a", "a=1")
        second = await folder.run("up")
        status = await up.end(signal.SIGINT)

    kinds = [json.loads(line)["kind"] for line in streamed[1].splitlines()]
    assert whole[0] == 0
    assert whole[1].startswith("sentiment: ")
    assert (kinds[0], kinds[-1]) == ("requested", "done")
    assert plain[0] == 0
    assert f"export NATS_URL={url}" in "".join(up.said)
    assert refused[0] == 1
    assert "invalid_signature" in refused[2]
    assert second[0] == 1
    assert "Another `dspex up`" in second[2]
    assert status == 0
    assert not (folder.path / ".dspex" / "url").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
async def test_up_starts_again_what_was_killed(folder: Folder) -> None:
    """A worker and a server that are killed come back, and calls are answered."""
    ask = ("call", "predict", "--signature", "question -> answer", "question=Why?")
    async with Up(folder) as up:
        for name in ("services.worker", "nats-server -c", "dspex.router"):
            pids = [pid for pid, line in folder.left().items() if name in line]
            os.kill(pids[0], signal.SIGKILL)
            await up.until("Starting it again in 0.5 s")
        answer = await _until_answered(folder, ask)
        status = await up.end(signal.SIGTERM)

    assert answer.startswith("answer: ")
    assert status == 0


async def _until_answered(folder: Folder, ask: tuple[str, ...]) -> str:
    async with asyncio.timeout(SECONDS):
        while True:
            status, out, _ = await folder.run(*ask, "--timeout", "10")
            if status == 0:
                return out


async def test_nobody_reads_the_stream(folder: Folder) -> None:
    """A stream whose reader has had enough, as `head` has, ends without a word."""
    ask = ("predict", "--signature", "question -> answer", "question=Why?", "--stream")
    async with Up(folder):
        call = await folder.start("call", *ask)
        assert call.stdout is not None
        call.stdout._transport.close()  # type: ignore[attr-defined]
        _, err = await call.communicate()

    assert (call.returncode, err) == (141, b"")


async def test_client_finds_the_stack_of_its_folder(folder: Folder) -> None:
    """The Python client without an address asks the `up` of its folder."""
    async with Up(folder):
        found = await folder.python("-c", SNIPPET)

    assert found[0] == 0
    assert "answer" in found[1]


async def test_second_interrupt_does_not_wait(folder: Folder) -> None:
    """A request that hangs holds up the first Ctrl-C; the second ends it at once."""
    ask = ("call", "predict", "--signature", "question -> answer", "question=Why?")
    folder.model.hang()
    async with Up(folder) as up:
        call = await folder.start(*ask)
        await folder.model.received(1)
        up.process.send_signal(signal.SIGINT)
        await up.until("Ctrl-C again")
        status = await up.end(signal.SIGINT)
        await call.communicate()

    assert status == 0
    assert call.returncode == 1


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
async def test_nothing_outlives_a_killed_up(folder: Folder) -> None:
    """When `up` itself is killed, all that it started ends too."""
    async with Up(folder) as up:
        children = [pid for pid in folder.left() if pid != up.process.pid]
        status = await up.end(signal.SIGKILL)
        await _ended(children)
        orphan = await folder.run("call", "predict", "--signature", "a -> b", "a=1")

    assert "is gone: it was killed" in orphan[2]
    assert status == -signal.SIGKILL
    assert len(children) == 9  # the server and the supervisor have a guard each
    assert folder.left() == {}


async def test_demo_asks_and_teaches(folder: Folder) -> None:
    """`demo` is answered four times, prints the commands, and leaves nothing."""
    folder.file("[pools.light]\nprocesses = 1\n")

    status, out, err = await folder.run("demo")

    assert (status, err) == (0, "")
    assert out.count("answered by worker light-") == 4
    assert "nats req" in out
    assert "-H Dspex-Stream:inbox" in out


async def test_demo_fails_with_its_model(folder: Folder) -> None:
    """A configured model that fails is never replaced: the demo fails and says why."""
    folder.environ["DSPEX_LMS_DEFAULT_API_BASE"] = "http://127.0.0.1:1/v1"

    status, out, _ = await folder.run("demo")

    assert status == 1
    assert "lm_unavailable" in out
    assert "4 of 4 questions failed" in out


async def test_up_with_a_bad_configuration(folder: Folder) -> None:
    """A key that does not exist ends `up` at once, with the nearest one named."""
    folder.file("[nats]\nlissten = 'x'\n")

    status, _, err = await folder.run("up")

    assert status == 1
    assert "listen" in err


async def test_up_in_a_folder_with_a_file_in_the_way(folder: Folder) -> None:
    """A file called .dspex ends `up` with one line that says what to do."""
    (folder.path / ".dspex").write_text("")

    status, _, err = await folder.run("up")

    assert status == 1
    assert len(err.splitlines()) == 1
    assert "Move it away" in err


async def test_call_without_a_server(folder: Folder) -> None:
    """Without a stack `call` says what to start."""
    status, _, err = await folder.run("call", "predict", "--signature", "a -> b", "a=1")

    assert status == 1
    assert "dspex up" in err


async def test_operators_commands(folder: Folder) -> None:
    """Pools are shown, scaled, drained and restarted; what is not there is said."""
    async with Up(folder) as up:
        shown = await folder.run("pools", "--json")
        scaled = await folder.run("scale", "light", "2")
        await up.until("worker-light-2: ready")
        picture = await folder.run("top", "--once")
        wrong = await folder.run("scale", "lihgt", "2")
        nothing = await folder.run("drain", "nothing")
        unseen = await folder.run("pools", "nothing")
        nowhere = await folder.run("scale", "light", "1", "--host", "nowhere")
        restarted = await folder.run("restart", "light", "--json")
        drained = await folder.run("drain", "light")
        await up.until("worker-light-1: stopped")
        table = await folder.run("pools")

    [host] = json.loads(shown[1])
    [pool] = host["pools"]
    [worker] = pool["workers"]
    assert (pool["processes"], worker["state"]) == (1, "ready")
    assert (bool(worker["dspy"]), worker["rss"] > 10_000_000) == (True, True)
    assert scaled[:2] == (0, f"{host['host']}  light: 2 workers\n")
    assert "2 of 2 ready" in picture[1]
    assert worker["worker"] in picture[1]
    assert (wrong[0], "Did you mean 'light'?" in wrong[2]) == (1, True)
    assert nothing[0] == unseen[0] == 1
    assert ["not_found" in one[2] for one in (nothing, unseen)] == [True, True]
    assert "No supervisor is called 'nowhere'" in nowhere[2]
    assert len(json.loads(restarted[1])[0]["workers"]) == 2
    assert drained[0] == 0
    assert "of 0 ready" in table[1]


async def test_top_ends_with_ctrl_c(folder: Folder) -> None:
    """`top` draws again and again, and Ctrl-C ends it with status 0."""
    async with Up(folder):
        top = await folder.start("top")
        assert top.stdout is not None
        for _ in range(2):
            while b"dspex top" not in await top.stdout.readline():
                pass
        top.send_signal(signal.SIGINT)
        _, err = await top.communicate()

    assert (top.returncode, err) == (0, b"")


async def test_another_host_joins(folder: Folder, tmp_path: Path) -> None:
    """`up --join` adds a host with workers and nothing else."""
    there = tmp_path / "there"
    there.mkdir()
    second = Folder(there, folder.model)
    second.file("[pools.light]\nprocesses = 1\n")
    async with Up(folder):
        url = (folder.path / ".dspex" / "url").read_text().strip()
        second.environ |= {MARK: folder.mark}
        async with Up(second, "--join", url, "--host", "second") as joined:
            shown = await folder.run("pools", "--json")
            picture = await folder.run("pools")
        alone = await folder.run("pools", "--json")

    hosts = {one["host"]: one["pools"][0]["workers"] for one in json.loads(shown[1])}
    assert len(hosts) == 2
    assert [len(workers) for workers in hosts.values()] == [1, 1]
    assert "second" in hosts
    assert "second" in picture[1]
    assert "router: ready" not in "".join(joined.said)
    assert len(json.loads(alone[1])) == 1
