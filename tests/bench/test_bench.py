"""The arithmetic and the writing of the benchmarks."""

from __future__ import annotations

import asyncio
import datetime
import itertools

from tests.bench import deciding
from tests.bench.measure import Window, closed_loop, in_turns, middle, percentile
from tests.bench.results import Bar, Findings, Result, aligned, document, rows

RATIO = Result(
    name="hop", value=1.5, unit="x", how="a over b.", bar=Bar(2.0), spread=(1.4, 1.6)
)


def test_percentile_is_a_value_that_was_measured() -> None:
    """No interpolation: it is the smallest value that so many do not exceed."""
    values = [float(value) for value in range(100, 0, -1)]

    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7


def test_middle_keeps_the_spread() -> None:
    """The median comes with the lowest and the highest round."""
    assert middle([3.0, 1.0, 2.0]) == (2.0, (1.0, 3.0))


def test_bar_holds_at_its_limit() -> None:
    """A value that is printed as the limit itself holds, on either kind of bar."""
    assert Bar(2.0).holds(2.004)
    assert not Bar(2.0).holds(2.01)
    assert Bar(1.0, at_least=True).holds(0.996)
    assert not Bar(1.0, at_least=True).holds(0.99)


async def test_calls_take_turns() -> None:
    """Both sides of a ratio are called in turns, equally often."""
    called = []

    async def first() -> None:
        called.append("first")

    async def second() -> None:
        called.append("second")

    firsts, seconds = await in_turns(first, second, 2)

    assert called == ["first", "second"] * 2
    assert len(firsts) == len(seconds) == 2


async def test_closed_loop_keeps_every_client_busy() -> None:
    """There are as many calls at a time as there are clients, and no more."""
    active = itertools.count()
    running: list[int] = []
    most = 0

    async def call() -> None:
        nonlocal most
        running.append(next(active))
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.pop()

    load = await closed_loop(call, 3, Window(warm_up=0.0, seconds=0.05))

    assert most == 3
    assert load.per_second > 0
    assert load.ms(0.5) <= load.ms(0.99)


def test_result_for_programs() -> None:
    """The JSON says the bar in words, whether it holds, and how it was measured."""
    assert RATIO.as_json() == {
        "name": "hop",
        "value": 1.5,
        "unit": "x",
        "bar": "<= 2",
        "holds": True,
        "spread": [1.4, 1.6],
        "how": "a over b.",
    }


def test_document_says_all() -> None:
    """The document has the numbers, how they were measured, and on what."""
    table: list[tuple[str, ...]] = [("clients", "p50"), ("1", "2.0")]
    findings = Findings(results=[RATIO], note="Fairly.", details=table)
    day = datetime.date(2025, 1, 31)

    text = document([findings], [("what", "value"), ("cores", "2")], day)

    assert "on 2025-01-31" in text
    assert "| `hop` | 1.50 x | <= 2 | yes | 1.40 .. 1.60 |" in text
    assert "- `hop`: a over b." in text
    assert "Fairly.\n\n| clients | p50 |\n| --- | --- |\n| 1 | 2.0 |" in text
    assert "| cores | 2 |" in text


def test_table_is_aligned() -> None:
    """Columns of the printed table start below their headings."""
    headings, row = aligned(rows([RATIO])).splitlines()

    assert headings.index("bar") == row.index("<=")


async def test_decision_is_measured() -> None:
    """The benchmark that needs no running system gives its number."""
    found = await deciding.decision(None)

    assert [result.name for result in found.results] == ["decision"]
    assert found.results[0].value > 0
