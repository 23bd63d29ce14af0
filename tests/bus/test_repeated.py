"""Requests that come twice, and attempts that a router may repeat elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from tests.bus.answering import BODY, DONE, Rig, word
from tests.bus.hearing import eventually

from dspex.bus.incoming import Request
from dspex.bus.recent import Recent
from dspex.contracts import encoding
from dspex.contracts.envelope import Delta, Done, Metadata, Reply
from dspex.contracts.failures import (
    Conflict,
    DeadlineExceeded,
    Failure,
    LmUnavailable,
    ParseFailed,
)
from dspex.contracts.headers import NO_HEADERS
from dspex.contracts.words import FailedWord, RefusedWord

if TYPE_CHECKING:
    from tests.bus.conftest import Connect

    from dspex.bus.core import Replies
    from dspex.bus.events import Events
    from dspex.bus.running import Outcome
    from dspex.contracts.subjects import Subjects


@pytest.fixture(name="rig")
async def _rig(connect: Connect, subjects: Subjects) -> Rig:
    rig = Rig(await connect(), await connect(), subjects)
    await rig.start()
    return rig


async def reply(replies: Replies) -> Any:
    return encoding.decode((await replies.next(10)).data, Reply)


def counted(rig: Rig) -> list[Events]:
    """Let the rig's program note every run of it."""
    runs: list[Events] = []
    program = rig.program

    async def runs_once(events: Events) -> Outcome:
        runs.append(events)
        return await program(events)

    rig.program = runs_once
    return runs


async def test_the_same_request_twice_at_once(rig: Rig) -> None:
    """Sent again while it runs, a request runs once and both are answered."""
    rig.program = rig.waits
    runs = counted(rig)
    words, first, second = [await rig.client.replies() for _ in range(3)]

    await rig.dispatch(words, first, request="r1")
    await rig.begun.wait()
    await rig.dispatch(words, second, request="r1")
    await eventually(lambda: rig.slots.in_hand == 2)
    rig.let_go.set()

    assert (await reply(first)).outputs == (await reply(second)).outputs == DONE.outputs
    assert len(runs) == 1
    await rig.events.count(2)
    assert rig.kinds("r1") == ["started", "done"]


async def test_what_is_forgotten_is_not_run_again(rig: Rig) -> None:
    """What must run once and was here before is answered from memory, or refused."""
    runs = counted(rig)
    words, first, again = [await rig.client.replies() for _ in range(3)]

    await rig.dispatch(words, first, request="r1")
    assert (await reply(first)).outputs == DONE.outputs
    await rig.dispatch(words, again, request="r1", known="once")
    assert (await reply(again)).outputs == DONE.outputs
    told = await rig.client.replies()
    await rig.dispatch(told, again, request="r2", known="once")

    refused = await word(told)
    assert isinstance(refused, RefusedWord)
    assert (refused.failure.code, len(runs)) == ("worker_lost", 1)
    assert "It may have run" in refused.failure.hint


async def test_the_same_request_once_more(rig: Rig) -> None:
    """Sent again after its answer, a request is answered again and does not run."""
    runs = counted(rig)

    answers = [await rig.ask(request="r1") for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]
    assert len(runs) == 1
    assert rig.kinds("r1") == ["requested", "started", "done"]


@pytest.mark.parametrize(
    ("failure", "idempotent", "runs"),
    [
        (ParseFailed, True, 1),
        (LmUnavailable, True, 2),
        (LmUnavailable, False, 1),
        (DeadlineExceeded, True, 2),
        (DeadlineExceeded, False, 1),
    ],
)
async def test_a_failed_request_once_more(
    rig: Rig, failure: type[Failure], idempotent: bool, runs: int
) -> None:
    """Its failure is told again; it runs again where that may help and is allowed."""

    async def fails(events: Events) -> Outcome:
        raise failure("it failed")

    rig.program = fails
    ran = counted(rig)
    body = BODY | {"options": {"idempotent": idempotent}}

    answers = [await rig.ask(body, request="r1") for _ in range(2)]

    assert [one.code for one in answers] == [failure.code] * 2
    assert len(ran) == runs


async def test_the_same_request_where_there_is_no_room(rig: Rig) -> None:
    """A copy of what is in hand takes no place, so it is never refused."""
    rig.program = rig.waits
    ran = counted(rig)
    words, *answers = [await rig.client.replies() for _ in range(4)]
    await rig.dispatch(words, answers[0], request="r1")
    await rig.begun.wait()
    await rig.dispatch(words, answers[1], request="r2")
    await eventually(lambda: rig.slots.full)

    await rig.dispatch(words, answers[2], request="r1")
    await eventually(lambda: rig.slots.in_hand == 3)
    rig.let_go.set()

    assert [(await reply(one)).request for one in answers] == ["r1", "r2", "r1"]
    assert len(ran) == 2


async def test_dropped_as_it_ends(rig: Rig) -> None:
    """An attempt that is dropped while its program ends tells nobody."""

    async def ends_anyway(events: Events) -> Outcome:
        try:
            return await rig.waits(events)
        except asyncio.CancelledError:
            return DONE

    rig.program = ends_anyway
    words, answer = await rig.client.replies(), await rig.client.replies()
    await rig.dispatch(words, answer, request="r1", router="me", attempt="1")
    await rig.begun.wait()
    stop = rig.subjects.worker_stop("w1")
    await rig.client.publish(
        stop, headers={"Dspex-Request": "r1", "Dspex-Attempt": "1"}
    )
    await eventually(lambda: rig.slots.in_hand == 0)
    rig.program = rig.done
    await rig.ask(request="r2")

    assert rig.kinds("r1") == ["started"]


async def test_a_last_word_that_is_too_large(rig: Rig) -> None:
    """An answer that does not fit beside its deltas is told once, and not kept."""
    half = "x" * (rig.client.max_payload // 2 + 1000)

    async def tells(events: Events) -> Outcome:
        await events.emit(Delta, field="answer", text=half)
        return replace(DONE, outputs={"answer": half})

    rig.program = tells
    words, answer = await rig.client.replies(), await rig.client.replies()
    await rig.dispatch(words, answer, **{"request": "r1", "return": "reply"})
    await word(words)
    finished = await word(words)

    assert (finished.code, finished.reply, finished.deltas) == ("done", None, [])
    assert (await reply(answer)).outputs == {"answer": half}
    assert rig.kinds("r1").count("done") == 1


@pytest.mark.parametrize("runs_still", [True, False])
async def test_another_request_of_the_same_id(rig: Rig, runs_still: bool) -> None:
    """Another request under a known id is refused and says why."""
    rig.program = rig.waits
    words, answer = await rig.client.replies(), await rig.client.replies()
    await rig.dispatch(words, answer, request="r1")
    await rig.begun.wait()
    if not runs_still:
        rig.let_go.set()
        await reply(answer)

    other = await rig.ask(BODY | {"inputs": {"question": "another"}}, request="r1")

    assert (other.code, other.field) == ("conflict", "Dspex-Request")
    rig.let_go.set()


async def test_a_failure_goes_back_first(rig: Rig) -> None:
    """A failure that another try may get around is the router's to tell."""

    async def fails(events: Events) -> Outcome:
        raise LmUnavailable("500", retry_after_ms=70)

    rig.program = fails
    words, answer = await rig.client.replies(), await rig.client.replies()
    await rig.dispatch(words, answer, request="r1", router="me")
    accepted = await word(words)
    message = await words.next(10)
    await rig.client.publish(message.reply, b"{}")

    said = encoding.decode(message.data, FailedWord)
    assert (accepted.in_hand, accepted.yours) == (1, 1)
    assert (said.failure.code, said.failure.retry_after_ms) == ("lm_unavailable", 70)
    assert (said.in_hand, said.yours) == (0, 0)
    assert said.failure.metadata is not None
    rig.program = rig.done
    await rig.dispatch(words, answer, request="r1", router="me", attempt="2")
    assert (await reply(answer)).metadata.attempts == 2
    await rig.events.count(3)
    assert rig.kinds("r1") == ["started", "started", "done"]


async def test_a_failure_nobody_takes_back(rig: Rig) -> None:
    """When the router is gone, the process tells the client itself."""

    async def fails(events: Events) -> Outcome:
        raise LmUnavailable("500")

    rig.program = fails
    words, answer = await rig.client.replies(), await rig.client.replies()
    await words.close()

    await rig.dispatch(words, answer, request="r1", router="gone")

    assert (await reply(answer)).code == "lm_unavailable"


async def test_an_attempt_that_is_given_up(rig: Rig) -> None:
    """A dropped attempt frees its slot and tells nobody; a newer one is not meant."""
    rig.program = rig.waits
    words, answer = await rig.client.replies(), await rig.client.replies()
    stop = rig.subjects.worker_stop("w1")
    await rig.dispatch(words, answer, request="r1", router="me", attempt="2")
    await rig.begun.wait()

    await rig.client.publish(
        stop, headers={"Dspex-Request": "r1", "Dspex-Attempt": "1"}
    )
    await rig.client.flush()
    assert rig.slots.in_hand == 1
    await rig.client.publish(
        stop, headers={"Dspex-Request": "r1", "Dspex-Attempt": "2"}
    )

    await eventually(lambda: rig.slots.in_hand == 0)
    rig.program = rig.done
    await rig.ask(request="r2")
    assert rig.kinds("r1") == ["started"]


async def test_the_router_wants_the_answer_too(rig: Rig) -> None:
    """Asked for it, the last word carries the answer and the deltas told."""

    async def tells(events: Events) -> Outcome:
        for text in ("4", "2"):
            await events.emit(Delta, field="answer", text=text)
        return DONE

    rig.program = tells
    words, answer = await rig.client.replies(), await rig.client.replies()
    await rig.dispatch(words, answer, **{"request": "r1", "return": "reply"})
    await word(words)
    finished = await word(words)

    assert finished.reply == await reply(answer)
    assert [one.text for one in finished.deltas] == ["4", "2"]


async def test_a_stream_that_outlives_its_reader(rig: Rig) -> None:
    """A stream marked to continue runs to its end without a reader."""
    rig.program = rig.waits
    body = BODY | {"options": {"on_disconnect": "continue"}}
    async with await rig.client.replies(dedicated=True) as replies:
        await rig.send(
            rig.subjects.pool_run("light"),
            replies.subject,
            body,
            request="r1",
            stream="inbox",
        )
        await rig.begun.wait()
        attempt = rig.answerer._in_hand["default", "r1"]
        attempt.events._keep_alive_after = 0.02
    await rig.events.until(lambda: "status" in rig.kinds("r1"))
    rig.let_go.set()

    await rig.events.until(lambda: "done" in rig.kinds("r1"))


class TestRecent:
    """Answers of a moment ago."""

    REQUEST = Request(
        operation="predict",
        id="r1",
        tenant="default",
        body=b"{}",
        media=encoding.JSON,
        deadline=1e15,
        reply="",
        headers=NO_HEADERS,
    )
    REPLY = Done(
        request="r1",
        outputs={"answer": "x" * 100},
        metadata=Metadata(implementation="native", pool="native", worker="w"),
    )

    def test_they_end(self) -> None:
        """An answer is known for two minutes."""
        now = [0.0]
        recent = Recent(lambda: now[0])
        recent.keep(self.REQUEST, self.REPLY)

        assert recent.find(self.REQUEST) == self.REPLY
        now[0] = 121.0
        assert recent.find(self.REQUEST) is None
        assert len(recent) == 0

    def test_they_are_bounded(self) -> None:
        """Neither their number nor their bytes grow without end."""
        few, small = Recent(most=10), Recent(size=4000)
        for number in range(100):
            request = replace(self.REQUEST, id=f"r{number}")
            few.keep(request, self.REPLY)
            small.keep(request, self.REPLY)

        assert len(few) == 10
        assert 1 <= len(small) <= 15
        assert small.find(replace(self.REQUEST, id="r99")) == self.REPLY
        huge = replace(self.REPLY, outputs={"answer": "x" * 3000})
        small.keep(replace(self.REQUEST, id="huge"), huge)
        assert small.find(replace(self.REQUEST, id="huge")) is None

    def test_tenants_are_apart(self) -> None:
        """The same id of another tenant is another request."""
        recent = Recent()
        recent.keep(self.REQUEST, self.REPLY)

        assert recent.find(replace(self.REQUEST, tenant="acme")) is None
        with pytest.raises(Conflict):
            recent.find(replace(self.REQUEST, body=b"[]"))
