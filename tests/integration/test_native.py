"""The native operations over NATS: directly, through the router, in every encoding."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pytest
from tests.support.stack import Program, Stack

from dspex.contracts import catalog, encoding, native_examples
from dspex.native.metrics.texts import TEXTS

if TYPE_CHECKING:
    from tests.support.asking import Asker

    from dspex.bus.core import Message

pytestmark = pytest.mark.nats

OPERATIONS = catalog.served_by("native")


def body_of(operation: str) -> dict[str, Any]:
    """The example of a request, as a client would send it."""
    found: dict[str, Any] = msgspec.to_builtins(native_examples.REQUESTS[operation])
    return found


def subject_of(asker: Asker, operation: str, way: str) -> str:
    subjects = asker.subjects
    return (subjects.call if way == "router" else subjects.native)(operation)


@pytest.mark.parametrize("way", ["router", "direct"])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_json(asker: Asker, operation: str, way: str) -> None:
    """Every operation answers its example, with and without a router."""
    subject = subject_of(asker, operation, way)

    found = await asker.ask(operation, body_of(operation), subject=subject)

    assert found.body["outputs"] == native_examples.OUTPUTS[operation]
    assert found.body["metadata"]["implementation"] == "native"


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_messagepack(asker: Asker, operation: str) -> None:
    """The same in MessagePack."""
    message = await asker.bus.request(
        asker.subjects.call(operation),
        msgspec.msgpack.encode(body_of(operation)),
        headers={"Content-Type": encoding.MSGPACK},
    )

    assert message.headers["Content-Type"] == encoding.MSGPACK
    outputs = msgspec.msgpack.decode(message.data)["outputs"]
    assert outputs == native_examples.OUTPUTS[operation]


async def test_info(asker: Asker) -> None:
    """The service info of native-ops says how it compares texts."""
    message = await asker.bus.request("$SRV.INFO.dspex-native", b"")

    assert msgspec.json.decode(message.data)["metadata"]["texts"] == TEXTS.name


BAD: dict[str, dict[str, Any]] = {
    "signature.describe": {"signature": "a ->"},
    "prompt.render": {"dialect": "1.0"},
    "response.parse": {"text": "nothing of the kind"},
    "template.render": {"template": "{{ nmaes }}"},
    "schema.validate": {"schema": {"type": "objekt"}},
    "metric.score": {"metric": "exact_mtach"},
    "metric.batch": {"answers": []},
}


@pytest.mark.parametrize("operation", BAD)
async def test_bad_input(asker: Asker, operation: str) -> None:
    """What cannot be done is a typed failure that says what to do."""
    found = await asker.ask(operation, body_of(operation) | BAD[operation])

    assert found.body["type"] == "failed"
    assert found.body["category"] in ("caller", "program")
    assert found.body["message"]
    assert found.body["hint"]


def table(rows: int, **body: Any) -> bytes:
    """Predictions and answers as an Arrow stream."""
    schema = pa.schema(
        {"prediction": pa.string(), "answers": pa.list_(pa.string())},
        metadata={"dspex": json.dumps({"metric": "exact_match"} | body)},
    )
    columns = [
        pa.array([f"the {n}" for n in range(rows)]),
        pa.array([[f"{n}", "x"] if n % 4 else ["x"] for n in range(rows)]),
    ]
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table(columns, schema=schema))
    return sink.getvalue()


async def send_table(asker: Asker, data: bytes, way: str) -> Message:
    return await asker.bus.request(
        subject_of(asker, "metric.batch", way),
        data,
        headers={"Content-Type": encoding.ARROW},
    )


@pytest.mark.parametrize("way", ["router", "direct"])
async def test_arrow(asker: Asker, way: str) -> None:
    """A table of predictions comes back as a table of scores."""
    message = await send_table(asker, table(1000), way)

    assert message.headers["Content-Type"] == encoding.ARROW
    scores = pa.ipc.open_stream(message.data).read_all()
    reply = json.loads(scores.schema.metadata[b"dspex"])
    assert scores["score"].to_pylist() == [float(bool(n % 4)) for n in range(1000)]
    assert (reply["type"], reply["outputs"]["mean"]) == ("done", 0.75)
    assert reply["metadata"]["implementation"] == "native"


async def test_arrow_asked_for(asker: Asker) -> None:
    """A client that sends JSON may have its scores as a table."""
    body = body_of("metric.batch") | {"options": {"accept": encoding.ARROW}}

    message = await asker.bus.request(
        asker.subjects.call("metric.batch"), json.dumps(body).encode()
    )

    scores = pa.ipc.open_stream(message.data).read_all()
    assert scores["score"].to_pylist() == [1.0, 1.0]


@pytest.mark.parametrize("way", ["router", "direct"])
async def test_bad_tables(asker: Asker, way: str) -> None:
    """Failures of a table are told in JSON, and name what is wrong."""
    for data, code in (
        (table(3)[:-40], "bad_request"),
        (b"no table", "bad_request"),
        (table(3, metric="exact_mtach"), "bad_request"),
        (table(3, colour="red"), "bad_request"),
    ):
        message = await send_table(asker, data, way)
        assert "Content-Type" not in message.headers
        assert json.loads(message.data)["code"] == code


async def test_a_table_for_what_has_no_columns(asker: Asker) -> None:
    """Operations without columns refuse a table and name those that take one."""
    message = await asker.bus.request(
        asker.subjects.call("signature.parse"),
        table(1),
        headers={"Content-Type": encoding.ARROW},
    )

    reply = json.loads(message.data)
    assert (reply["code"], reply["field"]) == ("unsupported", "Content-Type")
    assert "metric.batch" in reply["message"]


EXACT: list[Any] = [
    3,
    3.0,
    2**53 + 1,
    2**70,
    -(2**63),
    None,
    True,
    "é\u2028\U0001f600",
    {"$t": "bytes", "data": "AAH/"},
    [1, [2, {"a": None}]],
    {"1": "number-like", "": "empty"},
    "2024-05-31",
    1e-9,
]


@pytest.mark.parametrize("media", [encoding.JSON, encoding.MSGPACK])
@pytest.mark.parametrize("value", EXACT, ids=str)
async def test_values_stay_what_they_are(asker: Asker, value: Any, media: str) -> None:
    """A value goes through a native operation and comes back as it was."""
    body = {"signature": "x: Any -> y", "values": {"x": value}, "side": "inputs"}

    message = await asker.bus.request(
        asker.subjects.call("signature.validate"),
        encoding.encode(body, media),
        headers={"Content-Type": media},
    )

    reply = encoding.decode(message.data, Any, media)
    back = reply["outputs"]["values"]["x"]
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize("kind", ["Any", "bytes", "list[Any]"])
async def test_bytes_of_messagepack_are_tagged(asker: Asker, kind: str) -> None:
    """Bytes as MessagePack has them come back as the object that stands for them."""
    value = [b"\x00\xff"] if kind == "list[Any]" else b"\x00\xff"
    body = {"signature": f"x: {kind} -> y", "values": {"x": value}, "side": "inputs"}

    message = await asker.bus.request(
        asker.subjects.call("signature.validate"),
        msgspec.msgpack.encode(body),
        headers={"Content-Type": encoding.MSGPACK},
    )

    tagged = {"$t": "bytes", "data": "AP8="}
    found = msgspec.msgpack.decode(message.data)["outputs"]["values"]["x"]
    assert found == ([tagged] if kind == "list[Any]" else tagged)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {1: "a"}, {"a": {None: 1}}, datetime.now(UTC)],
    ids=["nan", "infinity", "whole number as key", "null as key", "timestamp"],
)
async def test_values_that_json_has_no_form_for(asker: Asker, value: Any) -> None:
    """What MessagePack can say and JSON cannot is refused with its place."""
    message = await asker.bus.request(
        asker.subjects.call("signature.validate"),
        msgspec.msgpack.encode(
            {"signature": "x: Any -> y", "values": {"x": value}, "side": "inputs"}
        ),
        headers={"Content-Type": encoding.MSGPACK},
    )

    reply = msgspec.msgpack.decode(message.data)
    assert reply["code"] == "bad_request"
    assert "values.x" in reply["message"]


async def test_a_thousand_at_once(own: Stack, ask: Asker) -> None:
    """A thousand mixed requests, 64 in flight, on one process: none is lost."""
    await own.start(Program("dspex.router"), Program("dspex.native"))
    await own.ready(workers=0)
    room = asyncio.Semaphore(64)

    async def send(number: int) -> bool:
        operation = OPERATIONS[number % len(OPERATIONS)]
        subject = subject_of(ask, operation, ("router", "direct")[number % 2])
        async with room:
            found = await ask.ask(operation, body_of(operation), subject=subject)
        return bool(found.body.get("outputs") == native_examples.OUTPUTS[operation])

    assert all(await asyncio.gather(*map(send, range(1000))))


async def test_native_ops_drains(own: Stack, ask: Asker) -> None:
    """Told to stop, native-ops answers what it has in hand and leaves with status 0."""
    native = Program("dspex.native")
    await own.start(Program("dspex.router"), native)
    await own.ready(workers=0)
    big = {
        "metric": "f1",
        "predictions": ["a b c d e f"] * 20_000,
        "answers": ["b c d e f g"] * 20_000,
    }
    started: asyncio.Queue[Message] = asyncio.Queue()
    event = own.subjects.event("r1", "started")
    await ask.bus.subscribe(event, started.put_nowait)
    asked = asyncio.ensure_future(ask.ask("metric.batch", big, dspex_request="r1"))
    async with asyncio.timeout(10):
        await started.get()

    native.signal(signal.SIGTERM)

    assert (await asked).body["outputs"]["mean"] > 0.8
    assert await native.wait() == 0
