"""Prompts and replies as a person edits them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.cli.replay_text import (
    asked_text,
    difference,
    read_asked,
    read_reply,
    reply_text,
)
from dspex.contracts.failures import BadRequest
from dspex.contracts.replays import Difference
from dspex.services.replay.stepping import Step

ROLES = st.sampled_from(["system", "user", "assistant", "tool", "other"])
CONTENTS = st.one_of(
    st.text(),
    st.sampled_from(["[user]", "a\n[user]\nb", "\n", "[ ## answer ## ]"]),
    st.lists(st.dictionaries(st.text(), st.text(), max_size=2), max_size=2),
    st.none(),
)
MESSAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": ROLES, "content": CONTENTS}),
        st.fixed_dictionaries({"role": ROLES, "content": CONTENTS, "name": st.text()}),
    ),
    min_size=1,
    max_size=4,
)
OUTPUTS = st.lists(
    st.one_of(st.text(), st.fixed_dictionaries({"text": st.text()})),
    min_size=1,
    max_size=3,
)


@given(MESSAGES)
def test_a_prompt_that_nobody_changed_is_the_same(messages: list[Any]) -> None:
    """Whatever it holds, also lines that look like a role."""
    step = Step(step=1, call=1, messages=messages)

    assert read_asked(asked_text(step), step).messages == messages


@given(OUTPUTS)
def test_a_reply_that_nobody_changed_is_the_same(outputs: list[Any]) -> None:
    """One text is itself; several, or more than a text, are JSON."""
    step = Step(step=1, call=1, recorded=outputs)

    reply = read_reply(reply_text(step), step)

    assert (reply.outputs or [reply.text]) == outputs


def test_messages_stand_under_their_roles() -> None:
    """A prompt is edited as text, and a line with a role begins a message."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?\nNow."},
    ]
    step = Step(step=1, call=1, messages=messages)

    assert asked_text(step) == "[system]\nBe brief.\n[user]\nWhy?\nNow."
    changed = read_asked("[system]\nBe kind.\n[user]\nWho?\n[user]\nHe?", step)
    assert changed.messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Who?"},
        {"role": "user", "content": "He?"},
    ]


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step(step=1, call=1, messages=[{"role": "user", "content": "Q"}]), "no role"),
        (Step(step=1, call=1, messages=[{"role": "user", "content": "Q"}]), ""),
        (Step(step=1, subject="tool.look", arguments={}), "{"),
    ],
)
def test_what_is_no_prompt_any_more_is_refused(step: Step, text: str) -> None:
    """The person is told, and may try again."""
    with pytest.raises(BadRequest):
        read_asked(text, step)


def test_a_tool_has_json() -> None:
    """Its arguments and its result are any JSON."""
    step = Step(step=1, subject="tool.look", arguments={"at": 1}, recorded="Here.")

    assert read_asked('{"at": 2}', step).arguments == {"at": 2}
    assert reply_text(step) == '"Here."'
    assert read_reply("[1]", step).result == [1]


def test_a_difference_in_one_line() -> None:
    """Both sides as JSON, cut to a width; a side that is not there is nothing."""
    long = Difference(path="outputs.answer", recorded="x" * 50, replayed=["é"])
    gone = Difference(path="events[1]", recorded={"kind": "failed"})

    assert difference(long, 10) == 'outputs.answer: "xxxxxxxx… -> ["é"]'
    assert difference(gone, 60) == 'events[1]: {"kind": "failed"} -> nothing'
