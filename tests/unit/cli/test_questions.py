"""The demo's questions as commands for other NATS clients."""

import json
import shlex

import pytest

from dspex.cli.questions import QUESTIONS, Question
from dspex.contracts import catalog, encoding
from dspex.native.signatures import parsing


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.title)
def test_command_is_exact(question: Question) -> None:
    """A shell hands the nats command line the very subject and body that are sent."""
    words = shlex.split(question.command("some.subject"))

    assert words[:2] == ["nats", "req"]
    assert words[-2] == "some.subject"
    assert json.loads(words[-1]) == question.body
    assert ("Dspex-Stream:inbox" in words) == question.stream


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.title)
def test_body_fits_the_contract(question: Question) -> None:
    """Every body is one that the operation takes, with a signature that parses."""
    request = catalog.operation(question.operation).request

    body = encoding.decode(question.text().encode(), request)

    assert parsing.parse(body.signature).signature.fields


def test_every_kind_is_asked() -> None:
    """The demo shows predict, chain_of_thought and a stream."""
    operations = {question.operation for question in QUESTIONS}

    assert operations == {"predict", "chain_of_thought"}
    assert sum(question.stream for question in QUESTIONS) == 1
