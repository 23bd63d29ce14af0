from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from tests.support.nats_server import free_port

from dspex.bus import program
from dspex.bus.connection import BusSettings, connect, safe_url
from dspex.contracts import configuration
from dspex.contracts.failures import BusUnavailable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from dspex.bus.program import Context


@pytest.fixture(name="folder", autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; the logging of this process is put back."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


async def nothing(context: Context) -> None:
    raise AssertionError("it must not get here")


def arguments(*line: str) -> argparse.Namespace:
    return program.parser("dspex-test", "A test.").parse_args(line)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Every program tells its version."""
    with pytest.raises(SystemExit) as caught:
        arguments("--version")

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"dspex-test {program.VERSION}\n"


def test_bad_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration that cannot be used ends a program with status 1 and a line."""
    (folder / "dspex.toml").write_text("prefx = 1\n")

    status = program.run(nothing, arguments(), "dspex-test")

    said = capsys.readouterr().err
    assert status == 1
    assert said.startswith("dspex-test: ")
    assert "Did you mean 'prefix'?" in said


def test_which_server() -> None:
    """The command line names the server, then the configuration, then the default."""
    none = configuration.parse("", {})
    some = configuration.parse("", {"DSPEX_NATS_URL": "nats://b:1"})

    assert program.bus_settings(some, "nats://a:1", "x").url == "nats://a:1"
    assert program.bus_settings(some, None, "x").url == "nats://b:1"
    assert program.bus_settings(none, None, "x").url == program.DEFAULT_URL


def test_no_secret_is_shown() -> None:
    """Neither an address nor settings show a password or a token."""
    url = "nats://user:secret@a:4222,nats://token@b:4222"

    assert safe_url(url) == "nats://a:4222,nats://b:4222"
    assert "secret" not in repr(BusSettings(url=url, credentials="secret.creds"))


async def test_no_server() -> None:
    """Where no server is, that is said with its address, without the password."""
    url = f"nats://user:secret@127.0.0.1:{free_port()}"

    with pytest.raises(BusUnavailable, match="No NATS server answers") as caught:
        await connect(BusSettings(url=url, connect_timeout=0.2))

    assert "secret" not in caught.value.message
