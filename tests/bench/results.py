"""What was measured, and how it is written down."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence
    from pathlib import Path


class Bar(Struct, frozen=True):
    """What a value is held against.

    Attributes:
        limit: The bar itself.
        at_least: Whether more is better.
    """

    limit: float
    at_least: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value, as it is printed, is on the right side."""
        printed = float(number(value))
        return printed >= self.limit if self.at_least else printed <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


class Result(Struct, frozen=True, kw_only=True):
    """One number.

    Attributes:
        name: Of the benchmark and the part of it.
        value: The median of the rounds, unless ``how`` says otherwise.
        unit: Such as ``ms``; ``x`` is a ratio.
        how: What was measured.
        bar: What it is held against, if anything.
        spread: The lowest and the highest round.
    """

    name: str
    value: float
    unit: str
    how: str
    bar: Bar | None = None
    spread: tuple[float, float] | None = None

    @property
    def holds(self) -> bool | None:
        return None if self.bar is None else self.bar.holds(self.value)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "bar": None if self.bar is None else str(self.bar),
            "holds": self.holds,
            "spread": self.spread and [round(one, 4) for one in self.spread],
            "how": self.how,
        }


class Findings(Struct, frozen=True, kw_only=True):
    """What one benchmark gives.

    Attributes:
        results: Its numbers.
        note: What is to be known of all of them.
        details: Rows of a table that says more; the first holds its headings.
    """

    results: list[Result]
    note: str = ""
    details: list[tuple[str, ...]] = []


_HEADINGS = ("benchmark", "value", "bar", "holds", "rounds from .. to")
_VERDICTS = {True: "yes", False: "NO", None: ""}


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The results as rows of a table, headings first."""
    return [_HEADINGS, *(_row(result) for result in results)]


def aligned(table: Sequence[tuple[str, ...]]) -> str:
    """A table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in table
    ]
    return "\n".join(line.rstrip() for line in lines)


def markdown(table: Sequence[tuple[str, ...]]) -> str:
    """A table for a document."""
    headings, *others = [" | ".join(row) for row in table]
    rule = " | ".join("---" for _ in table[0])
    return "\n".join(f"| {line} |" for line in (headings, rule, *others))


def write_json(path: Path, results: Sequence[Result]) -> None:
    """Write the results for programs to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(results) + "\n", encoding="utf-8")


def as_json(results: Sequence[Result]) -> str:
    """The results as a JSON list."""
    return json.dumps([result.as_json() for result in results], indent=2)


def document(
    findings: Sequence[Findings], machine: Sequence[tuple[str, ...]], day: datetime.date
) -> str:
    """The text of ``docs/benchmarks.md``."""
    results = [result for one in findings for result in one.results]
    parts = [
        "# Benchmarks",
        f"Written by `make bench` on {day:%Y-%m-%d}. `make bench ONLY=<name>` runs one "
        "of them and leaves this file as it is; `build/bench.json` has the numbers of "
        "the last run.",
        markdown(rows(results)),
        _READING,
        *(part for one in findings for part in _more(one)),
        "## How each is measured",
        "\n".join(f"- `{result.name}`: {result.how}" for result in results),
        "## Machine and versions",
        "Client, nats-server, router, native-ops, workers, the web servers and the "
        "scripted language model all share this machine, so every CPU second of one "
        "is missing to the others.",
        markdown(machine),
    ]
    return "\n\n".join(parts) + "\n"


_READING = """\
A value is the median of several rounds, unless its description says otherwise, and the last column is the worst and the best round.
Ratios compare two measurements of the same run, taken in turns, so they carry over to other machines better than milliseconds do.
`router_hop` and `native_hop` are what asking through a router costs over asking the process that answers: 2.0x would mean that the hop takes as long as the answer.
The `fastapi` rows are our throughput over the web server's: 1.0x is a draw, above it NATS is ahead."""  # noqa: E501 - one sentence per line


def _more(findings: Findings) -> list[str]:
    table = [markdown(findings.details)] if findings.details else []
    return [*([findings.note] if findings.note else []), *table]


def _row(result: Result) -> tuple[str, ...]:
    low, high = result.spread or (result.value, result.value)
    return (
        f"`{result.name}`",
        f"{number(result.value)} {result.unit}",
        str(result.bar or ""),
        _VERDICTS[result.holds],
        f"{number(low)} .. {number(high)}" if result.spread else "",
    )


def number(value: float) -> str:
    """A value as it is printed: no digits beyond what the rounds agree on."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
