"""What a redaction leaves in a message, whatever the message."""

from __future__ import annotations

import html
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dspex.contracts.journaling import Redact
from dspex.contracts.redaction import MARK, Redaction, rules_of

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
SECRETS = TEXTS.map(lambda text: f"s3cr{text}et")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner),
    max_leaves=8,
)


def redaction(*fields: str, patterns: tuple[str, ...] = ()) -> Redaction:
    section = Redact(fields=list(fields), patterns=list(patterns))
    return Redaction(rules_of(section))


@given(secret=SECRETS, around=TEXTS, beside=PLAIN)
def test_a_value_is_nowhere(secret: str, around: str, beside: object) -> None:
    """A value at a path is left out there, and in every text, however it is written."""
    found = redaction("inputs.**.ssn")
    body = {"inputs": {"a": [{"ssn": secret, "b": beside}]}}

    requested = found.of({"kind": "requested", "body": body})
    written = [
        secret,
        json.dumps([secret]),
        html.escape(secret),
        secret.replace("s3cr", "S3CR"),
    ]
    texts = [found.text(f"{around}{one}{around}") for one in written]
    record = found.of({"kind": "lm_call", "messages": [{"content": written}]})

    assert requested["body"]["inputs"]["a"][0]["ssn"] == MARK
    for one in written:
        assert one not in json.dumps(requested, ensure_ascii=False)
        assert not [text for text in texts if one in text]
        assert one not in record["messages"][0]["content"]


@given(message=PLAIN)
def test_nothing_else_changes(message: object) -> None:
    """Where a rule finds nothing, a message stays as it is."""
    found = redaction("inputs.ssn", patterns=("never-there",))
    event = {"kind": "done", "outputs": message, "request": "r"}

    assert found.of(event) == event


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(secret=SECRETS.filter(lambda text: len(text.strip()) > 20))
@example(secret="s3cr00000'\x7f00000000\"000000")  # quoted otherwise than its beginning
def test_the_beginning_of_a_value(secret: str) -> None:
    """A text that quotes only the beginning of a value is left out as a whole."""
    found = redaction("inputs.ssn")
    found.learn({"inputs": {"ssn": secret}})

    assert found.text(f"expected int, got {secret[:15]!r}…") == MARK


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("inputs.a", [MARK, {"b": 2}, [3, 4]]),
        ("inputs.*", [MARK, MARK, MARK]),
        ("inputs.c.b", [1, {"b": MARK}, [3, 4]]),
        ("inputs.*.b", [1, {"b": MARK}, [3, 4]]),
        ("inputs.d[1]", [1, {"b": 2}, [3, MARK]]),
        ("inputs.d[*]", [1, {"b": 2}, [MARK, MARK]]),
        ("**.b", [1, {"b": MARK}, [3, 4]]),
        ("outputs.a", [1, {"b": 2}, [3, 4]]),
    ],
)
def test_paths(path: str, hidden: list[object]) -> None:
    """A path names keys and indexes; `*` is any of them, `**` any depth."""
    body = {"inputs": {"a": 1, "c": {"b": 2}, "d": [3, 4]}}

    told = redaction(path).of({"kind": "requested", "body": body})

    assert list(told["body"]["inputs"].values()) == hidden


def test_deltas_say_nothing() -> None:
    """A value may lie across two deltas, so their copies have no text."""
    told = redaction(patterns=("x+",)).of(
        {"kind": "delta", "field": "answer", "text": "half a sec"}
    )

    assert told == {"kind": "delta", "field": "answer", "text": MARK}


def test_headers_and_numbers() -> None:
    """Headers go by their name, numbers by what they look like."""
    rules = rules_of(Redact(headers=["TraceParent"], patterns=["^12345$"]))

    told = Redaction(rules).of(
        {"headers": {"traceparent": "a", "b": "c"}, "body": {"n": 12345, "m": 1}}
    )

    assert told == {
        "headers": {"traceparent": MARK, "b": "c"},
        "body": {"n": MARK, "m": 1},
    }


def test_what_a_model_wrote_is_not_quoted() -> None:
    """With a rule for outputs, a failure that may quote a model says nothing of it."""
    said = {"kind": "failed", "category": "program", "message": "Reply: the secret"}

    assert redaction("outputs.a").of(said)["message"] == MARK
    assert redaction("inputs.a").of(said) == said


@pytest.mark.parametrize(
    "section", [Redact(fields=["*"]), Redact(fields=[""]), Redact(patterns=["("])]
)
def test_rules_that_cannot_be(section: Redact) -> None:
    """A rule that names nothing, or is no pattern, is refused."""
    with pytest.raises(ValueError, match=r"names no field|no regular expression"):
        rules_of(section)
