"""The bytes on the wire are what they were: other programs depend on them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.contract.messages import (
    ANSWERS,
    GOLDEN,
    MESSAGES,
    REQUESTS,
    golden,
    leaf_lines,
)

from dspex.contracts import encoding, envelope, examples, words
from dspex.contracts.failures import BY_CODE, CATEGORIES, BadRequest, Failure


@pytest.mark.parametrize("name", MESSAGES)
def test_encodes(name: str) -> None:
    """Every message encodes to its golden bytes."""
    value, _ = MESSAGES[name]

    assert encoding.encode(value) == golden(name)


@pytest.mark.parametrize("name", MESSAGES)
def test_decodes(name: str) -> None:
    """Every golden file decodes to its message."""
    value, wanted = MESSAGES[name]

    assert encoding.decode(golden(name), wanted) == value


@pytest.mark.parametrize("name", MESSAGES)
def test_messagepack_round_trip(name: str) -> None:
    """Every message survives MessagePack."""
    value, wanted = MESSAGES[name]

    data = encoding.encode(value, encoding.MSGPACK)

    assert encoding.decode(data, wanted, encoding.MSGPACK) == value


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_refuse_unknown_fields(name: str) -> None:
    """A field no request has is refused by its name."""
    _, wanted = REQUESTS[name]

    with pytest.raises(BadRequest) as refused:
        encoding.decode(_with_news(golden(name)), wanted)

    assert refused.value.field == "news"


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_ignore_unknown_fields(name: str) -> None:
    """A reader of replies, events, words and heartbeats ignores what is new."""
    value, wanted = ANSWERS[name]

    assert encoding.decode(_with_news(golden(name)), wanted) == value


def test_no_file_without_a_message() -> None:
    """Every golden file belongs to a message, and every message has one."""
    found = {path.stem for path in GOLDEN.glob("*.json")}

    assert found == set(MESSAGES)


def test_every_kind_of_event() -> None:
    """There is an example of every kind of event, under its own kind."""
    kinds = {kind.__struct_config__.tag for kind in envelope.Event.__args__}

    assert kinds == set(examples.EVENTS)
    for kind, event in examples.EVENTS.items():
        assert json.loads(encoding.encode(event))["kind"] == kind


def test_every_word() -> None:
    """There is an example of every word a process tells a router."""
    tags = {word.__struct_config__.tag for word in words.Words.__args__}

    assert tags == set(examples.WORDS)


def test_failures() -> None:
    """Every leaf of the failure tree has its golden number and reply."""
    lines = (GOLDEN / "failures.jsonl").read_bytes().splitlines()

    assert leaf_lines() == lines


@pytest.mark.parametrize("line", (GOLDEN / "failures.jsonl").read_text().splitlines())
def test_failure_reply_becomes_its_leaf(line: str) -> None:
    """A golden failure, read by a client, is raised as the leaf it came from."""
    reply = json.loads(line)["reply"]
    leaf = BY_CODE[reply["code"]]

    found = envelope.failure(msgspec.convert(reply, envelope.Failed))

    assert type(found) is leaf
    assert found.message == reply["message"]
    assert (found.field, found.retry_after_ms) == ("inputs.a", 250)


def test_failure_of_a_later_version() -> None:
    """A code this version does not know is internal, with its message kept."""
    reply = msgspec.structs.replace(examples.FAILED, code="too_modern")

    found = envelope.failure(reply)

    assert found.code == "internal"
    assert found.message == examples.FAILED.message


@pytest.mark.parametrize("leaf", BY_CODE.values())
def test_leaves_say_everything(leaf: type[Failure]) -> None:
    """Every leaf has a sentence, a category and an HTTP-like number."""
    assert leaf.__doc__
    assert leaf.__doc__.strip().endswith(".")
    assert leaf.category in CATEGORIES
    assert 400 <= leaf.status <= 599


def test_messagepack_bytes() -> None:
    """MessagePack has its golden bytes too: names as in JSON, in the same order."""
    word = words.BusyWord(request="r-1", queued=3)

    data = encoding.encode(word, encoding.MSGPACK)

    assert data.hex() == (
        "85a4776f7264a462757379a772657175657374a3722d31a671756575656403"
        "a7696e5f68616e6400a5796f75727300"
    )


def _with_news(data: bytes) -> bytes:
    value: dict[str, Any] = json.loads(data)
    return encoding.encode(value | {"news": [1, {"a": None}]})
