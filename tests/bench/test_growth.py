"""What is computed and drawn of growing load."""

from __future__ import annotations

import os
from xml.etree import ElementTree as ET

import pytest
from tests.bench import memory, scaling
from tests.bench.memory import MIB, Sample
from tests.bench.scaling import Point

POINTS = [
    Point(processes=1, per_second=19.0, p50=410.0, p99=440.0),
    Point(processes=8, per_second=120.0, p50=500.0, p99=700.0),
]


def test_slope_of_a_leak() -> None:
    """What grows by the same with every request has that as its slope."""
    leak = [Sample(count, 50 * MIB + 21 * count) for count in range(1000, 9000, 1000)]
    steady = [Sample(count, 50 * MIB) for count in (1000, 2000, 3000)]

    assert memory.per_request(leak) == pytest.approx(21)
    assert memory.per_request(steady) == 0
    assert memory.per_request(leak[:1]) == 0


def test_memory_is_held_against_its_bar() -> None:
    """The slope is told per 100,000 requests, and a leak misses the bar."""
    leak = [Sample(count, 50 * MIB + 21 * count) for count in (100_000, 200_000)]

    first, last, slope = memory.findings(leak).results

    assert first.value < last.value
    assert slope.value == pytest.approx(2_100_000 / MIB)
    assert slope.holds is False


def test_resident_memory() -> None:
    """Memory is read from another process by its id, in bytes."""
    assert memory.resident(os.getpid()) > 10 * MIB


def test_scaling_is_told_as_a_share_of_the_ideal() -> None:
    """The ideal is what slots and the model's latency allow."""
    found = scaling.findings(POINTS)

    assert POINTS[1].ideal == 160
    assert found.results[0].value == pytest.approx(75)
    assert [row[0] for row in found.details] == ["worker processes", "1", "8"]


def test_picture() -> None:
    """The picture is SVG with a point for each number of processes, in its frame."""
    root = ET.fromstring(scaling.picture(POINTS))

    circles = [one for one in root.iter() if one.tag.endswith("circle")]
    tops = [float(one.attrib["cy"]) for one in circles]
    texts = {one.text for one in root.iter() if one.tag.endswith("text")}
    assert len(circles) == 2
    assert tops == sorted(tops, reverse=True)
    assert all(0 < top < scaling.HEIGHT for top in tops)
    assert {"1", "8", "120", "ideal 160"} <= texts
