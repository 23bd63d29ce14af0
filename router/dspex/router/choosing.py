"""Who shall answer: a pure function of the request and of what is known.

Filter, then the least loaded of all up to four candidates, of two random ones
beyond that: nearly as good as comparing all, and many routers with the same
information do not all pick the same one (power of two choices, Mitzenmacher 2001).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.contracts import headers
from dspex.contracts.envelope import Candidate, Decision
from dspex.contracts.failures import BadRequest, NoWorker, nearest

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
        tried: Incarnations that fell through already.
        why_again: Why the last one did: ``after_busy`` or ``after_no_responders``.
    """

    operation: str
    route: Route = Route()
    lm: str = ""
    tried: frozenset[str] = frozenset()
    why_again: str = ""


def choose(wanted: Wanted, targets: Collection[Target], random: Random) -> Decision:
    """Decide who answers.

    Args:
        wanted: What the request needs.
        targets: Everybody there is.
        random: Source of the two choices.

    Raises:
        NoWorker: Nobody fits; the message says what is there instead.
    """
    eligible = [one for one in targets if _fits(one, wanted)]
    if trusted := [one for one in eligible if not one.suspect]:
        eligible = trusted
    if not eligible:
        raise _nobody(wanted, targets)
    compared = eligible
    reason = "least_loaded" if len(eligible) > 1 else "only_candidate"
    if len(eligible) > COMPARE_ALL:
        compared, reason = _two(eligible, random), "least_loaded_of_two"
    # Equal loads go to a random one, or the first in the table would get them all.
    best = min(compared, key=lambda one: (one.load, random.random()))
    if wanted.route.kind in ("pool", "worker"):
        reason = f"route_{wanted.route.kind}"
    return Decision(
        worker=best.beat.worker,
        pool=best.beat.pool,
        reason=f"{reason}_{wanted.why_again}" if wanted.why_again else reason,
        candidates=_candidates(best, compared),
        eligible=len(eligible),
    )


def _fits(target: Target, wanted: Wanted) -> bool:
    beat = target.beat
    return (
        beat.state == "ready"
        and not target.unreachable
        and wanted.operation in beat.operations
        and beat.worker not in wanted.tried
        and (not wanted.lm or wanted.lm in beat.lms)
        and wanted.route.admits(target)
    )


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
    able = [one for one in targets if wanted.operation in one.beat.operations]
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
    return NoWorker(
        f"No worker that does {wanted.operation!r} is ready"
        f" ({len(able)} known, {len(wanted.tried)} tried).",
        hint="Start one: `dspex up`, or dspex-worker --pool light on any machine.",
        retry_after_ms=1000,
    )
