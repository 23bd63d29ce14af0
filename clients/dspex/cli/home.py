"""The folder ``.dspex``, where a running stack of this folder leaves its traces."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dspex.contracts.configuration import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dspex.contracts.configuration import Configuration

FOLDER = Path(".dspex")


def url_file(folder: Path) -> Path:
    """Where ``dspex up`` writes the address of its NATS server."""
    return folder / FOLDER / "url"


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Be the only stack of ``folder``: two would share one store.

    The system gives the claim back when this process ends, however it ends.

    Raises:
        ConfigurationError: Another stack runs there.
    """
    path = folder / FOLDER / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"Another `dspex up` runs in {folder.resolve()}. Use it (`dspex call` "
                "finds it), or start this one in another folder."
            ) from None
        yield


@contextmanager
def published(folder: Path, url: str) -> Iterator[None]:
    """Let ``dspex call`` in ``folder`` find the server at ``url``."""
    path = url_file(folder)
    path.write_text(f"{url}\n", encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_url(
    given: str | None,
    environ: Mapping[str, str],
    configuration: Configuration,
    folder: Path,
) -> str:
    """The server to call: ``--url``, the settings, else the stack of ``folder``.

    Raises:
        ConfigurationError: None of them says one.
    """
    settings = environ.get("DSPEX_NATS_URL") or configuration.nats.url
    if url := given or settings:
        return url
    path = url_file(folder)
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    raise ConfigurationError(
        "Which NATS server? Run `dspex up` in this folder first, give --url "
        "nats://host:4222, set DSPEX_NATS_URL, or set nats.url in dspex.toml."
    )
