"""Which requests a replay is about, as a journal goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec.structs import replace

from dspex.bus.journal import Damaged, Entry, Reader
from dspex.bus.selecting import Wanted
from dspex.contracts import encoding, examples
from dspex.contracts.envelope import Requested
from dspex.contracts.record_examples import RECORDS
from dspex.contracts.records import LmCall
from dspex.services.replay import lives

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ASKED = next(one for one in examples.EVENTS.values() if isinstance(one, Requested))
CALL = next(one for one in RECORDS.values() if isinstance(one, LmCall))


class Journal:
    """Entries, one a millisecond."""

    def __init__(self) -> None:
        self.all: list[Entry | Damaged] = []

    def ask(self, request: str, operation: str, body: Any, session: str = "") -> None:
        """A request comes; of a session, as its turn."""
        at = 1000.0 + len(self.all)
        said = replace(ASKED, request=request, operation=operation, at=at, body=body)
        family = f"session.{session}.event" if session else "event"
        self.add(said, f"dspex.v1.{family}.{request}.requested")

    def add(self, said: Any, subject: str) -> None:
        """Something is told of one."""
        self.all.append(
            Entry(
                sequence=len(self.all) + 1,
                stored=said.at,
                subject=subject,
                tenant="default",
                said=said,
                data=encoding.encode(said),
            )
        )

    async def entries(self, **_: Any) -> AsyncIterator[Entry | Damaged]:
        """As ``Reader.entries``."""
        for one in self.all:
            yield one


@pytest.fixture(name="journal")
def _journal() -> Journal:
    """Two sessions, the second forked from the first after one turn."""
    found = Journal()
    found.ask("open", "session.open", {"session": "first"})
    found.ask("other", "predict", {})
    found.ask("turn-1", "predict", {}, "first")
    found.ask("fork", "session.fork", {"session": "first", "as": "second"})
    found.ask("turn-2", "predict", {}, "first")
    found.ask("turn-3", "predict", {}, "second")
    found.ask("look", "session.get", {"session": "second"})
    return found


async def chosen(journal: Journal, wanted: Wanted, *requests: str) -> list[str]:
    reader = cast("Reader", journal)
    found = await lives.choose(reader, wanted, [*requests], lambda _: None)
    return [one.request for one in found.chosen]


async def test_all_of_a_session(journal: Journal) -> None:
    """Its turns, and what opened it or was forked from it."""
    found = await chosen(journal, Wanted(session="first"))

    assert found == ["open", "turn-1", "fork", "turn-2"]


async def test_a_fork_has_what_it_was_forked_from(journal: Journal) -> None:
    """The turns before the fork, and none of those after it."""
    found = await chosen(journal, Wanted(session="second"))

    assert found == ["open", "turn-1", "fork", "turn-3"]


async def test_named_requests_in_their_order(journal: Journal) -> None:
    """However they were named."""
    assert await chosen(journal, Wanted(), "turn-3", "other") == ["other", "turn-3"]
    assert await chosen(journal, Wanted(tenant="acme"), "other") == []


async def test_sessions_that_were_forked_in_a_circle(journal: Journal) -> None:
    """Names may be used again, and the search ends."""
    journal.ask("back", "session.fork", {"session": "second", "as": "first"})

    assert "turn-1" in await chosen(journal, Wanted(session="first"))


async def test_damage_is_told_and_models_are_learned(journal: Journal) -> None:
    """What cannot be read is passed over; language models have the names of then."""
    journal.all.append(Damaged(sequence=99, why="torn"))
    call = replace(CALL, request="other", lm="default", model="openai/known")
    journal.add(call, "dspex.v1.record.other.lm_call")
    damaged: list[Damaged] = []

    found = await lives.choose(
        cast("Reader", journal), Wanted(), ["other"], damaged.append
    )

    assert found.models == {"default": "openai/known"}
    assert [one.why for one in damaged] == ["torn"]
