"""Where the configuration comes from, and where the stack of a folder is.

The configuration is a file, overridden by the environment: what is in it, and which
key is refused, is ``dspex.contracts.configuration``. A running ``dspex up`` leaves
its address in its folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from msgspec import Struct

from dspex.contracts import configuration
from dspex.contracts.configuration import Configuration, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_FILE = Path("dspex.toml")
"""Read from the current folder when no other file is named."""

FOLDER = Path(".dspex")
"""Where ``dspex up`` keeps its files, in the folder it was started in."""


class Published(Struct, frozen=True, kw_only=True):
    """What a ``dspex up`` has left in its folder.

    Attributes:
        url: Address of its NATS server.
        alive: Whether it still runs; one that was killed leaves its address behind.
    """

    url: str
    alive: bool


def url_file(folder: Path) -> Path:
    """Where ``dspex up`` writes its address, and holds a lock while it runs."""
    return folder / FOLDER / "url"


def published(folder: Path) -> Published | None:
    """The ``dspex up`` of ``folder``; ``None`` when there is no sign of any."""
    try:
        with url_file(folder).open(encoding="utf-8") as file:
            url = file.read().strip()
            return Published(url=url, alive=_locked(file)) if url else None
    except (OSError, UnicodeDecodeError):
        return None


def _locked(file: TextIO) -> bool:
    try:
        import fcntl
    except ImportError:  # there is none for Windows, and no `dspex up` either
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def locate(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: ``path``, else ``DSPEX_CONFIG``, else ``./dspex.toml``.

    Returns:
        Its path; ``None`` when none is named and ``./dspex.toml`` does not exist.

    Raises:
        ConfigurationError: A file is named and is not there.
    """
    if path is not None:
        return _existing(path, "--config")
    if named := environ.get("DSPEX_CONFIG"):
        return _existing(Path(named), "DSPEX_CONFIG")
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def load(path: Path | None, environ: Mapping[str, str]) -> Configuration:
    """Read the configuration that ``locate`` finds; without a file, the defaults.

    Raises:
        ConfigurationError: The file is missing or cannot be read, or what it or
            the environment says cannot be used.
    """
    found = locate(path, environ)
    if found is None:
        return configuration.parse("", environ)
    try:
        text = found.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {found}: {error}.") from None
    return configuration.parse(text, environ, str(found))


def _existing(path: Path, source: str) -> Path:
    if not path.is_file():
        raise ConfigurationError(
            f"{source} names {path}, and there is no such file. "
            "Correct the path, or leave it out to use ./dspex.toml or the defaults."
        )
    return path
