"""The JSON Schemas under contracts/schemas: fresh, valid, and true."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from tests.support import write_schemas

from dspex.contracts import envelope, examples, schemas
from dspex.contracts.catalog import OPERATIONS
from dspex.contracts.requests import Predict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENTS = schemas.documents()


def test_files_are_fresh() -> None:
    """The checked-in files are what the contracts generate."""
    stale = write_schemas.stale(write_schemas.FOLDER)

    assert not stale, f"out of date: {stale}; run `{write_schemas.HOW}`"


def test_write_and_check(tmp_path: Path) -> None:
    """Writing makes a folder fresh; a changed or a strange file makes it stale."""
    write_schemas.write(tmp_path)

    assert write_schemas.stale(tmp_path) == []
    (tmp_path / "event.json").write_text("{}")
    (tmp_path / "strange.json").write_text("{}")
    assert write_schemas.stale(tmp_path) == ["event.json", "strange.json"]


def test_check_command() -> None:
    """The command with --check exits 0 while the files are fresh."""
    assert write_schemas.main(["--check"]) == 0


@pytest.mark.parametrize("name", DOCUMENTS)
def test_schemas_are_valid(name: str) -> None:
    """Every file is a JSON Schema of draft 2020-12 and says so."""
    document = DOCUMENTS[name]

    Draft202012Validator.check_schema(document)
    assert document["$schema"] == schemas.DIALECT
    assert document["title"]
    assert document["description"].endswith(".")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_everything_is_described(name: str) -> None:
    """Every type and every field says what it is, in words."""
    assert list(_undescribed(DOCUMENTS[name])) == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_requests_validate(name: str) -> None:
    """The example of a request fits its schema; an unknown field does not."""
    body = msgspec.to_builtins(examples.REQUESTS[name])
    validator = Draft202012Validator(DOCUMENTS[f"{name}.request.json"])

    assert validator.is_valid(body)
    assert not validator.is_valid(body | {"inptus": {}})


@pytest.mark.parametrize("name", OPERATIONS)
def test_replies_validate(name: str) -> None:
    """Outputs and failures fit the schema of the reply, and so do later versions'."""
    validator = Draft202012Validator(DOCUMENTS[f"{name}.reply.json"])
    done, failed = (
        msgspec.to_builtins(one) for one in (examples.REPLIES[name], examples.FAILED)
    )

    assert validator.is_valid(done)
    assert validator.is_valid(failed | {"news": 1})
    assert not validator.is_valid(done | {"type": "half done"})


def test_typed_outputs() -> None:
    """A reply whose outputs have a type is held to it."""
    validator = Draft202012Validator(DOCUMENTS["signature.validate.reply.json"])
    done = msgspec.to_builtins(examples.REPLIES["signature.validate"])

    assert not validator.is_valid(done | {"outputs": {"valid": "yes"}})


@pytest.mark.parametrize("kind", examples.EVENTS)
def test_events_validate(kind: str) -> None:
    """Every kind of event fits the one schema of events."""
    event = msgspec.to_builtins(examples.EVENTS[kind])
    validator = Draft202012Validator(DOCUMENTS["event.json"])

    assert validator.is_valid(event)
    assert not validator.is_valid(event | {"kind": "unheard"})


def test_heartbeat_validates() -> None:
    """A heartbeat fits its schema; one without slots does not."""
    beat = msgspec.to_builtins(examples.HEARTBEAT)
    validator = Draft202012Validator(DOCUMENTS["heartbeat.json"])

    assert validator.is_valid(beat)
    assert not validator.is_valid(beat | {"concurrency": 0})


def test_descriptions_come_from_docstrings() -> None:
    """A field's description is what the docstring says of it, on one line."""
    said = schemas.attributes(Predict)

    assert said["lm"] == "Name of a language model in the workers' configuration."
    assert said["options"] == "How the request wants to be treated."  # of its base


def test_wrapped_descriptions_are_joined() -> None:
    """A description that runs over several lines becomes one."""
    said = schemas.attributes(envelope.Decision)

    assert said["reason"].startswith("Why: `only_candidate`")
    assert said["reason"].endswith("fell through.")


def _undescribed(document: dict[str, Any]) -> Iterator[str]:
    for name, one in document["$defs"].items():
        if not one["description"]:
            yield name
        for field, schema in one["properties"].items():
            tag = len(schema.get("enum", ())) == 1  # said by the name of the type
            if not tag and not schema.get("description"):
                yield f"{name}.{field}"


def test_key_order_is_stable() -> None:
    """The same text comes out whatever order types are met in."""
    again = schemas.documents()

    assert json.dumps(again) == json.dumps(DOCUMENTS)
