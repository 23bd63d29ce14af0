"""The metrics of DSPy, held against DSPy itself."""

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dspex.contracts.native_requests import ScoreBatch, ScoreMetric
from dspex.native.metrics.catalog import score_batch, score_metric
from dspex.native.metrics.normalising import split_words
from dspex.native.metrics.overlap import passage_words
from dspex.native.metrics.texts import normalize_text

pytestmark = pytest.mark.dspy

PIECES = [
    *("a", "an", "the", "The", "AN", "thé", "yes", "no", "noanswer", "Yes!", "tower"),
    *(
        " ",
        "  ",
        "\n",
        "\t",
        "\x00",
        "\x1c",
        "\x7f",
        "\x85",
        "\xa0",
        "\u2003",
        "\u3000",
    ),
    *("_", "-", "'", ".", "\u2019", "—", "«", "·", "$", "€"),
    *("\u0301", "\u0323", "\u200b"),
    *(
        "é",
        "ß",
        "İ",
        "\u0131",
        "Σ",
        "ς",
        "ﬁ",
        "≮",
        ";",
        "中文",
        "가",
        "\U0001d4b3",
        "😀",
        "٣",
        "½",
        "Ǆ",
    ),
]
KNOWN = st.characters(exclude_categories=("Cs", "Cn"))
TEXT = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.text(KNOWN, max_size=20),
    st.lists(st.sampled_from(PIECES[:11]), max_size=60).map(" ".join),
)
TEXTS = st.lists(TEXT, min_size=1, max_size=3)


@settings(max_examples=400, deadline=None)
@given(TEXT)
@example("a a the a the the an an a")
@example("a\u0323.\u0301")
def test_normalising(text: str) -> None:
    """Texts are normalised and split into tokens exactly as DSPy does it."""
    from dspy.dsp.utils import DPR_normalize
    from dspy.evaluate.metrics import normalize_text as theirs

    wanted = theirs(text)

    assert normalize_text(text) == wanted
    words = [word for word in split_words(text) if word not in ("a", "an", "the")]
    assert words == wanted.split()
    assert passage_words(text).split() == DPR_normalize(wanted)


@pytest.mark.parametrize("plane", range(0x30))
def test_every_character(plane: int) -> None:
    """No character that Python knows is normalised or split in another way."""
    from dspy.dsp.utils import DPR_normalize
    from dspy.evaluate.metrics import normalize_text as theirs

    # Not all in one text: neighbours hide one another's rules.
    some = map(chr, range(plane * 0x1000, (plane + 1) * 0x1000))
    known = [one for one in some if unicodedata.category(one) not in ("Cs", "Cn")]
    text = " | ".join(f"x{one}The" for one in known[:: 1 if plane < 0x10 else 16])

    assert normalize_text(text) == theirs(text)
    assert passage_words(text).split() == DPR_normalize(theirs(text))


def _theirs(name: str) -> Callable[[str, list[str]], float]:
    import dspy
    from dspy.evaluate import answer_exact_match, answer_passage_match, metrics

    def example_of(answers: list[str]) -> Any:
        return dspy.Example(answer=answers)

    found: dict[str, Callable[[str, list[str]], float]] = {
        "exact_match": metrics.EM,
        "f1": metrics.F1,
        "hotpot_f1": metrics.HotPotF1,
        "precision": lambda text, answers: max(
            metrics.precision_score(text, answer) for answer in answers
        ),
        # The precision of the answer in the prediction is the prediction's recall.
        "recall": lambda text, answers: max(
            metrics.precision_score(answer, text) for answer in answers
        ),
        "answer_exact_match": lambda text, answers: answer_exact_match(
            example_of(answers), dspy.Prediction(answer=text)
        ),
        "answer_passage_match": lambda text, answers: answer_passage_match(
            example_of(answers), dspy.Prediction(context=[text, "other"])
        ),
    }
    return found[name]


@pytest.mark.parametrize(
    "name",
    [
        "exact_match",
        "f1",
        "hotpot_f1",
        "precision",
        "recall",
        "answer_exact_match",
        "answer_passage_match",
    ],
)
@settings(max_examples=150, deadline=None)
@given(prediction=TEXT, answers=TEXTS)
@example(prediction="the the a", answers=["", "a"])
@example(prediction="yes", answers=["yes yes", "The yes."])
def test_scores(name: str, prediction: str, answers: list[str]) -> None:
    """Every metric of DSPy gives the very number that DSPy gives."""
    wanted = _theirs(name)(prediction, answers)
    given_text: Any = prediction
    if name == "answer_passage_match":
        given_text = [prediction, "other"]

    body = ScoreMetric(metric=name, prediction=given_text, answers=answers)
    found = score_metric(body).score
    many = score_batch(
        ScoreBatch(
            metric=name,
            predictions=[given_text, given_text],
            answers=[answers, answers[0]],
        )
    )

    assert found == wanted
    assert many.scores == [wanted, _theirs(name)(prediction, answers[:1])]


@settings(max_examples=150, deadline=None)
@given(prediction=TEXT, answers=TEXTS, frac=st.floats(0, 1.5))
def test_answer_exact_match(prediction: str, answers: list[str], frac: float) -> None:
    """A match by F1 has DSPy's threshold."""
    import dspy
    from dspy.evaluate import answer_exact_match

    wanted = answer_exact_match(
        dspy.Example(answer=answers), dspy.Prediction(answer=prediction), frac=frac
    )

    body = ScoreMetric(
        metric="answer_exact_match",
        prediction=prediction,
        answers=answers,
        parameters={"frac": frac},
    )
    assert score_metric(body).score == wanted
