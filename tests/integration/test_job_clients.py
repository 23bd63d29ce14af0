"""Jobs from the Python clients and from the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from tests.support.asking import chat, question

import dspex.client.sync
from dspex.bus.durable import api, ensure_stream
from dspex.bus.provisioning import Names, declared
from dspex.contracts.failures import Conflict, DeadlineExceeded, LmUnavailable
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus
    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


async def test_client(client: Client, model: ScriptedModel) -> None:
    """A job's result is what the request would have returned."""
    model.reply_with(chat(answer="Because."))

    job = await client.submit("predict", question(), priority=1)
    answer = await job.result(timeout=30)

    assert answer.answer == "Because."
    assert (await client.job(job.id).get()).state == "done"


async def test_client_gets_large_results(client: Client, model: ScriptedModel) -> None:
    """A result that no message has room for comes from the object store."""
    model.chunk = 100_000
    model.reply_with(chat(answer="x" * 1_500_000))

    job = await client.submit("predict", question())

    assert len((await job.result(timeout=30)).answer) == 1_500_000


async def test_client_is_told_of_failures(client: Client, model: ScriptedModel) -> None:
    """A job that failed raises what it failed with, and can be tried again."""
    model.fail_with(500)
    job = await client.submit("predict", question(), max_attempts=1)

    with pytest.raises(LmUnavailable, match="1 of 1 attempts failed"):
        await job.result(timeout=30)
    model.reset()
    await job.retry()

    assert (await job.wait(timeout=30)).state == "done"
    with pytest.raises(Conflict):
        await job.retry()


async def test_client_waits_only_so_long(client: Client, model: ScriptedModel) -> None:
    """A wait that comes to its end says so; the job goes on until it is cancelled."""
    model.hang(times=1)
    job = await client.submit("predict", question())

    with pytest.raises(DeadlineExceeded, match="still"):
        await job.wait(timeout=0.3)

    assert (await job.cancel()).state == "cancelled"


async def test_sync_client(stack: Stack, model: ScriptedModel) -> None:
    """The client without ``await`` does the same."""
    model.reply_with(chat(answer="Because."))

    def ask() -> str:
        with dspex.client.sync.connect(stack.url, prefix=stack.prefix) as client:
            job = client.submit("predict", question())
            assert job.wait(30).state == "done"
            assert client.job(job.id).get().state == "done"
            found: str = job.result().answer
            return found

    assert await asyncio.to_thread(ask) == "Because."


async def run(stack: Stack, *words: str) -> tuple[int | None, str, str]:
    """Run a command against a stack."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dspex.cli", *words, "--url", stack.url),
        env=stack.environ | {"PATH": ""},
        cwd=stack.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_command_line(stack: Stack, model: ScriptedModel) -> None:
    """Jobs are submitted, shown, listed, waited for and cancelled."""
    model.reply_with(chat(answer="Because."))
    words = ("predict", "--signature", "question -> answer", "question=Why?")

    status, out, err = await run(stack, "job", "submit", *words, "--id", "c1", "--wait")
    assert (status, err) == (0, "")
    assert "c1: done, predict in pool light" in out
    assert "answer: Because." in out

    status, out, _ = await run(stack, "job", "show", "c1", "--json")
    assert (status, json.loads(out)["state"]) == (0, "done")
    status, out, _ = await run(stack, "job", "wait", "c1")
    assert (status, "answer: Because." in out) == (0, True)

    later = ("--id", "c2", "--in", "3600")
    assert (await run(stack, "job", "submit", *words, *later))[0] == 0
    status, out, _ = await run(stack, "job", "ls", "--state", "queued")
    assert (status, "c2" in out, "c1" in out) == (0, True, False)
    status, out, _ = await run(stack, "job", "cancel", "c2")
    assert (status, "c2: cancelled" in out) == (0, True)
    status, _, err = await run(stack, "job", "retry", "c2")
    assert (status, "conflict" in err) == (1, True)


async def test_provision(stack: Stack) -> None:
    """Everything declared is made once, and then kept."""
    stack.environ["DSPEX_PREFIX"] = prefix = f"{stack.prefix}p"
    try:
        first = await run(stack, "provision", "--json")
        again = await run(stack, "provision")
    finally:
        stack.environ["DSPEX_PREFIX"] = stack.prefix

    made: list[dict[str, Any]] = json.loads(first[1])
    assert {one["made"] for one in made} == {"made"}
    assert Names(prefix).jobs in {one["name"] for one in made}
    assert f"{Names(prefix).jobs} light-p3" in {one["name"] for one in made}
    assert again[0] == 0
    assert again[1].count("kept") == len(made)


async def test_consumers_are_as_configured(stack: Stack, bus: NatsBus) -> None:
    """What ``[jobs]`` says of deliveries is what the server does."""
    said = {"ACK_WAIT_S": "3", "MAX_DELIVER": "7", "MAX_IN_HAND": "5"}
    ours = {f"DSPEX_JOBS_{name}": value for name, value in said.items()}
    prefix, before = f"{stack.prefix}r", dict(stack.environ)
    stack.environ |= ours | {"DSPEX_PREFIX": prefix}
    try:
        status, _, err = await run(stack, "provision")
    finally:
        stack.environ.clear()
        stack.environ |= before

    found = await api(bus, f"CONSUMER.INFO.{Names(prefix).jobs}.light-p1")
    config = found["config"]
    assert (status, err) == (0, "")
    assert (config["max_deliver"], config["max_ack_pending"]) == (7, 5)
    assert config["ack_wait"] == 3_000_000_000


async def test_changed_declarations(stack: Stack, bus: NatsBus) -> None:
    """What differs is changed, or refused with what stands in the way."""
    prefix = f"{stack.prefix}q"
    configs = {one.name: one for one in declared(Subjects(prefix))}
    dead, jobs = (configs[one] for one in (Names(prefix).dead, Names(prefix).jobs))
    await ensure_stream(bus, replace(dead, max_age=60.0))
    stack.environ["DSPEX_PREFIX"] = prefix
    try:
        changed = await run(stack, "provision", "--json")
        await bus.request(f"$JS.API.STREAM.DELETE.{jobs.name}")
        await ensure_stream(bus, replace(jobs, storage="memory"))
        refused = await run(stack, "provision")
    finally:
        stack.environ["DSPEX_PREFIX"] = stack.prefix

    found = {one["name"]: one["made"] for one in json.loads(changed[1])}
    assert found[dead.name] == "changed"
    assert refused[0] == 1
    assert f"Stream {jobs.name!r} exists and cannot become" in refused[2]
