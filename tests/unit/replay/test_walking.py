"""What the decisions of a person do to a call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from dspex.contracts import examples
from dspex.contracts.envelope import Requested
from dspex.contracts.record_examples import RECORDS
from dspex.contracts.records import LmCall
from dspex.contracts.replays import Asked, FromRecord
from dspex.services.replay.lives import Recorded
from dspex.services.replay.stepping import (
    Ask,
    Decision,
    Next,
    Prompt,
    Reply,
    Step,
    Stop,
    Walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

THEN = [{"role": "user", "content": "Why?"}]
NOW = [{"role": "user", "content": "Why, briefly?"}]
FOUND = FromRecord(found=True, outputs=["Because."])
MISSING = FromRecord(found=False)
MODEL = Asked(request="new", attempt=1, call=1, messages=THEN)
TOOL = Asked(request="new", attempt=1, subject="dspex.v1.tool.look", arguments={"a": 1})


class Person:
    """Says one thing after another, and remembers what it was shown."""

    def __init__(self, decisions: Iterable[Decision]) -> None:
        self.shown: list[Step] = []
        self._decisions = iter(decisions)

    async def decide(self, step: Step) -> Decision:
        self.shown.append(step)
        return next(self._decisions)


def walk(*decisions: Decision, real: str = "") -> tuple[Walk, Person]:
    asked = next(one for one in examples.EVENTS.values() if isinstance(one, Requested))
    call = next(one for one in RECORDS.values() if isinstance(one, LmCall))
    call = replace(call, attempt=1, call=1, messages=THEN, outputs=["Because."])
    recorded = Recorded(asked=asked, tenant="default", session="", said=[call])
    person = Person(decisions)
    kinds = frozenset(filter(None, [real]))
    return Walk(recorded, person.decide, lambda _: None, kinds), person


@pytest.mark.parametrize(
    ("decision", "outputs"),
    [
        (Next(), ["Because."]),
        (Reply(text="So."), ["So."]),
        (Reply(outputs=[{"text": "So."}]), [{"text": "So."}]),
    ],
)
async def test_a_call_is_answered(decision: Decision, outputs: list[Any]) -> None:
    """By the record, or by what the person says."""
    one, person = walk(decision)

    answer = await one.person(MODEL, FOUND)

    assert (answer.found, answer.really, answer.outputs) == (True, False, outputs)
    assert person.shown[0].found


async def test_another_prompt_has_no_answer() -> None:
    """It is shown with its difference, until somebody types a reply."""
    decisions = (Prompt(messages=NOW), Next(), Ask(), Reply(), Reply(text="So."))
    one, person = walk(*decisions)

    answer = await one.person(MODEL, FOUND)

    assert answer.outputs == ["So."]
    assert [step.found for step in person.shown] == [True, *4 * [False]]
    assert "+Why, briefly?" in person.shown[1].diff
    assert person.shown[1].recorded == ["Because."]
    assert "no answer to this prompt" in person.shown[2].problem
    assert "`live`" in person.shown[3].problem
    assert "takes the text" in person.shown[4].problem


async def test_the_prompt_of_then_has_its_answer_again() -> None:
    """Who changes a prompt back is where it began."""
    one, person = walk(Prompt(messages=NOW), Prompt(messages=THEN), Next())

    assert await one.person(MODEL, FOUND) == FOUND
    assert [step.found for step in person.shown] == [True, False, True]


@pytest.mark.parametrize("decision", [Next(), Ask()])
async def test_a_model_is_asked_what_stands_there_now(decision: Decision) -> None:
    """In a live walk, where the record has nothing or nobody wants it."""
    one, _ = walk(Prompt(messages=NOW), decision, real="lm")

    answer = await one.person(MODEL, FOUND)

    assert (answer.really, answer.messages) == (True, NOW)


async def test_a_tool_has_arguments_and_a_result() -> None:
    """They are changed like prompts and replies, and it is called if it may be."""
    answered, _ = walk(Reply(result="There."))
    refused, person = walk(Ask(), Next(), real="lm")
    called, _ = walk(Prompt(arguments={"a": 2}), Ask(), real="tools")
    found = FromRecord(found=True, result="Here.")

    assert (await answered.person(TOOL, found)).result == "There."
    assert (await refused.person(TOOL, found)).result == "Here."
    assert "--allow-tools" in person.shown[1].problem
    answer = await called.person(TOOL, found)
    assert (answer.really, answer.arguments) == (True, {"a": 2})


async def test_a_stop_is_for_all_that_follows() -> None:
    """Whoever waits for a decision then gets none."""
    one, person = walk(Stop())

    answers = await asyncio.gather(
        one.person(MODEL, FOUND), one.person(replace(MODEL, call=2), MISSING)
    )

    assert [*answers] == [MISSING, MISSING]
    assert one.stopped.is_set()
    assert len(person.shown) == 1
