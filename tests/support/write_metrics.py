"""``python -m tests.support.write_metrics [--check]``: docs/metrics.md.

Written from the table of ``dspex.native.metrics.catalog``; with ``--check`` it only
says whether the file is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from dspex.contracts.schemas import attributes
from dspex.native.metrics.catalog import METRICS

if TYPE_CHECKING:
    from dspex.native.metrics.scoring import Metric

FILE = Path(__file__).parents[2] / "docs" / "metrics.md"
HOW = "python -m tests.support.write_metrics"

_HEAD = """\
# Metrics

Every metric of `metric.score` and `metric.batch`, generated from the code.

A request names the metric, and has a prediction and the answers that would be right.
Where there is a list of answers, the best one counts.
A score is 0 to 1, the more the better; the mean of a batch is that of its scores.
An unknown metric or parameter is refused, with the nearest valid one named.

Normalised means what DSPy's `normalize_text` does: Unicode NFD, lower case, no ASCII
punctuation, no `a`, `an` or `the`, one space between words.
Where a C compiler was there when DSPex was installed, compiled functions do that and
count words; without, Python does, with the same scores, several times as slowly.
`dspex doctor`, and `texts` in the service info of native-ops, say which it is.
"""


def text() -> str:
    """What the file is to say."""
    return "\n".join([_HEAD, *map(_section, METRICS.values())])


def main(arguments: list[str]) -> int:
    """Write the file, or say whether it is out of date."""
    if "--check" not in arguments:
        FILE.write_text(text(), encoding="utf-8")
        return 0
    if FILE.read_text(encoding="utf-8") == text():
        return 0
    print(f"{FILE.name} is out of date. Run: {HOW}", file=sys.stderr)
    return 1


def _section(metric: Metric) -> str:
    lines = [f"## `{metric.name}`", "", metric.gives, ""]
    prediction, answers = metric.takes.split("; ")
    lines += [f"- Prediction: {prediction}.", f"- Answers: {answers}."]
    if metric.details:
        lines.append(f"- Details of a score: {metric.details}")
    if metric.summary:
        lines.append(f"- Details of a batch: {metric.summary}")
    lines += [f"- Source: {metric.source}.", *_parameters(metric)]
    return "\n".join([*lines, ""])


def _parameters(metric: Metric) -> list[str]:
    fields = msgspec.structs.fields(metric.parameters)
    if not fields:
        return []
    meanings = attributes(metric.parameters)
    rows = [
        f"| `{field.name}` | {_type(field)} | {_default(field)} "
        f"| {meanings[field.name]} |"
        for field in fields
    ]
    heading = ["| parameter | type | default | meaning |", "| --- | --- | --- | --- |"]
    return ["", *heading, *rows]


def _type(field: msgspec.structs.FieldInfo) -> str:
    if isinstance(field.default, str):
        return " or ".join(f"`{choice}`" for choice in get_args(field.type))
    schema = msgspec.json.schema(field.type)
    name = {"boolean": "true or false", "array": "texts"}
    found = str(name.get(schema["type"], schema["type"]))
    return f"{found}, at least {schema['minimum']}" if "minimum" in schema else found


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is msgspec.NODEFAULT:
        return "empty"
    return f"`{msgspec.json.encode(field.default).decode()}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
