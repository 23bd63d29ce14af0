"""The AsyncAPI document: shaped as AsyncAPI 3.0 asks, true to the contracts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from dspex.contracts import asyncapi, headers
from dspex.contracts.catalog import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = asyncapi.document()
CHANNELS: dict[str, Any] = DOCUMENT["channels"]
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]

NAME = re.compile(r"[A-Za-z0-9._-]+")


def test_root() -> None:
    """The document has what AsyncAPI 3.0 requires at its root."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"]["title"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", DOCUMENT["info"]["version"])
    for server in DOCUMENT["servers"].values():
        assert {"host", "protocol"} <= server.keys()


@pytest.mark.parametrize("name", CHANNELS)
def test_channels(name: str) -> None:
    """A channel has an address, messages, and a parameter per part in braces."""
    channel = CHANNELS[name]
    address = channel["address"]

    named = re.findall(r"\{(\w+)\}", address or "")

    assert set(named) == channel.get("parameters", {}).keys()
    assert channel["messages"]
    assert (address is None) == name.startswith("reply.")
    for message in channel["messages"].values():
        assert message["$ref"].startswith("#/components/messages/")


@pytest.mark.parametrize("name", DOCUMENT["operations"])
def test_operations(name: str) -> None:
    """An operation has an action, a channel, and only messages of that channel."""
    operation = DOCUMENT["operations"][name]
    channel = operation["channel"]["$ref"]

    assert operation["action"] in ("send", "receive")
    assert channel.startswith("#/channels/")
    for message in operation.get("messages", []):
        assert message["$ref"].startswith(f"{channel}/messages/")


def test_references_lead_somewhere() -> None:
    """Every reference in the document can be followed."""
    references = sorted(set(_references(DOCUMENT)))

    assert references
    for reference in references:
        _follow(reference)


def test_names() -> None:
    """Names of components have only the characters AsyncAPI allows."""
    for components in DOCUMENT["components"].values():
        assert all(NAME.fullmatch(name) for name in components)


@pytest.mark.parametrize("name", MESSAGES)
def test_examples_validate(name: str) -> None:
    """The example of every message fits its payload."""
    message = MESSAGES[name]
    schema = {"allOf": [message["payload"]], "components": DOCUMENT["components"]}
    validator = Draft202012Validator(schema)

    for example in message.get("examples", []):
        assert list(validator.iter_errors(example["payload"])) == []


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_schemas_are_valid(name: str) -> None:
    """Every schema of the document is one, and uses no dialect of OpenAPI."""
    schema = DOCUMENT["components"]["schemas"][name]

    Draft202012Validator.check_schema(schema)
    assert "discriminator" not in schema


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_reachable(name: str) -> None:
    """Every operation has its call subject, its tenants' and its reply."""
    call = CHANNELS[f"call.{name}"]
    tenants = CHANNELS[f"tenant.call.{name}"]
    reply = DOCUMENT["operations"][name]["reply"]["channel"]["$ref"]

    assert call["address"] == f"dspex.v1.call.{name}"
    assert tenants["address"] == f"dspex.v1.tenant.{{tenant}}.call.{name}"
    assert reply == f"#/channels/reply.{name}"


@pytest.mark.parametrize("name", ["event", "cancel"])
def test_tenant_forms(name: str) -> None:
    """What clients subscribe to and publish on exists for each tenant too."""
    plain, tenants = CHANNELS[name]["address"], CHANNELS[f"tenant.{name}"]["address"]

    assert tenants == plain.replace("dspex.v1.", "dspex.v1.tenant.{tenant}.")


def test_operators_subjects() -> None:
    """What operators ask is there, and the answers that may come."""
    for verb in ("pools", "scale", "drain", "restart", "decisions", "journal"):
        assert CHANNELS[f"admin.{verb}"]["address"] == f"dspex.v1.admin.{verb}"
        reply = DOCUMENT["operations"][f"admin.{verb}"]["reply"]["channel"]["$ref"]
        answers = _follow(reply)["messages"]
        assert set(answers) == {f"admin.{verb}.answer", "failed"}


def test_headers() -> None:
    """Requests list the clients' headers and none of those between our programs."""
    listed = DOCUMENT["components"]["schemas"]["headers.request"]["properties"]
    internal = {headers.REPLY, headers.ATTEMPT, headers.TENANT, headers.REASON}

    assert {headers.DEADLINE, headers.ROUTE, headers.STREAM} <= listed.keys()
    assert not internal & listed.keys()


def test_failures_carry_the_service_error_headers() -> None:
    """Failed replies and events say so as NATS tools expect it."""
    listed = DOCUMENT["components"]["schemas"]["headers.error"]["properties"]

    assert {"Nats-Service-Error", "Nats-Service-Error-Code"} <= listed.keys()
    for name in ("failed", "event.failed", "event.cancelled"):
        assert MESSAGES[name]["headers"]["$ref"].endswith("/headers.error")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    if isinstance(value, list):
        for item in value:
            yield from _references(item)


def _follow(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found
