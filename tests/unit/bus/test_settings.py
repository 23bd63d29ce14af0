from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dspex.bus import settings
from dspex.contracts.configuration import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, prefix: str) -> Path:
    path.write_text(f'prefix = "{prefix}"\n')
    return path


def test_no_file(folder: Path) -> None:
    """Without a file the defaults hold, and the environment over them."""
    assert settings.locate(None, {}) is None
    assert settings.load(None, {}).prefix == "dspex"
    assert settings.load(None, {"DSPEX_PREFIX": "other"}).prefix == "other"


def test_order(folder: Path) -> None:
    """The command line names the file before the environment, that before ./."""
    write(folder / "dspex.toml", "here")
    named = write(folder / "named.toml", "named")
    given = write(folder / "given.toml", "given")

    assert settings.load(None, {}).prefix == "here"
    assert settings.load(None, {"DSPEX_CONFIG": str(named)}).prefix == "named"
    assert settings.load(given, {"DSPEX_CONFIG": str(named)}).prefix == "given"


@pytest.mark.parametrize("by_argument", [True, False])
def test_a_missing_file(folder: Path, by_argument: bool) -> None:
    """A named file that is not there is an error that says who named it."""
    path = folder / "missing.toml"
    environ = {} if by_argument else {"DSPEX_CONFIG": str(path)}

    with pytest.raises(ConfigurationError, match="no such file") as caught:
        settings.load(path if by_argument else None, environ)

    assert ("--config" if by_argument else "DSPEX_CONFIG") in str(caught.value)


def test_a_file_that_is_no_text(folder: Path) -> None:
    """A file that cannot be read as text is named."""
    path = folder / "dspex.toml"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigurationError, match=r"dspex\.toml"):
        settings.load(None, {})
