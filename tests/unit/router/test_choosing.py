"""Who shall answer: filters, routes, load, and what is said when nobody can."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.router.scene import beat_of

from dspex.contracts.failures import BadRequest, Failure, NoWorker
from dspex.router.choosing import COMPARE_ALL, Route, Wanted, choose, read_route
from dspex.router.targets import Target


def target(name: str, *, suspect: bool = False, **said: Any) -> Target:
    found = Target(beat_of(name, **said), now=0.0)
    found.suspect = suspect
    return found


def wanted(**said: Any) -> Wanted:
    return Wanted(operation="predict", **said)


def chosen(want: Wanted, *targets: Target, seed: int = 0) -> str:
    return choose(want, targets, Random(seed)).worker


@pytest.mark.parametrize(
    ("other", "want"),
    [
        ({"state": "starting"}, {}),
        ({"state": "draining"}, {}),
        ({"operations": ["chain_of_thought"]}, {}),
        ({"lms": ["other"]}, {"lm": "default"}),
        ({"suspect": True}, {}),
        ({}, {"tried": frozenset({"b"})}),
        ({"pool": "gpu"}, {"route": Route("pool", "light")}),
        ({}, {"route": Route("worker", "a")}),
        ({"implementation": "native"}, {"route": Route("python")}),
        ({"lacks": ["adapter:xml"]}, {"features": frozenset({"adapter:xml"})}),
    ],
)
def test_filters(other: dict[str, Any], want: dict[str, Any]) -> None:
    """Who cannot answer is passed over, however idle."""
    busy = target("a", in_flight=50)

    assert chosen(wanted(**want), busy, target("b", **other)) == "a"


XML = frozenset({"adapter:xml"})


def test_what_all_lack_is_refused_by_who_knows_why() -> None:
    """A feature that nobody has sends the request to one that says what to do."""
    old = target("old", dspy="2.6.27", lacks=["adapter:xml"])
    new = target("new", dspy="3.4.1", state="starting")

    assert chosen(wanted(features=XML), old) == "old"
    assert chosen(wanted(features=XML, dspy="==2.6.27"), old, new) == "old"


def test_who_has_it_is_waited_for() -> None:
    """One that lacks a feature is no stand-in for one that has it and is away."""
    old = target("old", lacks=["adapter:xml"])
    new = target("new", state="starting")

    with pytest.raises(NoWorker):
        chosen(wanted(features=XML), old, new)


def test_suspects_are_the_last_resort() -> None:
    """A suspect is chosen when there is nobody else."""
    assert chosen(wanted(), target("a", suspect=True)) == "a"


def test_native_route() -> None:
    """The route `native` asks for native-ops."""
    native = target("n", implementation="native", in_flight=9)

    assert chosen(wanted(route=Route("native")), target("a"), native) == "n"


@pytest.mark.parametrize(
    ("loads", "best"),
    [((3, 1), "1"), ((0, 1), "0"), ((2, 3, 1), "2"), ((4, 4, 4, 3), "3")],
)
def test_least_loaded(loads: tuple[int, ...], best: str) -> None:
    """Of up to four, the one with the least load answers."""
    targets = [target(str(i), in_flight=load) for i, load in enumerate(loads)]

    decision = choose(wanted(), targets, Random(1))

    assert decision.worker == best
    assert decision.reason == "least_loaded"
    assert decision.eligible == len(loads)


def test_load_is_per_slot() -> None:
    """A big process with more requests may have less load."""
    big = target("big", concurrency=16, in_flight=4)
    small = target("small", concurrency=2, in_flight=1)

    assert chosen(wanted(), small, big) == "big"


def test_only_candidate() -> None:
    """With one candidate there is nothing to compare, and the reason says so."""
    decision = choose(wanted(), [target("a", in_flight=1)], Random(0))

    assert decision.reason == "only_candidate"
    assert decision.pool == "light"
    assert [(one.worker, one.score) for one in decision.candidates] == [("a", 0.5)]


def test_candidates_are_listed_best_first() -> None:
    """The decision lists those compared, the chosen one first, with their scores."""
    targets = [target("a", in_flight=3), target("b"), target("c", in_flight=1)]

    decision = choose(wanted(), targets, Random(0))

    assert [one.worker for one in decision.candidates] == ["b", "c", "a"]
    assert [one.score for one in decision.candidates] == [0.25, 0.5, 1.0]


def test_two_random_choices_beyond_four() -> None:
    """Of more than four, the better of two random ones answers."""
    targets = [
        target(str(i), in_flight=i, concurrency=9) for i in range(COMPARE_ALL + 1)
    ]

    decisions = [choose(wanted(), targets, Random(seed)) for seed in range(200)]

    assert {one.reason for one in decisions} == {"least_loaded_of_two"}
    assert {len(one.candidates) for one in decisions} == {2}
    assert all(one.candidates[0].score < one.candidates[1].score for one in decisions)
    # The most loaded one never wins, everyone else does now and then.
    assert {one.worker for one in decisions} == {"0", "1", "2", "3"}


@pytest.mark.parametrize("count", [3, 8])
def test_ties_are_spread(count: int) -> None:
    """Equal ones get about equal shares."""
    targets = [target(str(i)) for i in range(count)]
    random = Random(7)

    shares = Counter(
        choose(wanted(), targets, random).worker for _ in range(400 * count)
    )

    assert len(shares) == count
    assert all(300 < share < 500 for share in shares.values())


def test_deterministic() -> None:
    """The same seed decides the same."""
    targets = [target(str(i), in_flight=i % 3) for i in range(9)]

    first, second = (
        [choose(wanted(), targets, random) for _ in range(50)]
        for random in (Random(3), Random(3))
    )

    assert first == second


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (Route("pool", "light"), "route_pool"),
        (Route("worker", "a"), "route_worker"),
        (Route("python"), "only_candidate"),
    ],
)
def test_reasons_of_routes(route: Route, reason: str) -> None:
    """A decision that a route made says so."""
    assert choose(wanted(route=route), [target("a")], Random(0)).reason == reason


def test_reason_of_a_second_choice() -> None:
    """A decision after one that fell through says why it fell."""
    want = wanted(tried=frozenset({"b"}), why_again="after_busy")

    decision = choose(want, [target("a"), target("b")], Random(0))

    assert decision.reason == "only_candidate_after_busy"


def nobody(want: Wanted, *targets: Target) -> Failure:
    with pytest.raises(Failure) as found:
        choose(want, targets, Random(0))
    return found.value


def test_nobody_at_all() -> None:
    """Without workers the caller is told how to start one, and to try again."""
    failure = nobody(wanted())

    assert isinstance(failure, NoWorker)
    assert "No worker that does 'predict' is ready (0 known, 0 tried)" in str(failure)
    assert "dspex up" in failure.hint
    assert failure.retry_after_ms == 1000


def test_nobody_ready() -> None:
    """Workers that start or drain are counted as known."""
    failure = nobody(wanted(), target("a", state="starting"))

    assert "(1 known, 0 tried)" in failure.message


def test_nobody_left() -> None:
    """Workers that fell through are counted as tried."""
    failure = nobody(wanted(tried=frozenset({"a"})), target("a"))

    assert "(1 known, 1 tried)" in failure.message


@pytest.mark.parametrize("route", [Route("pool", "gpuu"), Route("worker", "x")])
def test_nobody_on_the_route(route: Route) -> None:
    """A route that leads nowhere is answered with the pools there are."""
    failure = nobody(wanted(route=route), target("a"), target("b", pool="gpu"))

    assert isinstance(failure, NoWorker)
    assert f"'{route.kind}:{route.name}'" in failure.message
    assert "Pools with a live one: gpu, light." in failure.message
    assert failure.field == "Dspex-Route"


def test_nobody_with_that_language_model() -> None:
    """An unknown language model is the caller's fault; the nearest is named."""
    failure = nobody(wanted(lm="defualt"), target("a", lms=["default", "big"]))

    assert isinstance(failure, BadRequest)
    assert "Did you mean 'default'? Allowed: big, default." in failure.message
    assert failure.field == "lm"


def test_language_model_of_a_worker_that_is_not_ready() -> None:
    """A language model that some worker has is not unknown, only not ready."""
    want = wanted(lm="big")

    failure = nobody(want, target("a"), target("b", lms=["big"], state="draining"))

    assert isinstance(failure, NoWorker)


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("auto", Route("auto")),
        (" native ", Route("native")),
        ("python", Route("python")),
        ("pool:gpu", Route("pool", "gpu")),
        ("worker:a-1", Route("worker", "a-1")),
    ],
)
def test_routes(text: str, route: Route) -> None:
    """Every form of the header is read."""
    assert read_route(text) == route


@pytest.mark.parametrize(
    "text", ["", "gpu", "pool", "pool:", "worker:", "auto:x", "python:3", "AUTO"]
)
def test_what_is_no_route(text: str) -> None:
    """Anything else is refused with all the forms there are."""
    with pytest.raises(BadRequest, match="Allowed: auto, native, python, pool:<name>"):
        read_route(text)


STATES = st.sampled_from(["starting", "ready", "draining"])
TARGETS = st.lists(
    st.builds(
        lambda state, pool, lms, in_flight, slots, suspect: {
            "state": state,
            "pool": pool,
            "lms": lms,
            "in_flight": in_flight,
            "concurrency": slots,
            "suspect": suspect,
        },
        STATES,
        st.sampled_from(["light", "gpu"]),
        st.lists(st.sampled_from(["default", "big"]), unique=True),
        st.integers(0, 20),
        st.integers(1, 16),
        st.booleans(),
    ),
    max_size=12,
)
WANTED = st.builds(
    wanted,
    route=st.sampled_from([Route(), Route("pool", "gpu"), Route("worker", "3")]),
    lm=st.sampled_from(["", "default", "big"]),
    tried=st.frozensets(st.sampled_from("0123456789")),
)


def _fit(one: Target, want: Wanted) -> bool:
    """Whether ``one`` may be chosen, said another way than in the code."""
    if one.beat.state != "ready" or one.beat.worker in want.tried:
        return False
    if want.lm and want.lm not in one.beat.lms:
        return False
    if want.route.kind == "auto":
        return True
    return want.route.name in (one.beat.pool, one.beat.worker)


@given(WANTED, TARGETS, st.integers())
def test_only_eligible_ones_are_chosen(
    want: Wanted, made: list[dict[str, Any]], seed: int
) -> None:
    """Whoever is chosen can answer; of up to four, nobody fitter has less load."""
    targets = [target(str(i), **said) for i, said in enumerate(made)]
    able = [one for one in targets if _fit(one, want)]
    fit = [one for one in able if not one.suspect] or able
    try:
        decision = choose(want, targets, Random(seed))
    except Failure:
        assert not fit
        return

    best = next(one for one in targets if one.beat.worker == decision.worker)
    assert best in fit
    assert decision.eligible == len(able)
    if len(fit) <= COMPARE_ALL:
        assert best.load == min(one.load for one in fit)
