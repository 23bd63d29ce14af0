"""A client that is not ours: Node.js with its own NATS library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import node_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

TEXT = "Air scatters blue light more than red light, so the sky looks blue."

Converse = Callable[[str], Awaitable[Any]]


@pytest.fixture(name="environ")
def _environ(stack: Stack) -> dict[str, str]:
    return {"DSPEX_NATS_URL": stack.url, "DSPEX_PREFIX": stack.prefix}


@pytest.fixture(name="converse")
def _converse(
    environ: dict[str, str], tmp_path: Path, model: ScriptedModel
) -> Converse:
    model.reply_with(f"[[ ## answer ## ]]\n{TEXT}\n\n[[ ## completed ## ]]")

    async def converse(name: str) -> Any:
        return await node_client.converse(name, tmp_path, environ)

    return converse


async def test_request_is_answered(converse: Converse) -> None:
    """A plain request with headers gets the outputs and who answered."""
    reply = await converse("request")

    assert reply["body"]["type"] == "done"
    assert reply["body"]["request"] == "asked-by-node"
    assert reply["body"]["outputs"] == {"answer": TEXT}
    metadata = reply["body"]["metadata"]
    assert metadata["implementation"] == "python"
    assert metadata["pool"] == "light"
    assert metadata["worker"].startswith("light-")
    assert metadata["attempts"] == 1
    assert metadata["total_ms"] > 0
    assert metadata["dspy"]


@pytest.mark.parametrize("conversation", ["stream", "streamOwnInbox"])
async def test_stream_reaches_the_inbox(converse: Converse, conversation: str) -> None:
    """The shared inbox and one of its own get every event, up to the empty message."""
    said = await converse(conversation)

    assert said["ends"] == 1
    assert said["milliseconds"] < 15_000  # by the empty message, not by the time limit
    events = said["events"]
    [request] = {event["request"] for event in events}
    assert request.startswith("streamed-")
    kinds = [event["kind"] for event in events]
    assert kinds[:3] == ["requested", "accepted", "started"]
    assert kinds.count("done") == 1
    assert kinds[-1] == "done"
    texts = [event["text"] for event in events if event["kind"] == "delta"]
    assert len(texts) > 1
    assert "".join(texts) == events[-1]["outputs"]["answer"] == TEXT


async def test_stream_has_no_gaps(converse: Converse) -> None:
    """Within each attempt the events count from 1 without gaps, in order."""
    said = await converse("stream")

    counted: dict[int, list[int]] = defaultdict(list)
    for event in said["events"]:
        counted[event["attempt"]].append(event["seq"])
    assert sorted(counted) == [0, 1]
    for seqs in counted.values():
        assert seqs == list(range(1, len(seqs) + 1))


async def test_failure_is_typed(converse: Converse) -> None:
    """A failure is a typed body with the error headers that NATS tools read."""
    reply = await converse("failure")

    body = reply["body"]
    assert (body["type"], body["code"]) == ("failed", "invalid_signature")
    assert body["category"] == "caller"
    assert body["message"]
    assert body["hint"]
    assert body["retryable"] is False
    assert reply["headers"]["Nats-Service-Error-Code"] == "400"
    assert reply["headers"]["Nats-Service-Error"].startswith("invalid_signature: ")


async def test_unknown_operation_names_the_nearest(converse: Converse) -> None:
    """A misspelt operation is answered with the one that was probably meant."""
    reply = await converse("unknown")

    assert reply["body"]["code"] == "unknown_operation"
    assert "'predict'" in reply["body"]["message"]
    assert "Nats-Service-Error" in reply["headers"]


async def test_services_are_discovered(converse: Converse, stack: Stack) -> None:
    """NATS service discovery lists router, native-ops, state and both workers."""
    found = await converse("services")

    here = [one for one in found["info"] if _serves(one, stack.prefix)]
    names = sorted(one["name"] for one in here)
    worker = "dspex-worker-light"
    assert names == ["dspex-native", "dspex-router", "dspex-state", worker, worker]
    pinged = {one["id"]: one for one in found["ping"]}
    for one in here:
        assert one["type"] == "io.nats.micro.v1.info_response"
        assert one["version"]
        assert pinged[one["id"]]["type"] == "io.nats.micro.v1.ping_response"


async def test_example_answers(
    environ: dict[str, str], tmp_path: Path, model: ScriptedModel
) -> None:
    """The example in clients/node prints an answer, and the same streamed."""
    model.reply_with(f"[[ ## answer ## ]]\n{TEXT}\n\n[[ ## completed ## ]]")

    script = node_client.EXAMPLE / "ask.mjs"
    said = await node_client.run(script, "Why?", folder=tmp_path, environ=environ)

    lines = said.splitlines()
    assert lines[0] == f"answer: {TEXT}"
    assert lines[1].startswith("  by light-")
    assert lines[2] == f"streamed: {TEXT}"


def _serves(info: dict[str, Any], prefix: str) -> bool:
    subjects = [endpoint["subject"] for endpoint in info["endpoints"]]
    return any(subject.startswith(f"{prefix}.") for subject in subjects)
