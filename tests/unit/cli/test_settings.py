"""Where the configuration is found."""

from pathlib import Path

import pytest

from dspex.bus import settings
from dspex.contracts.configuration import ConfigurationError


def test_named_file_wins(tmp_path: Path) -> None:
    """The file given on the command line is read, not the one in the environment."""
    given = tmp_path / "given.toml"
    given.write_text('prefix = "given"')
    other = tmp_path / "other.toml"
    other.write_text('prefix = "other"')

    found = settings.load(given, {"DSPEX_CONFIG": str(other)})

    assert found.prefix == "given"


def test_environment_names_the_file(tmp_path: Path) -> None:
    """DSPEX_CONFIG names the file when the command line does not."""
    other = tmp_path / "other.toml"
    other.write_text('prefix = "other"')

    assert settings.load(None, {"DSPEX_CONFIG": str(other)}).prefix == "other"


def test_current_folder_is_the_last_resort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a name, dspex.toml of the current folder is read if it is there."""
    monkeypatch.chdir(tmp_path)
    before = settings.locate(None, {})
    (tmp_path / "dspex.toml").write_text('prefix = "here"')

    assert before is None
    assert settings.load(None, {}).prefix == "here"


def test_defaults_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is no error: two workers of pool light."""
    monkeypatch.chdir(tmp_path)

    assert settings.load(None, {}).pools["light"].processes == 2


def test_errors_name_the_file(tmp_path: Path) -> None:
    """What cannot be used is told with the name of the file that says it."""
    path = tmp_path / "mine.toml"
    path.write_text("[nats]\nlissen = 'x'")

    with pytest.raises(ConfigurationError, match=r"mine\.toml: .*nats\.lissen"):
        settings.load(path, {})


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_missing_file_is_refused(tmp_path: Path, how: str) -> None:
    """A file that is named must exist; the message says who named it."""
    path = tmp_path / "none.toml"
    given = path if how == "argument" else None
    source = "--config" if how == "argument" else "DSPEX_CONFIG"

    with pytest.raises(ConfigurationError, match=f"{source} names .*none.toml"):
        settings.load(given, {"DSPEX_CONFIG": str(path)})


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    """A file that is not UTF-8 text is named in the message."""
    path = tmp_path / "dspex.toml"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigurationError, match="Cannot read"):
        settings.load(path, {})
