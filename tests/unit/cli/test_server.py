"""The embedded nats-server's configuration."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dspex.cli import server
from dspex.cli.server import Server
from dspex.contracts.configuration import ConfigurationError, Nats

DEPLOYED = Path(__file__).parents[3] / "deploy" / "nats.conf"


def _check(path: Path) -> str:
    binary = server.find_binary(sys.executable, os.environ["PATH"])
    done = subprocess.run(
        [binary, "-t", "-c", path], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_free_port_and_store() -> None:
    """Port 0 becomes the server's own way to ask for a free one."""
    nats = Nats(store="data", listen="127.0.0.1:0")
    wanted = server.settings(nats, Path("/srv"))

    text = server.render(wanted)

    assert 'listen: "127.0.0.1:-1"' in text
    assert 'store_dir: "/srv/data"' in text


def test_given_port_is_kept() -> None:
    """A given address is listened on as it is."""
    wanted = server.settings(Nats(listen="0.0.0.0:4222"), Path())

    assert 'listen: "0.0.0.0:4222"' in server.render(wanted)


def test_absolute_store_stays() -> None:
    """An absolute store is not moved into the home folder."""
    assert server.settings(Nats(store="/data"), Path("/srv")).store == Path("/data")


def test_port_of_nats_unless_it_is_taken() -> None:
    """Unless told, it is 4222, and a free one once that turns out to be taken."""
    wanted = server.settings(Nats(), Path())

    other = server.second_choice(wanted, "bind: address already in use")

    assert (wanted.host, wanted.port) == ("127.0.0.1", 4222)
    assert other is not None
    assert other.port == 0
    assert server.second_choice(other, "bind: address already in use") is None
    assert server.second_choice(wanted, "no space left on device") is None


def test_explicit_port_has_no_second_choice() -> None:
    """Who names a port gets that one, or an error that says what to set."""
    wanted = server.settings(Nats(listen="127.0.0.1:4222"), Path())
    error = "bind: address already in use"

    assert server.second_choice(wanted, error) is None
    assert "DSPEX_NATS_LISTEN" in server.advice(wanted, error)
    assert server.advice(wanted, "no space left on device") == ""


@pytest.mark.parametrize("listen", ["4222", "host:", "host:nats", "host:70000"])
def test_bad_listen_is_refused(listen: str) -> None:
    """An address that is not host:port is refused with an example."""
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:4222"):
        server.settings(Nats(listen=listen), Path())


@pytest.mark.nats
def test_server_takes_the_configuration(tmp_path: Path) -> None:
    """nats-server itself finds what we write valid, odd paths included."""
    store = tmp_path / 'a "quoted" folder'
    path = tmp_path / "nats.conf"
    path.write_text(server.render(Server(host="127.0.0.1", port=0, store=store)))

    assert "is valid" in _check(path)


@pytest.mark.nats
def test_deployed_configuration_is_valid() -> None:
    """deploy/nats.conf is valid."""
    assert "is valid" in _check(DEPLOYED)


@pytest.mark.parametrize(
    "key",
    ["max_payload", "ping_interval", "ping_max", "write_deadline", "feature_flags"],
)
def test_deployed_configuration_agrees(key: str) -> None:
    """What deploy/nats.conf and the embedded server share is equal."""
    written = server.render(Server(host="127.0.0.1", port=0, store=Path("/x")))

    line = next(line for line in written.splitlines() if line.startswith(key))

    assert line in DEPLOYED.read_text().splitlines()


def test_addresses_are_read_from_the_log() -> None:
    """The log says which ports the system gave."""
    log = (
        "[1] [INF] Starting http monitor on 127.0.0.1:34531\n"
        "[1] [INF] Listening for client connections on 127.0.0.1:44755\n"
    )
    wanted = Server(host="127.0.0.1", port=0, store=Path())

    assert server.addresses(log, wanted) == (
        "nats://127.0.0.1:44755",
        "http://127.0.0.1:34531",
    )


def test_server_that_listens_everywhere_is_called_on_loopback() -> None:
    """0.0.0.0 is where a server listens, not where anybody connects."""
    wanted = Server(host="0.0.0.0", port=4222, store=Path())

    assert server.addresses("", wanted) == ("nats://127.0.0.1:4222", "")


def test_binary_beside_python_comes_first(tmp_path: Path) -> None:
    """The binary of the virtual environment wins over the one on PATH."""
    for folder in ("venv", "path"):
        binary = tmp_path / folder / "nats-server"
        binary.parent.mkdir()
        binary.write_text("")
        binary.chmod(0o755)

    found = server.find_binary(str(tmp_path / "venv/python"), str(tmp_path / "path"))

    assert found == tmp_path / "venv" / "nats-server"


def test_missing_binary_is_explained(tmp_path: Path) -> None:
    """Without a binary the message says how to get one, or how to do without."""
    with pytest.raises(ConfigurationError, match=r"nats\.url"):
        server.find_binary(str(tmp_path / "python"), str(tmp_path))
