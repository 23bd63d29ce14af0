"""Labels: how often they are right, and a report of each class."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dspex.contracts.failures import BadRequest
from dspex.native.metrics.scoring import alternatives, misfit
from dspex.native.metrics.texts import normalize_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.native.metrics.scoring import Score, Summarise


class Labels(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``accuracy`` and ``classification_report``.

    Attributes:
        normalize: Whether labels that are texts are normalised first.
    """

    normalize: bool = False


CLASS_LIMIT = 1000
"""The most classes of a report."""


def accuracy(parameters: Labels) -> Score:
    """Make what scores 1 for a label that is one of the answers."""
    read = _reader(parameters)

    def score(prediction: Any, answers: Any) -> float:
        label = read("prediction", prediction)
        return float(label in [read("answers", one) for one in alternatives(answers)])

    return score


def classification(parameters: Labels) -> Score:
    """Make what scores 1 for the one label that is right."""
    read = _reader(parameters)

    def score(prediction: Any, answers: Any) -> float:
        return float(read("prediction", prediction) == read("answers", _only(answers)))

    return score


def report(parameters: Labels) -> Summarise:
    """Make what says precision, recall and F1 of each class, and their averages.

    The averages are those of scikit-learn's ``classification_report`` with
    ``zero_division=0``: ``macro`` counts each class alike, ``weighted`` by its
    support, and ``micro``, with all classes, is the accuracy.
    """
    read = _reader(parameters)

    def summarise(predictions: Sequence[Any], answers: Sequence[Any]) -> dict[str, Any]:
        given = [read("prediction", one) for one in predictions]
        wanted = [read("answers", _only(one)) for one in answers]
        right = Counter(
            one for one, other in zip(given, wanted, strict=True) if one == other
        )
        said, support = Counter(given), Counter(wanted)
        labels = sorted(said.keys() | support.keys())
        if len(labels) > CLASS_LIMIT:
            raise BadRequest(
                f"There are {len(labels)} classes; a report has at most {CLASS_LIMIT}.",
                field="answers",
                hint="Ask for accuracy, or send labels instead of free texts.",
            )
        rows = [
            {
                "label": label[1],
                **_rates(right[label], said[label], support[label]),
                "support": support[label],
            }
            for label in labels
        ]
        total = len(wanted)
        return {
            "accuracy": right.total() / total if total else 0.0,
            "classes": rows,
            "macro": _average(rows, [1] * len(rows)),
            "micro": _rates(right.total(), said.total(), total),
            "weighted": _average(rows, [row["support"] for row in rows]),
        }

    return summarise


Label = tuple[str, Any]
# With the name of its type, for to Python 1 and true are one key.

# Of larger integers a sender can choose many that Python's dicts keep in one place.
_BEYOND = 2**64
LABEL = "a label (a text, a whole number of at most 64 bits or a boolean)"
"""What is a label, in words."""


def _reader(parameters: Labels) -> Callable[[str, Any], Label]:
    def read(side: str, value: Any) -> Label:
        kind = type(value)
        if kind is str:
            return "text", normalize_text(value) if parameters.normalize else value
        if kind is int and -_BEYOND < value < _BEYOND:
            return "number", value
        if kind is bool:
            return "boolean", value
        raise misfit(side, value, LABEL)

    return read


def _only(answers: Any) -> Any:
    found = alternatives(answers)
    if len(found) == 1:
        return found[0]
    raise misfit("answers", answers, "one label per example")


def _rates(right: int, said: int, support: int) -> dict[str, float]:
    precision = right / said if said else 0.0
    recall = right / support if support else 0.0
    f1 = 2 * right / (said + support) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def _average(rows: list[dict[str, Any]], weights: list[int]) -> dict[str, float]:
    total = sum(weights)
    return {
        name: (
            sum(row[name] * weight for row, weight in zip(rows, weights, strict=True))
            / total
            if total
            else 0.0
        )
        for name in ("precision", "recall", "f1")
    }
