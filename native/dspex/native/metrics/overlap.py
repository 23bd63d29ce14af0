"""The metrics of DSPy: normalised texts that are equal or have words in common."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dspex.native.keeping import Remembered
from dspex.native.metrics.counting import VERDICTS
from dspex.native.metrics.scoring import Budget, misfit, text_of, texts_of
from dspex.native.metrics.texts import TEXTS, normalize_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.metrics.scoring import Explain, NoParameters, Score

passage_words = TEXTS.passage_words
_words = TEXTS.words_of
_is_verdict = TEXTS.is_verdict
_counted = TEXTS.counted


class AnswerMatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``answer_exact_match``.

    Attributes:
        frac: From which F1 on it counts as a match; 1 and above: only if equal.
    """

    frac: float = 1.0


def exact_match(prediction: Any, answers: Any) -> float:
    """Score 1 if the normalised texts are equal, for any of the answers."""
    normal = normalize_text(text_of(prediction))
    answer = answers[0] if type(answers) is list and len(answers) == 1 else answers
    if type(answer) is str:
        return 1.0 if _NORMAL[answer] == normal else 0.0
    # A list of what is equal to it is as fast as a loop in Python gets.
    return 1.0 if normal in [_NORMAL[answer] for answer in texts_of(answers)] else 0.0


def hotpot_f1(prediction: Any, answers: Any) -> float:
    """Score F1, but 0 where one is a yes, a no or a ``noanswer`` and the other not."""
    words = _words(text_of(prediction))
    answer = answers[0] if type(answers) is list and len(answers) == 1 else answers
    if type(answer) is str:
        score, precision, recall = _GOLD[answer].overlap(words)
        # Both are 1 where the texts are equal, and 0 where they have nothing in common.
        if precision == recall or not (_is_verdict(words) or _is_part(answer, recall)):
            return score
        return 0.0
    verdict, words = _is_verdict(words), _counted(words)
    return max([_hotpot(words, verdict, answer) for answer in texts_of(answers)])


def _hotpot(words: Any, verdict: bool, answer: str) -> float:
    score, precision, recall = _GOLD[answer].overlap(words)
    differs = precision != recall and (verdict or _is_part(answer, recall))
    return 0.0 if differs else score


def _is_part(answer: str, recall: float) -> bool:
    """Whether an answer is a verdict, and all of it in a prediction that says more."""
    return recall == 1.0 and _NORMAL[answer] in VERDICTS


def overlap(score: int) -> Score:
    """Make what scores F1, precision or recall of words, of the best answer.

    Args:
        score: Which of an `Overlap` is the score.
    """

    def scored(prediction: Any, answers: Any) -> float:
        words = _words(text_of(prediction))
        answer = answers[0] if type(answers) is list and len(answers) == 1 else answers
        if type(answer) is str:
            return _GOLD[answer].overlap(words)[score]
        words = _counted(words)
        return max([_GOLD[one].overlap(words)[score] for one in texts_of(answers)])

    return scored


f1, precision, recall = map(overlap, range(3))


def explained(score: int) -> Callable[[NoParameters], Explain]:
    """Make what also says precision and recall of the answer that counts.

    Args:
        score: Which of an `Overlap` is the score.
    """

    def explain(prediction: Any, answers: Any) -> tuple[float, dict[str, Any]]:
        words = _words(text_of(prediction))
        answer = answers[0] if type(answers) is list and len(answers) == 1 else answers
        if type(answer) is str:
            best = _GOLD[answer].overlap(words)
        else:
            words = _counted(words)
            found = [_GOLD[one].overlap(words) for one in texts_of(answers)]
            best = max(found, key=itemgetter(score))
        said = {"f1": best[0], "precision": best[1], "recall": best[2]}
        return best[score], said

    return lambda _: explain


def answer_exact_match(parameters: AnswerMatch) -> Score:
    """Make what scores 1 for an exact match, or for an F1 that is high enough."""
    frac = parameters.frac
    if frac >= 1.0:
        return exact_match
    return lambda prediction, answers: float(f1(prediction, answers) >= frac)


def answer_passage_match(_: NoParameters) -> Score:
    """Make what scores 1 if any passage has any answer in it, token by token."""
    budget = Budget()

    def score(prediction: Any, answers: Any) -> float:
        wanted = [_PASSAGE[answer] for answer in texts_of(answers)]
        for passage in _passages(prediction):
            tokens = f" {passage_words(passage)} "
            budget.search(tokens, len(wanted))
            # An answer without tokens is in every passage.
            if any(not answer or f" {answer} " in tokens for answer in wanted):
                return 1.0
        return 0.0

    return score


def _passages(prediction: Any) -> list[str]:
    found = [prediction] if type(prediction) is str else prediction
    if type(found) is list and all(type(passage) is str for passage in found):
        return found
    raise misfit("prediction", prediction, "a passage or a list of passages")


# How many characters of answers are kept ready: about 50 MB of them at the worst.
_CHARACTERS = 500_000
_NORMAL = Remembered(normalize_text, _CHARACTERS)
_GOLD = Remembered(lambda answer: TEXTS.count(normalize_text(answer)), _CHARACTERS)
_PASSAGE = Remembered(passage_words, _CHARACTERS)
