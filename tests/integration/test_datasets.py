"""Datasets over NATS: stored with versions, and used by their names."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pytest
from tests.support.asking import Asker, chat
from tests.support.learning import EXACT, EXAMPLES, PREDICT, pupil

from dspex.bus.durable import api
from dspex.bus.provisioning import Names
from dspex.contracts import encoding
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus
    from dspex.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


@pytest.fixture(name="name")
def _name() -> str:
    return f"d{uuid4().hex[:8]}"


async def put(asker: Asker, name: str, dataset: Any, **more: Any) -> Any:
    body = {"name": name, "dataset": dataset} | more
    return (await asker.ask("dataset.put", body)).body


async def test_versions(asker: Asker, name: str) -> None:
    """A dataset is put, got whole and in part, changed, listed and deleted."""
    first = await put(asker, name, EXAMPLES, note="All.")
    second = await put(asker, name, EXAMPLES[:2], expected_version=1)
    stale = await put(asker, name, EXAMPLES, expected_version=1)

    newest = (await asker.ask("dataset.get", {"name": name})).body["outputs"]
    part = {"name": name, "version": 1, "after": 1, "limit": 3}
    older = (await asker.ask("dataset.get", part)).body["outputs"]
    known = await asker.ask("dataset.get", {"name": name, "limit": 0})
    listed = (await asker.ask("dataset.list", {"limit": 500})).body["outputs"]
    gone = (await asker.ask("dataset.delete", {"name": name})).body["outputs"]
    after = await asker.ask("dataset.get", {"name": name, "version": 1})
    again = await put(asker, name, EXAMPLES)

    told = first["outputs"]
    assert (told["version"], told["count"], told["note"]) == (1, 8, "All.")
    assert told["fields"] == ["answer", "question"]
    assert second["outputs"]["versions"] == [1, 2]
    assert (stale["code"], stale["field"]) == ("conflict", "expected_version")
    assert newest["dataset"] == EXAMPLES[:2]
    assert (older["version"], older["dataset"]) == (1, EXAMPLES[1:4])
    assert known.body["outputs"]["dataset"] is None
    assert [one["version"] for one in listed["datasets"] if one["name"] == name] == [2]
    assert gone == {"name": name, "version": 2}
    assert (after.code, after.body["field"]) == ("not_found", "name")
    assert again["outputs"]["version"] == 3
    assert again["outputs"]["digest"] == told["digest"]


async def test_deleted_examples_are_gone(
    asker: Asker, bus: NatsBus, stack: Stack, name: str
) -> None:
    """What was deleted takes no room, whichever version it was."""
    stream = f"STREAM.INFO.OBJ_{Names(stack.prefix).datasets}"
    before = (await api(bus, stream))["state"]["messages"]

    await put(asker, name, EXAMPLES)
    await put(asker, name, EXAMPLES[:1])
    await asker.ask("dataset.delete", {"name": name})

    assert (await api(bus, stream))["state"]["messages"] == before


async def test_one_of_two_wins(asker: Asker, name: str) -> None:
    """Of two puts at the same moment one is a conflict, and the other one's is read."""
    found = await asyncio.gather(
        *(put(asker, name, [{"a": n}], expected_version=0) for n in range(4))
    )

    won = [one for one in found if one["type"] == "done"]
    newest = (await asker.ask("dataset.get", {"name": name})).body["outputs"]
    assert len(won) == 1
    assert {one.get("code", "done") for one in found} == {"done", "conflict"}
    assert newest["digest"] == won[0]["outputs"]["digest"]
    assert newest["dataset"] == [{"a": found.index(won[0])}]


async def test_evaluated_by_name(asker: Asker, model: ScriptedModel, name: str) -> None:
    """A program is evaluated on a dataset by its name, or a version of it."""
    model.reply_with(pupil)
    await put(asker, name, EXAMPLES)
    await put(asker, name, EXAMPLES[:2])

    newest = await asker.ask(
        "program.evaluate", {"program": PREDICT, "dataset": name, "metric": EXACT}
    )
    older = await asker.ask(
        "program.evaluate",
        {"program": PREDICT, "dataset": f"{name}@1", "metric": EXACT},
    )
    given = await asker.ask(
        "program.evaluate", {"program": PREDICT, "dataset": EXAMPLES, "metric": EXACT}
    )

    assert newest.body["outputs"]["count"] == 2
    assert newest.body["outputs"]["dataset"] == f"{name}@2"
    assert older.body["outputs"]["dataset"] == f"{name}@1"
    assert older.body["outputs"]["scores"] == given.body["outputs"]["scores"]


async def test_optimised_by_name(asker: Asker, model: ScriptedModel, name: str) -> None:
    """Datasets are named as what to learn from and what to compare by, in a job too."""
    model.reply_with(pupil)
    await put(asker, f"{name}-train", EXAMPLES[:5])
    await put(asker, f"{name}-val", EXAMPLES[5:])
    body = {
        "program": PREDICT,
        "optimizer": {"name": "BootstrapFewShot", "max_labeled_demos": 0},
        "trainset": f"{name}-train",
        "valset": f"{name}-val@1",
        "metric": EXACT,
    }

    job = await asker.ask("job.submit", {"operation": "program.optimize", "body": body})
    asked = {"job": job.body["outputs"]["job"], "timeout_s": 20}
    found = (await asker.ask("job.wait", asked, timeout=30)).body["outputs"]

    outputs = found["result"]["outputs"]
    assert (outputs["trainset"], outputs["valset"]) == (
        f"{name}-train@1",
        f"{name}-val@1",
    )
    assert outputs["scored"] == 3
    assert outputs["specification"]["state"]["demos"]


async def test_in_columns(asker: Asker, bus: NatsBus, name: str) -> None:
    """A dataset is put as an Arrow stream, and got as one."""
    column = pa.array(EXAMPLES)
    schema = pa.schema(
        {"example": column.type}, metadata={"dspex": json.dumps({"name": name})}
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table([column], schema=schema))
    stored = await bus.request(
        asker.subjects.call("dataset.put"),
        sink.getvalue(),
        headers={"Content-Type": encoding.ARROW},
        timeout=20,
    )
    body = {"name": name, "options": {"accept": encoding.ARROW}}
    got = await bus.request(
        asker.subjects.call("dataset.get"), json.dumps(body).encode(), timeout=20
    )

    assert json.loads(stored.data)["outputs"]["count"] == len(EXAMPLES)
    assert got.headers["Content-Type"] == encoding.ARROW
    table = pa.ipc.open_stream(got.data).read_all()
    assert table["example"].to_pylist() == EXAMPLES


async def test_large(client: Client, model: ScriptedModel, name: str) -> None:
    """A dataset may be larger than a message: put, got, and evaluated on."""
    model.reply_with(chat(answer="Oslo"))
    many = [{"question": f"{n} " + "why " * 60_000, "answer": "Oslo"} for n in range(8)]

    await client.call("dataset.put", {"name": name, "dataset": many})
    got = await client.call("dataset.get", {"name": name})
    body = {"program": PREDICT, "dataset": name, "metric": EXACT, "results": False}
    scored = await client.call("program.evaluate", body)

    assert got.dataset == many
    assert (scored.score, scored.count) == (100.0, 8)


async def test_tenants(bus: NatsBus, stack: Stack, name: str) -> None:
    """Tenants have their own datasets and do not see each other's."""
    acme = Asker(bus, Subjects(stack.prefix, "acme"))
    other = Asker(bus, Subjects(stack.prefix, "other"))

    await put(acme, name, EXAMPLES)
    seen = await other.ask("dataset.get", {"name": name})
    body = {"program": PREDICT, "dataset": name, "metric": EXACT}
    used = await other.ask("program.evaluate", body)

    assert seen.code == "not_found"
    assert (used.code, used.body["field"]) == ("not_found", "dataset")


@pytest.mark.parametrize(
    ("operation", "body", "field"),
    [
        ("dataset.put", {"name": "a b", "dataset": [{}]}, "name"),
        ("dataset.put", {"name": "a", "dataset": []}, "dataset"),
        ("dataset.put", {"name": "a", "dataset": [3]}, "dataset[0]"),
        ("program.evaluate", {"dataset": "a b"}, "dataset"),
        ("program.evaluate", {"dataset": "a@0"}, "dataset"),
    ],
)
async def test_refused(asker: Asker, operation: str, body: Any, field: str) -> None:
    """What is no name and no dataset is refused."""
    if operation == "program.evaluate":
        body |= {"program": PREDICT, "metric": EXACT}

    found = await asker.ask(operation, body)

    assert (found.code, found.body["field"]) == ("bad_request", field)
