"""What the replay program takes, and what it tells."""

from __future__ import annotations

import msgspec
import pytest

from dspex.contracts.failures import BadRequest
from dspex.contracts.redaction import MARK
from dspex.contracts.replay_requests import RunReplay
from dspex.contracts.replays import Difference, Replayed
from dspex.services.replay.service import LONGEST, asked, told

DIFFERENT = Replayed(
    request="old",
    replayed_as="new",
    status="diverged",
    first_difference=Difference(
        path="messages[0].content",
        recorded="a",
        replayed="b",
        call=1,
        diff=["-a", "+b"],
    ),
)


@pytest.mark.parametrize(
    "body",
    [
        RunReplay(requests=["one"]),
        RunReplay(since=0.0),
        RunReplay(until=0.0),
        RunReplay(operation="predict"),
        RunReplay(session="chat"),
        RunReplay(worker="light"),
        RunReplay(text="needle"),
        RunReplay(failed=True),
        RunReplay(slow_s=1.5),
    ],
)
def test_what_selects(body: RunReplay) -> None:
    """Each of them alone is enough, and the tenant is the one who asks."""
    what = asked(body, "acme", 10)

    assert what.wanted.tenant == "acme"
    assert what.most == 10
    assert what.requests == body.requests
    assert what.wanted.slow == body.slow_s * 1000
    assert (what.wanted.session, what.wanted.since) == (body.session, body.since)


def test_nothing_selects() -> None:
    """All that a tenant ever asked is not replayed by mistake."""
    with pytest.raises(BadRequest):
        asked(RunReplay(mode="load", speed=10), "default", 10)


def test_what_is_new_is_not_told_where_something_is_left_out() -> None:
    """The place of a difference is told, and what was recorded, which is redacted."""
    found = told(DIFFERENT, redacts=True).first_difference

    assert found is not None
    assert (found.path, found.recorded, found.call) == ("messages[0].content", "a", 1)
    assert (found.replayed, found.diff) == (MARK, [])
    assert told(DIFFERENT, redacts=False) == DIFFERENT


def test_a_large_difference_is_shortened() -> None:
    """A message holds it, whatever it is made of."""
    large = msgspec.structs.replace(
        DIFFERENT,
        first_difference=Difference(
            path="outputs", recorded={"a": "x" * 100_000}, replayed="y" * 100_000
        ),
    )

    found = told(large, redacts=False)

    assert len(msgspec.json.encode(found)) < LONGEST
    assert found.first_difference is not None
    assert found.first_difference.recorded.startswith('{"a":"xxx')
    assert found.first_difference.replayed.endswith("…")
