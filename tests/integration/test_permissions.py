"""A NATS server on which everybody has the rights of a role, and no others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import nats
import pytest
from tests.support.nats_server import NatsServer, as_user, users
from tests.support.scripted_model import ScriptedModel
from tests.support.stack import Program, Stack, worker_environ

from dspex.bus.permissions import CLIENTS_INBOX
from dspex.client import connect
from dspex.client.tools import serve
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

QUESTION = {"signature": "question -> answer", "inputs": {"question": "Why?"}}


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("guarded")
    subjects = Subjects("guarded")
    async with (
        ScriptedModel() as model,
        NatsServer(folder / "nats", extra=users(subjects)) as server,
        Stack(
            server.url,
            folder,
            subjects.prefix,
            worker_environ(model.url),
            guarded=True,
        ) as found,
    ):
        await found.start(
            Program("dspex.router"),
            Program("dspex.native"),
            Program("dspex.services.state"),
            Program("dspex.services.worker"),
        )
        await found.ready(workers=1, state=1)
        yield found


@pytest.fixture
async def client(guarded: Stack) -> AsyncIterator[Client]:
    url = as_user(guarded.url, "client")
    async with connect(url, prefix=guarded.prefix, inbox=CLIENTS_INBOX) as found:
        yield found


async def test_clients_may_ask(client: Client) -> None:
    """A client calls, streams, asks native-ops, talks in a session, submits a job."""
    assert (await client.call("predict", QUESTION)).outputs["answer"]
    assert [event async for event in client.stream("predict", QUESTION)]
    score = {"metric": "exact_match", "prediction": "a", "answers": ["a"]}
    assert (await client.call("metric.score", score)).outputs == {"score": 1.0}
    async with client.session("question -> answer") as session:
        assert (await session.predict(question="Why?")).outputs["answer"]
    job = await client.submit("predict", QUESTION)
    assert (await job.result()).outputs["answer"]


async def test_large_bodies_pass(client: Client) -> None:
    """A body over the limit of a message travels by the object store."""
    inputs = {"question": "x" * 2_000_000}
    found = await client.call("predict", QUESTION | {"inputs": inputs})
    assert found.outputs["answer"]


async def test_functions_may_be_offered(guarded: Stack) -> None:
    """A user with the rights for it answers an agent's calls."""
    url = as_user(guarded.url, "functions")
    async with connect(url, prefix=guarded.prefix, inbox=CLIENTS_INBOX) as client:

        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        async with serve(client, add) as tool:
            found = await client.call("tool.list", {})
            async with connect(guarded.url, prefix=guarded.prefix) as other:
                reply = await other.bus.request(tool["subject"], b'{"a": 1, "b": 2}')
    assert "add" in str(found.outputs)
    assert b"3" in reply.data


@pytest.mark.parametrize(
    "subject",
    [
        "heartbeat.light.forged",
        "heartbeat.router.forged",
        "worker.somebody.run",
        "event.somebody.done",
        "job.light.p1",
        "tenant.acme.call.predict",
        "admin.drain",
        "tool.add",
    ],
)
async def test_clients_may_not_pose_as_others(guarded: Stack, subject: str) -> None:
    """The server refuses a client what belongs to programs, operators, tenants."""
    assert await refused(guarded, publish=f"{guarded.prefix}.v1.{subject}")


@pytest.mark.parametrize("subject", ["_INBOX.>", "guarded.v1.call.>", "$JS.API.>"])
async def test_clients_may_not_listen_in(guarded: Stack, subject: str) -> None:
    """Nor may it hear the requests and the answers of others."""
    assert await refused(guarded, subscribe=subject)


@pytest.mark.parametrize("pool", ["router", "state", "native", "supervisor"])
async def test_workers_may_not_pose_as_routers(guarded: Stack, pool: str) -> None:
    """A worker's heartbeats are those of a worker."""
    subject = f"{guarded.prefix}.v1.heartbeat.{pool}.forged"
    assert await refused(guarded, role="worker", publish=subject)


async def test_programs_miss_nothing(guarded: Stack, client: Client) -> None:
    """What the other tests made them do, they were allowed to."""
    await client.call("predict", QUESTION)
    logs = [program.log.lower() for program in guarded.programs]
    assert not [log for log in logs if "permissions violation" in log]


async def refused(
    guarded: Stack, *, publish: str = "", subscribe: str = "", role: str = "client"
) -> bool:
    said: asyncio.Queue[str] = asyncio.Queue()

    async def hear(error: Exception) -> None:
        said.put_nowait(str(error).lower())

    user: Any = await nats.connect(as_user(guarded.url, role), error_cb=hear)
    try:
        if publish:
            await user.publish(publish, b"{}")
        else:
            await user.subscribe(subscribe)
        await user.flush()
        async with asyncio.timeout(5):
            return "permissions violation" in await said.get()
    except TimeoutError:
        return False
    finally:
        await user.close()
