"""Who is there and how busy, folded from heartbeats, words and our own sends.

Pure: time comes in as an argument, in seconds of any steady clock.

A process says how many requests it has in hand and how many of those this router
sent. The difference is what others gave it, and is true until it speaks again; to
that comes what this router has sent and knows no end of, which is true always.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dspex.router.settings import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from dspex.contracts.failures import Failure
    from dspex.contracts.heartbeats import Heartbeat
    from dspex.contracts.words import Words


MOST = 10_000
"""Processes that are kept track of."""


class Target:
    """One process that answers requests.

    Attributes:
        beat: Its latest heartbeat.
        seen: When that came.
        heard: When it said anything.
        others: Requests it has from others than this router, as it said last.
        own: Requests this router sent and has no end of yet.
        own_gpu_mib: GPU memory those of them declared, MiB.
        suspect: It left a dispatch unanswered since its last heartbeat.
        unreachable: Nobody listened where it takes requests, since its last
            heartbeat; it may still be finishing what it has.
        barred: Its breaker is open.
        on_lost: What to call when it is lost, by who waits for it: with why, if it
            is known.
        on_back: What to call when it had lost its connection and has one again: its
            words of that time are lost.
    """

    def __init__(self, beat: Heartbeat, now: float, router: str = "") -> None:
        self.own = 0
        self.own_gpu_mib = 0
        self.barred = False
        self.on_lost: set[Callable[[Failure | None], None]] = set()
        self.on_back: set[Callable[[], None]] = set()
        self.beat = beat
        self._router = router
        self.hear(beat, now)

    @property
    def load(self) -> float:
        """``(in flight + queued + 1) / (slots x weight)``, after one more request."""
        return (self.others + self.own + 1) / (self.beat.concurrency * self.beat.weight)

    @property
    def has_room(self) -> bool:
        """Whether one more request would run at once."""
        return self.others + self.own < self.beat.concurrency

    @property
    def takes_work(self) -> bool:
        """Whether new requests may go there."""
        return self.beat.state == "ready" and not self.unreachable

    @property
    def places(self) -> int:
        """Requests this router may have there at a time.

        One even where others fill it: they may be done before it says so again.
        """
        return max(1, self.beat.concurrency - self.others) if self.takes_work else 0

    @property
    def gpu_promised(self) -> dict[tuple[str, str], int]:
        """What its requests declared, by host and UUID of the GPU, bytes.

        What this router sent and its heartbeat does not say yet may be on any of
        its GPUs, and so counts on all.
        """
        gpus = self.beat.gpus
        unsaid = (self.own_gpu_mib << 20) - sum(gpu.reserved for gpu in gpus)
        host = self.beat.host
        return {(host, gpu.uuid): gpu.reserved + max(0, unsaid) for gpu in gpus}

    @property
    def gpu_total_mib(self) -> int:
        """Memory of the largest of its GPUs, MiB."""
        return max((gpu.total for gpu in self.beat.gpus), default=0) >> 20

    def hear(self, beat: Heartbeat, now: float) -> None:
        """Take a newer heartbeat in."""
        in_hand = beat.in_flight + beat.queued
        came_back = beat.reconnects > self.beat.reconnects
        self.others = max(0, in_hand - beat.routers.get(self._router, 0))
        self.beat = beat
        self.seen = self.heard = now
        self.suspect = self.unreachable = False
        for call in list(self.on_back) if came_back else ():
            call()

    def hear_word(self, word: Words, now: float) -> None:
        """Take in what it says of itself beside a word about a request."""
        self.others = max(0, word.in_hand - word.yours)
        self.heard = now
        self.suspect = False


def sound(targets: list[Target]) -> list[Target]:
    """Those to prefer: a breaker or a silence says that another is better.

    It never says that none will do; and where most are barred, the fault is
    elsewhere, and the rest would not bear it all.
    """
    heard = [one for one in targets if not one.suspect] or targets
    trusted = [one for one in heard if not one.barred]
    return trusted if 2 * len(trusted) >= len(heard) else heard


def gpu_promised(targets: Iterable[Target]) -> Counter[tuple[str, str]]:
    """What was declared on each GPU, whoever of those that share it has it, bytes."""
    found: Counter[tuple[str, str]] = Counter()
    for one in targets:
        found.update(one.gpu_promised)
    return found


def gpu_free_mib(target: Target, promised: Mapping[tuple[str, str], int]) -> int:
    """Most free memory of one of its GPUs, without what is promised, MiB."""
    host = target.beat.host
    free = (gpu.free - promised.get((host, gpu.uuid), 0) for gpu in target.beat.gpus)
    return max(free, default=0) >> 20


class Targets:
    """All processes that answer requests, and the other routers.

    Args:
        silence: Seconds without a heartbeat after which one counts as lost.
        router: Incarnation of this router, by which processes know what it sent.

    Attributes:
        gone: Called with the incarnation of each process that left or was lost.
    """

    def __init__(self, silence: float = DEFAULTS.silence, router: str = "") -> None:
        self.gone: Callable[[str], None] = lambda _: None
        self._silence = silence
        self._router = router
        self._known: dict[str, Target] = {}
        self._routers: dict[str, Target] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, worker: str) -> bool:
        return worker in self._known

    @property
    def routers(self) -> int:
        """Routers that are there, this one included."""
        return len(self._routers.keys() | {self._router})

    def all(self) -> Collection[Target]:
        """Every process that has not left."""
        return self._known.values()

    def get(self, worker: str) -> Target | None:
        """The process with that incarnation, unless it has left."""
        return self._known.get(worker)

    def places(self, pool: str) -> int:
        """Requests this router may have in a pool at a time."""
        members = [one for one in self._known.values() if one.beat.pool == pool]
        return sum(one.places for one in sound([one for one in members if one.places]))

    def is_open(self, pool: str) -> bool:
        """Whether anybody in a pool takes work."""
        return any(
            one.takes_work for one in self._known.values() if one.beat.pool == pool
        )

    def hear(self, beat: Heartbeat, now: float) -> None:
        """Take a heartbeat in; ``leaving`` is the last one a process sends."""
        if beat.implementation == "supervisor":
            return  # it answers no requests
        known = self._routers if beat.implementation == "router" else self._known
        target = known.get(beat.worker)
        if beat.state == "leaving":
            known.pop(beat.worker, None)
            self.gone(beat.worker)
        elif target is None:
            if len(known) < MOST:
                known[beat.worker] = Target(beat, now, self._router)
        elif beat.seq > target.beat.seq:
            target.hear(beat, now)

    def forgive(self, now: float) -> None:
        """Count everybody as just heard: while we were deaf, silence said nothing."""
        for target in (*self._known.values(), *self._routers.values()):
            target.seen = now

    def expire(self, now: float) -> list[str]:
        """Drop the silent ones and return the names of those that answer requests."""
        for router in self._silent(self._routers, now):
            del self._routers[router]
        silent = self._silent(self._known, now)
        for worker in silent:
            self.lose(worker)
        return silent

    def lose(self, worker: str, why: Failure | None = None) -> None:
        """Drop a process that is gone, and tell who waits for it."""
        target = self._known.pop(worker, None)
        self.gone(worker)
        for call in list(target.on_lost) if target else ():
            call(why)

    def _silent(self, known: dict[str, Target], now: float) -> list[str]:
        return [name for name, one in known.items() if now - one.seen > self._silence]
