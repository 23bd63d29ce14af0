"""What a supervisor decides: by example, and whatever happens in whatever order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from dspex.contracts.pooling import Pool
from dspex.services.supervisor.planning import (
    MIB,
    Action,
    Goal,
    Kill,
    Patience,
    Start,
    Stop,
    Worker,
    decide,
)

PATIENCE = Patience(start=60, silence=10, stop=5)


def worker(name: str, state: str = "ready", **given: Any) -> Worker:
    known: dict[str, Any] = {
        "pool": "light",
        "begun": 90.0,
        "heard": 100.0,
        "state": state,
    }
    return Worker(name=name, **(known | given))


def goal(processes: int, **given: Any) -> Goal:
    kept = {key: given.pop(key) for key in ("generation", "pause") if key in given}
    return Goal(processes=processes, settings=Pool(**given), **kept)


def plan(wanted: Goal, *workers: Worker, starting: int = 2) -> list[Action]:
    return decide({"light": wanted}, workers, 100.0, starting, PATIENCE)


def test_what_is_missing_is_started_a_few_at_a_time() -> None:
    """No more start than may, those that do already included."""
    assert plan(goal(5)) == [Start("light")] * 2
    assert plan(goal(5), worker("a", "starting")) == [Start("light")]
    assert plan(goal(1), worker("a")) == []


def test_a_pause_holds_starts_back() -> None:
    """A pool that backs off starts nothing."""
    assert plan(goal(2, pause=0.5)) == []


def test_pools_start_in_turn() -> None:
    """One pool's many workers do not hold up another pool's first."""
    goals = {"a": goal(5), "b": goal(1)}

    assert decide(goals, [], 0.0, 2, PATIENCE) == [Start("a"), Start("b")]


def test_too_many_are_stopped_the_youngest_first() -> None:
    """Those that do not answer yet go first, then those started last."""
    old, young = worker("old", begun=10.0), worker("young", begun=20.0)

    found = plan(goal(1), young, old, worker("new", "starting"))

    assert [one.name for one in found if isinstance(one, Stop)] == ["young", "new"]


def test_a_replacement_comes_first() -> None:
    """A worker that is to be replaced stays until another one is ready."""
    wanted = goal(1, generation=1)
    old, new = worker("old"), worker("new", "starting", generation=1)

    assert plan(wanted, old) == [Start("light")]
    assert plan(wanted, old, new) == []
    ready = replace(new, state="ready")
    assert plan(wanted, old, ready) == [Stop("old", "the pool is restarted")]


@pytest.mark.parametrize(
    ("limit", "state", "why"),
    [
        ({"recycle_after_s": 8.0}, {}, "it is 10 s old"),
        ({"recycle_requests": 5}, {"served": 6}, "it has had 6 requests"),
        ({"recycle_mib": 10}, {"rss": 11 * MIB}, "it holds 11 MiB"),
        ({}, {"asked": "it is drained"}, "it is drained"),
    ],
)
def test_what_is_replaced(limit: Any, state: Any, why: str) -> None:
    """Age, requests, memory, or a wish; limits are not the same for all."""
    due, spare = worker("due", **state), worker("spare", begun=99.0)

    assert Stop("due", why) in plan(goal(1, **limit), due, spare)
    assert plan(goal(2, **limit), worker("a", begun=99.0), spare) == []


@pytest.mark.parametrize(
    ("limit", "state", "code", "why"),
    [
        ({}, {"heard": 89.0}, "worker_lost", "is frozen: no heartbeat for 11 s"),
        ({}, {"heard": 89.0, "busy": 2.0}, "resource_cpu", "busy by native code"),
        ({}, {"heard": 89.0, "busy": 0.5}, "worker_lost", "is frozen"),
        ({"stall_s": 3.0}, {"lag": 3.5}, "resource_cpu", "kept busy"),
        ({"memory_mib": 9}, {"memory": 10 * MIB}, "resource_memory", "10 MiB, 9 are"),
        ({"max_children": 4}, {"children": 5}, "resource_cpu", "5 child processes"),
        ({}, {"state": "starting", "begun": 39.0}, "worker_lost", "not ready after"),
        ({}, {"state": "stopping", "stopped": 64.0}, "worker_lost", "did not stop"),
    ],
)
def test_what_is_ended(limit: Any, state: Any, code: str, why: str) -> None:
    """A worker that is frozen, stuck or beyond its limits is ended and replaced."""
    kill, *rest = plan(goal(1, **limit), worker("bad", **state))

    assert isinstance(kill, Kill)
    assert (kill.name, kill.code) == ("bad", code)
    assert why in kill.why
    assert rest == [Start("light")]


def test_a_pool_that_is_gone() -> None:
    """Workers of a pool nobody wants are stopped."""
    assert decide({}, [worker("a")], 100.0, 2, PATIENCE) == [
        Stop("a", "its pool is gone")
    ]


class Host(RuleBasedStateMachine):
    """A host on which workers start, become ready, freeze, end and are replaced."""

    STARTING = 2

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.goal = goal(2)
        self.workers: dict[str, Worker] = {}
        self.number = 0

    def act(self) -> None:
        before = self.ready()
        goals = {"light": self.goal}
        found = decide(
            goals, list(self.workers.values()), self.now, self.STARTING, PATIENCE
        )
        killed = 0
        for action in found:
            match action:
                case Start():
                    self.number += 1
                    name = f"light-{self.number}"
                    self.workers[name] = worker(
                        name,
                        "starting",
                        begun=self.now,
                        heard=self.now,
                        generation=self.goal.generation,
                    )
                case Stop(name, _):
                    one = self.workers[name]
                    assert one.state != "stopping"
                    self.workers[name] = replace(
                        one, state="stopping", stopped=self.now
                    )
                case Kill(name, _, _):
                    killed += self.workers.pop(name).state == "ready"
        # Nobody is told to stop who is needed: what is ready stays enough.
        assert self.ready() + killed >= min(before, self.goal.processes)
        if Start("light") in found:
            wanted = self.goal.processes
            living = [one for one in self.workers.values() if one.state != "stopping"]
            assert len(living) <= wanted + max(1, wanted // 4)

    def ready(self) -> int:
        return sum(one.state == "ready" for one in self.workers.values())

    def some(self, state: str, pick: int) -> str | None:
        names = [one.name for one in self.workers.values() if one.state == state]
        return names[pick % len(names)] if names else None

    @rule(pick=st.integers(0, 9))
    def becomes_ready(self, pick: int) -> None:
        if name := self.some("starting", pick):
            self.workers[name] = replace(self.workers[name], state="ready")
        self.act()

    @rule(pick=st.integers(0, 9), state=st.sampled_from(["starting", "ready"]))
    def crashes(self, pick: int, state: str) -> None:
        if name := self.some(state, pick):
            del self.workers[name]
        self.act()

    @rule(pick=st.integers(0, 9))
    def finishes(self, pick: int) -> None:
        if name := self.some("stopping", pick):
            del self.workers[name]
        self.act()

    @rule(seconds=st.floats(0.1, 20), deaf=st.booleans())
    def time_passes(self, seconds: float, deaf: bool) -> None:
        self.now += seconds
        for name, one in self.workers.items():
            if one.state == "ready" and not deaf:
                self.workers[name] = replace(one, heard=self.now)
        self.act()

    @rule(processes=st.integers(0, 6))
    def is_scaled(self, processes: int) -> None:
        self.goal = replace(self.goal, processes=processes)
        self.act()

    @rule()
    def is_restarted(self) -> None:
        self.goal = replace(self.goal, generation=self.goal.generation + 1)
        self.act()

    @invariant()
    def not_many_start(self) -> None:
        starting = [one for one in self.workers.values() if one.state == "starting"]
        assert len(starting) <= self.STARTING

    def teardown(self) -> None:
        """Left alone, it becomes what it shall be, and stays so."""
        for _ in range(60):
            for name, one in list(self.workers.items()):
                if one.state == "stopping":
                    del self.workers[name]
                else:
                    self.workers[name] = replace(one, state="ready", heard=self.now)
            self.act()
        assert self.ready() == self.goal.processes == len(self.workers)
        assert {one.generation for one in self.workers.values()} <= {
            self.goal.generation
        }


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
