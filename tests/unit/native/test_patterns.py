"""Patterns: the same answers as ``re``, in linear time."""

import random
import re
import time
import tracemalloc
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.native.types.matching import TooLong
from dspex.native.types.patterns import Pattern, PatternError, pattern
from dspex.native.work import MATCH_LIMIT, Work

EXPLODING = "(a|b)*a(a|b){12}$"
EXPLODING_TEXT = "".join(random.Random(0).choices("ab", k=100_000)) + "b" * 20
"""Every stretch of it is a new one, and the pattern has to know the last twelve."""

CASES = [
    ("abc", ["abc", "xabcx", "ab", ""]),
    ("^a+$", ["a", "aaa", "", "ab", "ba"]),
    ("^(ab|cd)*$", ["", "abcd", "abc"]),
    ("^a{2,3}b?$", ["a", "aa", "aaab", "aaaa"]),
    ("^a{2}$|^b{2,}$", ["aa", "b", "bbbb"]),
    (r"^[a-z0-9_]+(-[a-z]+)*$", ["a-b-c", "a-", "9", "A"]),
    (r"^[^\s@]+@\w+\.\w{2,}$", ["a@b.cd", "a b@c.de", "a@b.c"]),
    (r"\bcat\b", ["a cat", "concat", "cat"]),
    (r"\Bcat", ["a cat", "concat"]),
    (r"^\d{4}-\d\d$", ["2024-05", "2024-5"]),
    (r"^[\]\-\\]+$", ["]-\\", "a"]),
    (r"^[]a]+$", ["]a", "b"]),
    (r"^.$", ["a", "\n", ""]),
    (r"^\x41\u0042\t$", ["AB\t", "AB"]),
    (r"^(?:a|b|)c$", ["ac", "c", "cc"]),
    (r"^(a*)*$", ["aaa", "b", ""]),
    (r"^\S\W\D$", ["a-b", "a 1"]),
    (r"a*?b", ["aab", "a"]),
    (r"^[a\-z]$", ["-", "b"]),
    (r"[+-]", ["-", "a"]),
]


@pytest.mark.parametrize(("text", "subjects"), CASES)
def test_searches_like_re(text: str, subjects: list[str]) -> None:
    """A pattern is found where the re module finds it."""
    for subject in subjects:
        assert pattern(text).search(subject) == bool(re.search(text, subject)), subject


@given(st.from_regex(r"\A[ab]{0,6}\Z"), st.sampled_from(["(a|b)*a", "^(a|ab)(b|)a?$"]))
def test_alternatives_are_all_followed(subject: str, text: str) -> None:
    """Overlapping alternatives are found as re finds them."""
    assert pattern(text).search(subject) == bool(re.search(text, subject))


def test_no_pattern_explodes() -> None:
    """What keeps re busy for hours is answered at once."""
    started = time.monotonic()

    assert not pattern("^(a+)+$").search("a" * 2000 + "b")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        "(", ")", "(a", "[a", "[z-a]", "a**", "*a", "a{2", "{2}", "a{3,2}", "a{2000}",
        "a++", r"\1", r"(?P<n>a)", "(?=a)", "(?i)a", "\\", r"\q", r"\xg1", "a" * 300,
        "((a{100}){100}){100}", "(((){999}){999}){999}", "(" * 40 + ")" * 40, r"[a-\d]",
    ],
)  # fmt: skip
def test_unsafe_patterns_are_refused(text: str) -> None:
    """Patterns that are wrong, too large or not linear are refused."""
    with pytest.raises(PatternError):
        pattern(text)


def test_a_long_text_costs_what_is_new_in_it() -> None:
    """Ways that met before are not followed again, however long the text is."""
    work = Work(MATCH_LIMIT)

    assert not pattern("a*a*a*a*b").search("a" * 1_000_000, work)
    assert work.left > MATCH_LIMIT - 100


def test_the_work_of_many_searches_is_counted_together() -> None:
    """Texts that would each be searched are refused once there are too many."""
    work, prepared = Work(MATCH_LIMIT), pattern("(ab?){100}c")
    for _ in range(9):
        assert not prepared.search("ab" * 10, work)
    work.spend(work.left - 10)

    with pytest.raises(TooLong):
        prepared.search("ab" * 10, work)


def test_no_answer_depends_on_earlier_texts() -> None:
    """What a pattern remembers changes neither its answers nor its refusals."""
    first, second = Pattern(EXPLODING), Pattern(EXPLODING)
    for _ in range(20):
        second.search(EXPLODING_TEXT[:150])

    costs = []
    for prepared in (first, second):
        work = Work(MATCH_LIMIT)
        prepared.search(EXPLODING_TEXT[:1000], work)
        costs.append(work.left)
    assert costs[0] == costs[1] < MATCH_LIMIT


def test_what_is_remembered_has_an_end() -> None:
    """A pattern that was searched for in many texts does not grow without end."""
    prepared = Pattern("x.")
    for start in range(0x4E00, 0x9000, 1000):
        prepared.search("".join(map(chr, range(start, start + 1000))))

    assert prepared.remembered <= 3000


def test_what_is_remembered_is_weighed() -> None:
    """A pattern that goes on in hundreds of ways at once remembers fewer places."""
    prepared = Pattern(".{0,120}#|a[ab]{12}#")
    texts = random.Random(1)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(400):
        prepared.search("".join(texts.choices("ab", k=25)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most - before < 2_000_000


def test_too_much_work_is_refused() -> None:
    """A text with too much that is new for its pattern is not searched to its end."""
    with pytest.raises(TooLong):
        pattern(EXPLODING).search(EXPLODING_TEXT)


@given(st.text(alphabet="ab()[]{}|*+?^$\\.,1-dwb:", max_size=20))
def test_random_patterns_are_taken_or_refused(text: str) -> None:
    """No text makes the reader fail in any way but its own, and none is misread."""
    try:
        found = pattern(text).search("ab1")
    except PatternError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of re, about '[['
        assert found == bool(re.search(text, "ab1"))
