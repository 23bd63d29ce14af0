"""Kept answers: under which key, for how long, and how many."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.router.scene import beat_of

from dspex.bus.incoming import Request
from dspex.contracts import encoding
from dspex.contracts.envelope import Metadata
from dspex.contracts.failures import BusUnavailable
from dspex.contracts.headers import NO_HEADERS
from dspex.contracts.requests import LmConfig, Options, Predict
from dspex.contracts.words import Text
from dspex.router.caching import Answer, Cache, key_of

REQUEST = Request(
    operation="predict",
    id="r-1",
    tenant="default",
    body=b"",
    media=encoding.JSON,
    deadline=1e15,
    reply="",
    headers=NO_HEADERS,
)
BODY = Predict(signature="question -> answer", inputs={"question": "?"})
GIVEN = 1_800_000_000.0
BEAT = beat_of("a", lm="default", versions="v1")


def answer(text: str = "42") -> Answer:
    return Answer(
        outputs={"answer": text},
        metadata=Metadata(implementation="python", pool="light", worker="a"),
        deltas=[Text(field="answer", text=text)],
        at=GIVEN,
    )


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Store:
    """A second level that can be broken."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.broken = False

    async def get(self, key: str) -> bytes | None:
        self._check()
        return self.values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        self._check()
        self.values[key] = value

    def _check(self) -> None:
        if self.broken:
            raise BusUnavailable("away")


def test_the_same_question_has_the_same_key() -> None:
    """Neither id nor options nor the default named outright change the key."""
    asked = key_of(REQUEST, BODY, "d1", BEAT)

    again = replace(REQUEST, id="r-2", reply="_INBOX.x")
    plain = replace(BODY, lm="default", options=Options(priority=1))
    assert key_of(again, plain, "d1", BEAT) == asked
    reworded = replace(BODY, signature="question  ->  answer")
    assert key_of(REQUEST, reworded, "d1", BEAT) == asked


@pytest.mark.parametrize(
    "said",
    [
        {"inputs": {"question": "!"}},
        {"inputs": {"question": 1}},
        {"demos": [{"question": "?", "answer": "1"}]},
        {"lm": "other"},
        {"config": LmConfig(temperature=0.5)},
        {"adapter": "json"},
    ],
)
def test_another_question_has_another_key(said: dict[str, Any]) -> None:
    """Whatever can change the answer changes the key."""
    asked = key_of(REQUEST, BODY, "d1", BEAT)

    assert key_of(REQUEST, replace(BODY, **said), "d1", BEAT) != asked


def test_who_asks_and_who_answers_count() -> None:
    """Tenant, operation, signature and the versions of who answers are in the key."""
    keys = {
        key_of(REQUEST, BODY, "d1", BEAT),
        key_of(REQUEST, BODY, "d2", BEAT),
        key_of(replace(REQUEST, tenant="acme"), BODY, "d1", BEAT),
        key_of(replace(REQUEST, operation="chain_of_thought"), BODY, "d1", BEAT),
        key_of(REQUEST, BODY, "d1", replace(BEAT, versions="v2")),
        key_of(REQUEST, BODY, "d1", replace(BEAT, lm="other")),
    }

    assert len(keys) == 6


async def test_answers_end() -> None:
    """An answer is there until its time is over."""
    clock = Clock()
    cache = Cache(10_000, 60, clock)
    await cache.keep("k", answer())

    assert await cache.find("k") == answer()
    clock.now = 61
    assert await cache.find("k") is None


async def test_memory_is_bounded() -> None:
    """The least used answers leave before the bound is passed."""
    cache = Cache(2_000, 60, Clock())
    await cache.keep("first", answer("x" * 100))
    for number in range(50):
        await cache.find("first")
        await cache.keep(f"k{number}", answer("x" * 100))
        assert cache.size <= 2_000

    assert await cache.find("first") is not None
    assert await cache.find("k0") is None
    await cache.keep("huge", answer("x" * 3_000))
    assert await cache.find("huge") is None


async def test_routers_share() -> None:
    """What one router kept, another finds, and then has it itself."""
    store = Store()
    one, other = (Cache(10_000, 60, Clock(), store, lambda: GIVEN) for _ in range(2))
    await one.keep("k", answer())

    assert await other.find("k") == answer()
    store.values.clear()
    assert await other.find("k") == answer()


async def test_the_second_level_may_be_away() -> None:
    """Without the second level the first one goes on, and damage is no answer."""
    store = Store()
    cache = Cache(10_000, 60, Clock(), store, lambda: GIVEN)
    store.broken = True
    await cache.keep("k", answer())

    assert await cache.find("k") == answer()
    assert await cache.find("other") is None
    store.broken = False
    store.values["bad"] = b"\xc1"
    assert await cache.find("bad") is None


async def test_a_shared_answer_keeps_its_time() -> None:
    """What another router kept ends when it would have ended there."""
    store, clock = Store(), Clock()
    await Cache(10_000, 60, clock, store).keep("k", answer())
    later = Cache(10_000, 60, clock, store, lambda: GIVEN + 50)

    assert await later.find("k") == answer()
    store.values.clear()
    clock.now = 9
    assert await later.find("k") == answer()
    clock.now = 11
    assert await later.find("k") is None
