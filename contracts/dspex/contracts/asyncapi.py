"""The AsyncAPI 3.0 document: every channel, operation, message and header.

Generated from the catalog, the subjects, the headers and the examples; written to
``contracts/schemas/asyncapi.json``. It describes DSPex: what it ``receive``s is what
a client publishes, what it ``send``s is what a client may subscribe to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts import (
    envelope,
    examples,
    pool_examples,
    schemas,
    session_examples,
)
from dspex.contracts.asyncapi_headers import (
    ERROR_HEADERS,
    PARAMETERS,
    POOL_HEADERS,
    REPLY_HEADERS,
    REQUEST_HEADERS,
)
from dspex.contracts.catalog import OPERATIONS, Operation
from dspex.contracts.encoding import JSON
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.session_requests import Turn
from dspex.contracts.subjects import NATIVE_QUEUE, ROUTER_QUEUE, VERSION, Subjects

if TYPE_CHECKING:
    from dspex.contracts.schemas import Schema

_PLAIN = Subjects()
_TENANT = Subjects(tenant="{tenant}")
_REQUEST_TYPE = "#/components/schemas/request.{name}"
_ANSWER_TYPE = "#/components/schemas/answer.{name}"
_BINDING = "0.1.0"

_ABOUT = (
    "DSPy programs for any NATS client. Publish a request with a reply subject; the "
    "reply is tagged by `type`: `done` or `failed`. A failed reply also carries the "
    "error headers of the NATS service protocol. With `Dspex-Stream: inbox` the events "
    "of the request come to the reply subject instead, ended by an empty message "
    "without headers. Unknown fields of requests are refused; ignore those of replies "
    "and events."
)


def document() -> Schema:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "DSPex",
            "version": f"{VERSION.removeprefix('v')}.0.0",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {
            "local": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "Any NATS server that a router is connected to.",
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channels() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for one in OPERATIONS.values():
        request = [f"{one.name}.request"]
        for face, subjects in (("", _PLAIN), ("tenant.", _TENANT)):
            found[f"{face}call.{one.name}"] = _channel(
                subjects.call(one.name), request, one.summary
            )
        if one.implementation == "native":
            found[f"native.{one.name}"] = _channel(
                _PLAIN.native(one.name), request, f"{one.summary} Without a router."
            )
        found[f"reply.{one.name}"] = _reply_channel(one)
    for one in _python():
        for face, subjects in (("", _PLAIN), ("tenant.", _TENANT)):
            found[f"{face}session.call.{one.name}"] = _channel(
                subjects.session_call("{session}", one.name),
                [f"{one.name}.turn"],
                f"{one.summary} As a turn of a session.",
            )
    found["pool.run"] = _channel(
        _PLAIN.pool_run("{pool}"),
        [f"{one.name}.pool" for one in _python()],
        "Ask any worker of a pool; works with no router alive.",
    )
    for face, subjects in (("", _PLAIN), ("tenant.", _TENANT)):
        found[f"{face}event"] = _channel(
            subjects.event("{request}", "{kind}"),
            [f"event.{kind}" for kind in examples.EVENTS],
            "The life of a request.",
        )
        found[f"{face}session.event"] = _channel(
            subjects.session_event("{session}", "{request}", "{kind}"),
            [f"event.{kind}" for kind in examples.EVENTS],
            "The life of a turn.",
        )
        found[f"{face}cancel"] = _channel(
            subjects.cancel("{request}"), ["cancel"], "Stop a request."
        )
    found["heartbeat"] = _channel(
        _PLAIN.heartbeat("{pool}", "{worker}"),
        ["heartbeat"],
        "Capacity and state of one process, every second.",
    )
    for kind in examples.NOTICES:
        found[f"notice.{kind}"] = _channel(
            _PLAIN.notice(kind), [f"notice.{kind}"], "What operators want to know."
        )
    return found | _admin_channels()


def _admin_channels() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for verb in pool_examples.ADMIN:
        found[f"admin.{verb}"] = _channel(
            _PLAIN.admin(verb),
            [f"admin.{verb}.request"],
            "Operators ask; each of those that hear it answers for itself.",
        )
        found[f"reply.admin.{verb}"] = {
            "address": None,
            "description": "The reply subject of an operator: several answers come.",
            "messages": _listed([f"admin.{verb}.answer", "failed"]),
        }
    return found


def _channel(address: str, messages: list[str], description: str) -> Schema:
    named = [name for name in PARAMETERS if f"{{{name}}}" in address]
    found: Schema = {"address": address, "description": description}
    found["messages"] = _listed(messages)
    if named:
        found["parameters"] = {
            name: {"description": PARAMETERS[name]} for name in named
        }
    return found


def _reply_channel(one: Operation) -> Schema:
    """The caller's own reply subject: nobody knows its address before it asks."""
    messages = [f"{one.name}.done", "failed"]
    if one.streams:
        messages += [f"event.{kind}" for kind in examples.EVENTS]
    return {
        "address": None,
        "description": "The reply subject of the request, an inbox of its client.",
        "messages": _listed(messages),
    }


def _listed(messages: list[str]) -> Schema:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in messages}


def _operations() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for one in OPERATIONS.values():
        for face in ("", "tenant."):
            found[f"{face}{one.name}"] = _asked(
                one, f"{face}call.{one.name}", ROUTER_QUEUE
            )
        if one.implementation == "native":
            found[f"native.{one.name}"] = _asked(
                one, f"native.{one.name}", NATIVE_QUEUE
            )
    for one in _python():
        for face in ("", "tenant."):
            found[f"{face}session.{one.name}"] = _asked(
                one,
                f"{face}session.call.{one.name}",
                ROUTER_QUEUE,
                f"{one.name}.turn",
            )
        # Each pool is its own queue group, so no one name can stand here.
        found[f"pool.{one.name}"] = _asked(one, "pool.run", "", f"{one.name}.pool")
    for face in ("", "tenant."):
        found[f"{face}event"] = _one_way("send", f"{face}event")
        found[f"{face}session.event"] = _one_way("send", f"{face}session.event")
        found[f"{face}cancel"] = _one_way("receive", f"{face}cancel")
    found["heartbeat"] = _one_way("send", "heartbeat")
    for kind in examples.NOTICES:
        found[f"notice.{kind}"] = _one_way("send", f"notice.{kind}")
    return found | _admin_operations()


def _admin_operations() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for verb in pool_examples.ADMIN:
        reply = {"channel": {"$ref": f"#/channels/reply.admin.{verb}"}}
        found[f"admin.{verb}"] = _one_way("receive", f"admin.{verb}")
        found[f"admin.{verb}"]["reply"] = reply
    return found


def _asked(one: Operation, channel: str, queue: str, message: str = "") -> Schema:
    message = message or f"{one.name}.request"
    found: Schema = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": one.summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
        "reply": {"channel": {"$ref": f"#/channels/reply.{one.name}"}},
    }
    if queue:
        found["bindings"] = {"nats": {"queue": queue, "bindingVersion": _BINDING}}
    return found


def _one_way(action: str, channel: str) -> Schema:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _messages() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for one in OPERATIONS.values():
        body = _REQUEST_TYPE.format(name=one.request.__name__)
        example = _as_sent(examples.REQUESTS[one.name])
        found[f"{one.name}.request"] = _message(
            one.summary, "request", {"$ref": body}, example
        )
        if one.implementation == "python":
            turn = {"$ref": _REQUEST_TYPE.format(name=Turn.__name__)}
            found[f"{one.name}.turn"] = _message(
                one.summary, "request", turn, _as_sent(session_examples.TURN)
            )
            found[f"{one.name}.pool"] = _message(
                one.summary, "pool", {"$ref": body}, example
            )
        found[f"{one.name}.done"] = _message(
            f"The outputs of {one.name}.",
            "reply",
            _done(one),
            examples.REPLIES[one.name],
        )
    found["failed"] = _message(
        schemas.summary(envelope.Failed),
        "error",
        {"$ref": _ANSWER_TYPE.format(name="Failed")},
        examples.FAILED,
    )
    for kind, example in examples.EVENTS.items():
        found[f"event.{kind}"] = _event(example)
    found["cancel"] = {"summary": "The body is ignored.", "payload": True}
    found["heartbeat"] = _message(
        schemas.summary(Heartbeat),
        "",
        {"$ref": _ANSWER_TYPE.format(name="Heartbeat")},
        examples.HEARTBEAT,
    )
    for kind, notice in examples.NOTICES.items():
        named = _ANSWER_TYPE.format(name=type(notice).__name__)
        found[f"notice.{kind}"] = _message(
            schemas.summary(type(notice)), "", {"$ref": named}, notice
        )
    for verb, (asked, answer) in pool_examples.ADMIN.items():
        for part, form, value in (
            ("request", _REQUEST_TYPE, asked),
            ("answer", _ANSWER_TYPE, answer),
        ):
            named = form.format(name=type(value).__name__)
            found[f"admin.{verb}.{part}"] = _message(
                schemas.summary(type(value)), "", {"$ref": named}, value
            )
    return found


def _event(example: Any) -> Schema:
    failed = isinstance(example, envelope.FailedEvent)
    return _message(
        schemas.summary(type(example)),
        "error" if failed else "reply",
        {"$ref": _ANSWER_TYPE.format(name=type(example).__name__)},
        example,
    )


def _done(one: Operation) -> Schema:
    payload: Schema = {"$ref": _ANSWER_TYPE.format(name="Done")}
    if one.outputs in _dictionaries():
        return payload
    outputs = {"$ref": _ANSWER_TYPE.format(name=one.outputs.__name__)}
    return {"allOf": [payload, {"properties": {"outputs": outputs}}]}


def _message(summary: str, family: str, payload: Schema, example: Any) -> Schema:
    found: Schema = {"summary": summary, "contentType": JSON}
    if family:
        found["headers"] = {"$ref": f"#/components/schemas/headers.{family}"}
    found["payload"] = payload
    found["examples"] = [{"payload": msgspec.to_builtins(example)}]
    return found


def _as_sent(value: Any) -> Any:
    """A body as people write it: without what is absent or empty."""
    plain = msgspec.to_builtins(value)
    if not isinstance(plain, dict):
        return plain
    kept = {key: _as_sent(item) for key, item in plain.items()}
    return {key: item for key, item in kept.items() if item not in (None, {}, [])}


def _schemas() -> dict[str, Schema]:
    admin = pool_examples.ADMIN.values()
    bodies = [Turn, *(one.request for one in OPERATIONS.values())]
    bodies += [type(asked) for asked, _ in admin]
    outputs = [one.outputs for one in OPERATIONS.values()]
    _, asked = schemas.components(bodies, ref=_REQUEST_TYPE)
    _, answered = schemas.components(
        [
            envelope.Done,
            envelope.Failed,
            envelope.Event,
            *map(type, examples.NOTICES.values()),
            *{type(answer): None for _, answer in admin},
            Heartbeat,
            *outputs,
        ],
        ref=_ANSWER_TYPE,
        lenient=True,
    )
    families = {
        "request": REQUEST_HEADERS,
        "pool": POOL_HEADERS,
        "reply": REPLY_HEADERS,
        "error": ERROR_HEADERS,
    }
    found = {f"request.{name}": one for name, one in asked.items()}
    found |= {f"answer.{name}": one for name, one in answered.items()}
    for name, properties in families.items():
        found[f"headers.{name}"] = {"type": "object", "properties": properties}
    return found


def _python() -> list[Operation]:
    return [one for one in OPERATIONS.values() if one.implementation == "python"]


def _dictionaries() -> list[Any]:
    return [one.outputs for one in _python()]
