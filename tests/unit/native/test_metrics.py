"""Metrics by name: their scores, what they refuse, and their documentation."""

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import write_metrics

from dspex.contracts.failures import BadRequest
from dspex.contracts.native_requests import ScoreBatch, ScoreMetric
from dspex.native.keeping import Remembered
from dspex.native.metrics.catalog import METRICS, score_batch, score_metric
from dspex.native.metrics.scoring import same
from dspex.native.metrics.texts import normalize_text

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ngrams.json").read_text())


def score(metric: str, prediction: Any, answers: Any, **parameters: Any) -> float:
    return score_metric(
        ScoreMetric(
            metric=metric, prediction=prediction, answers=answers, parameters=parameters
        )
    ).score


def details(metric: str, prediction: Any, answers: Any, **parameters: Any) -> Any:
    return score_metric(
        ScoreMetric(
            metric=metric, prediction=prediction, answers=answers, parameters=parameters
        )
    ).details


def batch(
    metric: str, predictions: list[Any], answers: list[Any], **parameters: Any
) -> Any:
    return score_batch(
        ScoreBatch(
            metric=metric,
            predictions=predictions,
            answers=answers,
            parameters=parameters,
        )
    )


@pytest.mark.parametrize(
    ("metric", "prediction", "answers", "parameters", "wanted"),
    [
        ("exact_match", "The Eiffel Tower!", ["Louvre", "eiffel  tower"], {}, 1.0),
        ("exact_match", "Paris", "Paris, France", {}, 0.0),
        ("exact_match", "a an the the", "", {}, 1.0),
        ("f1", "Eiffel Tower is in Paris", "Paris", {}, 1 / 3),
        ("f1", "", "", {}, 0.0),
        ("f1", "x x x y", "x x z", {}, 2 * 0.5 * (2 / 3) / (0.5 + 2 / 3)),
        ("precision", "eiffel tower in paris", "eiffel tower", {}, 0.5),
        ("recall", "eiffel tower in paris", "eiffel tower", {}, 1.0),
        ("hotpot_f1", "yes", ["no", "yes it is"], {}, 0.0),
        ("hotpot_f1", "The yes", ["no", "yes"], {}, 1.0),
        ("hotpot_f1", "it is yes", "yes it", {}, 0.8),
        ("answer_exact_match", "eiffel tower paris", "eiffel tower", {}, 0.0),
        ("answer_exact_match", "eiffel tower x", "eiffel tower", {"frac": 0.8}, 1.0),
        ("answer_exact_match", "eiffel tower x", "eiffel tower", {"frac": 0.81}, 0.0),
        ("answer_passage_match", ["no", "In Paris, today."], "paris", {}, 1.0),
        ("answer_passage_match", "Parisian life", ["paris", "lif"], {}, 0.0),
        ("answer_passage_match", [], "", {}, 0.0),
        ("answer_passage_match", ["x"], "the", {}, 1.0),
        ("rouge_l", "the cat sat", ["a dog", "the cat was sat"], {}, 6 / 7),
        ("rouge_l", "中文", "中文", {}, 0.0),
        ("bleu", "the cat", "the cat", {}, 1.0),
        ("bleu", "", "the cat", {}, 0.0),
        ("edit_similarity", "kitten", ["sitting", "x"], {}, 1 - 3 / 7),
        ("edit_similarity", "", "", {}, 1.0),
        ("edit_similarity", "The Cat!", "cat", {"normalize": True}, 1.0),
        ("contains", "It is the Eiffel Tower.", "eiffel tower", {}, 1.0),
        ("contains", "concatenate", "cat", {}, 1.0),
        ("contains", "concatenate", "cat", {"words": True}, 0.0),
        ("contains", "A cat.", "cat", {"normalize": False, "words": True}, 0.0),
        ("contains", "x y", ["x", "z"], {"all": True}, 0.5),
        ("numeric", "1,234.50", 1234.5, {}, 1.0),
        ("numeric", 2**53 + 1, 2**53, {}, 0.0),
        ("numeric", "0.1", 0.1, {}, 1.0),
        ("numeric", 99, [1, 100], {"relative": 0.01}, 1.0),
        ("numeric", 98.9, 100, {"relative": 0.01}, 0.0),
        ("numeric", 10**4000, 10**4000 + 1, {}, 0.0),
        ("numeric", 1.25, 1, {"absolute": 0.25}, 1.0),
        ("numeric", "so $1,234 and 50% it is.", 50, {"find": "last"}, 1.0),
        ("numeric", "so -3.5e2.", -350, {"find": "first"}, 1.0),
        ("numeric", "about 5", 5, {}, 0.0),
        ("numeric", "none", 5, {"find": "last"}, 0.0),
        ("json_match", '{"a": 1, "b": "x"}', {"a": 1.0, "b": "y"}, {}, 0.5),
        ("json_match", {"a": 1, "c": 2}, {"a": 1}, {}, 1.0),
        ("json_match", {"a": 1, "c": 2}, {"a": 1}, {"extra": True}, 0.5),
        ("json_match", {"a": 1, "c": 2}, {"a": 2, "c": 2}, {"fields": ["c"]}, 1.0),
        ("json_match", {"a": "The X"}, {"a": "x"}, {"normalize": True}, 1.0),
        ("json_match", {"a": True}, {"a": 1}, {}, 0.0),
        ("json_match", "{", {"a": 1}, {}, 0.0),
        ("json_match", "yes", "yes", {}, 1.0),
        ("json_match", "[1, {}]", [[1, {}]], {}, 1.0),
        ("json_match", None, {}, {}, 0.0),
        ("json_match", {}, {}, {}, 1.0),
        ("accuracy", 1, [True, 1], {}, 1.0),
        ("accuracy", 1, True, {}, 0.0),
        ("accuracy", "The Cat", "cat", {"normalize": True}, 1.0),
        ("classification_report", "a", ["a"], {}, 1.0),
    ],
)
def test_scores(
    metric: str,
    prediction: Any,
    answers: Any,
    parameters: dict[str, Any],
    wanted: float,
) -> None:
    """Each metric scores as documented, alone and in a batch."""
    assert score(metric, prediction, answers, **parameters) == pytest.approx(wanted)
    alone = batch(metric, [prediction], [answers], **parameters)
    assert alone.scores == [score(metric, prediction, answers, **parameters)]
    assert alone.mean == alone.scores[0]


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_ngrams_agree_with_the_libraries(case: dict[str, Any]) -> None:
    """BLEU and ROUGE-L are those of sacrebleu and rouge-score."""
    text, answers = case["prediction"], case["answers"]
    lower = score("bleu", text.upper(), answers, lowercase=True)
    said = details("rouge_l", text, answers)

    assert score("bleu", text, answers) == pytest.approx(case["bleu"] / 100)
    assert lower == pytest.approx(case["bleu_lowercase"] / 100)
    assert score("rouge_l", text, answers) == case["rouge_l"][0]
    if case["rouge_l"][0]:
        assert [said["precision"], said["recall"]] == case["rouge_l"][1:]


def test_corpus_bleu() -> None:
    """The BLEU of a batch is that of all texts as one, as in sacrebleu."""
    cases = GOLDEN["cases"]

    found = batch(
        "bleu", [one["prediction"] for one in cases], [one["answers"] for one in cases]
    )

    assert found.details["corpus_bleu"] == pytest.approx(GOLDEN["corpus_bleu"] / 100)
    assert batch("bleu", ["a b"], ["a b"]).details == {"corpus_bleu": 0.0}


def test_details() -> None:
    """A score says what it is made of."""
    assert details("f1", "x y", ["z", "x"]) == {
        "f1": 2 / 3,
        "precision": 0.5,
        "recall": 1.0,
    }
    assert details("json_match", {"a": 1}, {"a": 1, "b": 2}) == {
        "fields": {"a": True, "b": False}
    }
    assert details("exact_match", "x", "x") == {}


def test_classification_report() -> None:
    """A report has the figures of scikit-learn for the same labels."""
    wanted = ["cat", "cat", "dog", "bird", "dog", 1]
    given_labels = ["cat", "dog", "dog", "cat", "dog", True]

    found = batch("classification_report", given_labels, wanted).details

    rows = {
        (type(row["label"]), row["label"]): (
            row["precision"],
            row["recall"],
            round(row["f1"], 6),
            row["support"],
        )
        for row in found["classes"]
    }
    assert rows == {
        (bool, True): (0.0, 0.0, 0.0, 0),
        (int, 1): (0.0, 0.0, 0.0, 1),
        (str, "bird"): (0.0, 0.0, 0.0, 1),
        (str, "cat"): (0.5, 0.5, 0.5, 2),
        (str, "dog"): (2 / 3, 1.0, 0.8, 2),
    }
    assert found["accuracy"] == found["micro"]["f1"] == 0.5
    assert found["macro"]["f1"] == pytest.approx(1.3 / 5)
    assert found["weighted"]["f1"] == pytest.approx((0.5 * 2 + 0.8 * 2) / 6)


def test_empty_batch() -> None:
    """A batch of nothing has the mean 0, whatever the metric."""
    for metric in METRICS:
        found = batch(metric, [], [])
        assert (found.scores, found.mean) == ([], 0.0)


def test_mean() -> None:
    """The mean of a batch is that of its scores."""
    found = batch("exact_match", ["x", "y", "z"], ["x", "y", "x"])

    assert (found.scores, found.mean) == ([1.0, 1.0, 0.0], 2 / 3)


def refused(metric: str, prediction: Any, answers: Any, **parameters: Any) -> Any:
    with pytest.raises(BadRequest) as caught:
        score(metric, prediction, answers, **parameters)
    return caught.value


def test_unknown_metric() -> None:
    """An unknown metric is refused by name, with the nearest one and all of them."""
    failure = refused("exact_mach", "x", "x")

    assert failure.field == "metric"
    assert "Did you mean 'exact_match'?" in failure.message
    assert all(name in failure.message for name in METRICS)


def test_unknown_parameter() -> None:
    """An unknown parameter is refused by its path, with the nearest one."""
    failure = refused("numeric", 1, 1, absolut=2)

    assert failure.field == "parameters.absolut"
    assert "Did you mean 'absolute'?" in failure.message
    assert refused("f1", "x", "x", frac=1).field == "parameters.frac"
    assert refused("numeric", 1, 1, absolute=-1).field == "parameters.absolute"
    assert "'last'" in refused("numeric", 1, 1, find="lost").message


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_no_answers(metric: str) -> None:
    """No metric holds a prediction against an empty list."""
    assert refused(metric, "1", []).field == "answers"


@pytest.mark.parametrize(
    ("metric", "prediction", "answers", "field"),
    [
        ("exact_match", 3, "x", "prediction"),
        ("f1", "x", ["x", None], "answers"),
        ("precision", ["x"], "x", "prediction"),
        ("answer_passage_match", ["x", 1], "x", "prediction"),
        ("numeric", True, 1, "prediction"),
        ("numeric", 1, "many", "answers"),
        ("numeric", 1, None, "answers"),
        ("accuracy", 1.5, 1, "prediction"),
        ("classification_report", "x", ["x", "y"], "answers"),
        ("edit_similarity", {}, "x", "prediction"),
    ],
)
def test_wrong_values(metric: str, prediction: Any, answers: Any, field: str) -> None:
    """What a metric does not take is refused with its place, also in a batch."""
    assert refused(metric, prediction, answers).field == field

    with pytest.raises(BadRequest) as caught:
        batch(metric, ["1", prediction], ["1", answers])
    side = "predictions" if field == "prediction" else "answers"
    assert caught.value.field == f"{side}[1]"


def test_uneven_batch() -> None:
    """As many answers as predictions are wanted."""
    with pytest.raises(BadRequest, match="2 predictions and 1 answers"):
        batch("f1", ["x", "y"], ["x"])


def test_too_many_classes() -> None:
    """A report has an end."""
    labels = [f"label {number}" for number in range(1001)]

    with pytest.raises(BadRequest, match="at most 1000"):
        batch("classification_report", labels, labels)


@pytest.mark.parametrize("metric", ["accuracy", "classification_report"])
def test_labels_of_one_hash(metric: str) -> None:
    """Numbers too large for any label are refused, for many may share a hash."""
    failure = refused(metric, 2**64, 1)

    assert "a whole number of at most 64 bits" in failure.message
    assert failure.field == "prediction"
    assert score(metric, 2**64 - 1, 2**64 - 1) == 1.0


def test_a_long_text_is_normalised_once() -> None:
    """Many alternatives of a field do not normalise the prediction again and again."""
    value = {"a": "The x " * 25_000}
    begun = time.process_time()

    assert score("json_match", value, [{"a": "y"}] * 50_000, normalize=True) == 0.0
    assert time.process_time() - begun < 3


HOSTILE: list[tuple[str, Any, Any, dict[str, Any]]] = [
    ("edit_similarity", "x" * 200_000, "y" * 200_000, {}),
    ("rouge_l", "x " * 200_000, "y " * 200_000, {}),
    ("edit_similarity", "x" * 1_000_000, ["y"] * 100_000, {}),
    ("contains", "x" * 1_000_000, ["y"] * 100_000, {}),
    ("answer_passage_match", "x " * 200_000, ["y"] * 100_000, {}),
    ("json_match", {}, [{}] * 2000, {"fields": [*map(str, range(2000))]}),
    ("json_match", dict.fromkeys(map(str, range(2000))), [{}] * 2000, {"extra": True}),
]


@pytest.mark.parametrize(("metric", "prediction", "answers", "parameters"), HOSTILE)
def test_work_is_bounded(
    metric: str, prediction: Any, answers: Any, parameters: dict[str, Any]
) -> None:
    """Texts that would take minutes to compare are refused at once."""
    begun = time.process_time()

    failure = refused(metric, prediction, answers, **parameters)

    assert "too long to compare" in failure.message
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("metric", "prediction", "answers", "parameters"),
    [
        ("exact_match", "a " * 500_000, "the " * 100_000, {}),
        ("exact_match", "a\x00the " * 100_000, "x", {}),
        ("f1", " ".join(map(str, range(100_000))), list(map(str, range(30_000))), {}),
        ("bleu", "x " * 50_000, [f"y{number}" for number in range(10_000)], {}),
        ("numeric", "1" * 300_000 + "x", 1, {"find": "first"}),
        ("numeric", "1," * 300_000, 1, {"find": "last"}),
        ("numeric", "1.1e" * 200_000, 1, {"find": "last"}),
        ("numeric", "1e9999", "1e-9999", {"relative": 0.5, "absolute": 1.0}),
        ("json_match", "[" * 200_000, "[" * 200_000, {}),
    ],
)
def test_hostile_texts_take_no_time(
    metric: str, prediction: Any, answers: Any, parameters: dict[str, Any]
) -> None:
    """Time grows with the length of what was sent, not with its square."""
    begun = time.process_time()

    assert 0.0 <= score(metric, prediction, answers, **parameters) <= 1.0
    assert time.process_time() - begun < 3


def test_remembered_is_bounded() -> None:
    """What is remembered of texts never weighs more than it may."""
    made: list[str] = []

    def make(text: str) -> str:
        made.append(text)
        return text.upper()

    texts = Remembered(make, 1000)

    assert [texts["x"], texts["x"], texts["y" * 30_000]] == ["X", "X", "Y" * 30_000]
    assert made == ["x", "y" * 30_000]
    for number in range(100):
        assert texts[str(number)] == str(number)
        assert len(texts) <= 15
    assert texts["x"] == "X"


def test_normalize_text() -> None:
    """White space, controls, marks and articles beside one another are as in DSPy."""
    assert normalize_text(" The\n\tthe a THE  Éiffel_Tower! ") == "e\u0301iffeltower"
    assert normalize_text("the\x00cat a\x01") == "\x00cat \x01"
    assert normalize_text("thé") == "\u0301"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, JSON)
def test_same(one: Any, other: Any) -> None:
    """Values are the same exactly if their JSON with sorted keys is."""
    written = [
        msgspec.json.encode(value, order="deterministic") for value in (one, other)
    ]

    assert same(one, one)
    assert same(one, other) == (written[0] == written[1])


def test_documentation() -> None:
    """docs/metrics.md is what the table of metrics says."""
    assert write_metrics.FILE.read_text() == write_metrics.text()
    assert write_metrics.main(["--check"]) == 0
    assert all(f"## `{name}`" in write_metrics.text() for name in METRICS)
