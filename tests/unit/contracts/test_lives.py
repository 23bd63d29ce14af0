"""A life is the same, in whatever order its parts are found."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dspex.contracts import examples, record_examples
from dspex.contracts.lives import Life

SAID = [
    examples.EVENTS["requested"],
    examples.EVENTS["accepted"],
    examples.EVENTS["started"],
    examples.EVENTS["delta"],
    examples.EVENTS["status"],
    examples.EVENTS["done"],
    *record_examples.RECORDS.values(),
]


def life_of(said: list[object]) -> Life:
    life = Life(request=examples.REQUEST, tenant="default")
    for one in said:
        life.take(one)  # type: ignore[arg-type]  # examples are of many kinds
    return life


@given(seed=st.integers())
def test_order_does_not_matter(seed: int) -> None:
    """Events and records may come in any order."""
    said = list(SAID)
    random.Random(seed).shuffle(said)

    assert life_of(said).summary() == life_of(SAID).summary()


def test_what_it_says() -> None:
    """It counts calls and tokens, and knows who ran it and how it ended."""
    life = life_of(SAID)

    assert (life.operation, life.end, life.worker) == (
        "predict",
        "done",
        examples.WORKER,
    )
    assert (life.lm_calls, life.tool_calls, life.cut, life.missing) == (3, 1, 1, 0)


def test_what_is_missing() -> None:
    """A number that is skipped is missing, and so is a call that was counted."""
    events = [one for one in SAID if one is not examples.EVENTS["delta"]]
    without = [one for one in SAID if one not in record_examples.RECORDS.values()]

    assert life_of(events).missing == 1
    assert life_of(without).missing == 1
