"""Comparing texts, compiled and in Python: one behaviour, two builds."""

import gc
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.sources import ROOT

from dspex.native.metrics import letters
from dspex.native.metrics.counting import Overlap
from dspex.native.metrics.texts import COMPILED, PURE, TEXTS, Texts

EXAMPLES = int(os.environ.get("DSPEX_TEST_EXAMPLES", "300"))

needs_compiled = pytest.mark.skipif(COMPILED is None, reason="there was no compiler")
BUILDS = [
    pytest.param(PURE, id="pure"),
    pytest.param(COMPILED, id="compiled", marks=needs_compiled),
]

PIECES = [
    *("a", "an", "the", "The", "AN", "A", "thea", "yes", "no", "noanswer", "tower"),
    *(" ", "  ", "\n", "\t", "\v", "\f", "\r", "\x1c", "\x1f", "\x85", "\xa0"),
    *("\x00", "\x01", "\x1b", "\x7f", "\x80", "\u2003", "\u3000", "\u200b"),
    *("_", "-", "'", ".", "$", "`", "~", "\u2019", "«", "·"),
    *("é", "e\u0301", "ß", "İ", "ς", "ﬁ", "中文", "가", "😀", "٣", "\u0323"),
    *("\ud800", "\udfff", "\ud83d\ude00"),
]
PIECED = st.lists(st.sampled_from(PIECES), max_size=40)
TEXT = st.one_of(
    PIECED.map("".join),
    PIECED.map(" ".join),
    st.text(st.characters(max_codepoint=0x7F), max_size=60),
    st.text(st.characters(exclude_categories=()), max_size=30),
    # Of the languages that have signs of their own.
    st.text(
        st.sampled_from("théÉàçñßøłŁ“—жЖёйЙαΑΐᾂΣσς中文が한글ंक़ạ̈Ⅷ½ and"), max_size=40
    ),
    # Around and beyond what is kept on the stack.
    st.builds(lambda text, times: text * times, PIECED.map(" ".join), st.just(60)),
    st.integers(1015, 1035).map(lambda size: "ab " * (size // 3) + "x" * (size % 3)),
    # More different words than are counted on the stack.
    st.integers(250, 260).map(lambda count: " ".join(f"w{n}" for n in range(count))),
)


def overlap(texts: Texts, prediction: str, answer: str) -> Overlap:
    answered = texts.count(texts.normalize_text(answer))
    words = texts.words_of(prediction)
    found = answered.overlap(words)
    # The same where there are many answers.
    assert answered.overlap(texts.counted(words)) == found
    return found


@pytest.mark.parametrize("texts", BUILDS)
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("the", ""),
        (" a  the\tan ", ""),
        ("The Eiffel_Tower!", "eiffeltower"),
        ("there an\x1fant a.", "there ant"),
        ("t.h.e A-N x", "x"),
        ("the\x00cat a\x01", "\x00cat \x01"),
        ("a\x7f", "\x7f"),
        ("\x80The", "\x80"),
        ("thé", "\u0301"),
        ("The \ud800", "\ud800"),
        *(("x" * size, "x" * size) for size in (1022, 1023, 1024, 1025)),
        ("The X! " * 100_000, ("x " * 100_000)[:-1]),
    ],
)
def test_normalising(texts: Texts, text: str, wanted: str) -> None:
    """Both builds drop punctuation, articles and needless space."""
    assert texts.normalize_text(text) == wanted


@pytest.mark.parametrize("texts", BUILDS)
@pytest.mark.parametrize(
    ("prediction", "answer", "wanted"),
    [
        ("", "", (0.0, 0.0, 0.0)),
        ("x", "", (0.0, 0.0, 0.0)),
        ("the", "x", (0.0, 0.0, 0.0)),
        ("The x!", "x", (1.0, 1.0, 1.0)),
        ("x x x y", "x x z", (2 * 0.5 * (2 / 3) / (0.5 + 2 / 3), 0.5, 2 / 3)),
        ("中文 x", "é 中文", (0.5, 0.5, 0.5)),
        ("\ud800 x", "x \ud800", (1.0, 1.0, 1.0)),
        ("\ud800", "\ud801", (0.0, 0.0, 0.0)),
        ("abcdefgh", "abcdefghi", (0.0, 0.0, 0.0)),
    ],
)
def test_overlap(
    texts: Texts, prediction: str, answer: str, wanted: tuple[float, float, float]
) -> None:
    """Both builds count each word as often as it is on both sides."""
    assert overlap(texts, prediction, answer) == wanted


@pytest.mark.parametrize("texts", BUILDS)
def test_verdicts(texts: Texts) -> None:
    """A verdict is a prediction that says nothing else."""
    found = [
        texts.is_verdict(texts.words_of(text))
        for text in ("Yes!", "the no", "noanswer", "yes no", "yes yes", "maybe", "")
    ]

    assert found == [True, True, True, False, False, False, False]


@needs_compiled
@settings(max_examples=EXAMPLES, deadline=None)
@given(prediction=TEXT, answer=TEXT)
@example(prediction="a a the a the the an an a", answer="the\x1cthe")
def test_builds_agree(prediction: str, answer: str) -> None:
    """Both builds find the same in whatever text there is."""
    assert COMPILED is not None

    normal = PURE.normalize_text(prediction)
    both = f"{prediction} {answer}"

    assert COMPILED.normalize_text(prediction) == normal
    assert COMPILED.passage_words(prediction) == PURE.passage_words(prediction)
    assert overlap(COMPILED, prediction, answer) == overlap(PURE, prediction, answer)
    assert overlap(COMPILED, both, answer) == overlap(PURE, both, answer)
    assert COMPILED.is_verdict(normal) == PURE.is_verdict(PURE.words_of(prediction))


@needs_compiled
@pytest.mark.parametrize("plane", range(0, 0x40, 4))
def test_builds_agree_on_every_character(plane: int) -> None:
    """No character is normalised or split otherwise by the one than by the other."""
    assert COMPILED is not None
    # Few at a time: one that is left to Python hides those beside it.
    for start in range(plane << 12, (plane + 4) << 12, 32):
        text = " | ".join(f"x{chr(code)}The" for code in range(start, start + 32))
        assert COMPILED.normalize_text(text) == PURE.normalize_text(text)
        assert COMPILED.passage_words(text) == PURE.passage_words(text)


@needs_compiled
@pytest.mark.parametrize(
    "text",
    [
        "L\u2019été — très chaud, à Évian-les-Bains",
        "Größe, Łódź, Århus, Việt Nam, İstanbul",
        "Съешь ещё этих мягких французских булок",
        "ἐν ἀρχῇ ἦν ὁ λόγος",
        "日本語のテキスト、한국어 텍스트 हिन्दी",
        "“quoted” \x00 … 😀 ½ Ⅷ",
    ],
)
def test_texts_of_any_language_are_compiled(text: str) -> None:
    """Texts that are not ASCII do not take the long way through Python."""
    from dspex.native.metrics import _text

    assert _text.normalize(text) == PURE.normalize_text(text)
    assert _text.tokens(PURE.normalize_text(text)) == PURE.passage_words(text)


@needs_compiled
@pytest.mark.parametrize("text", ["ΣΑΣ", "a\u0301\u0323", "\U0001d160", "\ud800"])
def test_what_python_sees_to_itself(text: str) -> None:
    """Where neighbours matter, and for a few more, the compiled way gives up."""
    from dspex.native.metrics import _text

    assert _text.normalize(text) is None
    assert COMPILED is not None
    assert COMPILED.normalize_text(text) == PURE.normalize_text(text)


def _raising(code: int) -> None:
    raise LookupError(code)


@needs_compiled
@pytest.mark.parametrize(
    ("describe", "error"),
    [
        (_raising, LookupError),
        (lambda code: 3, TypeError),
        (lambda code: (b"x", 1), TypeError),
        (lambda code: (b"", 0, 0, 0, 0), ValueError),
        (lambda code: (b"x" * 12, 0, 0, 0, 0), ValueError),
        (None, TypeError),
    ],
)
def test_who_knows_letters_and_errs(
    describe: Any, error: type[Exception], tmp_path: Path
) -> None:
    """What is told of a character is checked, and errors come through."""
    from dspex.native.metrics import _text

    # A copy, for what it has learned is its own.
    path = shutil.copy(_text.__file__, tmp_path / "_text.abi3.so")
    loader = ExtensionFileLoader(_text.__name__, str(path))
    spec = spec_from_file_location(_text.__name__, path, loader=loader)
    assert spec is not None
    copy = module_from_spec(spec)
    loader.exec_module(copy)

    assert copy.normalize("é") is None
    copy.learn_from(describe)
    with pytest.raises(error):
        copy.normalize("ò")
    copy.learn_from(letters.describe)
    assert copy.normalize("ò É") == "o\u0300 e\u0301"


@pytest.mark.dspy
@pytest.mark.parametrize("texts", BUILDS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(prediction=TEXT, answer=TEXT)
def test_builds_agree_with_dspy(texts: Texts, prediction: str, answer: str) -> None:
    """Either build finds what DSPy finds."""
    from dspy.evaluate import metrics

    # Of two texts without a word DSPy prints that it is a rare case.
    one, other = f"{prediction} x", f"{answer} y"

    assert texts.normalize_text(prediction) == metrics.normalize_text(prediction)
    assert overlap(texts, one, other)[0] == metrics.f1_score(one, other)
    assert overlap(texts, one, other)[1] == metrics.precision_score(one, other)


@pytest.mark.parametrize("texts", BUILDS)
@pytest.mark.parametrize("many", [255, 256, 257, 258, 50_000])
def test_many_words(texts: Texts, many: int) -> None:
    """Texts of many words are counted in full."""
    words = [f"w{number}" for number in range(many)]

    found = overlap(texts, " ".join([words[-1], "x", *words]), " ".join(words))

    assert found[1:] == (many / (many + 2), 1.0)


@needs_compiled
@pytest.mark.parametrize(
    "misuse",
    [
        lambda module: module.normalize(b"x"),
        lambda module: module.normalize(None),
        lambda module: module.tokens(b"x"),
        lambda module: module.tokens(None),
        lambda module: module.Words(),
        lambda module: module.Words(3),
        lambda module: module.Words("x", "y"),
        lambda module: module.Words(normal="x"),
        lambda module: module.Words("x").overlap(["x"]),
        lambda module: module.Words.overlap("x", "x"),
        lambda module: type("Mine", (module.Words,), {}),
    ],
)
def test_misuse_is_refused(misuse: Callable[[Any], object]) -> None:
    """What is no text is refused; nothing is read that is not there."""
    from dspex.native.metrics import _text

    with pytest.raises(TypeError):
        misuse(_text)


@needs_compiled
def test_texts_without_single_spaces() -> None:
    """A text that is not normalised is counted wrongly, but safely."""
    from dspex.native.metrics import _text

    assert _text.Words(" " * 1000).overlap("  ")[1] == 1.0
    assert _text.Words("x ").overlap(" x")[1] == 0.5


@needs_compiled
def test_nothing_leaks() -> None:
    """However often texts are compared, no memory and no reference is kept."""
    from dspex.native.metrics import _text

    plain, other = "The quick Brown fox " * 100, "é \ud800 " * 100
    texts = [plain, other, "thé à Évian — Σ " * 100, "中文 é, the x" * 20, "x", ""]

    def compare() -> None:
        for text in texts:
            _text.tokens(_text.normalize(text) or text)
            words = _text.Words(text)
            for one in texts:
                words.overlap(one)
                words.overlap(_text.Words(one))
        for wrong in (None, b"x"):
            with pytest.raises(TypeError):
                _text.normalize(wrong)  # type: ignore[arg-type]  # wrong on purpose

    def references() -> list[int]:
        return [sys.getrefcount(one) for one in (*texts[:2], _text.Words)]

    compare()
    before = references()
    tracemalloc.start()
    compare()
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
        compare()
    gc.collect()
    more = tracemalloc.get_traced_memory()[0] - memory
    tracemalloc.stop()

    assert references() == before
    # One lost object or block each time would be 10,000 at the least.
    assert more < 5000


@pytest.mark.skipif(TEXTS is PURE, reason="all tests run without it anyway")
def test_metrics_in_pure_python() -> None:
    """The tests of the metrics hold where nothing was compiled."""
    code = (
        "import sys, pytest\n"
        "from dspex.native.metrics.texts import COMPILED\n"
        "assert COMPILED is None\n"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    ran = subprocess.run(
        [
            *(sys.executable, "-c", f"import tests.support.text_build\n{code}"),
            *("-q", "-p", "no:cacheprovider", "tests/unit/native/test_metrics.py"),
        ],
        cwd=ROOT,
        env={**os.environ, "TEXT_BUILD": "none"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
