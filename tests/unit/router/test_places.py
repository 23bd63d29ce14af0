"""Waiting for a place, beside what tests of whole requests show."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest
from tests.unit.router.scene import QUICK, beat_of

from dspex.router.places import Places
from dspex.router.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.router.tickets import Ticket


class Asking:
    """What places ask of a ticket that does not wait."""

    class request:
        tenant = "default"

    priority, remaining = 3, 60.0


@pytest.fixture(name="hasty")
def _hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


async def _take(places: Places, ticket: Ticket, targets: Targets, pool: str) -> None:
    targets.hear(beat_of(f"w-{pool}", pool=pool), 0.0)
    await places.take(ticket, pool, None)


@pytest.mark.usefixtures("hasty")
async def test_heartbeats_read_what_waits() -> None:
    """The thread of the heartbeats may ask while pools come."""
    targets, failed = Targets(), list[Exception]()
    places = Places(targets, QUICK, {}, lambda: 0.0)
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                assert not sum(places.queued.values())
        except Exception as error:  # noqa: BLE001 - the test fails by it
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    for number in range(1500):
        ticket: Ticket = Asking()  # type: ignore[assignment] # it does not wait
        await _take(places, ticket, targets, f"p{number}")
    done.set()
    thread.join()

    assert not failed


async def test_a_pool_that_is_gone_is_forgotten() -> None:
    """Once its last request has ended, nothing is kept of a pool without workers."""
    targets = Targets()
    places = Places(targets, QUICK, {}, lambda: 0.0)
    ticket: Ticket = Asking()  # type: ignore[assignment] # it does not wait
    await _take(places, ticket, targets, "p")
    targets.lose("w-p")

    places.refresh()
    assert places.held == {"p": 1}
    places.give_back(ticket, "p")
    places.refresh()

    assert places.held == {}
