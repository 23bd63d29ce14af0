"""What a running stack leaves in its folder for others to find."""

from pathlib import Path

import pytest

from dspex.cli import home
from dspex.contracts import configuration
from dspex.contracts.configuration import ConfigurationError

NOTHING = configuration.parse("", {})


def test_one_stack_per_folder(tmp_path: Path) -> None:
    """A second stack in a folder is refused while the first runs, and not after."""
    with (
        home.claim(tmp_path),
        pytest.raises(ConfigurationError, match="Another"),
        home.claim(tmp_path),
    ):
        pass

    with home.claim(tmp_path):
        assert (tmp_path / home.FOLDER).is_dir()


def test_calls_find_the_running_stack(tmp_path: Path) -> None:
    """The address is there for as long as the stack runs."""
    with home.claim(tmp_path), home.published(tmp_path, "nats://h:1"):
        found = home.find_url(None, {}, NOTHING, tmp_path)

    assert found == "nats://h:1"
    assert not home.url_file(tmp_path).exists()


def test_given_address_wins(tmp_path: Path) -> None:
    """--url, then DSPEX_NATS_URL, then the file, then the running stack."""
    file = configuration.parse('[nats]\nurl = "nats://file:1"', {})
    environ = {"DSPEX_NATS_URL": "nats://environ:1"}

    assert home.find_url("nats://u:1", environ, file, tmp_path) == "nats://u:1"
    assert home.find_url(None, environ, file, tmp_path) == "nats://environ:1"
    assert home.find_url(None, {}, file, tmp_path) == "nats://file:1"


def test_no_address_is_explained(tmp_path: Path) -> None:
    """Without any, the message says what to start or set."""
    with pytest.raises(ConfigurationError, match="dspex up"):
        home.find_url(None, {}, NOTHING, tmp_path)
