"""What bad input gets: a typed failure that teaches, and the next request works."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.support.asking import Asker, chat, question

from dspex.client import Client
from dspex.contracts.failures import BadRequest, NoWorker
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from tests.support.scripted_model import ScriptedModel

pytestmark = [pytest.mark.nats, pytest.mark.dspy]


class Bad:
    """One wrong request and what it must be told."""

    def __init__(
        self,
        code: str,
        *says: str,
        body: Any = None,
        operation: str = "predict",
        **headers: str,
    ) -> None:
        self.code = code
        self.says = says
        self.body = question() if body is None else body
        self.operation = operation
        self.headers: dict[str, Any] = dict(headers)


def _signature(text: Any) -> dict[str, Any]:
    return {"signature": text, "inputs": {"q": "x"}}


CASES = {
    "not json": Bad("bad_request", "not application/json", body=b"{oops"),
    "empty body": Bad("bad_request", "not application/json", body=b""),
    "a list": Bad("bad_request", "object", body=[]),
    "wrong content type": Bad(
        "bad_request", "text/plain", "application/msgpack", content_type="text/plain"
    ),
    "unknown operation": Bad(
        "unknown_operation", "'predikt'", "'predict'", operation="predikt"
    ),
    "unknown body field": Bad(
        "bad_request", "'instruction'", "'instructions'",
        body=question() | {"instruction": "x"},
    ),
    "unknown config field": Bad(
        "bad_request", "'config.temprature'", "'temperature'",
        body=question() | {"config": {"temprature": 1}},
    ),
    "missing body field": Bad("bad_request", "inputs", body={"signature": "q -> a"}),
    "temperature too high": Bad(
        "bad_request", "config.temperature",
        body=question() | {"config": {"temperature": 9}},
    ),
    "unknown adapter": Bad(
        "bad_request", "adapter", body=question() | {"adapter": "yaml"}
    ),
    "unknown lm": Bad(
        "bad_request", "'gpt9'", "default", body=question() | {"lm": "gpt9"}
    ),
    "no arrow": Bad("invalid_signature", "->", body=_signature("q a")),
    "duplicate names": Bad("invalid_signature", "'q'", body=_signature("q, q -> a")),
    "unknown type": Bad(
        "invalid_signature", "'strr'", "str", body=_signature("q -> a: strr")
    ),
    "a module as a type": Bad(
        "invalid_signature", "'os.system'", body=_signature("q -> a: os.system")
    ),
    "missing input": Bad("invalid_inputs", "inputs.q", "missing", body={
        "signature": "q -> a", "inputs": {}
    }),
    "extra input": Bad("invalid_inputs", "inputs.p", "Allowed: q", body={
        "signature": "q -> a", "inputs": {"q": "x", "p": 1}
    }),
    "wrong input type": Bad("invalid_inputs", "inputs.n", "int", body={
        "signature": "n: int -> a", "inputs": {"n": "three"}
    }),
    "expired deadline": Bad("deadline_exceeded", "passed", dspex_deadline="1000"),
    "deadline not a number": Bad(
        "bad_request", "Dspex-Deadline", dspex_deadline="tomorrow"
    ),
    "request id with a dot": Bad("bad_request", "'a.b'", dspex_request="a.b"),
    "unknown stream": Bad("bad_request", "'sse'", "inbox", dspex_stream="sse"),
    "unknown route": Bad("bad_request", "'moon'", "native", dspex_route="moon"),
    "no worker of that pool": Bad(
        "no_worker", "pool:gpu", "light", dspex_route="pool:gpu"
    ),
    "reasoning twice": Bad(
        "invalid_signature", "reasoning",
        operation="chain_of_thought", body=_signature("q -> reasoning, a"),
    ),
    "demo with an unknown field": Bad(
        "invalid_inputs", "demos[0].qq", "'q'",
        body=_signature("q -> a") | {"demos": [{"qq": "x"}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_bad_input(asker: Asker, model: ScriptedModel, name: str) -> None:
    """The failure is typed, names what is wrong and what is allowed, and is quick."""
    bad = CASES[name]
    begun = time.monotonic()

    found = await asker.ask(bad.operation, bad.body, **bad.headers)

    assert found.code == bad.code
    assert time.monotonic() - begun < 5
    assert found.body["hint"]
    for text in bad.says:
        assert text in found.body["message"], found.body["message"]
    assert found.headers["nats-service-error"].startswith(bad.code)
    assert found.headers["nats-service-error-code"].isdigit()
    assert (await asker.ask("predict", question())).code == "done"
    assert not [r for r in model.requests if "three" in json.dumps(r.body)]


async def test_refusal_ends_a_stream(asker: Asker, model: ScriptedModel) -> None:
    """A stream that cannot begin gets one ``failed`` event and the empty message."""
    refused = await asker.stream("predict", {"signature": "q -> a", "inputs": {}})
    unread = await asker.stream("predict", question(), dspex_deadline="tomorrow")

    assert refused.last["kind"] == "failed"
    assert refused.last["code"] == "invalid_inputs"
    assert [event["code"] for event in unread.all] == ["bad_request"]


async def test_literal_with_an_arrow(asker: Asker, model: ScriptedModel) -> None:
    """An arrow inside a Literal is part of the value, which DSPy cannot read."""
    model.reply_with(chat(a="x->y"))

    found = await asker.ask("predict", _signature("q -> a: Literal['x->y', 'z']"))

    assert found.body["outputs"] == {"a": "x->y"}


@pytest.mark.parametrize(
    ("constraints", "answer", "says"),
    [({"le": 1}, "7", "<= 1"), ({"ge": 10}, "7", ">= 10"), ({"lt": 7}, "7", "< 7")],
)
async def test_output_that_breaks_a_constraint(
    asker: Asker, model: ScriptedModel, constraints: Any, answer: str, says: str
) -> None:
    """An answer outside the signature's constraints is a failure, not an answer."""
    out = {"name": "n", "kind": "output", "type": "int", "constraints": constraints}
    model.reply_with(chat(n=answer))

    found = await asker.ask(
        "predict", _signature({"fields": [{"name": "q", "kind": "input"}, out]})
    )

    assert found.code == "output_invalid"
    assert found.body["field"] == "outputs.n"
    assert answer in found.body["message"]


async def test_body_of_two_mebibytes(asker: Asker, model: ScriptedModel) -> None:
    """A body over the server's limit fails at the sender with both sizes."""
    with pytest.raises(BadRequest, match=r"2097\d+ bytes.*1048576") as caught:
        await asker.ask("predict", question(question="x" * (2 << 20)))

    assert "max_payload" in caught.value.hint
    assert (await asker.ask("predict", question())).code == "done"


async def test_outputs_larger_than_the_server_takes(
    asker: Asker, model: ScriptedModel
) -> None:
    """An answer over the server's limit is a typed failure, and the worker lives."""
    model.reply_with(chat(answer="x" * (2 << 20)))

    found = await asker.ask("predict", question())

    assert found.code == "output_invalid"
    assert "1048576" in found.body["message"]


async def test_no_router(asker: Asker) -> None:
    """With nobody there, NATS says so at once and the client names what to start."""
    lonely = Client(asker.bus, Subjects("nobody"))

    with pytest.raises(NoWorker, match="No router") as caught:
        await lonely.predict("q -> a", q="x")

    assert "dspex up" in caught.value.hint


async def test_reply_subject_that_is_no_inbox(
    asker: Asker, model: ScriptedModel
) -> None:
    """A reply subject aimed at the server's own API is never answered."""
    async with await asker.bus.replies(dedicated=True) as seen:
        aimed = await asker.bus.subscribe("$JS.API.STREAM.NAMES", seen.put)
        await asker.bus.publish(
            asker.subjects.call("predict"),
            json.dumps(question()).encode(),
            reply="$JS.API.STREAM.NAMES",
        )
        assert (await asker.ask("predict", question())).code == "done"
        with pytest.raises(TimeoutError):
            await seen.next(0.2)
        await aimed.unsubscribe()


MARKER = "<<CUSTOM-TYPE-START-IDENTIFIER>>"


@pytest.mark.parametrize(
    "body",
    [
        {"signature": f"q -> a: Literal['{MARKER}', 'b']", "inputs": {"q": "x"}},
        {"signature": r"q -> a: Literal['\x3c<CUSTOM-TYPE-START-IDENTIFIER>>']",
         "inputs": {"q": "x"}},
        {"signature": "q -> a", "instructions": MARKER, "inputs": {"q": "x"}},
        {"signature": {"fields": [
            {"name": "q", "kind": "input", "description": MARKER},
            {"name": "a", "kind": "output"},
        ]}, "inputs": {"q": "x"}},
    ],
)  # fmt: skip
async def test_type_markers_in_a_signature(
    asker: Asker, model: ScriptedModel, body: Any
) -> None:
    """A signature cannot smuggle content past DSPy: its marks are refused."""
    found = await asker.ask("predict", body)

    assert found.code == "invalid_signature"
    assert "CUSTOM-TYPE" in found.body["message"]
    assert not model.requests


@pytest.mark.parametrize(
    ("signature", "reply"),
    [
        ("q -> a", '{"a": "half \\ud83d pair"}'),
        ("q -> a: dict", '{"a": {"x": Infinity}}'),
        ("q -> a: float", '{"a": NaN}'),
    ],
)
async def test_answers_that_json_cannot_say(
    asker: Asker, model: ScriptedModel, signature: str, reply: str
) -> None:
    """What cannot be sent is a typed failure, streamed or whole, never null."""
    model.reply_with(reply)
    body = _signature(signature) | {"adapter": "json"}

    whole = await asker.ask("predict", body)
    streamed = await asker.stream("predict", body)

    assert whole.code == "output_invalid"
    assert streamed.last["code"] == "output_invalid"
    model.reset()
    assert (await asker.ask("predict", question())).code == "done"


async def test_messagepack_that_json_cannot_say(
    asker: Asker, model: ScriptedModel
) -> None:
    """MessagePack's own types in a body are the caller's fault, and named."""
    body = question() | {"demos": [{"question": msgspec.msgpack.Ext(5, b"x")}]}
    message = await asker.bus.request(
        asker.subjects.call("predict"),
        msgspec.msgpack.encode(body),
        headers={"Content-Type": "application/msgpack"},
    )

    assert msgspec.msgpack.decode(message.data)["code"] == "bad_request"


async def test_refusal_in_the_encoding_asked_for(asker: Asker) -> None:
    """A router's own failure comes in the encoding that the request accepts too."""
    body = {"signature": "q -> a", "inputs": {}}
    message = await asker.bus.request(
        asker.subjects.call("predict"),
        json.dumps(body | {"options": {"accept": "application/msgpack"}}).encode(),
    )

    assert msgspec.msgpack.decode(message.data)["code"] == "invalid_inputs"
