"""Which lines of a log an error shows."""

import pytest

from dspex.bus import loglines

SERVER = """\
[7] 2026/01/02 03:04:05.000001 [INF] Starting nats-server
[7] 2026/01/02 03:04:05.000002 [INF]   Version:  2.12.1
[7] 2026/01/02 03:04:05.000003 [FTL] Error listening on port: 127.0.0.1:4222
[7] 2026/01/02 03:04:05.000004 [INF] Exiting..."""

OURS = """\
{"at":"2026-01-02","level":"info","logger":"dspex.a","message":"serving"}
{"at":"2026-01-02","level":"warning","logger":"dspex.a","message":"lost"}
{"level":"error","logger":"dspex.b","message":"no","exception":"T:\\nOSError: x"}"""


def test_banner_of_the_server_is_left_out() -> None:
    """Of nats-server's lines those from warnings on are shown."""
    assert loglines.telling(SERVER) == [SERVER.splitlines()[2]]


def test_our_lines_are_shortened() -> None:
    """Of our own lines those from warnings on are shown, without their JSON."""
    assert loglines.telling(OURS) == [
        "warning dspex.a: lost",
        "error dspex.b: no: OSError: x",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", []),
        ("a\n\nb\nc\nd\n", ["b", "c", "d"]),
        (OURS.splitlines()[0], ["info dspex.a: serving"]),
        ("3\n{}\n[1]", ["3", "{}", "[1]"]),
    ],
)
def test_last_lines_otherwise(text: str, shown: list[str]) -> None:
    """Lines without a level count, and a log of mere information shows its end."""
    assert loglines.telling(text) == shown


def test_traceback_after_information() -> None:
    """The end of a traceback is shown, not the information before it."""
    text = f"{OURS.splitlines()[0]}\nTraceback:\n  File x\nImportError: y"

    assert loglines.telling(text) == ["Traceback:", "  File x", "ImportError: y"]
