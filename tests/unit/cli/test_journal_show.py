"""What ``dspex journal show`` makes of each thing that is told."""

from __future__ import annotations

import pytest

from dspex.bus.journal import Entry
from dspex.cli.journal_show import life_of, tree
from dspex.contracts import encoding, examples, record_examples

SAID = {
    **{f"event {kind}": event for kind, event in examples.EVENTS.items()},
    **{f"record {name}": one for name, one in record_examples.RECORDS.items()},
}


@pytest.mark.parametrize("name", SAID)
def test_everything_is_shown(name: str) -> None:
    """Whatever the journal keeps, a tree of it can be drawn."""
    said = SAID[name]
    entry = Entry(
        sequence=1,
        stored=said.at,
        subject="dspex.v1.event.r.kind",
        tenant="default",
        said=said,
        data=encoding.encode(said),
    )

    lines = list(tree([entry], life_of([entry])))

    assert lines
