"""A job ends once, whatever comes in between."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from dspex.contracts import jobs
from dspex.contracts.envelope import Done, Failed, Metadata, Reply, failed
from dspex.contracts.failures import (
    BadRequest,
    Cancelled,
    DeadlineExceeded,
    LmRateLimit,
    WorkerLost,
)
from dspex.contracts.job_records import FIRST_NUMBER, Job, JobRecord
from dspex.contracts.jobs import Step

NOW = 1_000_000.0
JOB = Job(
    job="j1",
    tenant="default",
    operation="predict",
    body=msgspec.Raw(b"{}"),
    digest="d",
    pool="light",
    priority=3,
    submitted_at=NOW,
    max_attempts=3,
    backoff_s=2.0,
    keep_result_s=60,
)
DONE = Done(
    request="j1",
    outputs={"answer": 1},
    metadata=Metadata(implementation="python", pool="light", worker="w"),
)
LOST = failed("j1", WorkerLost("It was lost."))
WRONG = failed("j1", BadRequest("It is wrong."))


def step_of(step: Step) -> tuple[str, JobRecord]:
    assert step.record is not None
    return step.do, step.record


def running(tries: int = 1, **changes: Any) -> JobRecord:
    """A record with an attempt that runs, the others before it lost."""
    record: JobRecord | None = None
    for _ in range(tries):
        _, record = step_of(jobs.take(record, JOB, 7, "w", NOW))
    assert record is not None
    return replace(record, **changes)


def test_first_attempt() -> None:
    """The first to have a job makes its record, and runs it."""
    do, record = step_of(jobs.take(None, JOB, 7, "w1", NOW))

    assert (do, record.state, record.sequence, record.tries) == ("run", "running", 7, 1)
    assert [(one.worker, one.number) for one in record.attempts] == [
        ("w1", FIRST_NUMBER + 1)
    ]


@pytest.mark.parametrize(
    ("reply", "do", "state"),
    [
        (DONE, "end", "done"),
        (LOST, "wait", "queued"),
        (WRONG, "end", "failed"),
        (failed("j1", Cancelled("Stop.")), "end", "cancelled"),
        (failed("j1", DeadlineExceeded("Too long.")), "wait", "queued"),
    ],
)
def test_ends(reply: Reply, do: str, state: str) -> None:
    """A caller's error ends a job; what another attempt may get around does not."""
    record = running()

    found = step_of(jobs.finish(record, JOB, record.number, reply, NOW))

    assert (found[0], found[1].state) == (do, state)


def test_attempts_are_bounded() -> None:
    """The last attempt's failure makes a job dead, with every attempt's failure."""
    record = running(3)

    do, dead = step_of(jobs.finish(record, JOB, record.number, LOST, NOW))

    assert (do, dead.state) == ("bury", "dead")
    codes = [one.failure.code for one in dead.attempts if one.failure]
    assert codes == ["worker_lost"] * 3
    assert isinstance(dead.result, Failed)
    assert "3 of 3 attempts failed" in dead.result.message


def test_poison_is_buried_without_being_run() -> None:
    """A job that took all its workers with it is not given to another one."""
    do, dead = step_of(jobs.take(running(3), JOB, 7, "w4", NOW))

    assert (do, dead.state, len(dead.attempts)) == ("bury", "dead", 3)


def test_pauses_grow() -> None:
    """Each pause is twice the one before, and as long as the provider asks for."""
    limited = failed("j1", LmRateLimit("Slowly.", retry_after_ms=60_000))
    first, second = running(1), running(2)

    def pause(record: JobRecord, reply: Reply) -> float:
        return jobs.finish(record, JOB, record.number, reply, NOW).pause

    assert (pause(first, LOST), pause(second, LOST)) == (2.0, 4.0)
    assert pause(first, limited) == 60.0


def test_no_attempt_begins_after_the_deadline() -> None:
    """A job whose deadline comes before its next attempt has failed."""
    record = running(deadline=NOW + 1000)

    do, ended = step_of(jobs.finish(record, JOB, record.number, LOST, NOW))
    late = step_of(jobs.take(record, JOB, 7, "w", NOW + 1000))
    unseen = step_of(jobs.expire(replace(record, state="queued"), NOW + 1000))

    assert (do, ended.state) == ("end", "failed")
    for do, ended in (late, unseen):
        assert (do, ended.state) == ("end", "failed")
        assert isinstance(ended.result, Failed)
        assert ended.result.code == "deadline_exceeded"


def test_another_job_of_the_same_id() -> None:
    """A message that asks for something else than the record is of no use."""
    other = replace(JOB, digest="other")

    assert jobs.take(running(), other, 8, "w", NOW).do == "drop"


def test_who_was_overtaken_lets_go() -> None:
    """Whoever lost a job to another one neither stores nor acknowledges anything."""
    first, second = running(1), running(2)

    assert jobs.finish(second, JOB, first.number, DONE, NOW) == Step(do="leave")


def test_cancelled_while_it_ran() -> None:
    """What comes out of a job that was cancelled is dropped."""
    record = running()
    do, ended = step_of(jobs.cancel(record, NOW))

    assert (do, ended.state) == ("end", "cancelled")
    assert jobs.finish(ended, JOB, record.number, DONE, NOW).do == "drop"
    assert jobs.cancel(ended, NOW).record is None


def test_the_server_gives_up() -> None:
    """A job that is delivered no more is dead, even one that never began."""
    do, dead = step_of(jobs.give_up(jobs.opened(JOB, 7, NOW), 7, NOW))

    assert (do, dead.state) == ("bury", "dead")
    assert jobs.give_up(jobs.opened(JOB, 8, NOW), 7, NOW).do == "drop"


class Life(RuleBasedStateMachine):
    """One job among workers that crash, freeze, are late, and get messages twice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.stream: dict[int, Job] = {}
        self.acked: set[int] = set()
        self.record: JobRecord | None = None
        self.revision = 0
        self.letters: list[int] = []
        self.ends: list[int] = []
        self.workers: list[tuple[int, Job, int]] = []
        self.read: tuple[JobRecord | None, int] = (None, 0)

    @initialize()
    def submit(self) -> None:
        """It stands in the stream before anything else is known of it."""
        self.stream[1] = JOB

    @rule()
    def record_it(self) -> None:
        """The one who submitted it goes on; or a worker was faster."""
        if self.record is None:
            self.store(jobs.opened(JOB, 1, self.now), 0)

    @rule()
    def submit_again(self) -> None:
        """The same message once more, after the server forgot the first."""
        if len(self.stream) < 6:
            self.stream[max(self.stream) + 1] = JOB

    @rule()
    def look(self) -> None:
        """Somebody reads the record, and acts on it later."""
        self.read = (self.record, self.revision)

    @rule(data=st.data(), stale=st.booleans())
    def deliver(self, data: st.DataObject, stale: bool) -> None:
        """The server gives a message to a worker, perhaps not for the first time."""
        if left := sorted(set(self.stream) - self.acked):
            self.take(data.draw(st.sampled_from(left)), stale)

    @rule(data=st.data(), reply=st.sampled_from([DONE, LOST, WRONG]))
    def finish(self, data: st.DataObject, reply: Reply) -> None:
        """A worker comes to the end of what it believes to have."""
        if self.workers:
            one = data.draw(st.sampled_from(self.workers))
            self.workers.remove(one)
            self.end(one, reply, self.read if data.draw(st.booleans()) else None)

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A worker is gone; its message comes again some time."""
        if self.workers:
            self.workers.remove(data.draw(st.sampled_from(self.workers)))

    @rule()
    def cancel(self) -> None:
        """Somebody wants it to end."""
        if self.record is not None:
            self.store(jobs.cancel(self.record, self.now).record, self.revision)

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """Somebody takes it from the dead letters; and may die before it is noted."""
        record = self.record
        if record is None or record.state != "dead" or not record.dead:
            return
        sequence = max(self.stream) + 1
        self.stream[sequence] = replace(JOB, generation=record.generation + 1)
        if data.draw(st.booleans()):
            step = jobs.reopen(record, sequence, self.now)
            self.store(step.record, self.revision)

    @invariant()
    def ends_once(self) -> None:
        """No generation ends twice."""
        assert len(self.ends) == len(set(self.ends))

    @invariant()
    def tries_are_bounded(self) -> None:
        """No generation is tried more often than it may be."""
        assert self.record is None or self.record.tries <= JOB.max_attempts

    def teardown(self) -> None:
        """Without further faults it comes to an end."""
        for _ in range(50):
            left = sorted(set(self.stream) - self.acked)
            if not left:
                break
            self.take(left[0], stale=False)
            while self.workers:
                self.end(self.workers.pop(), DONE, None)
        assert set(self.stream) == self.acked
        assert self.record is None or self.record.ended
        if self.record is not None and self.record.state == "dead":
            assert self.record.dead in self.letters

    def take(self, sequence: int, stale: bool) -> None:
        record, revision = self.read if stale else (self.record, self.revision)
        job = self.stream[sequence]
        step = jobs.take(record, job, sequence, "w", self.now)
        if not self.store(step.record, revision):
            return  # it reads again, or comes again: a later delivery
        if step.do == "run":
            assert step.record is not None
            self.workers.append((sequence, job, step.record.number))
        elif step.do == "bury":
            self.bury(sequence)
        elif step.do != "leave":
            self.acked.add(sequence)

    def end(
        self,
        one: tuple[int, Job, int],
        reply: Reply,
        read: tuple[JobRecord | None, int] | None,
    ) -> None:
        sequence, job, number = one
        record, revision = read or (self.record, self.revision)
        step = jobs.finish(record, job, number, reply, self.now)
        if not self.store(step.record, revision):
            self.end(one, reply, None)
        elif step.do == "bury":
            self.bury(sequence)
        elif step.do in ("end", "drop"):
            self.acked.add(sequence)

    def bury(self, sequence: int) -> None:
        self.letters.append(len(self.letters) + 1)
        step = jobs.lettered(self.record, self.letters[-1])
        self.store(step.record, self.revision)
        self.acked.add(sequence)

    def store(self, record: JobRecord | None, revision: int) -> bool:
        """Compare and set; whether it went well."""
        if record is None:
            return True
        if revision != self.revision:
            return False
        before = self.record
        again = (
            before is not None
            and before.ended
            and before.generation == record.generation
        )
        if record.ended and not again:
            self.ends.append(record.generation)
        assert not again or (before and before.result == record.result)
        self.record, self.revision = record, revision + 1
        return True


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
