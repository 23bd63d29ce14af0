"""What a replay compares, and what the record answers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts.envelope import (
    Delta,
    DoneEvent,
    FailedEvent,
    Metadata,
    Started,
    StepEvent,
    ToolCall,
    ToolResult,
)
from dspex.contracts.records import CallFailure, LmCall
from dspex.contracts.replays import (
    Asked,
    Script,
    compare,
    first_difference,
    prompt_diff,
    story,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def event(kind: Any, number: int, attempt: int = 1, **said: Any) -> Any:
    return kind(request="r", attempt=attempt, seq=number, at=float(number), **said)


def metadata(worker: str = "w") -> Metadata:
    return Metadata(implementation="python", pool="light", worker=worker)


def started(attempt: int = 1, worker: str = "w") -> Any:
    said = {"operation": "predict", "pool": "light", "worker": worker}
    return event(Started, 1, attempt, **said)


def done(number: int = 9, attempt: int = 1, worker: str = "w", **outputs: Any) -> Any:
    about = metadata(worker)
    return event(DoneEvent, number, attempt, outputs=outputs, metadata=about)


def delta(number: int, text: str, field: str = "answer") -> Any:
    return event(Delta, number, field=field, text=text)


def call(number: int, text: str, attempt: int = 1, **said: Any) -> LmCall:
    said = {"outputs": [f"to {text}"]} | said
    return LmCall(
        request="r",
        attempt=attempt,
        call=number,
        at=0.0,
        ms=5.0,
        lm="default",
        model="m",
        messages=[{"role": "user", "content": text}],
        parameters={"temperature": 0.0},
        **said,
    )


def asked(number: int, text: str, attempt: int = 1) -> Asked:
    return Asked(
        request="new",
        attempt=attempt,
        call=number,
        messages=[{"role": "user", "content": text}],
        parameters={"temperature": 0.0},
    )


def test_what_depends_on_time_and_place_is_no_difference() -> None:
    """Other workers, attempts and pieces of deltas tell the same story."""
    recorded = [started(), delta(2, "o"), delta(3, "ne"), done(answer="one")]
    replayed = [started(2, "v"), done(attempt=2, worker="v", answer="one")]
    replayed.insert(1, event(Delta, 2, 2, field="answer", text="one"))

    assert compare(recorded, replayed) is None
    assert [one["kind"] for one in story(recorded)] == ["started", "delta", "done"]


def test_the_end_is_looked_at_first() -> None:
    """Where outputs differ, that is said, whatever led there."""
    recorded = [started(), delta(2, "one"), done(answer="one", n=1)]
    replayed = [started(), delta(2, "two"), done(answer="two", n=1)]

    found = compare(recorded, replayed)

    assert found is not None
    assert (found.path, found.recorded, found.replayed) == (
        "outputs.answer",
        "one",
        "two",
    )


def test_events_that_are_missing_are_a_difference() -> None:
    """The same end is not enough."""
    found = compare([started(), delta(2, "one"), done()], [started(), done()])

    assert found is not None
    assert found.path == "events[1].kind"


def test_a_failure_is_its_code_and_message() -> None:
    """Hints may get better from one release to the next."""
    said: dict[str, Any] = {
        "code": "lm_timeout",
        "category": "provider",
        "message": "slow",
    }
    recorded = [started(), event(FailedEvent, 2, **said)]

    same = [started(), event(FailedEvent, 2, **said, hint="Wait.")]
    refused: dict[str, Any] = {**said, "code": "lm_refused"}
    other = [started(), event(FailedEvent, 2, **refused)]

    assert compare(recorded, same) is None
    found = compare(recorded, other)
    assert found is not None
    assert found.path == "code"


@given(VALUES, VALUES)
def test_first_difference_is_one(recorded: Any, replayed: Any) -> None:
    """There is one exactly where values differ, and it shows two that do."""
    found = first_difference(recorded, replayed)

    assert (found is None) == (recorded == replayed)
    # A key that is missing and one that is null look alike.
    if found is not None and found.recorded is not None:
        assert found.recorded != found.replayed


def test_calls_are_answered_by_what_they_ask() -> None:
    """In another order too, each once, and an attempt begins anew."""
    script = Script([call(1, "a"), call(2, "b"), call(3, "a", outputs=["again"])])

    given_ = [script.answer(one).outputs for one in (asked(1, "b"), asked(3, "a"))]
    rest = [script.answer(one).outputs for one in (asked(2, "a"), asked(1, "b", 2))]

    assert given_ == [["to b"], ["again"]]
    assert rest == [["to a"], ["to b"]]
    assert script.difference is None
    assert not script.answer(asked(4, "a")).found
    assert script.difference is not None


def test_only_the_last_attempt_answers() -> None:
    """What came before it was void then, and is now."""
    lost = CallFailure(code="lm_unavailable", category="provider", message="no")
    script = Script([call(1, "a", outputs=None, failure=lost), call(1, "a", 2)])

    assert script.answer(asked(1, "a")).outputs == ["to a"]


def test_a_failure_is_answered_too() -> None:
    """With all that the program saw of it."""
    lost = CallFailure(
        code="lm_rate_limit",
        category="provider",
        message="later",
        error="LMRateLimitError",
        retry_after_ms=7,
    )

    found = Script([call(1, "a", outputs=None, failure=lost)]).answer(asked(1, "a"))

    assert (found.found, found.outputs, found.code) == (True, None, "lm_rate_limit")
    assert (found.error, found.retry_after_ms) == ("LMRateLimitError", 7)


def test_a_call_that_is_not_there_is_where_it_diverged() -> None:
    """The first of them, with both prompts."""
    script = Script([call(1, "Be brief."), call(2, "b")])

    assert not script.answer(asked(1, "Be very brief.")).found
    assert not script.answer(asked(2, "c")).found

    found = script.difference
    assert found is not None
    assert (found.call, found.path) == (1, "messages[0].content")
    assert (found.recorded, found.replayed) == ("Be brief.", "Be very brief.")
    assert "-Be brief." in found.diff
    assert "+Be very brief." in found.diff


def test_a_turn_goes_on_as_it_did_then() -> None:
    """Where it diverged is told, and what builds on its answer has that of then."""
    script = Script([call(1, "a", outputs=["then"])], goes_on=True)

    first, again = script.answer(asked(1, "other")), script.answer(asked(1, "other"))

    assert (first.found, first.outputs) == (True, ["then"])
    assert not again.found
    assert script.difference is not None
    assert script.difference.call == 1


def test_parts_may_end_in_any_order() -> None:
    """When which part of a program ended makes no difference."""
    steps = [
        event(StepEvent, seq, part=part, module="predict", ms=float(seq))
        for seq, part in ((1, "a"), (2, "b"))
    ]

    assert compare(steps, list(reversed(steps))) is None
    assert story(steps) == []


def test_tools_answer_from_the_record() -> None:
    """Each call of then answers once; others are where it diverged."""
    said = [
        event(ToolCall, 1, call=1, tool="look", arguments={"at": 1}),
        event(ToolResult, 2, call=1, tool="look", ms=3.0, result="here"),
        event(ToolCall, 3, call=2, tool="look", arguments={"at": 2}),
        event(ToolResult, 4, call=2, tool="look", ms=3.0, error="gone"),
    ]
    script = Script(said)

    def ask(at: int) -> Any:
        arguments = {"at": at}
        subject = "dspex.v1.tool.look"
        return script.answer(
            Asked(request="new", attempt=1, subject=subject, arguments=arguments)
        )

    assert (ask(2).code, ask(1).result) == ("tool_failed", "here")
    assert script.difference is None
    assert not ask(3).found
    assert script.difference is not None
    assert script.difference.replayed == {"at": 3}


def test_long_differences_are_shortened() -> None:
    """What is told has a size."""
    found = prompt_diff(
        [{"role": "user", "content": "a\n" * 5000}],
        [{"role": "user", "content": "b\n" * 5000}],
    )

    assert found[-1] == "…"
    assert sum(map(len, found)) < 5000
