"""Who shall answer: a pure function of the request and of what is known.

Filter, prefer, then take the least loaded of all up to four candidates, of two random
ones beyond that: nearly as good as comparing all, and many routers with the same
information do not all pick the same one (power of two choices, Mitzenmacher 2001).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from dspex.contracts import headers
from dspex.contracts.envelope import Candidate, Decision
from dspex.contracts.failures import BadRequest, NoWorker, nearest
from dspex.contracts.features import NONE
from dspex.router.targets import gpu_free_mib, gpu_promised, sound

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from random import Random

    from dspex.router.targets import Target

COMPARE_ALL = 4
"""Up to this many candidates are all compared."""


class Route(Struct, frozen=True):
    """The client's wish who answers.

    Attributes:
        kind: ``auto``, ``native``, ``python``, ``pool`` or ``worker``.
        name: Of the pool or worker.
    """

    kind: str = "auto"
    name: str = ""

    @property
    def text(self) -> str:
        """As it stands in the header."""
        return f"{self.kind}:{self.name}" if self.name else self.kind

    def admits(self, target: Target) -> bool:
        """Whether ``target`` is one of those wished for."""
        beat = target.beat
        match self.kind:
            case "pool":
                return beat.pool == self.name
            case "worker":
                return beat.worker == self.name
            case "native" | "python":
                return beat.implementation == self.kind
        return True


def read_route(text: str) -> Route:
    """Read a ``Dspex-Route`` header.

    Raises:
        BadRequest: It is none of ``auto``, ``native``, ``python``, ``pool:<name>``,
            ``worker:<id>``.
    """
    kind, _, name = text.strip().partition(":")
    named = kind in ("pool", "worker")
    if (kind not in ("auto", "native", "python") and not named) or named != bool(name):
        raise BadRequest(
            f"{headers.ROUTE} {text[:80]!r} is unknown. "
            "Allowed: auto, native, python, pool:<name>, worker:<id>.",
            field=headers.ROUTE,
            hint="Leave the header out to let the router decide.",
        )
    return Route(kind, name)


class Wanted(Struct, frozen=True, kw_only=True):
    """What a request needs of who answers it.

    Attributes:
        operation: Must be supported.
        route: The client's wish.
        lm: Name of a language model it must be set up for; empty: any.
        pools: Those that may answer, the preferred first; empty: all alike.
        full: Pools that had no place to wait.
        dspy: Releases of DSPy that may run it, as a version specifier; empty: any.
        features: What not every worker has, such as ``module:rlm``.
        gpu_mib: GPU memory it needs, MiB.
        gpu_field: Where that is said.
        tried: Incarnations that fell through already.
        holder: The incarnation that holds the session it is a turn of; empty: none.
        known: Whether it goes to who had this very request, and so has its end, or
            will.
        why_again: Why the last one did: ``after_busy``, ``after_worker_lost``, ….
    """

    operation: str
    route: Route = Route()
    lm: str = ""
    pools: tuple[str, ...] = ()
    full: frozenset[str] = frozenset()
    dspy: str = ""
    features: frozenset[str] = NONE
    gpu_mib: int = 0
    gpu_field: str = "options.gpu_memory_mib"
    tried: frozenset[str] = frozenset()
    holder: str = ""
    known: bool = False
    why_again: str = ""

    def admits(self, target: Target) -> bool:
        """Whether it may go to ``target``, whatever that can do."""
        held = not self.holder or self.holder == target.beat.worker
        return held and self.route.admits(target)

    @property
    def is_plain(self) -> bool:
        """Whether it asks for nothing that few requests ask for."""
        return not (self.full or self.dspy or self.pools or self.features)


def read_versions(text: str) -> str:
    """Check a version specifier such as ``>=3.0,<3.4``.

    Raises:
        BadRequest: It is none.
    """
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise BadRequest(
            f"options.dspy {text!r} is not a version specifier.",
            field="options.dspy",
            hint="Write it as pip does: '>=3.0,<3.4' or '==3.4.1'.",
        ) from None
    return text


def choose(wanted: Wanted, targets: Collection[Target], random: Random) -> Decision:
    """Decide who answers.

    Args:
        wanted: What the request needs.
        targets: Everybody there is.
        random: Source of the two choices.

    Raises:
        NoWorker: Nobody fits; the message says what is there instead.
    """
    if wanted.features and not any(_would_fit(one, wanted) for one in targets):
        # Then one that lacks it says what to do; it knows better.
        wanted = replace(wanted, features=NONE)
    able = [one for one in targets if _fits(one, wanted, one.beat.operations)]
    if not able:
        able = [one for one in targets if _fits(one, wanted, one.beat.spare)]
    if wanted.gpu_mib:
        able = _with_memory(able, wanted, targets)
    if not able:
        raise _nobody(wanted, targets)
    compared = _preferred(able, wanted)
    reason = "least_loaded" if len(able) > 1 else "only_candidate"
    if len(compared) > COMPARE_ALL:
        compared, reason = _two(compared, random), "least_loaded_of_two"
    # Equal loads go to a random one, or the first in the table would get them all.
    best = min(compared, key=lambda one: (one.load, random.random()))
    if wanted.route.kind in ("pool", "worker"):
        reason = f"route_{wanted.route.kind}"
    return Decision(
        worker=best.beat.worker,
        pool=best.beat.pool,
        reason=f"{reason}_{wanted.why_again}" if wanted.why_again else reason,
        candidates=_candidates(best, compared),
        eligible=len(able),
    )


def to_holder(wanted: Wanted, targets: Iterable[Target]) -> Decision:
    """Decide for the process that holds a session, even if it takes nothing new.

    Raises:
        NoWorker: It has left.
    """
    for one in targets:
        if one.beat.worker == wanted.holder:
            reason = "session_holder"
            return Decision(
                worker=one.beat.worker,
                pool=one.beat.pool,
                reason=f"{reason}_{wanted.why_again}" if wanted.why_again else reason,
                candidates=_candidates(one, [one]),
                eligible=1,
            )
    raise NoWorker(f"Worker {wanted.holder!r}, which held the session, has left.")


def may_come(target: Target, wanted: Wanted) -> bool:
    """Whether a process that cannot answer now might in a moment."""
    beat = target.beat
    does = wanted.operation in beat.operations or wanted.operation in beat.spare
    coming = beat.state == "starting" or (beat.state == "ready" and target.unreachable)
    # Memory that is not free now is when others are done.
    coming |= 0 < wanted.gpu_mib <= target.gpu_total_mib
    return does and coming and wanted.route.admits(target)


def _fits(target: Target, wanted: Wanted, operations: Collection[str]) -> bool:
    beat = target.beat
    return (
        beat.state == "ready"
        and not target.unreachable
        and wanted.operation in operations
        and beat.worker not in wanted.tried
        and (not wanted.lm or wanted.lm in beat.lms)
        and wanted.route.admits(target)
        and (wanted.is_plain or _fits_wishes(target, wanted))
    )


def _would_fit(target: Target, wanted: Wanted) -> bool:
    """Whether a process could answer, if it were ready and had a place."""
    return (
        wanted.operation in target.beat.operations
        and wanted.route.admits(target)
        and _fits_wishes(target, replace(wanted, full=frozenset()))
    )


def _fits_wishes(target: Target, wanted: Wanted) -> bool:
    beat = target.beat
    return (
        beat.pool not in wanted.full
        and (not wanted.pools or beat.pool in wanted.pools)
        and (not (wanted.dspy and beat.dspy) or _runs(wanted.dspy, beat.dspy))
        and (not wanted.features or wanted.features.isdisjoint(beat.lacks))
    )


def _with_memory(
    able: list[Target], wanted: Wanted, targets: Collection[Target]
) -> list[Target]:
    """Those with a GPU that has so much free and not promised to anybody."""
    promised = gpu_promised(targets)
    return [one for one in able if gpu_free_mib(one, promised) >= wanted.gpu_mib]


@lru_cache(1024)
def _runs(specifier: str, version: str) -> bool:
    return SpecifierSet(specifier).contains(version, prereleases=True)


def _preferred(eligible: list[Target], wanted: Wanted) -> list[Target]:
    """Those of the first pool, that are trusted, that have room: if there are such."""
    if wanted.pools:
        first = min(wanted.pools.index(one.beat.pool) for one in eligible)
        eligible = [one for one in eligible if one.beat.pool == wanted.pools[first]]
    eligible = sound(eligible)
    return [one for one in eligible if one.has_room] or eligible


def _two(eligible: list[Target], random: Random) -> list[Target]:
    # Twice as fast as random.sample, and this runs for every request.
    first = random.randrange(len(eligible))
    second = random.randrange(len(eligible) - 1)
    return [eligible[first], eligible[second + (second >= first)]]


def _candidates(best: Target, compared: Iterable[Target]) -> list[Candidate]:
    ordered = sorted(compared, key=lambda one: (one is not best, one.load))
    return [
        Candidate(worker=one.beat.worker, pool=one.beat.pool, score=round(one.load, 4))
        for one in ordered
    ]


def _nobody(wanted: Wanted, targets: Collection[Target]) -> NoWorker | BadRequest:
    """Say which of the conditions nobody met."""
    able = [
        one
        for one in targets
        if wanted.operation in (*one.beat.operations, *one.beat.spare)
    ]
    routed = [one for one in able if wanted.route.admits(one)]
    if able and not routed:
        pools = sorted({one.beat.pool for one in able})
        return NoWorker(
            f"No worker that does {wanted.operation!r} fits the route "
            f"{wanted.route.text!r}. "
            f"Pools with a live one: {', '.join(pools)}.",
            field=headers.ROUTE,
            hint="Check Dspex-Route, or start one: dspex-worker --pool <name>.",
        )
    lms = {name for one in routed for name in one.beat.lms}
    if routed and wanted.lm and wanted.lm not in lms:
        return BadRequest(
            f"No worker is set up for the language model {wanted.lm!r}. "
            + nearest(wanted.lm, lms),
            field="lm",
            hint="Add [lms.<name>] to the workers' configuration, or leave lm out.",
        )
    promised = gpu_promised(targets)
    most = max((gpu_free_mib(one, promised) for one in routed), default=0)
    return _nobody_fits(wanted, routed, most) or NoWorker(
        f"No worker that does {wanted.operation!r} is ready"
        f" ({len(able)} known, {len(wanted.tried)} tried).",
        hint="Start one: `dspex up`, or dspex-worker --pool light on any machine.",
        retry_after_ms=1000,
    )


def _nobody_fits(wanted: Wanted, able: list[Target], most: int) -> NoWorker | None:
    """Name the wish that none of those who could answer meets, if it is one."""
    if wanted.dspy and not any(_runs(wanted.dspy, one.beat.dspy) for one in able):
        there = sorted({one.beat.dspy for one in able})
        return NoWorker(
            f"No worker runs DSPy {wanted.dspy}. There are: {', '.join(there)}.",
            field="options.dspy",
            hint="Start a pool with that release, or widen options.dspy.",
        )
    if wanted.gpu_mib > most:
        return NoWorker(
            f"No worker has {wanted.gpu_mib} MiB of GPU memory free. "
            f"The most there is: {most} MiB.",
            field=wanted.gpu_field,
            hint="Send it again when others are done, declare less, or run less of it "
            "side by side.",
            retry_after_ms=1000,
        )
    return None
