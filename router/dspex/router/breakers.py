"""Where nothing is sent for a while, because what was sent there failed. Pure.

A breaker is closed until too much fails, then open for a time, then half-open: a few
probes decide whether it closes or opens again for longer. Time comes in as an
argument, in seconds of any steady clock; chance as a ``Random``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from dspex.contracts import failures
from dspex.contracts.admin import OpenBreaker
from dspex.router.estimates import CallWindow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

Scope = Literal["worker", "lm"]
State = Literal["closed", "open", "half_open"]
Outcome = Literal["success", "failure", "ignored"]
Key = tuple[Scope, str]

MOST = 10_000
"""Breakers that are kept."""

_LOOKS = 16


class BreakerSettings(Struct, frozen=True, kw_only=True):
    """When a breaker opens, for how long, and what closes it.

    Attributes:
        consecutive: Failures in a row that open it.
        failure_ratio: Share of failures among the calls of the window that opens it.
        minimum: Calls the window must hold before shares count.
        window: Seconds.
        slow_after: A call that takes longer, in seconds, is slow; ``None``: none is.
        slow_ratio: Share of slow calls, of those of the window, that opens it.
        open_for: Seconds it stays open, times the openings since it was closed last.
        longest: Most seconds it stays open.
        jitter: Share of that time that chance may take off.
        probes: When half-open, calls at a time, and successes that close it.
    """

    consecutive: int = 5
    failure_ratio: float = 0.5
    minimum: int = 20
    window: float = 30.0
    slow_after: float | None = None
    slow_ratio: float = 1.0
    open_for: float = 5.0
    longest: float = 60.0
    jitter: float = 0.2
    probes: int = 3


WORKER = BreakerSettings()
"""For one process."""

LM = BreakerSettings(window=60.0)
"""For one operation with one language model."""

DEFAULTS: Mapping[Scope, BreakerSettings] = {"worker": WORKER, "lm": LM}
"""What a registry uses."""


class Change(Struct, frozen=True, kw_only=True):
    """A breaker is in another state now.

    Attributes:
        scope: Of its key.
        name: Of its key.
        state: The new one.
        reason: Why, for people.
        at: When, by the clock of the calls.
        open_for: Seconds nothing is sent; 0 unless it opened.
    """

    scope: Scope
    name: str
    state: State
    reason: str
    at: float
    open_for: float = 0.0


class Breaker:
    """Whether calls of one kind are to be sent.

    Args:
        settings: When it opens, for how long, and what closes it.
        random: Source of the jitter.

    Attributes:
        opens_until: When it lets probes through; ``None`` while it is closed.
        reason: Why it opened or closed last, for people.
    """

    def __init__(self, settings: BreakerSettings, random: Random) -> None:
        self.opens_until: float | None = None
        self.reason = ""
        self._settings = settings
        self._random = random
        # Calls count only in the life they began in: one from before it opened
        # says nothing of how it does now.
        self._generation = 1
        self._openings = 0
        self._streak = 0
        self._window = CallWindow(settings.window)
        self._probing = self._passed = self._slow = 0

    def state(self, now: float) -> State:
        """``closed``, ``open`` or ``half_open``."""
        until = self.opens_until
        if until is None:
            return "closed"
        return "open" if now < until else "half_open"

    def admits(self, now: float) -> bool:
        """Whether a call may begin."""
        until = self.opens_until
        return until is None or (now >= until and self._probing < self._settings.probes)

    def begin(self, now: float) -> int:
        """Begin a call; half-open, it takes the place of a probe.

        Returns:
            What ``end`` takes, once. A call that is not admitted counts nothing.
        """
        if self.opens_until is not None:
            if not self.admits(now):
                return 0
            self._probing += 1
        return self._generation

    def end(
        self, token: int, outcome: Outcome, seconds: float, now: float
    ) -> State | None:
        """End a call.

        Args:
            token: What ``begin`` returned.
            outcome: ``ignored`` counts nothing and gives the probe's place back.
            seconds: How long it took.
            now: Steady time, in seconds.

        Returns:
            The state it is in now, if that is another one.
        """
        if token != self._generation:
            return None
        is_probe = self.opens_until is not None
        self._probing -= is_probe
        if outcome == "ignored":
            return None
        slow_after = self._settings.slow_after
        slow = slow_after is not None and seconds > slow_after
        weigh = self._judge if is_probe else self._count
        return weigh(outcome == "failure", slow, now)

    def _count(self, failed: bool, slow: bool, now: float) -> State | None:
        settings, window = self._settings, self._window
        window.add(failed, slow, now)
        self._streak = self._streak + 1 if failed else 0
        if self._streak >= settings.consecutive:
            return self._open(f"{self._streak} failures in a row", now)
        calls = window.calls
        if calls < settings.minimum:
            return None
        if window.failures / calls >= settings.failure_ratio:
            failed_calls = f"{_share(window.failures, calls)} calls failed"
            return self._open(f"{failed_calls} within {settings.window:g} s", now)
        slowness = self._slowness(window.slow, calls, "calls")
        return self._open(slowness, now) if slowness else None

    def _judge(self, failed: bool, slow: bool, now: float) -> State | None:
        if failed:
            return self._open("a probe failed", now)
        self._passed += 1
        self._slow += slow
        if self._passed < self._settings.probes:
            return None
        if slowness := self._slowness(self._slow, self._passed, "probes"):
            return self._open(slowness, now)
        self._openings = 0
        self._begin_life(f"{self._passed} probes succeeded", None)
        return "closed"

    def _slowness(self, slow: int, calls: int, what: str) -> str:
        """Why it opens, if too many were slow."""
        settings = self._settings
        if settings.slow_after is None or slow / calls < settings.slow_ratio:
            return ""
        longer = f"longer than {settings.slow_after:g} s"
        return f"{_share(slow, calls)} {what} took {longer}"

    def _open(self, reason: str, now: float) -> State:
        settings = self._settings
        self._openings += 1
        seconds = min(settings.longest, settings.open_for * self._openings)
        seconds *= 1 - settings.jitter * self._random.random()
        self._begin_life(reason, now + seconds)
        return "open"

    def _begin_life(self, reason: str, opens_until: float | None) -> None:
        self.reason = reason
        self.opens_until = opens_until
        self._generation += 1
        self._probing = self._passed = self._slow = self._streak = 0
        self._window.clear()


Call = tuple[Key, Breaker, int]
"""What ``Breakers.begin`` returns and ``end`` takes; it outlives the breaker's stay."""


class Breakers:
    """Breakers by key, made when something is first sent there.

    Args:
        random: Source of the jitter.
        settings: By scope.
        most: Breakers that are kept. The least recently used leave; never an open one
            before its time: what comes while there are only such is not kept.
    """

    def __init__(
        self,
        random: Random,
        settings: Mapping[Scope, BreakerSettings] = DEFAULTS,
        most: int = MOST,
    ) -> None:
        self._random = random
        self._settings = settings
        self._most = most
        self._kept: OrderedDict[Key, Breaker] = OrderedDict()
        self._opened: set[Key] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def admits(self, key: Key, now: float) -> bool:
        """Whether a call may begin there."""
        breaker = self._kept.get(key)
        return breaker is None or breaker.admits(now)

    def pause(self, key: Key, now: float) -> float:
        """Seconds until probes may begin there; 0 unless it is open."""
        breaker = self._kept.get(key)
        if breaker is None or breaker.opens_until is None:
            return 0.0
        return max(0.0, breaker.opens_until - now)

    def begin(self, key: Key, now: float) -> Call:
        """Begin a call, admitted or not; every one has to ``end``."""
        breaker = self._kept.get(key)
        if breaker is None:
            breaker = self._make(key, now)
        else:
            self._kept.move_to_end(key)
        return key, breaker, breaker.begin(now)

    def end(
        self, call: Call, outcome: Outcome, seconds: float, now: float
    ) -> Change | None:
        """End a call, as ``Breaker.end`` does.

        Returns:
            What that changed, if it is kept and anything changed.
        """
        key, breaker, token = call
        state = breaker.end(token, outcome, seconds, now)
        if state is None or self._kept.get(key) is not breaker:
            return None
        (self._opened.add if state == "open" else self._opened.discard)(key)
        return self._change(key, state, breaker.reason, now)

    def half_opened(self, now: float) -> list[Change]:
        """Those that became half-open since this was asked last."""
        ripe = [key for key in self._opened if not self.pause(key, now)]
        self._opened.difference_update(ripe)
        return [self._change(key, "half_open", "probes may pass", now) for key in ripe]

    def open(self, now: float) -> list[OpenBreaker]:
        """Those that are not closed, for people; safe from another thread."""
        return [
            OpenBreaker(
                scope=key[0],
                name=key[1],
                state="open" if now < breaker.opens_until else "half_open",
                reason=breaker.reason,
                for_ms=round(self.pause(key, now) * 1000, 1),
            )
            for key, breaker in self._kept.copy().items()
            if breaker.opens_until is not None
        ]

    def forget(self, key: Key) -> None:
        """Drop the breaker of what is gone."""
        self._kept.pop(key, None)
        self._opened.discard(key)

    def _make(self, key: Key, now: float) -> Breaker:
        breaker = Breaker(self._settings[key[0]], self._random)
        if len(self._kept) < self._most or self._make_room(now):
            self._kept[key] = breaker
        return breaker

    def _change(self, key: Key, state: State, reason: str, now: float) -> Change:
        scope, name = key
        pause = self.pause(key, now)
        return Change(
            scope=scope, name=name, state=state, reason=reason, at=now, open_for=pause
        )

    def _make_room(self, now: float) -> bool:
        # Few looks, or a table full of open ones would be searched for every call.
        for _ in range(min(_LOOKS, len(self._kept))):
            oldest = next(iter(self._kept))
            if self._kept[oldest].state(now) != "open":
                self.forget(oldest)
                return True
            self._kept.move_to_end(oldest)
        return False


def outcome_of(code: str, scope: Scope) -> Outcome:
    """What the end of a call says of the worker, or of the language model.

    A caller's error never counts as a failure, and not as a success either: nothing
    ran, and bad requests would hide failures. Nor do capacity (the load is others')
    and deadlines (the patience is the client's).

    A worker fails by ``infrastructure`` and ``internal``, but not by
    ``bus_unavailable``: that is as likely the router's own end, and would open the
    breakers of all at once. It did its part where the provider or the program failed.

    A language model fails by what its provider could not do. It did answer where the
    answer could not be used; what the provider refuses is the request's fault, and
    of all else it was perhaps never asked.

    Args:
        code: ``done``, or of a failure; one that nobody knows is ignored.
        scope: Whose breaker asks.
    """
    return _OUTCOMES[scope].get(code, "ignored")


_WORKER_BY_CATEGORY: dict[str, Outcome] = {
    "infrastructure": "failure",
    "internal": "failure",
    "provider": "success",
    "program": "success",
}

_OUTCOMES: dict[Scope, dict[str, Outcome]] = {
    "worker": {
        **{
            code: _WORKER_BY_CATEGORY.get(leaf.category, "ignored")
            for code, leaf in failures.BY_CODE.items()
        },
        failures.BusUnavailable.code: "ignored",
        "done": "success",
    },
    "lm": {
        failures.LmAuth.code: "failure",
        failures.LmRateLimit.code: "failure",
        failures.LmTimeout.code: "failure",
        failures.LmUnavailable.code: "failure",
        failures.ParseFailed.code: "success",
        failures.OutputInvalid.code: "success",
        "done": "success",
    },
}


def _share(part: int, whole: int) -> str:
    return f"all of {whole}" if part == whole else f"{part} of {whole}"
