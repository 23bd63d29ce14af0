"""The fold of a session's log gives what a single process would have."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)
from msgspec.structs import replace

from dspex.contracts import encoding
from dspex.contracts.envelope import Usage
from dspex.contracts.sessions import (
    ClosedEntry,
    HeldEntry,
    LogEntry,
    Opened,
    SessionSettings,
    SessionState,
    SetEntry,
    SnapshotEntry,
    TurnEntry,
    apply,
    forked,
)

NAMES = st.sampled_from(["a", "b", "c"])


def folded(log: list[LogEntry]) -> SessionState | None:
    """The state that a log gives, read from its bytes."""
    state = None
    for entry in log:
        state = apply(state, encoding.decode(encoding.encode(entry), LogEntry))
    return state


class Log:
    """A log as JetStream keeps it: whoever adds says what must have come last."""

    def __init__(self, *entries: LogEntry) -> None:
        self.entries = list(entries)

    def append(self, entry: LogEntry, expected: int) -> bool:
        if expected != len(self.entries):
            return False
        self.entries.append(entry)
        return True


class Writer:
    """A process that held the session once, with what it knew of it then."""

    def __init__(self, log: Log, fence: int) -> None:
        self.log = log
        self.fence = fence
        self.state = folded(log.entries)
        self.last = len(log.entries)

    def commit(self, entry: LogEntry) -> bool:
        """Add an entry as a holder does: again behind what others added meanwhile."""
        while not self.log.append(entry, self.last):
            self.state, self.last = folded(self.log.entries), len(self.log.entries)
            assert self.state is not None
            if self.state.fence != self.fence:
                return False
            request = getattr(entry, "request", "")
            if self.state.find(request) is not None:
                return True
        self.state, self.last = apply(self.state, entry), len(self.log.entries)
        return True


class Model:
    """What a single process that never fails would have."""

    def __init__(self) -> None:
        self.turns: list[str] = []
        self.values: dict[str, Any] = {}
        self.tokens = 0

    def copy(self, after: int) -> Model:
        found = Model()
        found.turns = self.turns[:after]
        found.values = dict(self.values)
        found.tokens = after
        return found


class Machine(RuleBasedStateMachine):
    """Holders that die, freeze and wake; turns, values and forks; words sent twice."""

    sessions: Bundle[str] = Bundle("sessions")
    sleepers: Bundle[tuple[str, Writer, str]] = Bundle("sleepers")

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Log] = {}
        self.models: dict[str, Model] = {}
        self.holders: dict[str, Writer] = {}
        self.asked: dict[str, int] = {}
        self.fence = 0
        self.clock = 0.0

    def now(self) -> float:
        self.clock += 1
        return self.clock

    @rule(target=sessions)
    def open(self) -> str:
        name = f"s{len(self.logs)}"
        opened = Opened(at=self.now(), request=name, settings=SessionSettings())
        self.logs[name], self.models[name] = Log(opened), Model()
        return name

    @rule(target=sessions, of=sessions, share=st.floats(0, 1))
    def fork(self, of: str, share: float) -> str:
        name, state = f"s{len(self.logs)}", folded(self.logs[of].entries)
        assert state is not None
        after = round(share * len(state.turns))
        copy = forked(state, of, after, name, self.now())
        self.logs[name] = Log(SnapshotEntry(at=self.clock, state=copy))
        self.models[name] = self.models[of].copy(after)
        return name

    @rule(session=sessions)
    def hold(self, session: str) -> None:
        """A new holder; the one there was may be dead or asleep."""
        self.fence += 1
        log = self.logs[session]
        held = HeldEntry(at=self.now(), worker=f"w{self.fence}", fence=self.fence)
        assert log.append(held, len(log.entries))
        self.holders[session] = Writer(log, self.fence)

    @rule(session=sessions)
    def turn(self, session: str) -> None:
        self._turn(session, f"{session}-{len(self.models[session].turns)}-{self.now()}")

    @rule(session=sessions, data=st.data())
    def turn_again(self, session: str, data: st.DataObject) -> None:
        """A request that was answered comes again."""
        if turns := self.models[session].turns:
            self._turn(session, data.draw(st.sampled_from(turns)))

    def _turn(self, session: str, request: str) -> None:
        if session not in self.holders:
            self.hold(session)
        holder, model = self.holders[session], self.models[session]
        assert holder.state is not None
        if holder.state.find(request) is None:
            assert holder.commit(self._entry(request, holder.fence))
        if request not in model.turns:
            model.turns.append(request)
            model.tokens += 1

    @rule(target=sleepers, session=sessions)
    def fall_asleep(self, session: str) -> tuple[str, Writer, str]:
        """A holder freezes with a turn in hand, which then goes to the next one."""
        if session not in self.holders:
            self.hold(session)
        sleeper, request = self.holders[session], f"{session}-z{self.now()}"
        self.hold(session)
        self._turn(session, request)
        return session, sleeper, request

    @rule(sleeper=consumes(sleepers))
    def wake(self, sleeper: tuple[str, Writer, str]) -> None:
        """It wakes and tries to log its turn: it cannot."""
        _, writer, request = sleeper
        assert not writer.commit(self._entry(request, writer.fence))

    @rule(session=sessions, name=NAMES, value=st.none() | st.integers(0, 9))
    def store(self, session: str, name: str, value: int | None) -> None:
        log, values = self.logs[session], self.models[session].values
        entry = SetEntry(
            at=self.now(), request=f"set{self.clock}", values={name: value}
        )
        for _ in range(2):  # its acknowledgement was lost, so it comes twice
            assert log.append(entry, len(log.entries))
        values[name] = value
        if value is None:
            del values[name]

    @rule(session=sessions)
    def compact(self, session: str) -> None:
        """Everything is folded into a snapshot, and what was before it goes."""
        log = self.logs[session]
        state = folded(log.entries)
        assert state is not None
        # Sequences go on counting where entries are removed.
        gone: list[LogEntry] = [ClosedEntry(at=0.0, request="")] * len(log.entries)
        log.entries = [*gone, SnapshotEntry(at=self.now(), state=state)]

    @invariant()
    def agrees(self) -> None:
        for name, log in self.logs.items():
            state, model = folded(log.entries), self.models[name]
            assert state is not None
            assert [one.request for one in state.turns] == model.turns
            assert [one.number for one in state.turns] == list(
                range(1, len(model.turns) + 1)
            )
            assert state.values == model.values
            assert state.usage.calls == model.tokens

    def _entry(self, request: str, fence: int) -> TurnEntry:
        return TurnEntry(
            at=self.now(),
            fence=fence,
            request=request,
            operation="predict",
            inputs={"question": request},
            outputs={"answer": request},
            usage=Usage(calls=1),
        )


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_entries_without_a_beginning() -> None:
    """What is left of a log whose beginning is gone is no session."""
    held = HeldEntry(at=1.0, worker="w", fence=1)
    stored = SetEntry(at=2.0, request="r", values={"a": 1})

    assert folded([held, stored]) is None


def test_closed() -> None:
    """Behind its end nothing changes a session, but another one may begin."""
    opened = Opened(at=1.0, request="a", settings=SessionSettings())
    closed = ClosedEntry(at=2.0, request="b")
    late = SetEntry(at=3.0, request="c", values={"a": 1})

    ended = folded([opened, closed, late])
    again = folded([opened, closed, replace(opened, at=4.0, request="d")])

    assert ended is not None
    assert ended.closed
    assert ended.values == {}
    assert again is not None
    assert (again.request, again.closed) == ("d", False)


def test_opened_twice() -> None:
    """A beginning changes nothing in a session that is open, and is one after it."""
    opened = Opened(at=0.0, request="a", settings=SessionSettings(ttl_s=1))

    open_still = folded([opened, replace(opened, at=999.0, request="b")])
    ended = folded([opened, replace(opened, at=1000.0, request="b")])

    assert open_still is not None
    assert open_still.request == "a"
    assert ended is not None
    assert ended.request == "b"
