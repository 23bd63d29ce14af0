"""What a running stack leaves in its folder for others to find."""

from pathlib import Path

import pytest

from dspex.bus import settings
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
        assert (tmp_path / settings.FOLDER).is_dir()


def test_calls_find_the_running_stack(tmp_path: Path) -> None:
    """The address is there for as long as the stack runs."""
    with home.claim(tmp_path), home.publish(tmp_path, "nats://h:1"):
        found = home.find_url(None, {}, NOTHING, tmp_path)

    assert found == "nats://h:1"
    assert not settings.url_file(tmp_path).exists()


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


def test_killed_stack_is_told(tmp_path: Path) -> None:
    """An address that nobody holds is that of a stack that was killed."""
    path = settings.url_file(tmp_path)
    path.parent.mkdir()
    path.write_text("nats://h:1\n")

    with pytest.raises(ConfigurationError, match="nats://h:1, is gone"):
        home.find_url(None, {}, NOTHING, tmp_path)


def test_address_is_held_from_the_first_moment(tmp_path: Path) -> None:
    """Whoever finds the address finds it locked; reading it does not disturb."""
    with home.claim(tmp_path), home.publish(tmp_path, "nats://h:1"):
        found = [settings.published(tmp_path) for _ in range(2)]

    assert found == [settings.Published(url="nats://h:1", alive=True)] * 2
    assert settings.published(tmp_path) is None


def test_file_in_the_way_is_explained(tmp_path: Path) -> None:
    """A file called .dspex is named, with what to do."""
    (tmp_path / ".dspex").write_text("")

    with (
        pytest.raises(ConfigurationError, match=r"\.dspex is a file.*Move it away"),
        home.claim(tmp_path),
    ):
        pass


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a read-only folder")
def test_unwritable_folder_is_explained() -> None:
    """A folder that nothing can be written to is named, with what to do."""
    with (
        pytest.raises(ConfigurationError, match="/proc/self cannot be written"),
        home.claim(Path("/proc/self")),
    ):
        pass
