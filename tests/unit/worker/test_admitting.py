"""Which turns a session's holder takes."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.contracts.failures import Overloaded
from dspex.contracts.sessions import SessionSettings
from dspex.services.worker.admitting import WAITING, admit


@pytest.mark.parametrize(
    ("given", "in_hand", "has_room", "decided"),
    [
        ({}, 0, True, "take"),
        ({}, 0, False, "take"),
        ({}, 1, True, "take"),
        ({}, WAITING, False, "take"),
        ({}, WAITING + 1, True, "refused"),
        ({"affinity": "hint"}, 0, True, "take"),
        ({"affinity": "hint"}, 0, False, "elsewhere"),
        ({"affinity": "hint"}, 1, False, "take"),
        ({"affinity": "strict_fail_fast"}, 0, True, "take"),
        ({"affinity": "strict_fail_fast"}, 0, False, "refused"),
        ({"affinity": "strict_fail_fast"}, 1, True, "refused"),
        ({"on_busy": "reject"}, 0, False, "take"),
        ({"on_busy": "reject"}, 1, True, "refused"),
        ({"on_busy": "interrupt"}, WAITING + 1, False, "take"),
        ({"on_busy": "interrupt", "affinity": "strict_fail_fast"}, 1, True, "take"),
        ({"on_busy": "interrupt", "affinity": "hint"}, 0, False, "elsewhere"),
    ],
)
def test_admit(
    given: dict[str, Any], in_hand: int, has_room: bool, decided: str
) -> None:
    """A turn runs, waits, goes elsewhere or is refused as its session was opened."""
    settings = SessionSettings(**given)

    try:
        found: str = admit(settings, in_hand, has_room)
    except Overloaded:
        found = "refused"

    assert found == decided
