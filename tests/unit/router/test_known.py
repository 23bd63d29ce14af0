"""Who answered which request, and what a router tells of what it did."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.unit.router.scene import beat_of
from tests.unit.router.test_caching import REQUEST

from dspex.contracts.admin import DecisionsRequest, PoolLoad
from dspex.contracts.envelope import Decision
from dspex.contracts.failures import Conflict
from dspex.router.known import Known
from dspex.router.recording import Record, pool_loads
from dspex.router.targets import Target


def test_who_answered() -> None:
    """Who answered a request is known for a while."""
    known = Known(120)
    known.keep(REQUEST, "a", now=0.0)

    assert known.find(REQUEST, now=119.0) == "a"
    assert known.find(REQUEST, now=120.0) == ""
    assert known.find(replace(REQUEST, tenant="acme"), now=1.0) == ""


def test_another_request_of_the_same_id() -> None:
    """The same id with another body is refused."""
    known = Known(120)
    known.keep(REQUEST, "a", now=0.0)

    with pytest.raises(Conflict) as refused:
        known.find(replace(REQUEST, body=b"{}"), now=1.0)
    assert refused.value.field == "Dspex-Request"


def test_another_router_had_it() -> None:
    """What another router dispatched is known by its id alone."""
    known = Known(120)
    known.note((REQUEST.tenant, REQUEST.id), "b", now=0.0)

    assert known.find(REQUEST, now=1.0) == "b"


def test_known_is_bounded() -> None:
    """The oldest leave, by number and by age."""
    known = Known(120, most=10)
    for number in range(50):
        known.note(("default", f"r{number}"), "a", now=0.0)

    assert len(known) == 10
    known.note(("default", "late"), "a", now=200.0)
    assert len(known) == 1


def decision(worker: str) -> Decision:
    return Decision(
        worker=worker, pool="light", reason="least_loaded", candidates=[], eligible=1
    )


def test_the_last_decisions() -> None:
    """The last decisions are told, the newest first, those of one request if asked."""
    record = Record(most=3)
    for number in range(5):
        record.decided(replace(REQUEST, id=f"r{number}"), decision(f"w{number}"))
    record.ended("done")
    record.ended("no_worker")

    told = record.last(DecisionsRequest(limit=2))
    assert [one.request for one in told] == ["r4", "r3"]
    [only] = record.last(DecisionsRequest(request="r2"))
    assert (only.decision.worker, only.operation, only.tenant) == (
        "w2",
        "predict",
        "default",
    )
    assert record.last(DecisionsRequest(request="r1")) == []
    assert record.counters == {"dispatches": 5, "done": 1, "failed.no_worker": 1}


def test_pool_loads() -> None:
    """Every pool is told with what is there, what is free and who waits."""
    targets = [
        Target(beat_of("a", concurrency=4, in_flight=1), 0.0),
        Target(beat_of("b", concurrency=4, state="draining"), 0.0),
        Target(beat_of("c", pool="gpu", concurrency=2), 0.0),
    ]

    loads = pool_loads(targets, {"light": 3}, {"light": 2, "gone": 1})

    assert loads == [
        PoolLoad(pool="gone", workers=0, ready=0, places=0, held=0, queued=1),
        PoolLoad(pool="gpu", workers=1, ready=1, places=2, held=0, queued=0),
        PoolLoad(pool="light", workers=2, ready=1, places=3, held=3, queued=2),
    ]
