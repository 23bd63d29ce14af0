"""Values held against answers: texts in texts, edits, numbers and JSON fields."""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, field
from rapidfuzz.distance import Levenshtein

from dspex.contracts.failures import BadRequest
from dspex.native.metrics.scoring import (
    Budget,
    alternatives,
    misfit,
    parsed,
    same,
    text_of,
    texts_of,
)
from dspex.native.metrics.texts import normalize_text

if TYPE_CHECKING:
    from dspex.native.metrics.scoring import Explain, Score


class Contains(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``contains``.

    Attributes:
        normalize: Whether both texts are normalised first.
        words: Whether only whole words count, as spaces divide them.
        all: Whether all answers are wanted: the score is the share that is there.
    """

    normalize: bool = True
    words: bool = False
    all: bool = False


class EditSimilarity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``edit_similarity``.

    Attributes:
        normalize: Whether both texts are normalised first.
    """

    normalize: bool = False


class Numeric(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``numeric``.

    Attributes:
        absolute: How far off a number may be.
        relative: How far off it may be, as a share of the answer.
        find: Which number of a text is meant: the ``whole`` text, which then must be
            one, its ``first``, or its ``last``.
    """

    absolute: Annotated[float, Meta(ge=0)] = 0.0
    relative: Annotated[float, Meta(ge=0)] = 0.0
    find: Literal["whole", "first", "last"] = "whole"


class JsonMatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``json_match``.

    Attributes:
        fields: The fields to compare; default: those of the answer.
        extra: Whether fields that the answer does not have count as wrong.
        normalize: Whether texts are normalised first.
    """

    fields: list[str] = field(default_factory=list)
    extra: bool = False
    normalize: bool = False


def contains(parameters: Contains) -> Score:
    """Make what looks for the answers in the prediction."""
    budget = Budget()

    def prepared(text: str) -> str:
        found = normalize_text(text) if parameters.normalize else text
        return f" {' '.join(found.split())} " if parameters.words else found

    def score(prediction: Any, answers: Any) -> float:
        text, wanted = prepared(text_of(prediction)), texts_of(answers)
        budget.search(text, len(wanted))
        found = [prepared(answer) in text for answer in wanted]
        return sum(found) / len(found) if parameters.all else float(any(found))

    return score


def edit_similarity(parameters: EditSimilarity) -> Score:
    """Make what scores 1 minus the edits over the length of the longer text."""
    budget = Budget()

    def prepared(text: str) -> str:
        return normalize_text(text) if parameters.normalize else text

    def compared(text: str, answer: str) -> float:
        budget.spend(len(text), len(answer))
        return Levenshtein.normalized_similarity(text, answer)

    def score(prediction: Any, answers: Any) -> float:
        text = prepared(text_of(prediction))
        return max(compared(text, prepared(answer)) for answer in texts_of(answers))

    return score


def numeric(parameters: Numeric) -> Score:
    """Make what scores 1 for a number that is near enough to any answer."""
    absolute = Decimal(repr(parameters.absolute))
    relative = Decimal(repr(parameters.relative))

    def near(number: Decimal, answer: Decimal) -> bool:
        if number == answer:
            return True
        allowed = max(absolute, _EXACT.multiply(relative, answer.copy_abs()))
        return _EXACT.subtract(number, answer).copy_abs() <= allowed

    def score(prediction: Any, answers: Any) -> float:
        numbers = [_answer(answer) for answer in alternatives(answers)]
        number = _number(prediction, parameters.find)
        return float(number is not None and any(near(number, one) for one in numbers))

    return score


def json_match(parameters: JsonMatch) -> Score:
    """Make what scores the share of fields that are as in the best answer."""
    explain = explain_json_match(parameters)
    return lambda prediction, answers: explain(prediction, answers)[0]


def explain_json_match(parameters: JsonMatch) -> Explain:
    """Make what also says which fields are as in the best answer."""
    budget = Budget()

    def explain(prediction: Any, answers: Any) -> tuple[float, dict[str, Any]]:
        value = _prepared(prediction, parameters)
        others = [_prepared(answer, parameters) for answer in alternatives(answers)]
        # All of it before any: what is too much is refused at once.
        for answer in others:
            budget.look(_beside(value, answer, parameters))
        # Lazily: each may be as large as the fields are many.
        found = (_by_field(value, answer, parameters) for answer in others)
        score, fields = max(((_share(one), one) for one in found), key=itemgetter(0))
        return score, {"fields": fields}

    return explain


def _share(fields: dict[str, bool]) -> float:
    return sum(fields.values()) / len(fields) if fields else 1.0


# Wide enough for what JSON numbers hold, and bounded whatever they hold.
_EXACT = Context(prec=60, Emax=999_999_999, Emin=-999_999_999)
_LONGEST = 400
_PLAIN = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)\.?)(?:[eE][+-]?\d{1,4})?"
_NUMBER = re.compile(rf"(?<![\w.]){_PLAIN}(?!\w)", re.ASCII)


def _number(value: Any, find: str) -> Decimal | None:
    """Return the number that a value stands for, if it does."""
    if type(value) is int or type(value) is float:
        number = Decimal(repr(value)) if type(value) is float else Decimal(value)
        return number if number.is_finite() else None
    if type(value) is not str:
        raise misfit("prediction", value, "a number or a text with one")
    if find == "whole":
        text = value.strip()
        whole = len(text) <= _LONGEST and _NUMBER.fullmatch(text)
        return _decimal(text) if whole else None
    found = [text for text in _NUMBER.findall(value) if len(text) <= _LONGEST]
    if not found:
        return None
    return _decimal(found[0] if find == "first" else found[-1])


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None


def _answer(value: Any) -> Decimal:
    try:
        number = _number(value, "whole")
    except BadRequest:
        number = None
    if number is None:
        raise misfit("answers", value, "a number, a text that is one, or a list")
    return number


def _json(value: Any) -> Any:
    if type(value) is not str:
        return value
    found = parsed(value)
    # A text that is no JSON stands for itself.
    return value if found is UNSET else found


def _prepared(value: Any, parameters: JsonMatch) -> Any:
    """Return what a value stands for, its texts normalised if they are to be."""
    found = _json(value)
    if not parameters.normalize:
        return found
    if type(found) is dict:
        return {name: _normal(part) for name, part in found.items()}
    return _normal(found)


def _normal(value: Any) -> Any:
    return normalize_text(value) if type(value) is str else value


def _beside(value: Any, answer: Any, parameters: JsonMatch) -> int:
    """How many fields are looked for beside those of the answer."""
    if type(answer) is not dict:
        return 0
    if parameters.fields:
        return len(parameters.fields) - len(answer)
    if type(value) is dict and parameters.extra:
        return len(value.keys() - answer.keys())
    return 0


def _by_field(value: Any, answer: Any, parameters: JsonMatch) -> dict[str, bool]:
    if type(answer) is not dict:
        return {"": same(value, answer)}
    names = parameters.fields or list(answer)
    if type(value) is dict and parameters.extra and not parameters.fields:
        names = [*names, *(name for name in value if name not in answer)]
    if type(value) is not dict:
        return dict.fromkeys(names or [""], False)
    return {
        name: same(value.get(name, UNSET), answer.get(name, UNSET)) for name in names
    }
