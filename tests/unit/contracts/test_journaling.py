"""Which requests are journaled."""

from __future__ import annotations

import pytest

from dspex.bus.capture import Capture
from dspex.contracts.journaling import Journal, JournalChange


@pytest.mark.parametrize(
    ("journal", "kept"),
    [
        (Journal(), True),
        (Journal(on=False), False),
        (Journal(sample=0.0), False),
        (Journal(operations={"predict": False}), False),
        (Journal(operations={"react": False}), True),
        (Journal(tenants={"acme": False}), False),
        (Journal(on=False, tenants={"acme": True}), False),
    ],
)
def test_switches(journal: Journal, kept: bool) -> None:
    """A request is kept unless something about it is switched off."""
    assert journal.keeps("acme", "predict", "r-1") is kept


def test_a_sample_is_one_for_all() -> None:
    """About the share is kept, the same requests by everybody, and more with more."""
    names = [f"r-{number}" for number in range(2000)]
    half, tenth = Journal(sample=0.5), Journal(sample=0.1)

    kept = [name for name in names if half.keeps("default", "predict", name)]
    fewer = {name for name in names if tenth.keeps("default", "react", name)}

    assert 900 < len(kept) < 1100
    assert 130 < len(fewer) < 270
    assert fewer <= set(kept)


def test_changes() -> None:
    """An operator changes what is named and nothing else."""
    capture = Capture(Journal(sample=0.5, tenants={"acme": False}))

    capture.change(JournalChange(on=False, operations={"predict": False}))
    capture.change(JournalChange(on=True, tenants={"beta": False}))

    state = capture.state("dspex-router")
    assert (state.on, state.sample, state.redacts) == (True, 0.5, False)
    assert state.operations == {"predict": False}
    assert state.tenants == {"acme": False, "beta": False}
