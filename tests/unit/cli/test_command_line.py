"""What the command line takes, and the bodies and texts it makes."""

import io
import json

import pytest

from dspex.cli import call
from dspex.cli.__main__ import main, parse
from dspex.cli.console import Console, console
from dspex.contracts import envelope
from dspex.contracts.failures import NoWorker

METADATA = envelope.Metadata(implementation="python", pool="light", worker="w1", lm="m")


def test_values_may_follow_options() -> None:
    """name=value is read before and after options."""
    words = ["call", "predict", "a=1", "--signature", "a, b -> c", "b=2", "--json"]

    given = parse(words)

    assert given.values == ["a=1", "b=2"]
    assert given.json


@pytest.mark.parametrize(
    "words",
    [["call", "predict", "--no"], ["up", "a=1"], ["call", "predict", "--json", "word"]],
)
def test_unknown_words_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A word that nothing reads ends the command with status 2."""
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2
    assert words[-1] in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["call", "predict", "foo"], ["call", "predict", "--json", "foo"]],
)
def test_values_have_names(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A word that is no name=value is named as that."""
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2
    assert "'foo' is not name=value" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf", "soon"])
def test_timeout_is_a_time(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A timeout that cannot be waited for is a usage error."""
    with pytest.raises(SystemExit) as ended:
        parse(["call", "predict", "--timeout", seconds])

    assert ended.value.code == 2
    assert "more than 0" in capsys.readouterr().err


def test_nothing_at_all_is_answered_by_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``dspex`` alone shows its commands."""
    assert main([]) == 2

    assert "send one request" in capsys.readouterr().err


def test_a_command_shows_its_own_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with a command's words is told beside that command's usage."""
    with pytest.raises(SystemExit):
        main(["call"])
    with pytest.raises(SystemExit):
        main(["call", "predict", "foo"])

    said = capsys.readouterr().err
    assert said.count("usage: dspex call") == 2
    assert "required: OPERATION\n" in said


def test_a_program_by_its_name() -> None:
    """``--program`` names what runs; what stands beside it are its inputs."""
    words = ["call", "run", "--program", "triage", "ticket=Down!"]

    assert call.build(parse(words)) == {
        "program": "triage",
        "inputs": {"ticket": "Down!"},
    }


def test_missing_program(capsys: pytest.CaptureFixture[str]) -> None:
    """A run without a program says which option is missing, also if it is a value."""
    assert main(["call", "run", "program=triage", "ticket=x"]) == 1
    assert "--program is missing" in capsys.readouterr().err


def test_missing_signature(capsys: pytest.CaptureFixture[str]) -> None:
    """A call without a signature says which option is missing, before it connects."""
    status = main(["call", "predict", "a=1"])

    assert status == 1
    assert "--signature is missing" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["up", "demo", "call", "doctor"])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself."""
    with pytest.raises(SystemExit):
        main([command, "--help"])

    assert "--config" in capsys.readouterr().out


def test_body_of_predict() -> None:
    """Options become fields of the body, values its inputs."""
    options = ["--instructions", "Count.", "--lm", "small", "--adapter", "json"]
    words = ["--signature", "n: int -> m: int", "n=3"]
    given = parse(["call", "predict", *options, *words])

    assert call.build(given) == {
        "signature": "n: int -> m: int",
        "instructions": "Count.",
        "lm": "small",
        "adapter": "json",
        "inputs": {"n": 3},
    }


def test_body_of_other_operations() -> None:
    """Values go where the operation wants them; --body brings the rest."""
    words = ["--body", '{"side": "inputs"}', "--signature", "n: str -> m", "n=3"]

    validate = call.build(parse(["call", "signature.validate", *words]))
    read = call.build(parse(["call", "signature.parse", "--signature", "a -> b"]))

    assert validate["side"] == "inputs"
    assert validate["values"] == {"n": "3"}
    assert read == {"signature": "a -> b"}


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (
            ["template.render", "--body", '{"template": "{{ a }}"}', "a=3"],
            {"template": "{{ a }}", "values": {"a": 3}},
        ),
        (
            ["schema.validate", 'schema={"type": "integer"}', "value=x"],
            {"schema": {"type": "integer"}, "value": "x"},
        ),
        (
            ["metric.score", "metric=f1", "prediction=a", 'answers=["a"]'],
            {"metric": "f1", "prediction": "a", "answers": ["a"]},
        ),
        (
            ["response.parse", "--signature", "q -> a: int", "text=3"],
            {"signature": "q -> a: int", "text": "3"},
        ),
        (["metric.batch", "--body", '{"metric": "f1"}'], {"metric": "f1"}),
    ],
)
def test_body_without_inputs(words: list[str], body: dict[str, object]) -> None:
    """Where an operation has no inputs, name=value is a field of its body."""
    assert call.build(parse(["call", *words])) == body


def test_unknown_operation(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt operation fails before anything is sent, and names the nearest."""
    status = main(["call", "predikt"])

    assert status == 1
    assert "unknown_operation" in (said := capsys.readouterr().err)
    assert "Did you mean 'predict'?" in said


def test_failure_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Code, message and hint are on standard error; with --json all is on output."""
    failure = NoWorker("Nobody is there.", hint="Start one.", field="pool")

    call.report(failure, as_json=False)
    call.report(failure, as_json=True)

    said = capsys.readouterr()
    assert said.err == "no_worker (at pool): Nobody is there.\n  Start one.\n"
    assert json.loads(said.out)["code"] == "no_worker"


def _delta(attempt: int, field: str, text: str) -> envelope.Delta:
    return envelope.Delta(
        request="r", attempt=attempt, seq=1, at=0.0, field=field, text=text
    )


def _done(outputs: dict[str, object]) -> envelope.DoneEvent:
    return envelope.DoneEvent(
        request="r", attempt=1, seq=9, at=0.0, outputs=outputs, metadata=METADATA
    )


def test_stream_is_printed_field_by_field() -> None:
    """Deltas of a field join; a new attempt says that it starts over."""
    text = io.StringIO()
    shown = call.Shown(Console(text, colour=False))
    deltas = [(1, "a", "x"), (1, "a", "y"), (1, "b", "z"), (2, "a", "w")]

    for delta in deltas:
        shown.take(_delta(*delta))
    shown.take(_done({"a": "w"}))

    lines = text.getvalue().splitlines()
    assert lines[:4] == ["a: xy", "b: z", "(a new attempt: starting over)", "a: w"]
    assert lines[4].startswith("answered by light/w1 in 0 ms (1 attempt, m)")


def test_stream_without_deltas_prints_the_outputs() -> None:
    """What did not come in parts is printed whole, texts plain, the rest as JSON."""
    text = io.StringIO()

    call.Shown(Console(text, colour=False)).take(_done({"a": "ü", "b": [1, "ü"]}))

    assert text.getvalue().splitlines()[:2] == ["a: ü", 'b: [1, "ü"]']


def test_stream_as_json() -> None:
    """With --json every event is one line of JSON."""
    text = io.StringIO()

    call.Shown(Console(text, colour=False), as_json=True).take(_delta(1, "a", "x"))

    assert json.loads(text.getvalue())["text"] == "x"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals() -> None:
    """Only a terminal gets ANSI sequences, and not if NO_COLOR is set."""
    assert console({}, _Terminal()).bold("x") == "\x1b[1mx\x1b[0m"
    assert console({"NO_COLOR": "1"}, _Terminal()).bold("x") == "x"
    assert console({}, io.StringIO()).bold("x") == "x"
