"""The load tells truly what clients got, or no scenario would mean anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.chaos.load import Load, Wiretap

from dspex.bus.tasks import Tasks
from dspex.bus.testing import MemoryServer
from dspex.client import Client
from dspex.contracts import encoding
from dspex.contracts.envelope import Done, Metadata, Reply, failed
from dspex.contracts.failures import WorkerLost
from dspex.contracts.headers import REQUEST
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from dspex.bus.core import Bus, Message

ATTEMPTS = 2
Answers = Callable[[str], list[Reply]]
"""What is replied to a request, by its id."""


async def _serve(bus: Bus, answers: Answers) -> None:
    tasks = Tasks()

    def answer(message: Message) -> None:
        for reply in answers(message.headers[REQUEST]):
            tasks.start(bus.publish(message.reply, encoding.encode(reply)), "reply")

    await bus.subscribe(Subjects().call("predict"), answer)


def _done(request: str, answer: str = "") -> Done:
    return Done(
        request=request,
        outputs={"answer": answer or f"token-{request}"},
        metadata=Metadata(
            implementation="python", pool="light", worker="w1", attempts=ATTEMPTS
        ),
    )


async def _tried(answers: Answers) -> tuple[Load, Wiretap]:
    bus = MemoryServer().connect()
    await _serve(bus, answers)
    async with (
        Wiretap(bus) as wire,
        Load(Client(bus, Subjects()), clients=3) as load,
    ):
        await load.more(6)
    return load, wire


async def test_right_answers() -> None:
    """Every request ends once, with who answered and after how many attempts."""
    load, wire = await _tried(lambda request: [_done(request)])

    assert load.failures == []
    assert load.open == {}
    assert len({one.request for one in load.outcomes}) == len(load.outcomes) >= 6
    assert {(one.worker, one.attempts) for one in load.rerouted} == {("w1", ATTEMPTS)}
    assert wire.contradictions == {}


async def test_answers_of_others() -> None:
    """An answer that belongs to another request is wrong, on the wire as well."""
    load, wire = await _tried(lambda request: [_done(request, "token-of-another")])

    assert {one.code for one in load.failures} == {"wrong"}
    assert len(load.failures) == len(load.outcomes) == len(wire.contradictions)


async def test_failures() -> None:
    """A failure is told with its code and whether it may be tried again."""
    lost = WorkerLost("It died.")
    load, _ = await _tried(lambda request: [failed(request, lost)])

    assert {(one.code, one.retryable) for one in load.failures} == {
        ("worker_lost", True)
    }
    assert "worker_lost" in load.table()
    assert "It died." in load.table()


async def test_second_replies() -> None:
    """The same answer twice does no harm; a failure after an answer is found."""
    lost = WorkerLost("It died.")
    twice, harmless = await _tried(lambda request: [_done(request), _done(request)])
    both, harmful = await _tried(
        lambda request: [_done(request), failed(request, lost)]
    )

    assert twice.failures == both.failures == []
    assert harmless.contradictions == {}
    assert {tuple(said) for said in harmful.contradictions.values()} == {
        ("done", "worker_lost")
    }
